//! One entry of the log: how it is written as a line of JSON and read back.
//!
//! The escaping is that of Docker's `json-file` driver byte for byte (what Go's `encoding/json` does with
//! HTML escaping on), so that whatever parses Docker's files parses ours: each invalid byte becomes U+FFFD.

use std::sync::Arc;

use base::Timestamp;
use serde::Deserialize;

use crate::{Attributes, Entry, Stream, rfc3339};

/// What follows the text in the line of an entry. Entries that are taken together have the same.
/// `attributes` as [`attributes`] makes them.
pub(crate) fn trailer(stream: Stream, attributes: &[u8], time: Timestamp, to: &mut Vec<u8>) {
    to.extend_from_slice(b"\",\"stream\":\"");
    to.extend_from_slice(stream.name().as_bytes());
    to.push(b'"');
    to.extend_from_slice(attributes);
    to.extend_from_slice(b",\"time\":\"");
    rfc3339::format(time, to);
    to.extend_from_slice(b"\"}\n");
}

/// The field in which Docker keeps what is said of the container with each entry; nothing where nothing is said.
pub(crate) fn attributes(attributes: &Attributes) -> Vec<u8> {
    let mut to = Vec::new();
    for (name, value) in attributes {
        to.extend_from_slice(if to.is_empty() { b",\"attrs\":{\"" } else { b",\"" });
        escape_str(name, &mut to);
        to.extend_from_slice(b"\":\"");
        escape_str(value, &mut to);
        to.push(b'"');
    }
    if !to.is_empty() {
        to.push(b'}');
    }
    to
}

/// Appends one entry as a line. `pieces` are written one after the other as one text.
pub(crate) fn encode(pieces: [&[u8]; 2], trailer: &[u8], to: &mut Vec<u8>) {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    to.reserve(length + trailer.len() + 16);
    to.extend_from_slice(b"{\"log\":\"");
    for piece in pieces {
        escape(piece, to);
    }
    to.extend_from_slice(trailer);
}

fn escape(bytes: &[u8], to: &mut Vec<u8>) {
    // Nearly every line is of bytes that stand for themselves, but for its end.
    let (line, end) = match bytes.strip_suffix(b"\n") {
        Some(line) => (line, &b"\\n"[..]),
        None => (bytes, &b""[..]),
    };
    if is_plain(line) {
        to.extend_from_slice(line);
    } else if let Ok(text) = std::str::from_utf8(line) {
        escape_str(text, to);
    } else {
        for chunk in line.utf8_chunks() {
            escape_str(chunk.valid(), to);
            // Go replaces byte by byte, Rust's chunks are maximal prefixes: count the bytes, as Docker does.
            for _ in chunk.invalid() {
                to.extend_from_slice(b"\\ufffd");
            }
        }
    }
    to.extend_from_slice(end);
}

/// Whether no byte is special, and none part of a longer character, which might not be whole.
fn is_plain(bytes: &[u8]) -> bool {
    // Without a branch between, so that it becomes a few instructions for all of a block.
    let special = |block: &[u8]| block.iter().fold(0, |any, &byte| any | u8::from(is_special_or_long(byte)));
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    blocks.iter().fold(0, |any, block| any | special(block)) | special(rest) == 0
}

#[expect(clippy::needless_bitwise_bool, reason = "without a branch, see is_plain")]
const fn is_special_or_long(byte: u8) -> bool {
    // Signed, so that one comparison finds control characters and what is no ASCII. Two and two of the others differ
    // in one bit.
    ((byte as i8) < 0x20) | (byte | 2 == b'>') | (byte | 4 == b'&') | (byte == b'\\')
}

/// The bytes that may need escaping.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_special(byte as u8);
        byte += 1;
    }
    table
};

/// How many bytes are looked at together: a vector register of any machine.
const BLOCK: usize = 16;

/// Where the next byte is, from `from` on, that may need escaping. Blocks in which none is are passed over whole: most
/// lines of most logs are made of nothing else.
fn next_special(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(block) = bytes.get(at..at + BLOCK) {
        // Without a branch, so that it becomes a few instructions for all of them.
        if block.iter().fold(false, |any, &byte| any | is_special(byte)) {
            break;
        }
        at += BLOCK;
    }
    let found = bytes.get(at..)?.iter().position(|&byte| SPECIAL[usize::from(byte)])?;
    Some(at + found)
}

