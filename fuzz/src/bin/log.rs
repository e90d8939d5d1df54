//! Logs, which a full disk, a crash or a person may leave in any state: both formats are read to their end, whatever is
//! in the files; and who writes on is read. Never a panic, a hang, or an error.
#![no_main]

use std::path::PathBuf;

use arbitrary::Arbitrary;
use base::Timestamp;
use libfuzzer_sys::fuzz_target;
use logging::{Config, Entry, Format, Options, Reader, Stream, Writer, fuzzing, sequences};

#[derive(Debug, Arbitrary)]
struct Input {
    files: [Vec<Part>; 3],
    first: u8,
    number: u64,
    time: i64,
    tail: u16,
}

#[derive(Debug, Arbitrary)]
enum Part {
    Head {
        first: u64,
        latest: i64,
    },
    Block {
        first: u64,
        count: u32,
        latest: i64,
        body: Vec<u8>,
        compress: bool,
    },
    /// As a writer makes it: so many entries of a byte.
    Good {
        first: u16,
        count: u8,
        compress: bool,
    },
    Bytes(Vec<u8>),
    Lines(String),
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Head { first, latest } => fuzzing::head(*first, *latest),
            Self::Block { first, count, latest, body, compress } => {
                fuzzing::block(*first, *count, *latest, body, *compress)
            }
            Self::Good { first, count, compress } => {
                let mut body = vec![8, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'x'];
                (1..*count).for_each(|_| body.extend([0, 1, 1, b'x']));
                fuzzing::block((*first).into(), (*count).max(1).into(), (*count).into(), &body, *compress)
            }
            Self::Bytes(bytes) => bytes.clone(),
            Self::Lines(text) => {
                format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"2026-11-21T01:02:03Z\"}}\n")
                    .into()
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let path = PathBuf::from("scratch/log");
    let names = ["scratch/log.1", "scratch/log", "scratch/log.tail"];
    for (name, parts) in names.iter().zip(&input.files) {
        let mut bytes = if input.first == 255 { Vec::new() } else { fuzzing::head(input.first.into(), 0) };
        bytes.extend(parts.iter().flat_map(Part::bytes));
        std::fs::write(name, bytes).expect("writing");
    }
    let kinds = [
        Options::default(),
        Options { from_sequence: Some(input.number), ..Options::default() },
        Options { since: Some(Timestamp(input.time)), ..Options::default() },
        Options { tail: Some(input.tail.into()), ..Options::default() },
    ];
    for format in [Format::Local, Format::JsonFile] {
        for options in &kinds {
            let entries = read(&path, format, options.clone());
            if format == Format::Local {
                assert!(entries.is_sorted_by(|a, b| a.sequence < b.sequence));
                assert!(
                    entries.iter().all(|e| options.from_sequence.is_none_or(|first| e.sequence >= first))
                );
            }
            assert!(entries.iter().all(|entry| options.since.is_none_or(|since| entry.time >= since)));
        }
    }
    let end = sequences(&path).expect("any file can be looked at").end;
    for format in [Format::Local, Format::JsonFile] {
        let before = read(&path, format, Options::default()).last().map_or(0, |entry| entry.sequence + 1);
        let mut writer = Writer::open(Config::unbounded(path.clone(), format));
        writer.write(Stream::Stdout, b"and on\n");
        drop(writer);
        // Where numbers are in no order, or have come to an end, what is said next may have one that was there.
        if format == Format::JsonFile || before <= end && end < u64::MAX - 1 {
            let entries = read(&path, format, Options::default());
            assert_eq!(entries.last().expect("what was written is there").text, b"and on\n");
        }
    }
});

fn read(path: &std::path::Path, format: Format, options: Options) -> Vec<Entry> {
    let mut reader = Reader::open(path, format, options, || true).expect("any file can be opened");
    std::iter::from_fn(|| reader.read().expect("any file can be read").cloned()).collect()
}
