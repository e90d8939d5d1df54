//! Locks: `flock(2)` on a directory. The kernel drops one with its holder, however that ends, so that no lock
//! is ever stale; and it can be handed to another process with the descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use base::dir::Dir;
use base::fs::{At, Result};
use rustix::fs::{FlockOperation, flock};

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

    /// Waits for the exclusive lock of a directory that others may remove; makes it, if it is not there.
    pub fn exclusive_made(dir: &Path) -> Result<Self> {
        loop {
            base::fs::create_dir_all(dir, 0o700)?;
            match Self::exclusive(dir) {
                Ok(lock) if lock.is_of(dir) => return Ok(lock),
                Ok(_) => {}
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
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

    /// A shared lock, if nobody holds the exclusive one.
    pub fn try_shared(dir: &Path) -> Result<Option<Self>> {
        let fd = open(dir)?;
        match flock(&fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(Self(fd))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).at("lock", dir),
        }
    }

    /// Whether what is locked still lies there: somebody may have taken it away before it was locked.
    pub fn is_of(&self, dir: &Path) -> bool {
        let own = rustix::fs::fstat(&self.0).map(|stat| (stat.st_dev, stat.st_ino));
        own.is_ok() && own == rustix::fs::lstat(dir).map(|stat| (stat.st_dev, stat.st_ino))
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

/// Whether somebody holds the exclusive lock of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// There is no such directory.
    Absent,
    /// There is one, and its owner has died or given it up.
    Abandoned,
    /// Its owner lives.
    Owned,
}

/// Looks whether a directory is locked, with a shared lock for an instant: who looks is in nobody's way but for
/// those that take the exclusive lock in that instant, who ask again (`Lock::try_exclusive` cannot tell).
pub fn held(dir: &Path) -> Result<Held> {
    let dir = match Dir::open(dir) {
        Err(e) if e.is_not_found() => return Ok(Held::Absent),
        other => other?,
    };
    held_of(&dir)
}

/// The same of one that is open; never [`Held::Absent`].
pub fn held_of(dir: &Dir) -> Result<Held> {
    match flock(dir, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            // It may stay open, and nobody's exclusive lock is to wait for that.
            flock(dir, FlockOperation::Unlock).at("unlock", dir.path())?;
            Ok(Held::Abandoned)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Held::Owned),
        Err(e) => Err(e).at("lock", dir.path()),
    }
}

fn open(dir: &Path) -> Result<OwnedFd> {
    Dir::open(dir).map(Dir::into_fd)
}
