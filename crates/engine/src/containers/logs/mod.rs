//! `logs`: what a container has said.
//!
//! Entries of the log are shown as they are, unless somebody searches: then pieces become lines and lines become entries
//! of several lines ([`join`]), of which some are left out and some shown in part ([`select`]), and the last ones counted
//! ([`search`]).

mod join;
mod search;
mod select;

use std::path::PathBuf;
use std::sync::Arc;

use base::{Failure, Kind, Timestamp};
use logging::{Entry, Format, Options, Reader, Stream};
use state::container::{Record, file};
use state::options::{LogDriver, LogOptions as Kept};

use crate::Engine;
use crate::config::Log;
use crate::containers::logs::search::Search;
use crate::containers::ownership::{Held, held};
use crate::containers::shipping;
use crate::error::Result;

/// Which lines of a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Only lines since then.
    pub since: Option<Timestamp>,
    /// Only lines until then.
    pub until: Option<Timestamp>,
    /// Only lines that are looked for.
    pub search: LogSearch,
}

/// What is looked for in a log. Lines that the log keeps in pieces are whole again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSearch {
    /// A regular expression that lines match.
    pub grep: Option<String>,
    /// Those that do not.
    pub invert: bool,
    /// Lines are JSON objects: what to show of them, and which.
    pub json_fields: Vec<JsonField>,
    /// A regular expression of lines that begin an entry; others belong to the one before, of the same stream.
    pub multiline: Option<String>,
}

/// A field of lines that are JSON objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonField {
    /// Its name, or a path of names and indexes with points between.
    pub name: String,
    /// Only lines in which it has this value; none: show it, instead of the line.
    pub value: Option<String>,
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log (or a piece of a very long one, then without the newline at its end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it came from.
    pub stream: LogStream,
    /// When.
    pub time: Timestamp,
    /// Its bytes, with the newline.
    pub bytes: Vec<u8>,
    /// What the log says of the container with it: a tag, labels, variables.
    pub attributes: Arc<logging::Attributes>,
}

impl Engine {
    /// The lines of a container's log, oldest first.
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<Logs> {
        let found = self.find(name)?;
        let (path, format) = self.log_of(&found.record).ok_or_else(|| NotKept(name.to_owned()))?;
        let id = found.record.id;
        let LogOptions { follow, tail, since, until, search } = options;
        let search = Search::new(search, tail)?;
        let tail = if search.is_none() { tail } else { None };
        let options = Options { tail, since, until, follow, from_sequence: None };
        let instance = self.instance.clone();
        // The log is complete when its writer, the monitor, has let go.
        let ended = move || held(&instance, &id).map_or(true, |h| h != Held::Owned);
        let reader = Reader::open(&path, format, options, ended)?;
        Ok(Logs { reader, search, line: LogLine::empty() })
    }

    /// Empties a container's log, whether it runs or not.
    pub fn clear_log(&self, name: &str) -> Result<()> {
        let found = self.find(name)?;
        let (path, format) = self.log_of(&found.record).ok_or_else(|| NotKept(name.to_owned()))?;
        Ok(logging::clear(&path, format)?)
    }

    /// Where the log of a container is, and how it is written; none where nothing is kept.
    pub(crate) fn log_of(&self, record: &Record) -> Option<(PathBuf, Format)> {
        let dir = self.instance.container(&record.id);
        match record.options.log.driver.unwrap_or_default() {
            LogDriver::JsonFile => Some((dir.join(file::LOG), Format::JsonFile)),
            LogDriver::Local => Some((dir.join(file::LOCAL_LOG), Format::Local)),
            LogDriver::Syslog | LogDriver::Journald | LogDriver::Fluentd => {
                Some((state::shipping::log(&self.instance, &record.id), Format::Local))
            }
            LogDriver::None => None,
        }
    }

    /// Decides what a new container has not said of its log: whatever the configuration says later, its log stays where
    /// it is.
    pub(crate) fn settle_log(&self, log: &mut Kept) -> Result<()> {
        let driver = if let Some(driver) = log.driver {
            driver
        } else {
            let Log { driver, options, .. } = &self.config.log;
            for (name, value) in options {
                log.more.entry(name.clone()).or_insert_with(|| value.clone());
            }
            *log.driver.insert(*driver)
        };
        shipping::check(driver, log)?;
        if log.compress == Some(true) && driver == LogDriver::JsonFile {
            return Err(NotCompressed.into());
        }
        Ok(())
    }
}

/// There is nothing to read.
#[derive(Debug, thiserror::Error)]
#[error("nothing that container {0} says is kept: its log driver is none")]
struct NotKept(String);

impl Failure for NotKept {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }
}

/// Docker compresses what it has rotated; we have a driver for those who want that.
#[derive(Debug, thiserror::Error)]
#[error("the log driver json-file has no option compress=true here")]
struct NotCompressed;

impl Failure for NotCompressed {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hints(&self) -> Vec<String> {
        vec!["use --log-driver local, which compresses all of a log".to_owned()]
    }
}

/// The lines of a log, one after the other.
pub struct Logs {
    reader: Reader,
    search: Option<Search>,
    line: LogLine,
}

impl Logs {
    /// The next line, whose buffer is reused; waits for it when following. `None` at the end.
    pub fn read(&mut self) -> Result<Option<&LogLine>> {
        match &mut self.search {
            Some(search) => match search.next(&mut self.reader)? {
                Some(found) => self.line = found,
                None => return Ok(None),
            },
            None => match self.reader.read()? {
                Some(entry) => self.line.copy(entry),
                None => return Ok(None),
            },
        }
        Ok(Some(&self.line))
    }
}

impl LogLine {
    /// One to copy into.
    fn empty() -> Self {
        Self { stream: LogStream::Stdout, time: Timestamp(0), bytes: Vec::new(), attributes: Arc::default() }
    }

    fn copy(&mut self, entry: &Entry) {
        self.stream = match entry.stream {
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
        };
        self.time = entry.time;
        self.bytes.clear();
        self.bytes.extend_from_slice(&entry.text);
        if !Arc::ptr_eq(&self.attributes, &entry.attributes) {
            self.attributes = entry.attributes.clone();
        }
    }
}

impl From<&Entry> for LogLine {
    fn from(entry: &Entry) -> Self {
        let mut line = Self::empty();
        line.copy(entry);
        line
    }
}
