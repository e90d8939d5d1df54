//! What a container says, kept in files that are rotated by size.
//!
//! ```text
//! monitor ── Writer ──▶ log.json      {"log":"hello\n","stream":"stdout","time":"2026-11-21T01:02:03.5Z"}
//!                       log.json.1    older; the highest number is the oldest
//! door    ◀── Reader ── log.json.2
//! ```
//!
//! There are two formats: Docker's `json-file`, one JSON object a line, which `json` writes and reads; and ours,
//! `local`, compressed, in which every entry has a number and is found by it or by its time (the module `local` draws it).
//!
//! The [`Writer`] belongs to the monitor, which must stay tiny: no thread, no serde, one reused buffer.
//! A full disk never stops a container: what cannot be written is retried, then dropped and counted. The
//! [`Reader`] belongs to the doors: it finds the last lines from the end, follows across rotations, and takes
//! a torn last entry (a crash, or a writer in the middle of it) for what it is.

mod clear;
mod entry;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod json;
mod local;
mod reader;
mod rfc3339;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use clear::clear;
pub use entry::Entry;
pub use local::sequences;
pub use reader::{Next, Options, Reader};
pub use rfc3339::{format as format_time, parse as parse_time};
pub use watch::Watch;
pub use writer::Writer;

/// The longest piece of one line that an entry holds, as Docker cuts it: a longer line becomes several
/// entries, of which only the last ends with a newline.
pub const MAX_PIECE: usize = 16 * 1024;

/// What is said of a container with each of its entries: a tag, labels, variables.
pub type Attributes = BTreeMap<String, String>;

/// Where the log goes and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The file that is written; older ones have `.1`, `.2`, … appended.
    pub path: PathBuf,
    /// The size in bytes at which a new file is begun; none: never.
    pub max_size: Option<u64>,
    /// How many files there may be, the current one included; at least 1.
    pub max_files: u32,
    /// How entries are written.
    #[serde(default)]
    pub format: Format,
    /// Whether [`Format::Local`] compresses.
    #[serde(default = "yes")]
    pub compress: bool,
    /// What is written with each entry; [`Format::Local`] writes none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: Attributes,
}

fn yes() -> bool {
    true
}

impl Config {
    /// A log without bounds, Docker's default.
    pub fn unbounded(path: PathBuf, format: Format) -> Self {
        let attributes = Attributes::new();
        Self { path, max_size: None, max_files: 1, format, compress: true, attributes }
    }
}

/// How entries are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Docker's: a JSON object a line.
    #[default]
    JsonFile,
    /// Ours: numbered, compressed, found by time.
    Local,
}

/// Which of the container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output (and all of a terminal).
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}
