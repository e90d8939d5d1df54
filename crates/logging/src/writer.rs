//! The monitor's half: bytes in, entries out, and never an error that stops the container.
//!
//! What arrives is cut into lines; an unfinished line waits in memory until its newline, its end or [`MAX_PIECE`] bytes.
//! What becomes of the entries is the format's business, but where they cannot be written: then they are kept for the
//! next attempt, up to [`MAX_BACKLOG`].

use base::Timestamp;

use crate::json::JsonFile;
use crate::local::LocalFile;
use crate::{Config, Format, MAX_PIECE, Stream};

/// Entries are written once this many bytes of them have gathered.
const FLUSH_AT: usize = 128 * 1024;
/// A buffer that is not worth being freed.
pub(crate) const LITTLE: usize = 4096;
/// How much is kept for later while the disk is full.
const MAX_BACKLOG: usize = 512 * 1024;

/// Writes a container's log.
#[derive(Debug)]
pub struct Writer {
    to: To,
    unfinished: [Vec<u8>; 2],
    /// How much gathers before it is written: less where files are short, which a batch should not make longer.
    flush_at: usize,
    errors: u64,
    lost: u64,
}

#[derive(Debug)]
enum To {
    Json(JsonFile),
    Local(LocalFile),
}

impl Writer {
    /// A writer; no file is made before the first byte.
    pub fn open(config: Config) -> Self {
        let quarter =
            config.max_size.map_or(usize::MAX, |most| usize::try_from(most / 4).unwrap_or(usize::MAX));
        Self {
            flush_at: FLUSH_AT.min(quarter),
            to: match config.format {
                Format::JsonFile => To::Json(JsonFile::new(config)),
                Format::Local => To::Local(LocalFile::new(config)),
            },
            unfinished: [Vec::new(), Vec::new()],
            errors: 0,
            lost: 0,
        }
    }

    /// How many writes have failed so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// How many bytes of log (as written, with their framing) were given up.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes what the container wrote to `stream`. Never fails: see [`errors`](Self::errors).
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.write_at(stream, bytes, Timestamp::now());
    }

    /// Whether it holds memory that a container which has fallen silent should not cost: see [`rest`](Self::rest).
    pub fn is_warm(&self) -> bool {
        match &self.to {
            To::Json(file) => file.is_warm(),
            To::Local(file) => file.is_warm(),
        }
    }

    /// Nothing has come for a while: one burst must not cost memory for the rest of a container's life.
    pub fn rest(&mut self) {
        if self.is_warm() {
            match &mut self.to {
                To::Json(file) => self.errors += u64::from(file.rest().is_err()),
                To::Local(file) => file.rest(),
            }
            sys::memory::give_back();
        }
    }

    fn write_at(&mut self, stream: Stream, mut bytes: &[u8], now: Timestamp) {
        while !bytes.is_empty() {
            let pending = &mut self.unfinished[stream as usize];
            let room = MAX_PIECE - pending.len();
            let window = &bytes[..bytes.len().min(room)];
            let (taken, partial) = match memchr::memchr(b'\n', window) {
                Some(newline) => (newline + 1, false),
                // The piece is full: cut it, but not within a character.
                None if window.len() == room => {
                    let cut = whole_characters(window);
                    (if cut == 0 && pending.is_empty() { room } else { cut }, true)
                }
                None => {
                    pending.extend_from_slice(bytes);
                    break;
                }
            };
            self.to.put(stream, [pending, &bytes[..taken]], partial, now);
            pending.clear();
            bytes = &bytes[taken..];
            if self.to.waiting() >= self.flush_at {
                self.flush();
            }
        }
        self.flush();
    }

    /// The streams have ended: writes what is unfinished, without a newline, as Docker does.
    pub fn finish(&mut self) {
        let now = Timestamp::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = &mut self.unfinished[stream as usize];
            if !pending.is_empty() {
                self.to.put(stream, [pending, b""], false, now);
                pending.clear();
            }
        }
        self.flush();
        if let To::Json(file) = &mut self.to {
            self.errors += u64::from(file.settle().is_err());
        }
    }

    /// Writes the gathered entries, or keeps them for the next time.
    fn flush(&mut self) {
        if self.to.flush().is_err() {
            self.errors += 1;
            let waiting = self.to.waiting();
            if waiting > MAX_BACKLOG {
                self.lost += waiting as u64;
                self.to.drop_batch();
            }
        }
    }
}

