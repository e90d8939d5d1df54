//! Words of Dockerfiles: any text is refused in words and at a place of it, or becomes a word; one without `$`, quotes and escapes
//! becomes itself. Mounts likewise. Never a panic, and never a word without bound.
//!
//! The first byte says how it is read, the rest up to a line's end is a variable's value.
#![no_main]

use build::fuzzing::{Reading, expanded, mount};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&how, rest)) = data.split_first() else { return };
    let Ok(rest) = std::str::from_utf8(rest) else { return };
    let (value, text) = rest.split_once('\n').unwrap_or(("", rest));
    let bit = |n: u8| how & (1 << n) != 0;
    let reading = Reading {
        backtick: bit(0),
        keep_quotes: bit(1),
        keep_escapes: bit(2),
        no_quotes: bit(3),
        keep_unset: bit(4),
    };
    let get = |name: &str| match name {
        "A" => Some(value.to_owned()),
        "E" => Some(String::new()),
        "L" => Some(value.repeat(100)),
        _ => None,
    };
    match expanded(text, reading, &get) {
        Ok((whole, words)) => {
            assert!(whole.len() <= 2 << 20);
            assert!(words.iter().all(|word| !word.is_empty()));
            if !text.contains(['$', '\\', '`', '"', '\'']) {
                assert_eq!(whole, text);
                assert_eq!(words, text.split_whitespace().collect::<Vec<_>>());
            }
        }
        Err((at, why)) => assert!(text.is_char_boundary(at) && !why.is_empty(), "{why}"),
    }
    if let Err(why) = mount(text) {
        assert!(!why.is_empty());
    }
});
