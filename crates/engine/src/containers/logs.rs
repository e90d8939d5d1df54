//! `logs`: what a container has said.

use base::{Failure, Kind, Timestamp};
use logging::{Options, Reader, Stream};
use state::container::file;
use state::options::LogDriver;

use crate::Engine;
use crate::containers::ownership::{Held, held};
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
        if found.record.options.log.driver == Some(LogDriver::None) {
            return Err(NotKept(name.to_owned()).into());
        }
        let id = found.record.id;
        let path = self.instance.container(&id).join(file::LOG);
        let LogOptions { follow, tail, since, until } = options;
        let instance = self.instance.clone();
        // The log is complete when its writer, the monitor, has let go.
        let ended = move || held(&instance, &id).map_or(true, |h| h != Held::Owned);
        let reader = Reader::open(&path, Options { tail, since, until, follow }, ended)?;
        Ok(Box::new(Lines(reader)))
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
