//! The user's terminal: raw while a container has it, and as it was afterwards, whatever happens.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

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
