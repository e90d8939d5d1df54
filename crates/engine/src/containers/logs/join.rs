//! Pieces become lines, and lines become entries that begin where a rule says so: a stack trace is one thing to look for,
//! and to show.

use regex::bytes::Regex;

use super::{LogLine, LogStream};

/// More than this is not joined: what follows is an entry of its own.
const MOST: usize = 1 << 20;

/// What is not finished yet, for each stream.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// Lines that begin an entry; none: each does.
    start: Option<Regex>,
    streams: [Open; 2],
}

#[derive(Debug, Default)]
struct Open {
    entry: Option<LogLine>,
    /// The last line goes on in the next piece.
    in_line: bool,
}

impl Joiner {
    pub(super) fn new(start: Option<Regex>) -> Self {
        Self { start, ..Self::default() }
    }

    /// Whether an entry may go on after its line has ended.
    pub(super) fn waits(&self) -> bool {
        self.start.is_some()
    }

    /// Whether something waits for more.
    pub(super) fn is_open(&self) -> bool {
        self.streams.iter().any(|open| open.entry.is_some())
    }

    /// Takes a piece, and hands out what has ended with it: the entry before, or the one that it ends.
    pub(super) fn take(&mut self, piece: LogLine, partial: bool, mut out: impl FnMut(LogLine)) {
        let open = &mut self.streams[usize::from(piece.stream == LogStream::Stderr)];
        let goes_on =
            open.in_line || self.start.as_ref().is_some_and(|start| !start.is_match(line(&piece.bytes)));
        match &mut open.entry {
            Some(entry) if goes_on && entry.bytes.len() + piece.bytes.len() <= MOST => {
                entry.bytes.extend_from_slice(&piece.bytes);
            }
            none_or_before => {
                if let Some(before) = none_or_before.replace(piece) {
                    out(before);
                }
            }
        }
        open.in_line = partial;
        if self.start.is_none()
            && !partial
            && let Some(entry) = open.entry.take()
        {
            out(entry);
        }
    }

    /// Nothing more comes for now: hands out what may be whole; with `all`, also lines that are not.
    pub(super) fn finish(&mut self, all: bool, out: impl FnMut(LogLine)) {
        let mut rest: Vec<LogLine> = Vec::new();
        for open in &mut self.streams {
            if all || !open.in_line {
                rest.extend(open.entry.take());
            }
        }
        rest.sort_by_key(|entry| entry.time);
        rest.into_iter().for_each(out);
    }
}

/// Without what ends a line.
pub(super) fn line(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;

    fn joined(start: Option<&str>, pieces: &[(LogStream, &str, bool)]) -> Vec<String> {
        let mut joiner = Joiner::new(start.map(|start| Regex::new(start).unwrap()));
        let mut all = Vec::new();
        let mut keep = |entry: LogLine| all.push(String::from_utf8(entry.bytes).unwrap());
        for (n, (stream, text, partial)) in pieces.iter().enumerate() {
            let piece = LogLine {
                stream: *stream,
                time: Timestamp(n as i64),
                bytes: text.as_bytes().to_vec(),
                ..LogLine::empty()
            };
            joiner.take(piece, *partial, &mut keep);
        }
        joiner.finish(true, keep);
        all
    }

    #[test]
    fn pieces_are_one_line_whatever_the_other_stream_says() {
        use LogStream::{Stderr, Stdout};
        let pieces = [
            (Stdout, "on", true),
            (Stderr, "other\n", false),
            (Stdout, "e", true),
            (Stdout, "\n", false),
            (Stdout, "rest", true),
        ];
        assert_eq!(joined(None, &pieces), ["other\n", "one\n", "rest"]);
    }

    #[test]
    fn what_begins_no_entry_belongs_to_the_one_before() {
        use LogStream::{Stderr, Stdout};
        let pieces = [
            (Stdout, "  lonely\n", false),
            (Stdout, "E one\n", false),
            (Stderr, "E err\n", false),
            (Stdout, "  at a\n", false),
            (Stdout, "  at ", true),
            (Stdout, "E is no beginning in a line\n", false),
            (Stdout, "E two\n", false),
        ];
        let expected =
            ["  lonely\n", "E one\n  at a\n  at E is no beginning in a line\n", "E err\n", "E two\n"];
        assert_eq!(joined(Some("^E"), &pieces), expected);
    }

    #[test]
    fn what_never_ends_is_handed_out_in_between() {
        let piece = "x".repeat(16 << 10);
        let pieces = vec![(LogStream::Stdout, &*piece, true); 200];
        let all = joined(None, &pieces);
        assert_eq!(all.iter().map(String::len).sum::<usize>(), 200 * piece.len());
        assert!(all.len() > 2 && all.iter().all(|entry| entry.len() <= MOST));
    }
}
