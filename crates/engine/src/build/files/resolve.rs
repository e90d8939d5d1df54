//! Paths within a tree, walked name by name.
//!
//! The kernel could resolve them within a root, but would not say by which way: what a `.dockerignore` leaves out must not be
//! reached through a link, and directories that are missing are made with an owner. So each name is opened in the directory
//! that is held open, without following it; what a link says is walked as from this root, and `..` ends there. Nothing that
//! is renamed meanwhile leads out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::listing::os;

/// The kernel's number, too.
const MOST_LINKS: u32 = 40;

/// Where a walk is.
pub(super) struct Walk<'r> {
    root: BorrowedFd<'r>,
    /// The directories below the root on the way here, and their names.
    held: Vec<(OwnedFd, Vec<u8>)>,
    /// What is still to be walked, the next last.
    todo: Vec<Vec<u8>>,
    links: u32,
}

/// A name on the way.
pub(super) enum Step {
    /// What has it, by its handle, and whether it is the last one.
    There { name: Vec<u8>, handle: OwnedFd, stat: Stat, last: bool },
    /// Nothing has it.
    Missing { name: Vec<u8>, last: bool },
}

impl<'r> Walk<'r> {
    pub(super) fn new(root: BorrowedFd<'r>, path: &[u8]) -> Self {
        let mut walk = Self { root, held: Vec::new(), todo: Vec::new(), links: 0 };
        walk.push(path);
        walk
    }

    /// The directory that was reached.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.held.last().map_or(self.root, |(fd, _)| fd.as_fd())
    }

    /// Its path, without links, from the root.
    pub(super) fn path(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.held.iter().map(|(_, name)| &name[..]).collect();
        names.join(&b'/')
    }

    /// The path of a name in it.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// The next name; none when the walk is through, and ended in [`here`](Self::here).
    pub(super) fn next(&mut self) -> io::Result<Option<Step>> {
        while let Some(name) = self.todo.pop() {
            if name == b".." {
                self.held.pop();
                continue;
            }
            let last = self.todo.is_empty();
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            return match rustix::fs::openat(self.here(), os(&name), flags, Mode::empty()) {
                Ok(handle) => {
                    let stat = rustix::fs::fstat(&handle)?;
                    Ok(Some(Step::There { name, handle, stat, last }))
                }
                Err(Errno::NOENT) => Ok(Some(Step::Missing { name, last })),
                Err(e) => Err(e.into()),
            };
        }
        Ok(None)
    }

    /// Goes into a directory.
    pub(super) fn enter(&mut self, name: Vec<u8>, directory: OwnedFd) {
        self.held.push((directory, name));
    }

    /// Goes where a symlink in this directory leads.
    pub(super) fn follow(&mut self, link: &OwnedFd) -> io::Result<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(link, c"", Vec::new())?;
        if target.to_bytes().first() == Some(&b'/') {
            self.held.clear();
        }
        self.push(target.to_bytes());
        Ok(())
    }

    fn push(&mut self, path: &[u8]) {
        let names = path.split(|&b| b == b'/').rev().filter(|name| !matches!(*name, b"" | b"."));
        self.todo.extend(names.map(<[u8]>::to_vec));
    }
}

/// What a path of a source leads to.
pub(in crate::build) struct Found {
    /// `O_PATH`.
    pub(in crate::build) handle: OwnedFd,
    pub(in crate::build) stat: Stat,
    /// From the root, without links.
    pub(in crate::build) path: Vec<u8>,
    /// The directory that it is in, and its name there; none for the root.
    pub(in crate::build) place: Option<(OwnedFd, Vec<u8>)>,
}

/// Why a path of a source leads to nothing.
#[derive(Debug)]
pub(in crate::build) enum Lost {
    Missing,
    Hidden,
    Failed(io::Error),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Follows a path to its end. `hidden` says what is not to be seen: by its path, and whether it is a directory.
pub(in crate::build) fn find(
    root: BorrowedFd<'_>,
    path: &[u8],
    hidden: &dyn Fn(&[u8], bool) -> bool,
) -> Result<Found, Lost> {
    let mut walk = Walk::new(root, path);
    while let Some(step) = walk.next()? {
        let Step::There { name, handle, stat, last } = step else { return Err(Lost::Missing) };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let real = walk.path_of(&name);
        if (last || kind == FileType::Symlink) && hidden(&real, kind == FileType::Directory) {
            return Err(Lost::Hidden);
        }
        match kind {
            FileType::Directory => walk.enter(name, handle),
            FileType::Symlink => walk.follow(&handle)?,
            _ if last => {
                let above = walk.here().try_clone_to_owned()?;
                return Ok(Found { handle, stat, path: real, place: Some((above, name)) });
            }
            _ => return Err(Lost::Missing),
        }
    }
    let path = walk.path();
    // `..` at the end may have led to what no name was looked at for.
    if !path.is_empty() && hidden(&path, true) {
        return Err(Lost::Hidden);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(walk.here(), c".", flags, Mode::empty()).map_err(io::Error::from)?;
    let stat = rustix::fs::fstat(&handle).map_err(io::Error::from)?;
    Ok(Found { handle, stat, path, place: None })
}
