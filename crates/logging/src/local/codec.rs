//! How entries are written in a block.
//!
//! ```text
//! flags   bit 0: standard error   1: ends with a newline, which is left out   2: the line goes on   3: full time
//! time    full: nanoseconds since 1970, eight bytes; else those since the entry before, as a varint
//! length  a varint
//! ```
//!
//! The first entry of each write has its full time, so that bodies are joined by appending.

use base::Timestamp;

use crate::{Entry, Stream};

const STDERR: u8 = 1;
const NEWLINE: u8 = 2;
const PARTIAL: u8 = 4;
const FULL_TIME: u8 = 8;

/// Appends one entry. `pieces` are one text; `before` is the time of the entry before in the same body.
pub(super) fn encode(
    stream: Stream,
    pieces: [&[u8]; 2],
    partial: bool,
    time: Timestamp,
    before: Option<Timestamp>,
    to: &mut Vec<u8>,
) {
    let [first, second] = pieces;
    let (second, newline) = match second.strip_suffix(b"\n") {
        Some(rest) => (rest, true),
        None => (second, false),
    };
    let since = before.and_then(|before| u64::try_from(time.0.checked_sub(before.0)?).ok());
    let mut flags = if stream == Stream::Stderr { STDERR } else { 0 };
    flags |= if newline { NEWLINE } else { 0 };
    flags |= if partial { PARTIAL } else { 0 };
    flags |= if since.is_none() { FULL_TIME } else { 0 };
    to.push(flags);
    match since {
        Some(since) => varint(since, to),
        None => to.extend_from_slice(&time.0.to_le_bytes()),
    }
    varint((first.len() + second.len()) as u64, to);
    to.extend_from_slice(first);
    to.extend_from_slice(second);
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Takes entries out of a body.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    at: usize,
    time: i64,
}

impl Decoder {
    /// The next entry, without its number. None at the end of the body, and where it is none of ours.
    pub(super) fn next(&mut self, body: &[u8], entry: &mut Entry) -> Option<()> {
        let flags = *body.get(self.at)?;
        if flags >= FULL_TIME << 1 {
            return None;
        }
        let mut at = self.at + 1;
        if flags & FULL_TIME == 0 {
            let since = take_varint(body, &mut at)?;
            self.time = self.time.checked_add(i64::try_from(since).ok()?)?;
        } else {
            let bytes = body.get(at..at + 8)?;
            self.time = i64::from_le_bytes(bytes.try_into().ok()?);
            at += 8;
        }
        let length = usize::try_from(take_varint(body, &mut at)?).ok()?;
        let text = body.get(at..at.checked_add(length)?)?;
        entry.stream = if flags & STDERR == 0 { Stream::Stdout } else { Stream::Stderr };
        entry.time = Timestamp(self.time);
        entry.partial = flags & PARTIAL != 0;
        entry.text.clear();
        entry.text.extend_from_slice(text);
        if flags & NEWLINE != 0 {
            entry.text.push(b'\n');
        }
        self.at = at + length;
        Some(())
    }
}

fn take_varint(body: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *body.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            entries in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<i64>(), proptest::collection::vec(any::<u8>(), 0..300)), 1..50),
            cut in 0usize..100,
        ) {
            let mut body = Vec::new();
            let mut before = None;
            for (stderr, partial, time, text) in &entries {
                let stream = if *stderr { Stream::Stderr } else { Stream::Stdout };
                let cut = cut.min(text.len());
                encode(stream, [&text[..cut], &text[cut..]], *partial, Timestamp(*time), before, &mut body);
                before = Some(Timestamp(*time));
            }
            let (mut decoder, mut entry) = (Decoder::default(), Entry::empty());
            for (stderr, partial, time, text) in &entries {
                prop_assert!(decoder.next(&body, &mut entry).is_some());
                prop_assert_eq!(&entry.text, text);
                prop_assert_eq!((entry.time.0, entry.partial), (*time, *partial));
                prop_assert_eq!(entry.stream == Stream::Stderr, *stderr);
            }
            prop_assert!(decoder.next(&body, &mut entry).is_none());
            // A body that ends too early has fewer entries, not others.
            let short = &body[..body.len() - 1];
            let mut decoder = Decoder::default();
            prop_assert_eq!(std::iter::from_fn(|| decoder.next(short, &mut entry)).count(), entries.len() - 1);
        }

        #[test]
        fn rubbish_has_an_end(body in proptest::collection::vec(any::<u8>(), 0..500)) {
            let (mut decoder, mut entry) = (Decoder::default(), Entry::empty());
            let count = std::iter::from_fn(|| decoder.next(&body, &mut entry)).count();
            prop_assert!(count <= body.len());
        }
    }
}
