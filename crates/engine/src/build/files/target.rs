//! Places in the tree that is changed: found and made as within a root of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::Error;
use super::error::shown;
use super::listing::{look, os};
use super::resolve::{Step, Walk};

/// Mode of a directory that is made on the way.
const MADE: u32 = 0o755;

/// The tree, and how what is made in it looks.
pub(super) struct Target<'t> {
    pub(super) root: BorrowedFd<'t>,
    /// Nothing is newer.
    pub(super) epoch: Option<Timespec>,
}

/// Where a path leads.
pub(super) enum Spot {
    /// To a directory (`O_PATH`).
    Directory(OwnedFd),
    /// To this name in a directory, which has something else, or nothing.
    Name(OwnedFd, Vec<u8>),
}

impl Target<'_> {
    /// The directory of this path; it and those above it are made where they are missing.
    pub(super) fn directory(&self, path: &[u8], owner: (u32, u32)) -> Result<OwnedFd, Error> {
        match self.walk(path, owner, true)? {
            Spot::Directory(directory) => Ok(directory),
            Spot::Name(..) => Err(Error::NotDirectory(shown(path))),
        }
    }

    /// What a path leads to, behind all links; the directories above it are made where they are missing.
    pub(super) fn spot(&self, path: &[u8], owner: (u32, u32)) -> Result<Spot, Error> {
        self.walk(path, owner, path.ends_with(b"/"))
    }

    fn walk(&self, path: &[u8], owner: (u32, u32), make_last: bool) -> Result<Spot, Error> {
        let failed = |e| Error::target(path, "open", e);
        let mut walk = Walk::new(self.root, path);
        while let Some(step) = walk.next().map_err(failed)? {
            match step {
                Step::There { name, handle, stat, last } => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => walk.enter(name, handle),
                    FileType::Symlink => walk.follow(&handle).map_err(failed)?,
                    _ if last && !make_last => return named(&walk, name).map_err(|e| failed(e.into())),
                    _ => return Err(Error::NotDirectory(shown(path))),
                },
                Step::Missing { name, last } if last && !make_last => {
                    return named(&walk, name).map_err(|e| failed(e.into()));
                }
                Step::Missing { name, .. } => {
                    let made = self.make(walk.here(), &name, owner);
                    let made =
                        made.map_err(|e| Error::target(&walk.path_of(&name), "make the directory", e))?;
                    walk.enter(name, made);
                }
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = rustix::fs::openat(walk.here(), c".", flags, Mode::empty());
        here.map(Spot::Directory).map_err(|e| failed(e.into()))
    }

    fn make(&self, above: BorrowedFd<'_>, name: &[u8], owner: (u32, u32)) -> rustix::io::Result<OwnedFd> {
        match rustix::fs::mkdirat(above, os(name), Mode::from_raw_mode(MADE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(above, os(name), flags, Mode::empty())?;
        rustix::fs::fchown(&made, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
        // Whatever the umask; and no set-id bit of the directory above.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(MADE))?;
        self.settle(made.as_fd())?;
        self.settle(above)?;
        Ok(made)
    }

    /// Gives a directory that was changed the time that it may have.
    pub(super) fn settle(&self, directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let Some(epoch) = self.epoch else { return Ok(()) };
        let stat = rustix::fs::fstat(directory)?;
        if (stat.st_mtime, stat.st_mtime_nsec as i64) > (epoch.tv_sec, epoch.tv_nsec) {
            rustix::fs::utimensat(directory, c"", &both(epoch), AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }
}

/// Makes room for a file: what is there goes, unless it is a directory.
pub(super) fn clear(above: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), Error> {
    match rustix::fs::unlinkat(above, os(name), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(Error::OverDirectory(shown(path))),
        Err(Errno::PERM) if is_directory(above, name) => Err(Error::OverDirectory(shown(path))),
        Err(e) => Err(Error::target(path, "replace", e)),
    }
}

fn is_directory(above: BorrowedFd<'_>, name: &[u8]) -> bool {
    let directory = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    matches!(look(above, name), Ok(Some(stat)) if directory(stat))
}

fn named(walk: &Walk<'_>, name: Vec<u8>) -> rustix::io::Result<Spot> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Spot::Name(rustix::fs::openat(walk.here(), c".", flags, Mode::empty())?, name))
}

/// Both times, the same.
pub(super) fn both(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}
