//! The doors' half: the entries of all files of a log, oldest first, and those still to come.
//!
//! Files are opened from the newest to the oldest and told apart by inode: a rotation in the middle of that
//! only shows a file a second time, and the second sight is dropped. Following works the same way: when the
//! path names another file than the one being read, those newer than it are queued, and it is read to its
//! end first.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Timestamp;
use base::fs::At;

use crate::watch::Watch;
use crate::{Entry, Stream, entry, rotated, tail};

const BLOCK: usize = 64 * 1024;
/// Longer than any entry (six bytes for each of a piece's 16 KiB); a longer line is no entry and is skipped.
const MAX_LINE: usize = 256 * 1024;
/// How long a follower sleeps at most before it asks whether the container still lives.
const PATIENCE: Duration = Duration::from_millis(200);
/// Where the search for older files ends, whatever the directory holds.
const MAX_FILES: u32 = 10_000;

/// What of a log to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Only so many of the last entries; none: all.
    pub tail: Option<u64>,
    /// Only entries of this time or later.
    pub since: Option<Timestamp>,
    /// Only entries of this time or earlier.
    pub until: Option<Timestamp>,
    /// Wait for more until the container has ended.
    pub follow: bool,
}

/// Reads a log.
pub struct Reader {
    path: PathBuf,
    options: Options,
    ended: Box<dyn FnMut() -> bool>,
    current: Option<Source>,
    /// Files to read after the current one, oldest first.
    queue: VecDeque<Source>,
    watch: Option<Watch>,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    start: usize,
    /// Up to where it is known to hold no newline.
    searched: usize,
    /// The line being read has grown past [`MAX_LINE`]: skip to its end.
    skipping: bool,
    entry: Entry,
    done: bool,
}

#[derive(Debug)]
struct Source {
    file: File,
    inode: (u64, u64),
}

impl Reader {
    /// Opens the log at `path`; one that does not exist (yet) is empty. `ended` tells a follower that the
    /// container has ended: what is written by then is still read.
    pub fn open(
        path: &Path,
        options: Options,
        ended: impl FnMut() -> bool + 'static,
    ) -> base::fs::Result<Self> {
        // The watch comes first: nothing that happens from now on is missed.
        let watch = options.follow.then(|| Watch::new(path));
        let mut queue = newer_than(path, None).at("read the log", path)?;
        if let Some(mut want) = options.tail {
            let mut first = queue.len();
            while first > 0 {
                let source = &mut queue[first - 1];
                let (position, found) = tail::find(&source.file, want).at("read the log", path)?;
                source.file.seek(SeekFrom::Start(position)).at("read the log", path)?;
                first -= 1;
                want -= found;
                if want == 0 {
                    break;
                }
            }
            queue.drain(..first);
        }
        Ok(Self {
            path: path.to_owned(),
            options,
            ended: Box::new(ended),
            current: queue.pop_front(),
            queue,
            watch,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            skipping: false,
            entry: Entry { stream: Stream::Stdout, time: Timestamp(0), text: Vec::new() },
            done: false,
        })
    }

    /// The next entry, whose buffer is reused; waits for it when following. `None` at the end.
    pub fn read(&mut self) -> base::fs::Result<Option<&Entry>> {
        while !self.done {
            if !self.next_line()? {
                break;
            }
            if self.options.since.is_some_and(|since| self.entry.time < since) {
                continue;
            }
            if self.options.until.is_some_and(|until| self.entry.time > until) {
                break;
            }
            return Ok(Some(&self.entry));
        }
        self.done = true;
        Ok(None)
    }

