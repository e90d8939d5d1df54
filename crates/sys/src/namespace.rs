//! Namespaces by descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Of which kind a namespace is, as a `CLONE_NEW*` bit (`NS_GET_NSTYPE`, Linux 4.11).
///
/// # Errors
/// `ENOTTY` where the descriptor is of no namespace.
pub fn kind(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    /// `_IO(0xb7, 3)`.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: a request without an argument, which changes nothing.
    match unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) } {
        -1 => Err(io::Error::last_os_error()),
        kind => Ok(kind as u64),
    }
}

/// `setns(2)` with a namespace of any kind. The caller has a single thread.
pub fn join(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a plain system call; 0 allows every kind.
    if unsafe { libc::setns(namespace.as_raw_fd(), 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