#[expect(clippy::needless_bitwise_bool, reason = "without a branch, see next_special")]
const fn is_special(byte: u8) -> bool {
    (byte < 0x20)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
        | (byte == 0xe2)
}

fn escape_str(text: &str, to: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut start = 0;
    let mut at = 0;
    while let Some(next) = next_special(bytes, at) {
        at = next + 1;
        let (at, byte) = (next, bytes[next]);
        // U+2028 and U+2029 (E2 80 A8, E2 80 A9) end lines in JavaScript; Go escapes them.
        if byte == 0xe2 && !matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) {
            continue;
        }
        to.extend_from_slice(&bytes[start..at]);
        start = at + 1;
        match byte {
            b'"' | b'\\' => to.extend_from_slice(&[b'\\', byte]),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            0xe2 => {
                to.extend_from_slice(&[b'\\', b'u', b'2', b'0', b'2', HEX[usize::from(bytes[at + 2] & 15)]]);
                start = at + 3;
            }
            _ => to.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
    to.extend_from_slice(&bytes[start..]);
}

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The time that was read last, and how it was written: those that were taken together have the same.
    time: (Timestamp, Vec<u8>),
    /// The attributes that were read last, and how they were written.
    attributes: (Arc<Attributes>, Vec<u8>),
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { time: (Timestamp(0), Vec::new()), attributes: Default::default() }
    }

    /// Reads a line (without its newline) into `entry`, whose buffer is reused. False if it is not an entry:
    /// torn, or not ours.
    pub(crate) fn decode(&mut self, line: &[u8], entry: &mut Entry) -> bool {
        let is_one = self.decode_own(line, entry).is_some() || decode_any(line, entry).is_some();
        // The format does not tell the last of a stream from a piece: it is taken for one.
        entry.partial = is_one && !entry.text.ends_with(b"\n");
        is_one
    }

    /// The exact form that [`encode`] writes: no general parser needed.
    fn decode_own(&mut self, line: &[u8], entry: &mut Entry) -> Option<()> {
        let rest = line.strip_prefix(b"{\"log\":\"")?;
        entry.text.clear();
        let end = unescape(rest, &mut entry.text)?;
        let rest = rest[end..].strip_prefix(b"\",\"stream\":\"std")?;
        let (stream, rest) = match rest.split_at_checked(3)? {
            (b"out", rest) => (Stream::Stdout, rest),
            (b"err", rest) => (Stream::Stderr, rest),
            _ => return None,
        };
        let rest = self.decode_attributes(rest.strip_prefix(b"\"")?)?;
        let time = rest.strip_prefix(b",\"time\":\"")?.strip_suffix(b"\"}")?;
        if time != self.time.1 {
            self.time.0 = rfc3339::parse(std::str::from_utf8(time).ok()?)?;
            self.time.1.clear();
            self.time.1.extend_from_slice(time);
        }
        entry.stream = stream;
        entry.time = self.time.0;
        entry.set_attributes(&self.attributes.0);
        Some(())
    }

    /// Reads the attributes that a line goes on with, if there are some, and returns what follows them.
    fn decode_attributes<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (object, rest) = match line.strip_prefix(b",\"attrs\":") {
            None => (&line[..0], line),
            // A text in it has no such end: its quotation marks have backslashes before them.
            Some(rest) => rest.split_at_checked(memchr::memmem::find(rest, b"},\"time\":")? + 1)?,
        };
        // Looked at first: to compare nothing with nothing, where a vector has no memory, takes longer on some processors than
        // all else here (a masked load from no page).
        let neither = object.is_empty() && self.attributes.1.is_empty();
        if !neither && object != self.attributes.1 {
            let read =
                if object.is_empty() { Attributes::new() } else { serde_json::from_slice(object).ok()? };
            self.attributes = (Arc::new(read), object.to_owned());
        }
        Some(rest)
    }
}

/// Reads a text up to the quotation mark that ends it, and returns where that is.
fn unescape(text: &[u8], to: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let run = memchr::memchr2(b'"', b'\\', &text[at..])?;
        to.extend_from_slice(&text[at..at + run]);
        at += run;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
        match text.get(at - 1)? {
            b'n' => to.push(b'\n'),
            b'r' => to.push(b'\r'),
            b't' => to.push(b'\t'),
            byte @ (b'"' | b'\\' | b'/') => to.push(*byte),
            b'u' => {
                let hex = std::str::from_utf8(text.get(at..at + 4)?).ok()?;
                // A surrogate pair is nothing we write: the general parser's business.
                let c = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
                to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += 4;
            }
            _ => return None,
        }
    }
}

