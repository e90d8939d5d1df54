//! The keys that leave a container without ending it: `ctrl-p,ctrl-q` by default.

use std::str::FromStr;

/// A sequence of keys to watch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// A `--detach-keys` that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no key: want letters, digits or ctrl-<letter, @, [, \\, ], ^ or _>, separated by commas")]
pub(crate) struct UnknownKey(String);

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: vec![0x10, 0x11], matched: 0 }
    }
}

impl FromStr for DetachKeys {
    type Err = UnknownKey;
    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let keys = text.split(',').map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, matched: 0 })
    }
}

fn key(text: &str) -> Result<u8, UnknownKey> {
    let unknown = || UnknownKey(text.chars().take(40).collect());
    if let [byte @ 0x20..=0x7e] = text.as_bytes() {
        return Ok(*byte);
    }
    match text.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => {
            Ok(byte.to_ascii_uppercase() & 0x1f)
        }
        _ => Err(unknown()),
    }
}

impl DetachKeys {
    /// Takes what was typed. What is not (the beginning of) the sequence is appended to `forward`; true once
    /// the sequence is complete.
    pub(crate) fn feed(&mut self, typed: &[u8], forward: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return true;
                }
                continue;
            }
            // What was held back was no beginning after all. The byte may be one, though.
            forward.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if byte == self.keys[0] {
                self.matched = 1;
            } else {
                forward.push(byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_found_across_reads_and_all_else_goes_through() {
        let mut keys = DetachKeys::default();
        let mut forward = Vec::new();
        assert!(!keys.feed(b"a\x10", &mut forward));
        assert_eq!(forward, b"a");
        assert!(!keys.feed(b"b\x10\x10", &mut forward));
        assert_eq!(forward, b"a\x10b\x10");
        assert!(keys.feed(b"\x11rest", &mut forward));
        assert_eq!(forward, b"a\x10b\x10");
    }

    #[test]
    fn dockers_notation() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        assert_eq!("ctrl-@,x,ctrl-[".parse::<DetachKeys>().unwrap().keys, [0, b'x', 27]);
        for bad in ["", "ctrl-", "ctrl-P1", "alt-x", "a,,b"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }
}
