//! The monitor's half: bytes in, lines of JSON out, and never an error that stops the container.
//!
//! What arrives is cut into lines; an unfinished line waits in memory until its newline, its end or
//! [`MAX_PIECE`] bytes. Whole entries gather in one buffer that is written with one call, so a file never
//! holds half an entry unless the disk filled up in the middle of one: then it is cut off again, and the
//! entries stay in the buffer for the next attempt, up to [`MAX_BACKLOG`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use base::Timestamp;

use crate::{Config, MAX_PIECE, Stream, entry, rfc3339, rotated};

/// Entries are written once this many bytes of them have gathered.
const FLUSH_AT: usize = 128 * 1024;
/// How much is kept for later while the disk is full.
const MAX_BACKLOG: usize = 512 * 1024;

/// Writes a container's log.
#[derive(Debug)]
pub struct Writer {
    config: Config,
    /// None before the first byte, and after an error that a new file may mend.
    file: Option<File>,
    size: u64,
    unfinished: [Vec<u8>; 2],
    out: Vec<u8>,
    time: Vec<u8>,
    /// How much gathers before it is written: less where files are short, which a batch should not make longer.
    flush_at: usize,
    errors: u64,
    lost: u64,
}

impl Writer {
    /// A writer; no file is made before the first byte.
    pub fn open(config: Config) -> Self {
        let quarter =
            config.max_size.map_or(usize::MAX, |most| usize::try_from(most / 4).unwrap_or(usize::MAX));
        Self {
            flush_at: FLUSH_AT.min(quarter),
            config,
            file: None,
            size: 0,
            unfinished: [Vec::new(), Vec::new()],
            out: Vec::new(),
            time: Vec::new(),
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

    fn write_at(&mut self, stream: Stream, mut bytes: &[u8], now: Timestamp) {
        self.time.clear();
        rfc3339::format(now, &mut self.time);
        while !bytes.is_empty() {
            let pending = &mut self.unfinished[stream as usize];
            let room = MAX_PIECE - pending.len();
            let window = &bytes[..bytes.len().min(room)];
            let taken = match memchr::memchr(b'\n', window) {
                Some(newline) => newline + 1,
                // The piece is full: cut it, but not within a character.
                None if window.len() == room => {
                    let cut = whole_characters(window);
                    if cut == 0 && pending.is_empty() { room } else { cut }
                }
                None => {
                    pending.extend_from_slice(bytes);
                    break;
                }
            };
            entry::encode(stream, [pending, &bytes[..taken]], &self.time, &mut self.out);
            pending.clear();
            bytes = &bytes[taken..];
            if self.out.len() >= self.flush_at {
                self.flush();
            }
        }
        self.flush();
    }

    /// The streams have ended: writes what is unfinished, without a newline, as Docker does.
    pub fn finish(&mut self) {
        self.time.clear();
        rfc3339::format(Timestamp::now(), &mut self.time);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = &mut self.unfinished[stream as usize];
            if !pending.is_empty() {
                entry::encode(stream, [pending, b""], &self.time, &mut self.out);
                pending.clear();
            }
        }
        self.flush();
    }

    /// Writes the gathered entries, or keeps them for the next time.
    fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        if self.try_flush().is_ok() {
            self.out.clear();
        } else {
            self.errors += 1;
            if self.out.len() > MAX_BACKLOG {
                self.lost += self.out.len() as u64;
                self.out.clear();
            }
        }
        // One burst must not cost memory for the rest of a container's life.
        if self.out.is_empty() && self.out.capacity() > 2 * FLUSH_AT {
            self.out.shrink_to(FLUSH_AT);
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        let full = self.config.max_size.is_some_and(|max| self.size + self.out.len() as u64 > max);
        if self.file.is_some() && self.size > 0 && full {
            self.rotate()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let (file, size) = open(&self.config)?;
                self.size = size;
                none.insert(file)
            }
        };
        write_whole(file, &self.out)?;
        self.size += self.out.len() as u64;
        Ok(())
    }

    /// `log.json.1` becomes `.2` and so on, the oldest goes, the current one becomes `.1`. With a single file
    /// it is removed rather than emptied, so that a follower can still read it to its end.
    fn rotate(&mut self) -> io::Result<()> {
        let last = self.config.max_files.max(1) - 1;
        for n in (0..last).rev() {
            match fs::rename(rotated(&self.config.path, n), rotated(&self.config.path, n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if last == 0 {
            fs::remove_file(&self.config.path)?;
        }
        self.file = None;
        self.size = 0;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Appends all or nothing. Where half an entry that has made it cannot be cut off either, a reader skips it.
fn write_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // By its length now: somebody who wants room may have emptied the file.
                if let (1.., Ok(now)) = (written, file.metadata()) {
                    file.set_len(now.len().saturating_sub(written as u64)).ok();
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Opens the log at its end. A torn last line, left by a crash, is closed, so that it spoils only itself.
fn open(config: &Config) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&config.path)?;
    let mut size = file.metadata()?.len();
    let mut last = [0];
    if size > 0 && file.read_at(&mut last, size - 1)? == 1 && last[0] != b'\n' {
        file.write_all(b"\n")?;
        size += 1;
    }
    Ok((file, size))
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
    use std::path::Path;

    use super::*;
    use crate::reader::{Options, Reader};

    fn config(dir: &Path) -> Config {
        Config::unbounded(dir.join("log.json"))
    }

    fn texts(path: &Path) -> Vec<(Stream, String)> {
        let mut reader = Reader::open(path, Options::default(), || true).unwrap();
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
        let config = Config::unbounded(dir.path().join("not yet/log.json"));
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
        let mut writer = Writer::open(Config::unbounded("/dev/full".into()));
        for _ in 0..2000 {
            writer.write(Stream::Stdout, &[b'x'; 1000]);
            writer.write(Stream::Stdout, b"\n");
        }
        assert!(writer.errors() > 0 && writer.lost() > 0);
        assert!(writer.out.len() <= MAX_BACKLOG + 8 * MAX_PIECE);
    }
}
