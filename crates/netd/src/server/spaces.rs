//! Network namespaces: a socket belongs to the one in which it was made, so we go there for an instant and come back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::slab::Key;

/// Where our only thread is.
#[derive(Debug)]
pub(super) struct Spaces {
    home: OwnedFd,
    at: Option<Key>,
}

impl Spaces {
    /// At home, in the host's.
    pub(super) fn new() -> io::Result<Self> {
        let home = openat(CWD, "/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { home, at: None })
    }

    /// Goes to a container's. Several sockets in a row cost one way.
    pub(super) fn enter(&mut self, whose: Key, space: BorrowedFd<'_>) -> io::Result<()> {
        if self.at != Some(whose) {
            // Wherever we are then, it is not home.
            self.at = Some(whose);
            sys::namespace::join(space)?;
        }
        Ok(())
    }

    /// Comes home. We must not stay: a namespace lives, with all its links, as long as a thread is in it.
    pub(super) fn go_home(&mut self) -> io::Result<()> {
        if self.at.is_some() {
            sys::namespace::join(self.home.as_fd())?;
            self.at = None;
        }
        Ok(())
    }
}
