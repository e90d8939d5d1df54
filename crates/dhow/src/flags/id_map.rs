//! `map=[user=|group=]HOST:CONTAINER[:COUNT][;…]`: whose files of the host are whose in the container.

use state::options::{IdKind, IdMap};

/// Not a map.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a map of ids: want HOST:CONTAINER, such as 1000:0 or alice:app;group=video:44")]
pub(crate) struct NotAMap(String);

/// Ids are names or numbers; without `user=` or `group=` an entry is about a user and the group that goes with it.
pub(super) fn parse(text: &str) -> Result<Vec<IdMap>, NotAMap> {
    text.split(';').map(entry).collect()
}

fn entry(text: &str) -> Result<IdMap, NotAMap> {
    let bad = || NotAMap(text.to_owned());
    let (of, pair) = match text.split_once('=') {
        None => (IdKind::Both, text),
        Some(("user" | "uid", pair)) => (IdKind::User, pair),
        Some(("group" | "gid", pair)) => (IdKind::Group, pair),
        Some(_) => return Err(bad()),
    };
    let parts: Vec<&str> = pair.split(':').collect();
    let (host, container, count) = match parts[..] {
        [host, container] => (host, container, "1"),
        [host, container, count] => (host, container, count),
        _ => return Err(bad()),
    };
    // What begins as a number is one; 2^32 - 1 is nobody's, and must not become anybody's (CVE-2024-40635).
    let good = |id: &str| match id.bytes().next() {
        Some(b'0'..=b'9') => id.parse::<u32>().is_ok_and(|id| id < u32::MAX),
        Some(first) => first != b'-' && !id.contains(|c: char| c.is_whitespace() || c.is_control()),
        None => false,
    };
    let count = count.parse::<u32>().ok().filter(|count| *count > 0).ok_or_else(bad)?;
    if good(host) && good(container) {
        Ok(IdMap { of, host: host.to_owned(), container: container.to_owned(), count })
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let map = parse("alice:app;user=5:0;group=100:200:50").unwrap();
        let shown: Vec<_> = map.iter().map(|m| (m.of, &*m.host, &*m.container, m.count)).collect();
        assert_eq!(
            shown,
            [
                (IdKind::Both, "alice", "app", 1),
                (IdKind::User, "5", "0", 1),
                (IdKind::Group, "100", "200", 50)
            ]
        );
        for bad in [
            "",
            "1",
            "1:",
            ":1",
            "1:2:0",
            "1:2:x",
            "1:2:3:4",
            "x=1:2",
            "4294967295:0",
            "1x:0",
            "-1:0",
            "1:2;",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9=:;-]{0,20}") {
            let _ = parse(&text);
        }
    }
}
