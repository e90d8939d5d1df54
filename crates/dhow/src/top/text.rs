//! Text for a screen: what others have said does nothing to the terminal, and numbers take little room.

use crate::human;

/// A line that somebody has said, as it is shown: what would colour or move is left out, and what is no character is
/// shown as `?`.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    // What is written over itself (a progress bar) is seen as it was last.
    let text = text.rsplit('\r').next().unwrap_or_default();
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' if rest.next_if_eq(&'[').is_some() => {
                // Up to its last letter.
                for c in rest.by_ref() {
                    if ('@'..='~').contains(&c) {
                        break;
                    }
                }
            }
            '\t' => shown.push_str("    "),
            c if c.is_control() => shown.push('?'),
            c => shown.push(c),
        }
    }
    shown
}

/// At most six characters: `1.2MB`.
pub(super) fn rate(bytes_per_second: f64) -> String {
    human::size(bytes_per_second as u64, 2)
}

/// How the last minute was, in so many characters; `most` is as high as it gets.
pub(super) fn sparkline(
    values: impl ExactSizeIterator<Item = f64>,
    most: f64,
    width: usize,
    utf8: bool,
) -> String {
    let ramp: [char; 9] = if utf8 {
        [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
    } else {
        [' ', '.', ':', '-', '=', '+', '*', '%', '#']
    };
    if width == 0 || most <= 0.0 {
        return " ".repeat(width);
    }
    let values: Vec<f64> = values.collect();
    // So many values for a character; the last ones end at the right.
    let each = super::model::MINUTE.div_ceil(width);
    let mut line: Vec<char> = values
        .rchunks(each)
        .map(|chunk| {
            let value = chunk.iter().copied().fold(0.0, f64::max);
            let level = (value / most * 8.0).ceil().clamp(0.0, 8.0);
            ramp[level as usize]
        })
        .take(width)
        .collect();
    line.resize(width, ' ');
    line.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_said_does_nothing_to_the_terminal() {
        assert_eq!(
            printable(b"\x1b[1;31mred\x1b[0m and \x1b]0;title\x07\ttab\r\n"),
            "red and ?]0;title?    tab"
        );
        assert_eq!(printable(b"10%\r20%\r30%\n"), "30%");
        assert_eq!(printable("ä\u{9b}2J".as_bytes()), "ä?2J");
        assert_eq!(printable(b"\xff\n"), "\u{fffd}");
        assert_eq!(printable(b"\x1b["), "");
    }

    #[test]
    fn a_minute_in_a_few_characters() {
        let line = |values: &[f64], width, utf8| sparkline(values.iter().copied(), 100.0, width, utf8);
        assert_eq!(line(&[0.0, 0.1, 50.0, 100.0, 200.0], 60, true).trim_start(), "▁▄██");
        assert_eq!(line(&[0.0, 50.0, 100.0], 60, false).trim_start(), "=#");
        assert_eq!(line(&[100.0; 60], 6, true), "██████");
        assert_eq!(line(&[], 3, true), "   ");
        assert_eq!(sparkline([1.0].into_iter(), 0.0, 3, true), "   ");
    }

    proptest! {
        #[test]
        fn any_line_is_printable(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!printable(&bytes).chars().any(char::is_control));
        }

        #[test]
        fn a_sparkline_is_so_wide(values in proptest::collection::vec(any::<f64>(), 0..80), width in 0_usize..80) {
            prop_assert_eq!(sparkline(values.into_iter(), 7.0, width, true).chars().count(), width);
        }
    }
}