    /// Reads the next line that is an entry into `self.entry`; false at the end.
    fn next_line(&mut self) -> base::fs::Result<bool> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                let skipped = std::mem::take(&mut self.skipping);
                if !skipped && entry::decode(&self.buffer[line], &mut self.entry) {
                    return Ok(true);
                }
                continue;
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.len() > MAX_LINE {
                self.skipping = true;
                self.buffer.clear();
            }
            self.searched = self.buffer.len();
            if !self.fill().at("read the log", &self.path)? {
                return Ok(false);
            }
        }
    }

    /// Adds bytes to the buffer; false at the end of all.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            // Asked before reading: what was written before the end is read after the answer.
            let ended = !self.options.follow || (self.ended)();
            if self.read_block()? {
                return Ok(true);
            }
            if self.queue.is_empty() && self.options.follow {
                self.queue = newer_than(&self.path, self.current.as_ref())?;
                // The file may have grown between the last read and its rotation.
                if !self.queue.is_empty() && self.read_block()? {
                    return Ok(true);
                }
            }
            if let Some(next) = self.queue.pop_front() {
                self.current = Some(next);
                // An unfinished line of the old file will never be finished.
                self.buffer.clear();
                self.searched = 0;
                self.skipping = false;
                continue;
            }
            if ended {
                return Ok(false);
            }
            let mut most = PATIENCE;
            if let Some(until) = self.options.until {
                let left = until.since(Timestamp::now());
                if left.is_zero() {
                    return Ok(false);
                }
                most = most.min(left);
            }
            if let Some(watch) = &mut self.watch {
                watch.wait(most);
            }
        }
    }

    fn read_block(&mut self) -> io::Result<bool> {
        let Some(source) = &mut self.current else { return Ok(false) };
        let length = self.buffer.len();
        self.buffer.resize(length + BLOCK, 0);
        let read = loop {
            match source.file.read(&mut self.buffer[length..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(length + read.as_ref().map_or(0, |n| *n));
        Ok(read? > 0)
    }
}

/// The log's files that are newer than `known` (all, without it), oldest first.
fn newer_than(path: &Path, known: Option<&Source>) -> io::Result<VecDeque<Source>> {
    let mut found = VecDeque::<Source>::new();
    for n in 0..MAX_FILES {
        let file = match File::open(rotated(path, n)) {
            // In the middle of a rotation the current file is missing for a moment.
            Err(e) if e.kind() == io::ErrorKind::NotFound && n == 0 => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            other => other?,
        };
        let metadata = file.metadata()?;
        let inode = (metadata.dev(), metadata.ino());
        if known.is_some_and(|k| k.inode == inode) {
            break;
        }
        if found.iter().all(|f| f.inode != inode) {
            found.push_front(Source { file, inode });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{Config, Writer};

    fn lines(reader: &mut Reader) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(entry) = reader.read().unwrap() {
            all.push(String::from_utf8(entry.text.clone()).unwrap());
        }
        all
    }

    fn written(config: &Config, count: usize) {
        let mut writer = Writer::open(config.clone());
        for n in 0..count {
            writer.write(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        writer.finish();
    }

    #[test]
    fn no_file_is_an_empty_log() {
        let mut reader = Reader::open(Path::new("/nope/log.json"), Options::default(), || true).unwrap();
        assert!(reader.read().unwrap().is_none());
    }

    #[test]
    fn the_tail_reaches_into_older_files() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("log.json"), max_size: Some(500), max_files: 50 };
        written(&config, 100);
        for want in [0, 1, 7, 50, 100, 1000] {
            let options = Options { tail: Some(want), ..Options::default() };
            let mut reader = Reader::open(&config.path, options, || true).unwrap();
            let expected: Vec<String> = (100 - want.min(100)..100).map(|n| format!("{n}\n")).collect();
            assert_eq!(lines(&mut reader), expected, "tail {want}");
        }
    }

    #[test]
    fn since_and_until_bound_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let line =
            |n| format!("{{\"log\":\"{n}\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:0{n}Z\"}}\n");
        let text: String = (0..10).map(line).collect();
        std::fs::write(&path, text).unwrap();
        let second = |n: i64| Some(Timestamp(n * 1_000_000_000));
        let options = Options { since: second(3), until: second(5), ..Options::default() };
        assert_eq!(lines(&mut Reader::open(&path, options, || true).unwrap()), ["3", "4", "5"]);
    }

    #[test]
    fn rubbish_between_entries_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let good = "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n";
        let mut bytes = good.as_bytes().to_vec();
        bytes.extend(vec![0; 3 * MAX_LINE]);
        bytes.extend(b"\nnonsense\n");
        bytes.extend(good.as_bytes());
        bytes.extend(b"{\"log\":\"torn");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(lines(&mut Reader::open(&path, Options::default(), || true).unwrap()), ["x", "x"]);
    }

    #[test]
    fn a_follower_sees_every_line_across_rotations_and_stops_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("log.json"), max_size: Some(20_000), max_files: 1000 };
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (config, ended) = (config.clone(), ended.clone());
            move || {
                let mut writer = Writer::open(config);
                for n in 0..5000 {
                    writer.write(Stream::Stdout, format!("{n}\n").as_bytes());
                    if n % 500 == 0 {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                writer.finish();
                ended.store(true, Ordering::SeqCst);
            }
        });
        let options = Options { follow: true, ..Options::default() };
        let mut reader = Reader::open(&config.path, options, move || ended.load(Ordering::SeqCst)).unwrap();
        let lines = lines(&mut reader);
        thread.join().unwrap();
        assert_eq!(lines, (0..5000).map(|n| format!("{n}\n")).collect::<Vec<_>>());
    }
}
