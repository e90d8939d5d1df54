//! Finding the files of a tree, in order, while somebody may be changing it.
//!
//! Every name is opened relative to the descriptor of its directory, without following links, and what it is is then
//! asked of that handle: whatever the name means a moment later, it is this file that is packed. So nobody can lead the
//! walk out of the tree. A name that is gone when its turn comes is left out.
//!
//! A descriptor is held per level, down to a depth; what lies above is let go, and found again by `..`, which must
//! lead to the directory that it was. Memory is needed for the names of the directories on the way down, and for the
//! files with several names.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec};
use rustix::io::Errno;

use super::attributes::{Attributes, attributes};
use super::header::{Header, Kind};
use super::{Error, Source, Why, content};
use crate::limits;
use crate::tree::{is_whiteout, os};

/// How many levels keep their descriptor.
const HELD: usize = 48;
/// The start of a whiteout's name.
const WHITEOUT: &[u8] = b".wh.";
/// Makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What is done with each entry.
pub(super) trait Visit {
    /// The next entry; a regular file with its content.
    fn entry(&mut self, header: &Header<'_>, content: Option<Content<'_>>) -> Result<(), Error>;
}

/// A file's content.
pub(super) struct Content<'f> {
    pub(super) file: BorrowedFd<'f>,
    /// So much of it has no place on the disk that its zeros are better left out.
    pub(super) sparse: bool,
}

/// Shows `visit` all that is below `root`, a directory before what is in it, names in the order of their bytes.
pub(super) fn walk(root: BorrowedFd<'_>, source: Source, visit: &mut impl Visit) -> Result<(), Error> {
    let mut walk = Walk { source, visit, path: Vec::new(), levels: Vec::new(), links: HashMap::new() };
    walk.root(root)?;
    while let Some(level) = walk.levels.last_mut() {
        walk.path.truncate(level.path);
        let Some(name) = level.names.get(level.next) else {
            walk.leave()?;
            continue;
        };
        level.next += 1;
        if !walk.path.is_empty() {
            walk.path.push(b'/');
        }
        let start = walk.path.len();
        walk.path.extend_from_slice(name);
        walk.one(start)?;
    }
    Ok(())
}

struct Walk<'v, V> {
    source: Source,
    visit: &'v mut V,
    /// Of the entry at hand.
    path: Vec<u8>,
    /// The directories from the root to the one that is being read.
    levels: Vec<Level>,
    /// Files with more names to come: by device and inode.
    links: HashMap<(u64, u64), Link>,
}

struct Level {
    /// None while it lies too far above.
    fd: Option<OwnedFd>,
    identity: (u64, u64),
    names: Names,
    next: usize,
    /// The length of its path.
    path: usize,
}

struct Link {
    first: Vec<u8>,
    left: u64,
}

