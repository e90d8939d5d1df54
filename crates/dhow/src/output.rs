//! Standard output is data, standard error is talk. A reader that has gone is no error of ours.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Prints a whole text to standard output.
pub(crate) fn text(text: &str) -> Result<()> {
    raw(rustix::stdio::stdout(), text.as_bytes()).map_err(Error::Output)
}

/// Prints bytes that need be no text.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    raw(rustix::stdio::stdout(), bytes).map_err(Error::Output)
}

/// Prints a line to standard output.
pub(crate) fn line(text: &str) -> Result<()> {
    self::text(&format!("{text}\n"))
}

/// Prints a line to standard error. Where nobody listens, nobody minds.
pub(crate) fn talk(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

/// Writes all bytes, whatever signals come, also to a descriptor that somebody set to non-blocking.
pub(crate) fn raw(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&to.as_fd(), PollFlags::OUT)], None).ok();
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Lets a descriptor wait where somebody has set it not to: what follows writes it without asking.
pub(crate) fn blocking(to: &impl AsFd) {
    if let Ok(flags) = rustix::fs::fcntl_getfl(to) {
        // Where this fails, a write that would have to wait says so.
        rustix::fs::fcntl_setfl(to, flags - rustix::fs::OFlags::NONBLOCK).ok();
    }
}
