//! What is sent: an entry of the log, without its newline, and what is known of it.

use std::collections::VecDeque;

use base::Timestamp;
use logging::{Entry, Stream};
use state::shipping::Partial;

/// One entry on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its number.
    pub(crate) sequence: u64,
    /// Where it came from.
    pub(crate) stream: Stream,
    /// When.
    pub(crate) time: Timestamp,
    /// Without the newline.
    pub(crate) text: Vec<u8>,
    /// Where it is a piece of a line that was too long.
    pub(crate) piece: Option<Piece>,
}

/// A piece of a long line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The number of the entry with the first of them, which tells the line apart from others.
    pub(crate) line: u64,
    /// Which, from 1 on.
    pub(crate) ordinal: u32,
    /// The line ends here.
    pub(crate) last: bool,
}

impl Message {
    /// `stdout` or `stderr`.
    pub(crate) fn source(&self) -> &'static str {
        match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// The number after it.
    pub(crate) fn end(&self) -> u64 {
        self.sequence + 1
    }
}

/// Lines that have begun and not ended: standard output's, standard error's.
type Lines = [Option<Partial>; 2];

/// Numbers the pieces of long lines, and knows how that stood at each place that may be gone back to.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    now: Lines,
    /// Up to where all has arrived, and how it stood there.
    arrived: Lines,
    /// How it stood after an entry, where that changed it: the number after it.
    changes: VecDeque<(u64, Lines)>,
}

impl Pieces {
    /// From where it stood there.
    pub(crate) fn new(arrived: Lines) -> Self {
        Self { now: arrived, arrived, changes: VecDeque::new() }
    }

    /// How it stands where all has arrived.
    pub(crate) fn arrived(&self) -> Lines {
        self.arrived
    }

    /// All up to this number has arrived.
    pub(crate) fn arrive(&mut self, next: u64) {
        while let Some((end, lines)) = self.changes.front()
            && *end <= next
        {
            self.arrived = *lines;
            self.changes.pop_front();
        }
    }

    /// Goes back to there.
    pub(crate) fn go_back(&mut self) {
        self.now = self.arrived;
        self.changes.clear();
    }

    /// Makes a message of an entry.
    pub(crate) fn message(&mut self, entry: &Entry) -> Message {
        let line = &mut self.now[usize::from(entry.stream == Stream::Stderr)];
        let before = *line;
        let piece = (entry.partial || before.is_some()).then(|| {
            let known = before.unwrap_or(Partial { first: entry.sequence, count: 0 });
            let known = Partial { count: known.count.saturating_add(1), ..known };
            *line = entry.partial.then_some(known);
            Piece { line: known.first, ordinal: known.count, last: !entry.partial }
        });
        if *line != before {
            self.changes.push_back((entry.sequence + 1, self.now));
        }
        let text = entry.text.strip_suffix(b"\n").unwrap_or(&entry.text).to_vec();
        Message { sequence: entry.sequence, stream: entry.stream, time: entry.time, text, piece }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn entry(sequence: u64, text: &str, partial: bool) -> Entry {
        Entry {
            sequence,
            stream: Stream::Stdout,
            time: Timestamp(0),
            text: text.into(),
            partial,
            attributes: Arc::default(),
        }
    }

    #[test]
    fn pieces_are_numbered_the_same_when_they_are_sent_again() {
        let mut pieces = Pieces::default();
        let read = |pieces: &mut Pieces, from: u64| -> Vec<Option<Piece>> {
            let all =
                [entry(0, "a\n", false), entry(1, "b", true), entry(2, "c", true), entry(3, "d\n", false)];
            all[from as usize..].iter().map(|e| pieces.message(e).piece).collect()
        };
        let first = read(&mut pieces, 0);
        let piece = |ordinal, last| Some(Piece { line: 1, ordinal, last });
        assert_eq!(first, [None, piece(1, false), piece(2, false), piece(3, true)]);
        pieces.arrive(2);
        pieces.go_back();
        assert_eq!(read(&mut pieces, 2), first[2..]);
        pieces.arrive(4);
        assert_eq!(pieces.arrived(), [None, None]);
    }

    #[test]
    fn the_newline_is_not_sent() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.message(&entry(0, "x\n", false)).text, b"x");
        assert_eq!(pieces.message(&entry(1, "\n", false)).text, b"");
        assert_eq!(pieces.message(&entry(2, "y", false)).text, b"y");
    }
}
