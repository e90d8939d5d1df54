//! What a terminal sends, as keys. The bytes are read by the same `poll(2)` as signals and the ends of actions, so there
//! is no event loop of a library's here.

/// A key that means something to the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    Backspace,
    /// Control and C.
    Interrupt,
    /// Control and Z.
    Suspend,
    /// Control and L.
    Redraw,
}

/// No sequence that anybody sends is so long.
const LONGEST: usize = 32;

/// Takes bytes, gives keys.
#[derive(Debug, Default)]
pub(super) struct Decoder(Vec<u8>);

/// What the first bytes are.
enum Found {
    /// The beginning of something.
    Part,
    /// So many bytes, which mean this or nothing.
    Whole(usize, Option<Key>),
}

impl Decoder {
    /// The keys that are complete by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.0.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut rest = &self.0[..];
        while !rest.is_empty() {
            match first(rest) {
                Found::Part if rest.len() <= LONGEST => break,
                Found::Part => rest = &[],
                Found::Whole(length, key) => {
                    keys.extend(key);
                    rest = rest.get(length..).unwrap_or_default();
                }
            }
        }
        self.0 = rest.to_vec();
        keys
    }

    /// Whether there is the beginning of a key: an escape, unless more follows soon, is the key of that name.
    pub(super) fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }

    /// Nothing more has come.
    pub(super) fn give_up(&mut self) -> Option<Key> {
        let escape = self.0 == [0x1b];
        self.0.clear();
        escape.then_some(Key::Escape)
    }
}

fn first(bytes: &[u8]) -> Found {
    match bytes {
        [0x1b, b'[', rest @ ..] => sequence(rest),
        [0x1b] | [0x1b, b'O'] => Found::Part,
        [0x1b, b'O', letter, ..] => Found::Whole(3, by_letter(*letter)),
        // One that something else follows at once.
        [0x1b, 0..0x20 | 0x7f, ..] => Found::Whole(1, Some(Key::Escape)),
        // With the key Alt: nothing of ours.
        [0x1b, ..] => Found::Whole(2, None),
        [0x03, ..] => Found::Whole(1, Some(Key::Interrupt)),
        [0x0c, ..] => Found::Whole(1, Some(Key::Redraw)),
        [0x1a, ..] => Found::Whole(1, Some(Key::Suspend)),
        [b'\r' | b'\n', ..] => Found::Whole(1, Some(Key::Enter)),
        [b'\t', ..] => Found::Whole(1, Some(Key::Tab)),
        [0x08 | 0x7f, ..] => Found::Whole(1, Some(Key::Backspace)),
        [0..0x20, ..] => Found::Whole(1, None),
        _ => character(bytes),
    }
}

/// What follows `ESC [`: parameters, and a letter that ends it.
fn sequence(rest: &[u8]) -> Found {
    let Some(at) = rest.iter().position(|byte| (0x40..0x7f).contains(byte)) else { return Found::Part };
    let length = at + 3;
    match (rest[at], &rest[..at]) {
        // The console of Linux: `ESC [ [ A` is F1.
        (b'[', []) => match rest.get(1) {
            None => Found::Part,
            Some(b'A') => Found::Whole(4, Some(Key::Char('?'))),
            Some(_) => Found::Whole(4, None),
        },
        (b'~', number) => Found::Whole(
            length,
            match number {
                b"1" | b"7" => Some(Key::Home),
                b"4" | b"8" => Some(Key::End),
                b"5" => Some(Key::PageUp),
                b"6" => Some(Key::PageDown),
                b"11" => Some(Key::Char('?')),
                _ => None,
            },
        ),
        (letter, _) => Found::Whole(length, by_letter(letter)),
    }
}

fn by_letter(letter: u8) -> Option<Key> {
    Some(match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'H' => Key::Home,
        b'F' => Key::End,
        // F1
        b'P' => Key::Char('?'),
        _ => return None,
    })
}

fn character(bytes: &[u8]) -> Found {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    match bytes.get(..length).map(std::str::from_utf8) {
        None => Found::Part,
        Some(Ok(text)) => Found::Whole(length, text.chars().next().map(Key::Char)),
        Some(Err(_)) => Found::Whole(1, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Decoder::default().push(bytes)
    }

    #[test]
    fn what_terminals_send() {
        assert_eq!(keys(b"q?\xc3\xa4 "), [Key::Char('q'), Key::Char('?'), Key::Char('ä'), Key::Char(' ')]);
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[5~\x1b[6~"), [Key::Up, Key::Down, Key::PageUp, Key::PageDown]);
        assert_eq!(keys(b"\x1b[H\x1b[4~\x1b[1;5A\x1b[[A"), [Key::Home, Key::End, Key::Up, Key::Char('?')]);
        assert_eq!(
            keys(b"\x03\x1a\x0c\r\t\x7f"),
            [Key::Interrupt, Key::Suspend, Key::Redraw, Key::Enter, Key::Tab, Key::Backspace]
        );
        assert_eq!(keys(b"\x1bx\x01\x1b[Zq"), [Key::Char('q')], "what means nothing");
    }

    #[test]
    fn an_escape_is_a_key_unless_more_follows() {
        let mut decoder = Decoder::default();
        assert!(decoder.push(b"\x1b").is_empty() && decoder.is_waiting());
        assert_eq!(decoder.give_up(), Some(Key::Escape));
        assert!(!decoder.is_waiting());
        assert!(decoder.push(b"\x1b").is_empty());
        assert_eq!(decoder.push(b"[A"), [Key::Up]);
        assert_eq!(keys(b"\x1b\x1b[A\x1b\x0c"), [Key::Escape, Key::Up, Key::Escape, Key::Redraw]);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..60) {
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            let mut decoder = Decoder::default();
            let mut found = decoder.push(a);
            found.extend(decoder.push(b));
            prop_assert!(decoder.0.len() <= LONGEST);
            if bytes.len() <= LONGEST {
                prop_assert_eq!(found, keys(&bytes));
            }
        }
    }
}
