//! A directory's content is copied into another directory.
//!
//! Both are walked by descriptors, names in order. A directory that is there only for what lies below it is made when the first
//! of that is. Its time is set when all that is in it is there.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::Error;
use super::attributes;
use super::error::shown;
use super::filter::{Above, Filter, Ruling};
use super::listing::{Listing, look, open_directory, os};
use super::put::{From, Putter};
use super::target::clear;

/// Directories in each other that are copied: two descriptors are held for each. Real trees have a tenth of it.
pub(super) const DEEPEST: usize = 256;

struct Level {
    from: OwnedFd,
    /// None while nothing of it is copied; and for the top, which is somebody else's.
    to: Option<OwnedFd>,
    stat: Option<Stat>,
    listing: Listing,
    next: usize,
    /// The length of its path.
    path: usize,
    above: Above,
}

/// Copies what the filter takes of `from`, whose path is `path` in its root, to `to`, which is called `name`. Returns how many
/// files were taken.
pub(super) fn copy(
    from: OwnedFd,
    path: &[u8],
    to: BorrowedFd<'_>,
    name: &[u8],
    filter: &Filter<'_>,
    putter: &mut Putter<'_>,
) -> Result<u64, Error> {
    let listing = Listing::read(from.as_fd()).map_err(|e| Error::source(path, "list", e))?;
    let top =
        Level { from, to: None, stat: None, listing, next: 0, path: path.len(), above: filter.top(path) };
    let cut = if path.is_empty() { 0 } else { path.len() + 1 };
    let mut copy = Copy {
        to,
        name,
        filter,
        putter,
        path: path.to_vec(),
        cut,
        levels: vec![top],
        links: HashMap::new(),
        taken: 0,
    };
    while copy.step()? {}
    Ok(copy.taken)
}

struct Copy<'c, 'p> {
    to: BorrowedFd<'c>,
    name: &'c [u8],
    filter: &'c Filter<'c>,
    putter: &'c mut Putter<'p>,
    /// Of the file at hand, in the source's root.
    path: Vec<u8>,
    /// Where its path in the copied directory begins.
    cut: usize,
    levels: Vec<Level>,
    /// Files with several names, by device and inode: their first.
    links: HashMap<(u64, u64), Vec<u8>>,
    taken: u64,
}

impl Copy<'_, '_> {
    /// The next file; false when there is none.
    fn step(&mut self) -> Result<bool, Error> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        self.path.truncate(level.path);
        let Some((name, kind)) = level.listing.get(level.next) else {
            self.leave()?;
            return Ok(true);
        };
        level.next += 1;
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let start = self.path.len();
        self.path.extend_from_slice(name);
        let is_directory = kind == FileType::Directory;
        let (ruling, said) = self.filter.judge(&self.path, self.cut, is_directory, &level.above);
        match (ruling, is_directory) {
            (Ruling::Skip, _) | (Ruling::Below, false) => {}
            (_, true) => self.enter(start, said, ruling == Ruling::Take)?,
            (Ruling::Take, false) => self.file(start, kind)?,
        }
        Ok(true)
    }

    fn enter(&mut self, start: usize, above: Above, take: bool) -> Result<(), Error> {
        if self.levels.len() == DEEPEST {
            return Err(Error::Deep(shown(&self.path), DEEPEST));
        }
        let parent = self.levels.last().map(|level| level.from.as_fd());
        let Some(parent) = parent else { return Ok(()) };
        let from = match open_directory(parent, &self.path[start..]) {
            // Gone, or no directory any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.map_err(|e| Error::source(&self.path, "open", e))?,
        };
        let stat = rustix::fs::fstat(&from).map_err(|e| Error::source(&self.path, "look at", e))?;
        let listing = Listing::read(from.as_fd()).map_err(|e| Error::source(&self.path, "list", e))?;
        let path = self.path.len();
        self.levels.push(Level { from, to: None, stat: Some(stat), listing, next: 0, path, above });
        if take {
            self.make()?;
        }
        Ok(())
    }

    /// Makes the directory at hand, and those above it.
    fn make(&mut self) -> Result<(), Error> {
        let made = self.levels.iter().rposition(|level| level.to.is_some()).unwrap_or(0);
        for index in made + 1..self.levels.len() {
            let above = self.levels[index - 1].to.as_ref().map_or(self.to, |fd| fd.as_fd());
            let end = self.levels[index].path;
            let start = self.path[..end].iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
            let name = &self.path[start..end];
            let failed = |e| Error::target(&self.shown(end), "make the directory", e);
            let directory = match rustix::fs::mkdirat(above, os(name), Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => open_directory(above, name),
                Err(e) => Err(e),
            };
            let directory = match directory {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(Error::NotDirectory(shown(&self.shown(end))));
                }
                other => other.map_err(failed)?,
            };
            self.levels[index].to = Some(directory);
            self.taken += 1;
        }
        Ok(())
    }

    /// The path in the target of what has this path, up to `end`, in the source.
    fn shown(&self, end: usize) -> Vec<u8> {
        let mut path = self.name.to_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(&self.path[self.cut.min(end)..end]);
        path
    }

    fn file(&mut self, start: usize, kind: FileType) -> Result<(), Error> {
        if kind == FileType::Socket {
            return Ok(());
        }
        self.make()?;
        let shown = self.shown(self.path.len());
        let Some(level) = self.levels.last() else { return Ok(()) };
        let place = level.to.as_ref().map_or(self.to, |fd| fd.as_fd());
        let name = &self.path[start..];
        if kind == FileType::RegularFile && self.link(&level.from, place, name, &shown)? {
            self.taken += 1;
            return Ok(());
        }
        let from = From { above: level.from.as_fd(), name, path: &self.path };
        let Some(stat) = self.putter.file(&from, kind, place, name, &shown)? else { return Ok(()) };
        self.taken += 1;
        if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.links.insert((stat.st_dev, stat.st_ino), self.path[self.cut..].to_vec());
        }
        Ok(())
    }

    /// Makes a further name of a file that was copied already.
    fn link(&self, from: &OwnedFd, place: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<bool, Error> {
        if self.links.is_empty() {
            return Ok(false);
        }
        let stat = look(from.as_fd(), name).map_err(|e| Error::source(&self.path, "look at", e))?;
        let first = stat.and_then(|stat| self.links.get(&(stat.st_dev, stat.st_ino)));
        let Some(first) = first else { return Ok(false) };
        let failed = |e| Error::target(path, "link", e);
        let cut = first.iter().rposition(|&b| b == b'/');
        let (above, last) = cut.map_or((&b"."[..], &first[..]), |at| (&first[..at], &first[at + 1..]));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let above = rustix::fs::openat2(self.to, os(above), flags, Mode::empty(), plain).map_err(failed)?;
        for _ in 0..2 {
            match rustix::fs::linkat(&above, os(last), place, os(name), AtFlags::empty()) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => clear(place, name, path)?,
                // So many names a file cannot have here: then it is a copy.
                Err(Errno::MLINK | Errno::XDEV) => return Ok(false),
                Err(e) => return Err(failed(e)),
            }
        }
        Err(failed(Errno::EXIST))
    }

    /// Back to the directory above: what is in this one is there.
    fn leave(&mut self) -> Result<(), Error> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let (Some(to), Some(stat)) = (level.to, level.stat) else { return Ok(()) };
        let found = attributes::read(level.from.as_fd());
        let found = found.map_err(|e| Error::source(&self.path, "read the attributes of", e))?;
        self.putter.dress(to.as_fd(), &stat, &found, &self.shown(level.path))
    }
}
