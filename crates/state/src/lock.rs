//! Locks: `flock(2)` on a directory. The kernel drops one with its holder, however that ends, so that no lock
//! is ever stale; and it can be handed to another process with the descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use base::fs::{At, Result};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};

/// A held lock. Dropping it (and every copy of its descriptor) releases it.
#[derive(Debug)]
pub struct Lock(OwnedFd);

impl Lock {
    /// Waits for the exclusive lock of a directory.
    pub fn exclusive(dir: &Path) -> Result<Self> {
        let fd = open(dir)?;
        flock(&fd, FlockOperation::LockExclusive).at("lock", dir)?;
        Ok(Self(fd))
    }

    /// Waits for the shared lock of a directory.
    pub fn shared(dir: &Path) -> Result<Self> {
        let fd = open(dir)?;
        flock(&fd, FlockOperation::LockShared).at("lock", dir)?;
        Ok(Self(fd))
    }

    /// The exclusive lock, if nobody holds one.
    pub fn try_exclusive(dir: &Path) -> Result<Option<Self>> {
        let fd = open(dir)?;
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(fd))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).at("lock", dir),
        }
    }

    /// Takes over a lock whose descriptor was inherited.
    pub fn inherited(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(dir: &Path) -> Result<OwnedFd> {
    openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", dir)
}
