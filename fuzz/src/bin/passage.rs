//! What a limited container says to the proxy: the first words of TLS, requests of HTTP, chunks; and rules. Whatever comes,
//! nothing panics, nothing is understood before it is whole, and more bytes behind it do not make it another thing.
#![no_main]

use egressd::proxy::head::{self, Chunks};
use egressd::proxy::hello;
use libfuzzer_sys::fuzz_target;
use state::egress::{Rule, pattern};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(name)) = hello::read(data) {
        assert_eq!(pattern::normal(&name).as_deref(), Some(&*name));
        let more = [data, b"more"].concat();
        assert_eq!(hello::read(&more), Ok(Some(name)));
    }
    if let Ok(Some(read)) = head::read(data) {
        assert!(read.length <= data.len());
        assert_eq!(pattern::normal(&read.host).as_deref(), Some(&*read.host));
        assert_eq!(head::read(&data[..read.length]), Ok(Some(read.clone())));
        assert_eq!(head::read(&data[..read.length - 1]), Ok(None));
        if let Some(path) = read.path() {
            assert!(path.starts_with('/') && !path.contains("//") && !path.contains("/../"));
        }
    }
    let (mut chunks, mut rest) = (Chunks::Line, data);
    while let Ok(taken) = chunks.step(rest) {
        rest = &rest[taken..];
        if taken == 0 || chunks == Chunks::Done {
            break;
        }
    }
    if let Some(rule) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Rule>().ok()) {
        assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
    }
});
