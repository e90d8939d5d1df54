//! Names against patterns as Go's `path/filepath.Match` has them: `*`, `?`, `[…]`, `\`.
//!
//! What is malformed matches nothing, and is an error before it comes to that.

/// Whether a pattern says anything but itself. As BuildKit asks it: what follows a `\` is no wildcard.
pub(super) fn has_wildcards(pattern: &[u8]) -> bool {
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether one name, without slashes, matches a pattern without slashes.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    is_well_formed(pattern) && matches_here(pattern, name)
}

fn matches_here(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last `*` ends, and what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, n));
            continue;
        }
        let stepped = match (p < pattern.len(), n < name.len()) {
            (false, false) => return true,
            (true, true) => one(&pattern[p..], &name[n..]),
            _ => None,
        };
        match (stepped, star) {
            (Some((by, taken)), _) => (p, n) = (p + by, n + taken),
            // The star takes one character more.
            (None, Some((after, taken))) if taken < name.len() => {
                let more = taken + character(&name[taken..]).1;
                star = Some((after, more));
                (p, n) = (after, more);
            }
            (None, _) => return false,
        }
    }
}

/// Matches one element of the pattern, not `*`, with the beginning of the name: the lengths of both.
fn one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let (found, length) = character(name);
    match pattern[0] {
        b'?' => Some((1, length)),
        b'[' => {
            let (matched, end) = class(pattern, found)?;
            matched.then_some((end, length))
        }
        b'\\' => (pattern.get(1) == Some(&name[0])).then_some((2, 1)),
        byte => (byte == name[0]).then_some((1, 1)),
    }
}

/// Whether a class, with which the pattern begins, has the character; and where it ends. None if it is malformed.
fn class(pattern: &[u8], wanted: u32) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let (mut matched, mut ranges) = (false, 0);
    loop {
        if pattern.get(at) == Some(&b']') && ranges > 0 {
            return Some((matched != negated, at + 1));
        }
        let (low, next) = bound(pattern, at)?;
        let (high, next) =
            if pattern.get(next) == Some(&b'-') { bound(pattern, next + 1)? } else { (low, next) };
        matched |= (low..=high).contains(&wanted);
        ranges += 1;
        at = next;
    }
}

/// A character of a class, and where the next begins.
fn bound(pattern: &[u8], at: usize) -> Option<(u32, usize)> {
    let at = match pattern.get(at)? {
        b'-' | b']' => return None,
        b'\\' => at + 1,
        _ => at,
    };
    let rest = pattern.get(at..).filter(|rest| !rest.is_empty())?;
    let (found, length) = character(rest);
    // A class must go on behind each of its characters.
    (at + length < pattern.len()).then_some((found, at + length))
}

/// Whether a pattern, without slashes, can match anything.
pub(super) fn is_well_formed(pattern: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        at += match byte {
            b'\\' if at + 1 == pattern.len() => return false,
            b'\\' => 2,
            b'[' => match class(&pattern[at..], 0) {
                Some((_, end)) => end,
                None => return false,
            },
            _ => 1,
        };
    }
    true
}

/// The first character of a text and its length. A byte that begins none is one, apart from all others.
fn character(text: &[u8]) -> (u32, usize) {
    const NONE: u32 = 0x11_0000;
    let length = match text[0] {
        0..0x80 => return (u32::from(text[0]), 1),
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    let decoded = text.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match decoded.and_then(|text| text.chars().next()) {
        Some(found) => (found as u32, length),
        None => (NONE + u32::from(text[0]), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_go() {
        // From the documentation of path/filepath.Match.
        for (pattern, name, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[a-b-c]", "a", false),
            ("[", "a", false),
            ("[^bc", "a", false),
            ("a[", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("arr[[]0].txt", "arr[0].txt", true),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
        assert!(has_wildcards(b"a/*") && has_wildcards(b"[") && !has_wildcards(b"a\\*b"));
        assert!(matches(b"?", b"\xff") && matches(b"*\xff", b"a\xff"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_names_match_themselves(pattern in proptest::collection::vec(any::<u8>(), 0..12), name in "[a-z*?\\[]{0,8}") {
            matches(&pattern, name.as_bytes());
            let escaped: Vec<u8> = name.bytes().flat_map(|b| [b'\\', b]).collect();
            prop_assert!(matches(&escaped, name.as_bytes()));
        }
    }
}
