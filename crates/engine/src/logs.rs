//! `logs`: what a container has said.

use base::Timestamp;

use crate::Engine;
use crate::error::{Result, unbuilt};

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

/// One line of a log (or a piece of one, without the newline at its end).
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
        _name: &str,
        _options: LogOptions,
    ) -> Result<Box<dyn Iterator<Item = Result<LogLine>> + '_>> {
        Err(unbuilt("logs"))
    }
}
