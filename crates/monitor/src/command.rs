//! A command that runs: its process, and our ends of its streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::Stdio;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{Winsize, tcsetwinsize};

/// Our ends of standard output and error; a terminal has only the first.
pub(crate) type Outputs = [Option<OwnedFd>; 2];

/// A running command.
pub(crate) struct Command {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// The other end of standard input.
    pub(crate) input: Option<OwnedFd>,
    pub(crate) outputs: Outputs,
    /// The master of the terminal; it is also `outputs[0]`'s.
    pub(crate) terminal: Option<OwnedFd>,
    waiting_input: Vec<u8>,
    input_ended: bool,
}

impl Command {
    /// What was started, with our ends of what it was started with.
    pub(crate) fn new(
        pid: u32,
        pidfd: OwnedFd,
        terminal: Option<OwnedFd>,
        input: Option<OwnedFd>,
        mut outputs: Outputs,
    ) -> Result<Self, Errno> {
        if let Some(master) = &terminal {
            rustix::io::ioctl_fionbio(master, true)?;
            outputs = [Some(rustix::io::fcntl_dupfd_cloexec(master, 3)?), None];
        }
        Ok(Self { pid, pidfd, input, outputs, terminal, waiting_input: Vec::new(), input_ended: false })
    }

    /// Where its input goes, if it has any.
    pub(crate) fn input_target(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().or(self.terminal.as_ref()).map(AsFd::as_fd)
    }

    /// Bytes of input that it has not taken yet.
    pub(crate) fn waiting_input(&self) -> usize {
        self.waiting_input.len()
    }

    /// Takes more input for it.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.input_target().is_some() && !self.input_ended {
            self.waiting_input.extend_from_slice(bytes);
            self.write_input();
        }
    }

    /// No more input comes. A terminal has no such end: whoever attaches next can go on typing.
    pub(crate) fn end_input(&mut self) {
        if self.terminal.is_none() {
            self.input_ended = true;
            self.write_input();
        }
    }

    /// Writes as much of the waiting input as it takes.
    pub(crate) fn write_input(&mut self) {
        let mut written = 0;
        let mut broken = false;
        if let Some(fd) = self.input_target() {
            while written < self.waiting_input.len() {
                match rustix::io::write(fd, &self.waiting_input[written..]) {
                    Ok(n) => written += n,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            }
        }
        if broken {
            // Nobody reads it any more.
            self.input = None;
            self.waiting_input = Vec::new();
        } else if written == self.waiting_input.len() {
            self.waiting_input = Vec::new();
        } else {
            self.waiting_input.drain(..written);
        }
        if self.input_ended && self.waiting_input.is_empty() {
            self.input = None;
        }
    }

    /// Gives its terminal another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(terminal, size).ok();
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // Fails only where it has ended, which is seen next, or for a number that is no signal.
        sys::process::send_signal(self.pidfd.as_fd(), signal).ok();
    }

    /// Its exit code as Docker counts, if it has ended.
    pub(crate) fn reap(&self) -> Option<i32> {
        reap(self.pidfd.as_fd(), WaitIdOptions::NOHANG)
    }
}

/// The exit code, as Docker counts, of the child behind a pidfd; none while it runs (with `NOHANG`).
pub(crate) fn reap(pidfd: BorrowedFd<'_>, how: WaitIdOptions) -> Option<i32> {
    match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | how) {
        Ok(Some(status)) => {
            Some(status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(255))
        }
        Ok(None) | Err(Errno::INTR) => None,
        // Not our child any more: it cannot be asked.
        Err(_) => Some(255),
    }
}

/// A command's standard streams and our ends of them.
pub(crate) fn plumb(terminal: bool, interactive: bool) -> Result<(Stdio, Option<OwnedFd>, Outputs), Errno> {
    if terminal {
        return Ok((Stdio { input: null()?, output: null()?, errors: null()? }, None, [None, None]));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (input, our_input) = if interactive {
        let (theirs, ours) = pipe()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        (theirs, Some(ours))
    } else {
        (null()?, None)
    };
    let (our_output, output) = pipe()?;
    let (our_errors, errors) = pipe()?;
    for ours in [&our_output, &our_errors] {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    Ok((Stdio { input, output, errors }, our_input, [Some(our_output), Some(our_errors)]))
}

/// `/dev/null`, for whatever nobody reads or writes.
pub(crate) fn null() -> Result<OwnedFd, Errno> {
    rustix::fs::openat(rustix::fs::CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
