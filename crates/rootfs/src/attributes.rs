//! Extended attributes as archives write them.
//!
//! `SCHILY.xattr.NAME` has the value as it is; star, GNU tar, Go and so all that make layers write that.
//! `LIBARCHIVE.xattr.NAME` has the name percent-encoded and the value in base 64; bsdtar writes both, and old ones
//! that alone. Where an attribute is there in both, the first counts, which is the one that Go reads.

use std::borrow::Cow;

/// The start of a PAX key in libarchive's notation.
pub(crate) const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";

/// Name and value.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// All attributes of an entry, each once.
#[expect(clippy::type_complexity, reason = "the parser's")]
pub(crate) fn merge(schily: &[(Cow<'_, [u8]>, Cow<'_, [u8]>)], libarchive: Vec<Attribute>) -> Vec<Attribute> {
    let mut all: Vec<_> = schily.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    for (name, value) in libarchive {
        if !schily.iter().any(|(other, _)| other.as_ref() == name) {
            all.push((name, value));
        }
    }
    all
}

/// Name and value, as libarchive encodes them; `None` where that is not what these bytes are.
pub(crate) fn decode(name: &[u8], value: &[u8]) -> Option<Attribute> {
    Some((percent(name)?, base64(value)?))
}

fn percent(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        out.push(match (first, rest) {
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?
            }
            (b'%', _) => return None,
            (other, _) => *other,
        });
    }
    (!out.is_empty()).then_some(out)
}

/// RFC 4648 with or without padding: libarchive leaves it out.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&b| b != b'=').map_or(0, |last| last + 1);
    if text.len() - end > 2 || end % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(end / 4 * 3 + 2);
    for group in text[..end].chunks(4) {
        let mut bits = 0_u32;
        for &byte in group {
            bits = bits << 6 | u32::from(sextet(byte)?);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn libarchives_notation_is_read() {
        let read = |name: &str, value: &str| decode(name.as_bytes(), value.as_bytes());
        assert_eq!(read("user.a%3Db%0a", "aGVsbG8"), Some((b"user.a=b\n".to_vec(), b"hello".to_vec())));
        assert_eq!(read("user.x", "aGVsbG8=").unwrap().1, b"hello");
        assert_eq!(read("user.x", "aGVsbA==").unwrap().1, b"hell");
        assert_eq!(read("user.x", "").unwrap().1, b"");
        for (name, value) in [("", "aGVs"), ("a%", ""), ("a%4", ""), ("a%zz", ""), ("a", "a"), ("a", "a b")] {
            assert_eq!(read(name, value), None, "{name} {value}");
        }
        for value in ["a===", "====", "aGVsb", "aGVs=x"] {
            assert_eq!(read("a", value), None, "{value}");
        }
    }

    #[test]
    fn what_is_there_twice_counts_once() {
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let schily = [(Cow::Borrowed(&b"user.a"[..]), Cow::Borrowed(&b"1"[..]))];
        let merged = merge(&schily, vec![pair("user.a", "2"), pair("user.b", "3")]);
        assert_eq!(merged, [pair("user.a", "1"), pair("user.b", "3")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(name in proptest::collection::vec(any::<u8>(), 0..50),
                                            value in proptest::collection::vec(any::<u8>(), 0..50)) {
            if let Some((_, decoded)) = decode(&name, &value) {
                prop_assert!(decoded.len() <= value.len());
            }
        }
    }
}