/// Any JSON object with the three fields, in any order, with others between.
fn decode_any(line: &[u8], entry: &mut Entry) -> Option<()> {
    #[derive(Deserialize)]
    struct Line {
        log: String,
        stream: String,
        time: String,
        #[serde(default)]
        attrs: Attributes,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    entry.stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    entry.time = rfc3339::parse(&line.time)?;
    entry.text = line.log.into_bytes();
    entry.attributes = Arc::new(line.attrs);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &[u8]) -> String {
        let mut to = Vec::new();
        let mut end = Vec::new();
        trailer(Stream::Stderr, b"", Timestamp(0), &mut end);
        encode([text, b""], &end, &mut to);
        String::from_utf8(to).unwrap()
    }

    fn empty() -> Entry {
        Entry::empty()
    }

    #[test]
    fn the_line_is_dockers() {
        assert_eq!(
            line("a<\"\\\t\x1b\u{2028}é\r\n".as_bytes()),
            "{\"log\":\"a\\u003c\\\"\\\\\\u0009\\u001b\\u2028é\\r\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        // Each byte of an unfinished character counts, as in Go.
        assert!(line(b"\xf0\x9f\x98x").contains("\"\\ufffd\\ufffd\\ufffdx\""));
    }

    #[test]
    fn plain_is_what_needs_no_escape() {
        for byte in 0..=u8::MAX {
            let plain = !is_special(byte) && byte < 0x80;
            for place in [0, 15, 16, 31, 40] {
                let mut text = [b'x'; 41];
                text[place] = byte;
                assert_eq!(is_plain(&text), plain, "{byte} in {place}");
            }
        }
    }

    #[test]
    fn other_writers_lines_are_read_too() {
        let mut entry = empty();
        let text =
            br#"{"attrs":{"a":"b"},"time":"1970-01-01T00:00:01Z","stream":"stdout","log":"\ud83d\ude00"}"#;
        assert!(Decoder::new().decode(text, &mut entry));
        assert_eq!(
            (entry.stream, entry.time.0, &*entry.text),
            (Stream::Stdout, 1_000_000_000, "😀".as_bytes())
        );
        assert!(entry.partial);
        assert_eq!(entry.attributes["a"], "b");
    }

    #[test]
    fn attributes_are_written_as_docker_does_and_read_back() {
        let said =
            Attributes::from([("env".into(), "a\"b}".into()), ("tag".into(), "<x>,},\"time\":".into())]);
        let (mut line, mut end) = (Vec::new(), Vec::new());
        trailer(Stream::Stdout, &attributes(&said), Timestamp(0), &mut end);
        encode([b"x\n", b""], &end, &mut line);
        assert_eq!(
            std::str::from_utf8(&line).unwrap(),
            "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"env\":\"a\\\"b}\",\
             \"tag\":\"\\u003cx\\u003e,},\\\"time\\\":\"},\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        let (mut decoder, mut entry) = (Decoder::new(), empty());
        assert!(decoder.decode_own(&line[..line.len() - 1], &mut entry).is_some());
        assert_eq!(*entry.attributes, said);
        // The next line has none.
        let plain = self::line(b"y\n");
        assert!(decoder.decode_own(plain.trim_end().as_bytes(), &mut entry).is_some());
        assert!(entry.attributes.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_json_line_that_reads_back(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let line = line(&text);
            let body = line.strip_suffix('\n').unwrap();
            prop_assert!(!body.contains('\n'));
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            let mut expected = String::new();
            for chunk in text.utf8_chunks() {
                expected.push_str(chunk.valid());
                expected.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
            }
            prop_assert_eq!(json["log"].as_str().unwrap(), &expected);
            let mut entry = empty();
            prop_assert!(Decoder::new().decode_own(body.as_bytes(), &mut entry).is_some());
            prop_assert_eq!((entry.stream, entry.time.0), (Stream::Stderr, 0));
            prop_assert_eq!(entry.text, expected.into_bytes());
        }

        #[test]
        fn torn_or_foreign_lines_are_refused_not_feared(text in proptest::collection::vec(any::<u8>(), 0..99), cut in 0usize..60) {
            let _ = Decoder::new().decode(&text, &mut empty());
            let whole = line(&text);
            prop_assert!(!Decoder::new().decode(&whole.as_bytes()[..cut.min(whole.len() - 2)], &mut empty()));
        }
    }
}