impl<V: Visit> Walk<'_, V> {
    fn root(&mut self, root: BorrowedFd<'_>) -> Result<(), Error> {
        let fd = self.at("open it", open_dir(root))?;
        let stat = self.at("look at it", rustix::fs::fstat(&fd))?;
        let attributes = self.attributes(fd.as_fd())?;
        // What an unpacker makes by itself needs no entry, and its time is that of whoever made it.
        if (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) != (0o755, 0, 0)
            || !attributes.content.is_empty()
        {
            self.path = b".".to_vec();
            self.visit(&stat, Kind::Directory, &attributes, None)?;
            self.path.clear();
        }
        self.enter(fd, &stat, &attributes)
    }

    /// The entry at the current path, whose last name begins at `start`.
    fn one(&mut self, start: usize) -> Result<(), Error> {
        if self.path.len() > limits::PATH as usize {
            return Err(self.because(Why::TooLong));
        }
        if self.source == Source::Layer && self.path[start..].starts_with(WHITEOUT) {
            return Err(self.because(Why::Reserved));
        }
        let dir = self.levels.last().and_then(|level| level.fd.as_ref());
        let handle = match dir.map_or(Err(Errno::BADF), |dir| open_handle(dir.as_fd(), &self.path[start..])) {
            Err(Errno::NOENT) => return Ok(()),
            other => self.at("open it", other)?,
        };
        let stat = self.at("look at it", rustix::fs::fstat(&handle))?;
        let none = Attributes::default();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(handle.as_fd(), &stat),
            // Nobody could connect to it, and no archive has such a thing.
            FileType::Socket => Ok(()),
            // Overlay makes one of it for all names; it is none of the links below.
            FileType::CharacterDevice if self.source == Source::Layer && is_whiteout(&stat) => {
                self.whiteout(start)
            }
            _ if self.is_another_name(&stat)? => Ok(()),
            FileType::RegularFile => self.file(handle.as_fd(), &stat, start),
            FileType::Symlink => {
                let target = self.at("read the link", rustix::fs::readlinkat(&handle, c"", Vec::new()))?;
                self.visit(&stat, Kind::Symlink(target.to_bytes()), &none, None)
            }
            FileType::Fifo => self.visit(&stat, Kind::Fifo, &none, None),
            kind => {
                let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let kind = match kind {
                    FileType::CharacterDevice => Kind::CharDevice(major, minor),
                    FileType::BlockDevice => Kind::BlockDevice(major, minor),
                    _ => return Err(self.because(Why::Unknown(stat.st_mode))),
                };
                self.visit(&stat, kind, &none, None)
            }
        }
    }

    fn directory(&mut self, handle: BorrowedFd<'_>, stat: &Stat) -> Result<(), Error> {
        let fd = self.at("open it", open_dir(handle))?;
        let attributes = self.attributes(fd.as_fd())?;
        self.visit(stat, Kind::Directory, &attributes, None)?;
        self.enter(fd, stat, &attributes)
    }

    fn enter(&mut self, fd: OwnedFd, stat: &Stat, attributes: &Attributes) -> Result<(), Error> {
        let length = self.path.len();
        if self.source == Source::Layer && attributes.opaque {
            self.special(OPAQUE)?;
            self.path.truncate(length);
        }
        let names = self.at("list it", Names::read(fd.as_fd()))?;
        let identity = (stat.st_dev, stat.st_ino);
        self.levels.push(Level { fd: Some(fd), identity, names, next: 0, path: length });
        if let Some(above) = self.levels.len().checked_sub(HELD + 1) {
            self.levels[above].fd = None;
        }
        Ok(())
    }

    /// Back to the directory above.
    fn leave(&mut self) -> Result<(), Error> {
        let done = self.levels.pop().and_then(|level| level.fd);
        let (Some(done), Some(above)) = (done, self.levels.last_mut()) else { return Ok(()) };
        if above.fd.is_none() {
            let found = open_above(done.as_fd(), above.identity);
            let found =
                found.map_err(|source| Why::System { action: "go back to the directory above", source });
            above.fd = Some(found.map_err(|why| Error::at(&self.path, why))?);
        }
        Ok(())
    }

    fn file(&mut self, handle: BorrowedFd<'_>, stat: &Stat, start: usize) -> Result<(), Error> {
        // Through the handle: a name could have become another file's by now.
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = self.at("open it", rustix::fs::openat(CWD, path, flags, Mode::empty()))?;
        let attributes = self.attributes(file.as_fd())?;
        if self.source == Source::Layer && attributes.whiteout && stat.st_size == 0 {
            return self.whiteout(start);
        }
        let allocated = stat.st_blocks.unsigned_abs().saturating_mul(512);
        let size = stat.st_size.unsigned_abs();
        let content =
            Content { file: file.as_fd(), sparse: size.saturating_sub(allocated) >= content::HOLES };
        self.visit(stat, Kind::File(size), &attributes, Some(content))
    }

    fn whiteout(&mut self, start: usize) -> Result<(), Error> {
        let hidden = self.path.split_off(start);
        if start > 0 {
            self.path.pop();
        }
        self.special(&[WHITEOUT, &hidden].concat())
    }

    /// An entry that says something about others: root's, empty, of 1970, so that it depends on nothing else.
    fn special(&mut self, name: &[u8]) -> Result<(), Error> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let mtime = Timespec { tv_sec: 0, tv_nsec: 0 };
        let header =
            Header { path: &self.path, kind: Kind::File(0), mode: 0, uid: 0, gid: 0, mtime, xattrs: &[] };
        self.visit.entry(&header, None)
    }

    /// True where the file was packed under another name: then this is a hard link to it.
    fn is_another_name(&mut self, stat: &Stat) -> Result<bool, Error> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let identity = (stat.st_dev, stat.st_ino);
        let Some(link) = self.links.get_mut(&identity) else {
            let left = stat.st_nlink - 1;
            self.links.insert(identity, Link { first: self.path.clone(), left });
            return Ok(false);
        };
        link.left -= 1;
        let first = link.first.clone();
        if link.left == 0 {
            self.links.remove(&identity);
        }
        self.visit(stat, Kind::HardLink(&first), &Attributes::default(), None)?;
        Ok(true)
    }

    fn visit(
        &mut self,
        stat: &Stat,
        kind: Kind<'_>,
        attributes: &Attributes,
        content: Option<Content<'_>>,
    ) -> Result<(), Error> {
        let header = Header {
            path: &self.path,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
            xattrs: &attributes.content,
        };
        self.visit.entry(&header, content)
    }

    fn attributes(&self, file: BorrowedFd<'_>) -> Result<Attributes, Error> {
        let found = attributes(file).map_err(|why| self.because(why))?;
        match found.elsewhere {
            Some(name) if self.source == Source::Layer => Err(self.because(Why::Elsewhere(name))),
            _ => Ok(found),
        }
    }

    fn at<T>(&self, action: &'static str, result: rustix::io::Result<T>) -> Result<T, Error> {
        result.map_err(|e| self.because(Why::System { action, source: e.into() }))
    }

    fn because(&self, why: Why) -> Error {
        Error::at(&self.path, why)
    }
}

/// The names in a directory, in order, in one piece of memory.
struct Names {
    bytes: Vec<u8>,
    places: Vec<(u32, u32)>,
}

impl Names {
    fn read(dir: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            let name = name.to_bytes();
            if !matches!(name, b"." | b"..") {
                let start = u32::try_from(bytes.len()).map_err(|_| Errno::OVERFLOW)?;
                bytes.extend_from_slice(name);
                places.push((start, name.len() as u32));
            }
        }
        let slice = |&(start, length): &(u32, u32)| &bytes[start as usize..(start + length) as usize];
        places.sort_unstable_by(|a, b| slice(a).cmp(slice(b)));
        Ok(Self { bytes, places })
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let &(start, length) = self.places.get(index)?;
        self.bytes.get(start as usize..(start + length) as usize)
    }
}

/// Whatever the name is, without following it or entering another mount.
fn open_handle(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(dir, os(name), flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// The directory behind a handle, to be read.
fn open_dir(handle: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(handle, c".", flags, Mode::empty())
}

/// The directory above, which must be the one that we came from.
fn open_above(dir: BorrowedFd<'_>, identity: (u64, u64)) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::openat(dir, c"..", flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&above)?;
    if (stat.st_dev, stat.st_ino) == identity {
        Ok(above)
    } else {
        Err(std::io::Error::other("the directory was moved meanwhile"))
    }
}
