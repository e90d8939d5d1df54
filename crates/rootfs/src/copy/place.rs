//! The directories that copies go to.
//!
//! On a host no symlink below the destination is followed. In a container one on the way leads where it would lead inside
//! (`lib` → `usr/lib`): the kernel resolves it within the container's root, and whoever swaps it meanwhile changes at most
//! which of the container's own directories is written to.
//!
//! A directory's time changes with every file that is made in it, so it is set when the directory leaves the cache.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::Root;
use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec};
use rustix::io::Errno;

use super::error::{Action, CopyError, Refusal};
use crate::kernels;
use crate::name::Name;
use crate::tree::{both, os};

/// How many directories are held open.
const HELD: usize = 24;
/// Mode of a directory that nobody has described.
const MISSING: u32 = 0o755;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory that copies go to.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    /// The container, and where in it this is.
    inside: Option<(Root, PathBuf)>,
    /// Least recently used first.
    held: Vec<Held>,
    /// Directories whose time is set, by device and inode: they keep it when something more comes into them.
    dated: HashSet<(u64, u64)>,
    /// The time that the place itself shall have.
    time: Option<Timespec>,
    /// Nothing shall be newer.
    newest: Option<Timespec>,
}

#[derive(Debug)]
struct Held {
    name: Name,
    fd: OwnedFd,
    identity: (u64, u64),
    time: Option<Timespec>,
}

impl Place {
    /// A directory of the host, open for reading.
    pub fn on_host(directory: OwnedFd) -> Self {
        Self { directory, inside: None, held: Vec::new(), dated: HashSet::new(), time: None, newest: None }
    }

    /// The same, where nothing that is written or touched becomes newer than this.
    #[must_use]
    pub fn not_after(self, newest: Option<Timespec>) -> Self {
        Self { newest, ..self }
    }

    /// The time that something has which wants to have this one.
    pub(super) fn clamp(&self, time: Timespec) -> Timespec {
        let newer = |newest: &Timespec| (newest.tv_sec, newest.tv_nsec) < (time.tv_sec, time.tv_nsec);
        self.newest.filter(newer).unwrap_or(time)
    }

    /// A directory of a container, open for reading: the one that `path` leads to in its root.
    pub fn in_container(directory: OwnedFd, root: Root, path: &Path) -> Self {
        Self { inside: Some((root, path.to_owned())), ..Self::on_host(directory) }
    }

    /// The directory `name`, made with its parents where it is missing.
    pub(super) fn dir(&mut self, name: &Name) -> Result<BorrowedFd<'_>, Refusal> {
        let Some((parent, last)) = name.split() else {
            check(self.directory.as_fd())?;
            return Ok(self.directory.as_fd());
        };
        let index = match self.find(name)? {
            Some(index) => index,
            None => self.create(name, &parent, last)?,
        };
        Ok(self.held[index].fd.as_fd())
    }

    fn create(&mut self, name: &Name, parent: &Name, last: &[u8]) -> Result<usize, Refusal> {
        let above = self.dir(parent)?;
        match rustix::fs::mkdirat(above, os(last), Mode::from_raw_mode(MISSING)) {
            Ok(()) => {
                let fd = rustix::fs::openat(above, os(last), DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                    .to("open the directory")?;
                // Whatever the umask.
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(MISSING)).to("set the mode")?;
                self.hold(name, fd, None)
            }
            // Where a link leads nowhere, it is in the way.
            Err(Errno::EXIST) => self.find(name)?.ok_or(Refusal::Link),
            Err(e) => Err(Refusal::system("make the directories above it", e)),
        }
    }

    /// The directory `name`, if it is there.
    pub(super) fn existing_dir(&mut self, name: &Name) -> Result<Option<BorrowedFd<'_>>, Refusal> {
        if name.is_root() {
            return Ok(Some(self.directory.as_fd()));
        }
        Ok(self.find(name)?.map(|index| self.held[index].fd.as_fd()))
    }

    /// Takes a directory that was just made or found, and remembers the time that it shall have.
    pub(super) fn enter(&mut self, name: &Name, fd: OwnedFd, time: Timespec) -> Result<(), Refusal> {
        self.hold(name, fd, Some(time)).map(drop)
    }

    /// Remembers the time that the place itself shall have.
    pub(super) fn set_time(&mut self, time: Timespec) {
        self.time = Some(time);
    }

    /// Sets the times that are still to be set.
    pub(super) fn finish(mut self) -> Result<(), CopyError> {
        let all = self.held.drain(..).try_for_each(|held| held.close().map(drop));
        let own = self.time.map_or(Ok(()), |time| rustix::fs::futimens(&self.directory, &both(time)));
        all.and(own).map_err(|e| CopyError::Finish(e.into()))
    }

    /// The index of the directory in `held`, where it exists.
    fn find(&mut self, name: &Name) -> Result<Option<usize>, Refusal> {
        if let Some(index) = self.held.iter().rposition(|held| held.name == *name) {
            self.held[index..].rotate_left(1);
            return Ok(Some(self.held.len() - 1));
        }
        match self.open(name) {
            Ok(fd) => self.hold(name, fd, None).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => Err(Refusal::Link),
            Err(e) => Err(Refusal::system("open the directory above it", e)),
        }
    }

    fn open(&self, name: &Name) -> rustix::io::Result<OwnedFd> {
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            let opened =
                rustix::fs::openat2(&self.directory, os(name.as_bytes()), DIRECTORY, Mode::empty(), plain);
            return match (opened, &self.inside) {
                (Err(Errno::AGAIN), _) => continue,
                (Err(Errno::LOOP), Some((root, path))) => {
                    let path = path.join(os(name.as_bytes()));
                    root.open_with(&path, DIRECTORY, Mode::empty())
                        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
                }
                (other, _) => other,
            };
        }
    }

    fn hold(&mut self, name: &Name, fd: OwnedFd, time: Option<Timespec>) -> Result<usize, Refusal> {
        check(fd.as_fd())?;
        let stat = rustix::fs::fstat(&fd).to("look at the directory")?;
        let identity = (stat.st_dev, stat.st_ino);
        let now = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        // Two names can lead to one directory, and it has only one time to remember.
        let before = self.held.iter().position(|held| held.identity == identity);
        let before = before.and_then(|index| self.held.remove(index).time);
        let dated = self.newest.is_some() || self.dated.contains(&identity);
        let kept = before.or_else(|| dated.then(|| self.clamp(now)));
        if self.held.len() == HELD {
            let (identity, dated) = self.held.remove(0).close().to("set the time of a directory")?;
            if dated {
                self.dated.insert(identity);
            }
        }
        self.held.push(Held { name: name.clone(), fd, identity, time: time.or(kept) });
        Ok(self.held.len() - 1)
    }
}

impl Held {
    /// Its identity, and whether its time was set.
    fn close(self) -> rustix::io::Result<((u64, u64), bool)> {
        if let Some(time) = self.time {
            rustix::fs::futimens(&self.fd, &both(time))?;
        }
        Ok((self.identity, self.time.is_some()))
    }
}

/// Nothing is made in the kernel's own file systems, whoever led us there.
pub(super) fn check(file: BorrowedFd<'_>) -> Result<(), Refusal> {
    if kernels::is_of(file).to("look at the file system")? { Err(Refusal::Kernels) } else { Ok(()) }
}