impl To {
    fn put(&mut self, stream: Stream, pieces: [&[u8]; 2], partial: bool, time: Timestamp) {
        match self {
            Self::Json(file) => file.put(stream, pieces, time),
            Self::Local(file) => file.put(stream, pieces, partial, time),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Json(file) => file.flush(),
            Self::Local(file) => file.flush(),
        }
    }

    fn waiting(&self) -> usize {
        match self {
            Self::Json(file) => file.waiting(),
            Self::Local(file) => file.waiting(),
        }
    }

    fn drop_batch(&mut self) {
        match self {
            Self::Json(file) => file.drop_batch(),
            Self::Local(file) => file.drop_batch(),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How much of `bytes` is left when a character that is cut off at the end is not counted; all of it where
/// the end is no text.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let length = match bytes[at] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::files::rotated;
    use crate::reader::{Options, Reader};

    fn config(dir: &Path) -> Config {
        Config::unbounded(dir.join("log.json"), Format::JsonFile)
    }

    fn texts(path: &Path) -> Vec<(Stream, String)> {
        let mut reader = Reader::open(path, Format::JsonFile, Options::default(), || true).unwrap();
        let mut all = Vec::new();
        while let Some(entry) = reader.read().unwrap() {
            all.push((entry.stream, String::from_utf8(entry.text.clone()).unwrap()));
        }
        all
    }

    #[test]
    fn no_byte_no_file_and_lines_are_cut_across_writes() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let mut writer = Writer::open(config.clone());
        writer.finish();
        assert!(!config.path.exists());
        writer.write(Stream::Stdout, b"one\ntw");
        writer.write(Stream::Stderr, b"err\n");
        writer.write(Stream::Stdout, b"o\nrest");
        drop(writer);
        let expected = [
            (Stream::Stdout, "one\n".to_owned()),
            (Stream::Stderr, "err\n".to_owned()),
            (Stream::Stdout, "two\n".to_owned()),
            (Stream::Stdout, "rest".to_owned()),
        ];
        assert_eq!(texts(&config.path), expected);
    }

    #[test]
    fn a_long_line_becomes_pieces_that_hold_whole_characters() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let mut writer = Writer::open(config.clone());
        let line = "é€😀x".repeat(5000) + "\n";
        for chunk in line.as_bytes().chunks(1000) {
            writer.write(Stream::Stdout, chunk);
        }
        writer.finish();
        let texts = texts(&config.path);
        assert!(texts.len() > 2);
        assert!(texts.iter().all(|(_, t)| t.len() <= MAX_PIECE && !t.contains('\u{fffd}')));
        assert_eq!(texts.iter().map(|(_, t)| t.as_str()).collect::<String>(), line);
    }

    #[test]
    fn files_rotate_by_size_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { max_size: Some(1000), max_files: 3, ..config(dir.path()) };
        let mut writer = Writer::open(config.clone());
        for n in 0..100 {
            writer.write(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        writer.finish();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let texts = texts(&config.path);
        assert_eq!(texts.last().unwrap().1, "line 99\n");
        assert!((20..60).contains(&texts.len()), "{}", texts.len());
        for n in 0..3 {
            assert!(fs::metadata(rotated(&config.path, n)).unwrap().len() <= 1000);
        }
    }

    #[test]
    fn a_torn_line_of_a_crash_spoils_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        fs::write(&config.path, b"{\"log\":\"half").unwrap();
        let mut writer = Writer::open(config.clone());
        writer.write(Stream::Stdout, b"after\n");
        writer.finish();
        assert_eq!(texts(&config.path), [(Stream::Stdout, "after\n".to_owned())]);
    }

    #[test]
    fn errors_are_counted_and_what_could_not_be_written_is_retried() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::unbounded(dir.path().join("not yet/log.json"), Format::JsonFile);
        let mut writer = Writer::open(config.clone());
        writer.write(Stream::Stdout, b"early\n");
        assert_eq!(writer.errors(), 1);
        fs::create_dir(dir.path().join("not yet")).unwrap();
        writer.write(Stream::Stdout, b"late\n");
        assert_eq!((writer.errors(), writer.lost()), (1, 0));
        assert_eq!(texts(&config.path).len(), 2);
    }

    #[test]
    fn a_full_disk_costs_bounded_memory() {
        let mut writer = Writer::open(Config::unbounded("/dev/full".into(), Format::JsonFile));
        for _ in 0..2000 {
            writer.write(Stream::Stdout, &[b'x'; 1000]);
            writer.write(Stream::Stdout, b"\n");
        }
        assert!(writer.errors() > 0 && writer.lost() > 0);
        assert!(writer.to.waiting() <= MAX_BACKLOG + 8 * MAX_PIECE);
    }
}
