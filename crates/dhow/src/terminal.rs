//! The user's terminal: raw while a container has it, and as it was afterwards, whatever happens.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::{Error, Result};

/// Puts a terminal back as it was when dropped: at every return, and when a panic unwinds. Signals that would
/// end us are read from a descriptor meanwhile (see [`crate::attached`]), so that they end in a return too.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Makes standard input's terminal raw.
    pub(crate) fn enter() -> Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before =
            tcgetattr(stdin).map_err(|e| Error::Terminal("read the terminal's settings", e.into()))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)
            .map_err(|e| Error::Terminal("make the terminal raw", e.into()))?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone (hang-up) needs nothing.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before).ok();
    }
}

/// Whether what is typed is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// It is.
    On,
    /// It is not: a password.
    Off,
}

/// Asks a question on standard error, and reads a line from the terminal that standard input is. Whoever is ended by a
/// signal meanwhile leaves the terminal as a shell puts it right.
pub(crate) fn ask(question: &str, echo: Echo) -> Result<String> {
    let stdin = rustix::stdio::stdin();
    let failed = |what, e: rustix::io::Errno| Error::Terminal(what, e.into());
    // What is typed before the question is thrown away, so the terminal is quiet first.
    let quiet = match echo {
        Echo::On => None,
        Echo::Off => {
            let before = tcgetattr(stdin).map_err(|e| failed("read the terminal's settings", e))?;
            let mut hidden = before.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            let quiet = RawMode { before };
            tcsetattr(stdin, OptionalActions::Flush, &hidden).map_err(|e| failed("hide what is typed", e))?;
            Some(quiet)
        }
    };
    write!(std::io::stderr(), "{question}").ok();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if quiet.is_some() {
        writeln!(std::io::stderr()).ok();
    }
    drop(quiet);
    read.map_err(|e| Error::Terminal("read from the terminal", e))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    isatty(rustix::stdio::stdin())
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    isatty(rustix::stdio::stderr())
}

/// Rows and columns of the terminal that we are on, if we are on one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let of = |fd: BorrowedFd<'static>| tcgetwinsize(fd.as_fd()).ok();
    let size = of(rustix::stdio::stdout()).or_else(|| of(rustix::stdio::stdin()))?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// How wide standard output's terminal is, if it is one that says so.
pub(crate) fn output_columns() -> Option<usize> {
    let stdout = rustix::stdio::stdout();
    let columns = tcgetwinsize(stdout).ok().filter(|_| isatty(stdout))?.ws_col;
    (columns > 0).then_some(columns.into())
}

/// Whether the locale's characters are those of UTF-8.
pub(crate) fn speaks_utf8() -> bool {
    let said = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(said).unwrap_or_default();
    let codeset = locale.to_ascii_lowercase();
    codeset.contains("utf-8") || codeset.contains("utf8")
}
