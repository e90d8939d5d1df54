//! The two kinds of ranges: those of a download (RFC 9110, 14) and those of an upload's piece, which the distribution
//! specification writes its own way.

/// What a request for a part of something means, once its size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, several, or one in other units, which a server may leave aside.
    All,
    /// From the first to the last byte, both included.
    Part(u64, u64),
    /// Nothing that there is.
    Nothing,
}

/// Reads `Range`.
pub fn of_download(header: Option<&str>, size: u64) -> Wanted {
    let Some(text) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = text.split_once('-') else { return Wanted::All };
    let number = |text: &str| {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Wanted::All,
        (Some(first), _) if first >= size && (last.trim().is_empty() || number(last).is_some()) => {
            Wanted::Nothing
        }
        (Some(first), Some(last)) => Wanted::Part(first, last.min(size - 1)),
        (Some(first), None) if last.trim().is_empty() => Wanted::Part(first, size - 1),
        (None, Some(0)) if first.trim().is_empty() => Wanted::Nothing,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Wanted::Nothing,
        (None, Some(count)) if first.trim().is_empty() => Wanted::Part(size.saturating_sub(count), size - 1),
        _ => Wanted::All,
    }
}

/// Reads `Content-Range` of an upload's piece: `<first>-<last>`, both included (some clients write `bytes ` before it,
/// and `/<size>` behind). `None` where it is none.
pub fn of_piece(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let (first, last) = (number(first)?, number(last)?);
    // The longest that there can be leaves room for its length.
    (first <= last && last < u64::MAX).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn downloads_ask_for_parts_as_rfc_9110_has_it() {
        for (text, wanted) in [
            ("bytes=0-4", Wanted::Part(0, 4)),
            ("bytes=5-", Wanted::Part(5, 9)),
            ("bytes=5-99", Wanted::Part(5, 9)),
            ("bytes=-3", Wanted::Part(7, 9)),
            ("bytes=-30", Wanted::Part(0, 9)),
            ("bytes=9-9", Wanted::Part(9, 9)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-11", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=99999999999999999999-", Wanted::Nothing),
            ("bytes=4-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=x-", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(of_download(Some(text), 10), wanted, "{text}");
        }
        assert_eq!(of_download(None, 10), Wanted::All);
        for text in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(of_download(Some(text), 0), Wanted::Nothing, "{text}");
        }
    }

    #[test]
    fn pieces_say_where_they_go() {
        assert_eq!(of_piece("0-9"), Some((0, 9)));
        assert_eq!(of_piece("bytes 10-10/*"), Some((10, 10)));
        for bad in [
            "",
            "-",
            "1",
            "2-1",
            "a-b",
            "1-",
            "-1",
            "+1-2",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert_eq!(of_piece(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parts_lie_within(text in "bytes=[0-9, -]{0,25}", size in 0u64..40) {
            if let Wanted::Part(first, last) = of_download(Some(&text), size) {
                prop_assert!(first <= last && last < size);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", size: u64) {
            let _ = of_download(Some(&text), size);
            let _ = of_piece(&text);
        }
    }
}
