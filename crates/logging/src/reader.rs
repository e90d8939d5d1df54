//! The doors' half: the entries of all files of a log, oldest first, and those still to come.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::Timestamp;
use base::fs::At;

use crate::json::JsonReader;
use crate::local::LocalReader;
use crate::watch::Watch;
use crate::{Entry, Format};

/// How long a follower sleeps at most before it asks whether the container still lives.
const PATIENCE: Duration = Duration::from_millis(200);

/// What of a log to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Only so many of the last entries; none: all.
    pub tail: Option<u64>,
    /// Only entries of this time or later.
    pub since: Option<Timestamp>,
    /// Only entries of this time or earlier.
    pub until: Option<Timestamp>,
    /// Only entries of this number or later, where the format has numbers.
    pub from_sequence: Option<u64>,
    /// Wait for more until the container has ended.
    pub follow: bool,
}

/// What a reader that does not wait for ever has found.
#[derive(Debug)]
pub enum Next<'a> {
    /// An entry, whose buffer is reused.
    Entry(&'a Entry),
    /// Nothing yet.
    Nothing,
    /// The container has ended, and this was all.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Entry,
    Nothing,
    End,
}

/// Reads a log.
pub struct Reader {
    path: PathBuf,
    options: Options,
    ended: Box<dyn FnMut() -> bool>,
    half: Half,
    watch: Option<Watch>,
    entry: Entry,
    done: bool,
}

/// What a format does by itself.
enum Half {
    Json(JsonReader),
    Local(LocalReader),
}

impl Reader {
    /// Opens the log at `path`; one that does not exist (yet) is empty. `ended` tells a follower that the
    /// container has ended: what is written by then is still read.
    pub fn open(
        path: &Path,
        format: Format,
        options: Options,
        ended: impl FnMut() -> bool + 'static,
    ) -> base::fs::Result<Self> {
        // The watch comes first: nothing that happens from now on is missed.
        let watch = options.follow.then(|| Watch::new(path));
        let half = match format {
            Format::JsonFile => JsonReader::open(path, &options).map(Half::Json),
            Format::Local => LocalReader::open(path, &options).map(Half::Local),
        };
        Ok(Self {
            path: path.to_owned(),
            options,
            ended: Box::new(ended),
            half: half.at("read the log", path)?,
            watch,
            entry: Entry::empty(),
            done: false,
        })
    }

    /// The next entry, whose buffer is reused; waits for it when following. `None` at the end.
    pub fn read(&mut self) -> base::fs::Result<Option<&Entry>> {
        let found = self.await_entry(None)?;
        Ok((found == Found::Entry).then_some(&self.entry))
    }

    /// Like [`read`](Self::read), but returns when nothing has come for so long.
    pub fn read_within(&mut self, patience: Duration) -> base::fs::Result<Next<'_>> {
        let found = self.await_entry(Some(Instant::now() + patience))?;
        Ok(match found {
            Found::Entry => Next::Entry(&self.entry),
            Found::Nothing => Next::Nothing,
            Found::End => Next::End,
        })
    }

    fn await_entry(&mut self, until: Option<Instant>) -> base::fs::Result<Found> {
        let mut ended = !self.options.follow;
        loop {
            if self.advance().at("read the log", &self.path)? {
                return Ok(Found::Entry);
            }
            if ended || self.done {
                self.done = true;
                return Ok(Found::End);
            }
            let left = until.map_or(PATIENCE, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(Found::Nothing);
            }
            // What was written before the end is there by now.
            ended = (self.ended)();
            if !ended {
                self.wait(left);
            }
        }
    }

    /// The next entry that is there now, whose buffer is reused; never waits. After `None` there may be more later.
    pub fn read_now(&mut self) -> base::fs::Result<Option<&Entry>> {
        let found = self.advance().at("read the log", &self.path)?;
        Ok(found.then_some(&self.entry))
    }

    /// Reads the next entry that is asked for; false where none is there now.
    fn advance(&mut self) -> io::Result<bool> {
        while !self.done {
            let found = match &mut self.half {
                Half::Json(reader) => reader.next(&mut self.entry)?,
                Half::Local(reader) => reader.next(&mut self.entry)?,
            };
            if !found {
                return Ok(false);
            }
            if self.options.since.is_some_and(|since| self.entry.time < since) {
                continue;
            }
            if self.options.until.is_some_and(|until| self.entry.time > until) {
                break;
            }
            return Ok(true);
        }
        self.done = true;
        Ok(false)
    }

    /// Waits until the log may have changed.
    fn wait(&mut self, most: Duration) {
        let mut most = most.min(PATIENCE);
        if let Some(until) = self.options.until {
            let left = until.since(Timestamp::now());
            self.done = left.is_zero();
            most = most.min(left);
        }
        if let (Some(watch), false) = (&mut self.watch, self.done) {
            watch.wait(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::json::MAX_LINE;
    use crate::{Config, Stream, Writer};

    fn unbounded(dir: &Path) -> Config {
        Config::unbounded(dir.join("log.json"), Format::JsonFile)
    }

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
        let mut reader =
            Reader::open(Path::new("/nope/log.json"), Format::JsonFile, Options::default(), || true).unwrap();
        assert!(reader.read().unwrap().is_none());
    }

    #[test]
    fn the_tail_reaches_into_older_files() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            path: dir.path().join("log.json"),
            max_size: Some(500),
            max_files: 50,
            ..unbounded(dir.path())
        };
        written(&config, 100);
        for want in [0, 1, 7, 50, 100, 1000] {
            let options = Options { tail: Some(want), ..Options::default() };
            let mut reader = Reader::open(&config.path, Format::JsonFile, options, || true).unwrap();
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
        assert_eq!(
            lines(&mut Reader::open(&path, Format::JsonFile, options, || true).unwrap()),
            ["3", "4", "5"]
        );
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
        assert_eq!(
            lines(&mut Reader::open(&path, Format::JsonFile, Options::default(), || true).unwrap()),
            ["x", "x"]
        );
    }

    #[test]
    fn a_follower_sees_every_line_across_rotations_and_stops_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            path: dir.path().join("log.json"),
            max_size: Some(20_000),
            max_files: 1000,
            ..unbounded(dir.path())
        };
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
        let mut reader =
            Reader::open(&config.path, Format::JsonFile, options, move || ended.load(Ordering::SeqCst))
                .unwrap();
        let lines = lines(&mut reader);
        thread.join().unwrap();
        assert_eq!(lines, (0..5000).map(|n| format!("{n}\n")).collect::<Vec<_>>());
    }
}
