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
use crate::tree::{is_whiteout, os};
use crate::{kernels, limits};

/// How many levels keep their descriptor.
const HELD: usize = 48;
/// How often a file that somebody has a lease on is asked for, ten milliseconds apart.
const LEASED: u32 = 100;

/// What is done with each entry.
pub(crate) trait Visit {
    /// The next entry; a regular file with its content.
    fn entry(&mut self, header: &Header<'_>, content: Option<Content<'_>>) -> Result<(), Error>;

    /// Of a layer: the file of this path is hidden.
    fn whiteout(&mut self, _path: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// Of a layer: all that lies below in this directory, which was shown just before, is hidden.
    fn opaque(&mut self, _path: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// A socket. Nobody could connect to it, and no archive has such a thing.
    fn socket(&mut self, _path: &[u8], _stat: &Stat) -> Result<(), Error> {
        Ok(())
    }
}

/// A file's content.
pub(crate) struct Content<'f> {
    pub(crate) file: BorrowedFd<'f>,
    /// So much of it has no place on the disk that its zeros are better left out.
    pub(crate) sparse: bool,
}

/// Shows `visit` all that is below `root`, a directory before what is in it, names in the order of their bytes.
pub(crate) fn walk(root: BorrowedFd<'_>, source: Source, visit: &mut impl Visit) -> Result<(), Error> {
    let mut walk = Walk { source, visit, path: Vec::new(), levels: Vec::new(), links: HashMap::new() };
    walk.root(root)?;
    descend(walk)
}

/// Shows `visit` the file that `handle` is of, under this name, and if it is a directory all that is below it.
pub(crate) fn walk_object(
    handle: BorrowedFd<'_>,
    name: &[u8],
    source: Source,
    visit: &mut impl Visit,
) -> Result<(), Error> {
    let mut walk = Walk { source, visit, path: name.to_vec(), levels: Vec::new(), links: HashMap::new() };
    walk.object(handle)?;
    descend(walk)
}

fn descend<V: Visit>(mut walk: Walk<'_, V>) -> Result<(), Error> {
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
        let dir = self.levels.last().and_then(|level| level.fd.as_ref());
        let open = |dir: &OwnedFd| open_handle(dir.as_fd(), &self.path[start..], self.source);
        let handle = match dir.map_or(Err(Errno::BADF), open) {
            Err(Errno::NOENT) => return Ok(()),
            other => self.at("open it", other)?,
        };
        self.object(handle.as_fd())
    }

    /// What the handle is of.
    fn object(&mut self, handle: BorrowedFd<'_>) -> Result<(), Error> {
        let stat = self.at("look at it", rustix::fs::fstat(handle))?;
        let none = Attributes::default();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(handle, &stat),
            FileType::Socket => self.visit.socket(&self.path, &stat),
            // Overlay makes one of it for all names; it is none of the links below.
            FileType::CharacterDevice if self.source == Source::Layer && is_whiteout(&stat) => {
                self.visit.whiteout(&self.path)
            }
            _ if self.is_another_name(&stat)? => Ok(()),
            FileType::RegularFile => self.file(handle, &stat),
            FileType::Symlink => {
                let target = self.at("read the link", rustix::fs::readlinkat(handle, c"", Vec::new()))?;
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
        if self.is_the_kernels(&fd, stat)? {
            return self.visit(stat, Kind::Directory, &Attributes::default(), None);
        }
        let attributes = self.attributes(fd.as_fd())?;
        self.visit(stat, Kind::Directory, &attributes, None)?;
        self.enter(fd, stat, &attributes)
    }

    /// Whether a file system without files begins here.
    fn is_the_kernels(&self, directory: &OwnedFd, stat: &Stat) -> Result<bool, Error> {
        let above = self.levels.last().map(|level| level.identity.0);
        if self.source != Source::View || above == Some(stat.st_dev) {
            return Ok(false);
        }
        self.at("look at it", kernels::is_of(directory.as_fd()))
    }

    fn enter(&mut self, fd: OwnedFd, stat: &Stat, attributes: &Attributes) -> Result<(), Error> {
        let length = self.path.len();
        if self.source == Source::Layer && attributes.opaque {
            self.visit.opaque(&self.path)?;
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

    fn file(&mut self, handle: BorrowedFd<'_>, stat: &Stat) -> Result<(), Error> {
        let file = self.at("open it", open_file(handle))?;
        let attributes = self.attributes(file.as_fd())?;
        if self.source == Source::Layer && attributes.whiteout && stat.st_size == 0 {
            return self.visit.whiteout(&self.path);
        }
        let allocated = stat.st_blocks.unsigned_abs().saturating_mul(512);
        let size = stat.st_size.unsigned_abs();
        let content =
            Content { file: file.as_fd(), sparse: size.saturating_sub(allocated) >= content::HOLES };
        self.visit(stat, Kind::File(size), &attributes, Some(content))
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

/// Whatever the name is, without following it or, unless that is what is looked at, entering another mount.
fn open_handle(dir: BorrowedFd<'_>, name: &[u8], source: Source) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut confined = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if source != Source::View {
        confined |= ResolveFlags::NO_XDEV;
    }
    loop {
        match rustix::fs::openat2(dir, os(name), flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// The file behind a handle, to be read: a name could have become another file's by now.
///
/// Who has a lease on it (fcntl(2)) is told, and has a moment to give it back: the kernel would let us wait for 45 seconds,
/// for every file that a container thinks of.
fn open_file(handle: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for _ in 0..LEASED {
        match rustix::fs::openat(CWD, &*path, flags, Mode::empty()) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(std::time::Duration::from_millis(10)),
            other => return other,
        }
    }
    Err(Errno::WOULDBLOCK)
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
