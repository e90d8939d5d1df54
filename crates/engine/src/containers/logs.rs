//! `logs`: what a container has said.

use std::path::PathBuf;

use base::{Failure, Kind, Timestamp};
use logging::{Format, Options, Reader, Stream};
use state::container::{Record, file};
use state::options::{LogDriver, LogOptions as Kept};

use crate::Engine;
use crate::config::Log;
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
}

impl Engine {
    /// The lines of a container's log, oldest first.
    pub fn logs(
        &self,
        name: &str,
        options: LogOptions,
    ) -> Result<Box<dyn Iterator<Item = Result<LogLine>> + '_>> {
        let found = self.find(name)?;
        let (path, format) = self.log_of(&found.record).ok_or_else(|| NotKept(name.to_owned()))?;
        let id = found.record.id;
        let LogOptions { follow, tail, since, until } = options;
        let options = Options { tail, since, until, follow, from_sequence: None };
        let instance = self.instance.clone();
        // The log is complete when its writer, the monitor, has let go.
        let ended = move || held(&instance, &id).map_or(true, |h| h != Held::Owned);
        let reader = Reader::open(&path, format, options, ended)?;
        Ok(Box::new(Lines(reader)))
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
        let driver = match log.driver {
            Some(driver) => driver,
            None => {
                let Log { driver, options, .. } = &self.config.log;
                for (name, value) in options {
                    log.more.entry(name.clone()).or_insert_with(|| value.clone());
                }
                *log.driver.insert(*driver)
            }
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

struct Lines(Reader);

impl Iterator for Lines {
    type Item = Result<LogLine>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.read() {
            Ok(entry) => entry.map(|entry| {
                Ok(LogLine {
                    stream: match entry.stream {
                        Stream::Stdout => LogStream::Stdout,
                        Stream::Stderr => LogStream::Stderr,
                    },
                    time: entry.time,
                    bytes: entry.text.clone(),
                })
            }),
            Err(error) => Some(Err(error.into())),
        }
    }
}
