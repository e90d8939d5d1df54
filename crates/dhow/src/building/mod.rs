//! How a build is going: as plain lines, as a live view of a terminal, as JSON for programs, or not at all.

mod json;
mod live;
mod plain;
mod tail;

use engine::{BuildProgress, SilentBuild};

use crate::terminal;

/// The ways to tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// A live view on a terminal, lines elsewhere.
    Auto,
    /// Lines.
    Plain,
    /// A live view.
    Tty,
    /// JSON, a line for each change.
    Rawjson,
    /// Nothing.
    Quiet,
}

impl How {
    /// Their names.
    pub(crate) const NAMES: [&str; 5] = ["auto", "plain", "tty", "rawjson", "quiet"];

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "plain" => Self::Plain,
            "tty" => Self::Tty,
            "rawjson" => Self::Rawjson,
            "quiet" => Self::Quiet,
            _ => Self::Auto,
        }
    }
}

/// Who tells of it.
pub(crate) fn choose(how: How) -> Box<dyn BuildProgress> {
    match how {
        How::Quiet => Box::new(SilentBuild),
        How::Rawjson => Box::new(json::Json::default()),
        How::Tty => Box::new(live::Live::start()),
        How::Auto if terminal::stderr_is_terminal() => Box::new(live::Live::start()),
        How::Auto | How::Plain => Box::new(plain::Plain::default()),
    }
}

/// Seconds as BuildKit writes them.
fn seconds(time: std::time::Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}
