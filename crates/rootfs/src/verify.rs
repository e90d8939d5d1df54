//! Is an unpacked layer still what its blob says?
//!
//! A tar archive says what a tree shall be only to who follows all its rules: later entries replace earlier ones,
//! hard links are names of what is there by then, whiteouts become devices. There is one place that knows them, and
//! so the blob is unpacked once more, beside the layer and for this only, and the two trees are compared. What was
//! unpacked can then take the place of what is damaged ([`Verified::replace`]).
//!
//! Compared are names, types, modes, owners, sizes, contents, times of files, link targets, which names are one
//! file, device numbers, and the attributes that come from images or say something to overlay. Times of directories
//! are not: those that the archive has no entry for have the time at which they were unpacked.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use base::Digest;
use base::fs::At;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::name::shown;
use crate::store::{Unfinished, remove_tree};
use crate::{Error, LayerStore, Result, unpack};

/// More differences are counted, but not told: a layer that is gone altogether has thousands.
const TOLD: usize = 20;

/// What a layer's blob unpacks to, beside the layer itself. Goes when it is dropped.
pub struct Verified<'s> {
    store: &'s LayerStore,
    diff_id: Digest,
    fresh: Unfinished,
    /// What is not as it should be, the first of it; empty: the layer is whole.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub untold: u64,
}

/// A file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its path in the layer, fit to be shown; `/` for the root.
    pub path: String,
    /// What is wrong with it.
    pub damage: Damage,
}

/// How a file is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// It is not there.
    Missing,
    /// It should not be there.
    Extra,
    /// It is of another type.
    Type,
    /// Other permissions.
    Mode {
        /// As the archive has them.
        wanted: u32,
        /// As they are.
        found: u32,
    },
    /// Another owner or group.
    Owner {
        /// As the archive has them.
        wanted: (u32, u32),
        /// As they are.
        found: (u32, u32),
    },
    /// Another length.
    Size {
        /// As the archive has it.
        wanted: u64,
        /// As it is.
        found: u64,
    },
    /// Other bytes.
    Content,
    /// A symlink to somewhere else.
    Target,
    /// Another device.
    Device,
    /// Another modification time.
    Time,
    /// Other extended attributes.
    Attributes,
    /// It should be one file with another name, or should not be.
    Links,
    /// The kernel cannot read it.
    Unreadable(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, damage } = self;
        match damage {
            Damage::Missing => write!(f, "`{path}` is missing"),
            Damage::Extra => write!(f, "`{path}` should not be there"),
            Damage::Type => write!(f, "`{path}` is of another type"),
            Damage::Mode { wanted, found } => {
                write!(f, "`{path}` has the mode {found:04o}, not {wanted:04o}")
            }
            Damage::Owner { wanted: (uid, gid), found } => {
                write!(f, "`{path}` belongs to {}:{}, not {uid}:{gid}", found.0, found.1)
            }
            Damage::Size { wanted, found } => write!(f, "`{path}` has {found} bytes, not {wanted}"),
            Damage::Content => write!(f, "`{path}` has other content"),
            Damage::Target => write!(f, "`{path}` links to somewhere else"),
            Damage::Device => write!(f, "`{path}` is another device"),
            Damage::Time => write!(f, "`{path}` has another modification time"),
            Damage::Attributes => write!(f, "`{path}` has other extended attributes"),
            Damage::Links => write!(f, "`{path}` is one file with other names than it should be"),
            Damage::Unreadable(why) => write!(f, "`{path}` cannot be read: {why}"),
        }
    }
}

impl LayerStore {
    /// Compares an unpacked layer with its blob (verified by whoever gives it). `advance` is told of every
    /// compressed byte consumed. Takes the space of the layer once more while it works.
    pub fn verify(
        &self,
        diff_id: &Digest,
        media_type: &str,
        blob: impl Read,
        advance: &dyn Fn(u64),
    ) -> Result<Verified<'_>> {
        // A mark that it is yet to settle is none of its content.
        self.settle(std::time::Duration::ZERO)?;
        let fresh = Unfinished::create(&self.layers)?;
        let mut verified =
            Verified { store: self, diff_id: *diff_id, fresh, differences: Vec::new(), untold: 0 };
        let root = verified.fresh.fd.try_clone().at("open", &verified.fresh.path)?;
        unpack::unpack(root, diff_id, media_type, blob, self.limits(), advance).map_err(|source| {
            Error::Unpack { layer: *diff_id, place: self.layers.clone(), source: Box::new(source) }
        })?;
        let path = self.path(diff_id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::Missing(*diff_id)),
            other => other.at("open", &path)?,
        };
        let comparison = Comparison {
            wanted: verified.fresh.fd.as_fd(),
            found: found.as_fd(),
            links: HashMap::new(),
            reverse: HashMap::new(),
            buffers: (vec![0; 128 << 10], vec![0; 128 << 10]),
            differences: Vec::new(),
            untold: 0,
        };
        let (differences, untold) = comparison.run().at("compare", &path)?;
        (verified.differences, verified.untold) = (differences, untold);
        Ok(verified)
    }
}

impl Verified<'_> {
    /// Puts what the blob unpacks to in the layer's place, durably, and removes what was there. The caller knows
    /// that no container runs on it, and removes what was derived of it.
    pub fn replace(self) -> Result<()> {
        let (fresh, target) = (&self.fresh.path, self.store.path(&self.diff_id));
        rustix::fs::syncfs(&self.fresh.fd).at("sync the file system of", fresh)?;
        match rustix::fs::renameat_with(CWD, fresh, CWD, &target, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => rustix::fs::rename(fresh, &target).at("rename", fresh)?,
            other => other.at("exchange", &target)?,
        }
        // What has the temporary name now is the damaged one; it goes with `self`.
        Ok(base::fs::sync_dir(&self.store.layers)?)
    }
}

impl Drop for Verified<'_> {
    fn drop(&mut self) {
        // What stays after an error here, a sweep removes.
        remove_tree(&self.fresh.path, &self.store.removing).ok();
    }
}

type Inode = (u64, u64);

/// Two trees side by side.
struct Comparison<'t> {
    wanted: BorrowedFd<'t>,
    found: BorrowedFd<'t>,
    /// Files of several names: which inode of the one tree is which of the other.
    links: HashMap<Inode, Inode>,
    reverse: HashMap<Inode, Inode>,
    /// For the contents of two files.
    buffers: (Vec<u8>, Vec<u8>),
    differences: Vec<Difference>,
    untold: u64,
}

impl Comparison<'_> {
    /// Errors are of the tree that should be; those of the other are differences.
    fn run(mut self) -> rustix::io::Result<(Vec<Difference>, u64)> {
        let mut pending = vec![Vec::new()];
        self.root()?;
        while let Some(path) = pending.pop() {
            self.directory(&path, &mut pending)?;
        }
        Ok((self.differences, self.untold))
    }

    fn differs(&mut self, path: &[u8], damage: Damage) {
        if self.differences.len() == TOLD {
            self.untold += 1;
            return;
        }
        let path = if path.is_empty() { "/".to_owned() } else { shown(path) };
        self.differences.push(Difference { path, damage });
    }

    fn root(&mut self) -> rustix::io::Result<()> {
        let (wanted, found) = (rustix::fs::fstat(self.wanted)?, rustix::fs::fstat(self.found)?);
        self.ownership(b"", &wanted, &found);
        if attributes(self.wanted)? != attributes(self.found)? {
            self.differs(b"", Damage::Attributes);
        }
        Ok(())
    }

    /// Compares what is in one directory, and notes the directories in it that both have.
    fn directory(&mut self, path: &[u8], pending: &mut Vec<Vec<u8>>) -> rustix::io::Result<()> {
        let wanted_dir = open(self.wanted, path)?;
        let found_dir = match open(self.found, path) {
            Ok(dir) => dir,
            Err(e) => {
                self.differs(path, unreadable(e));
                return Ok(());
            }
        };
        let wanted = names(&wanted_dir)?;
        let mut found = match names(&found_dir) {
            Ok(names) => names.into_iter().peekable(),
            Err(e) => {
                self.differs(path, unreadable(e));
                return Ok(());
            }
        };
        for name in wanted {
            while let Some(extra) = found.next_if(|f| *f < name) {
                self.differs(&join(path, &extra), Damage::Extra);
            }
            let below = join(path, &name);
            if found.next_if(|f| *f == name).is_none() {
                self.differs(&below, Damage::Missing);
                continue;
            }
            if self.entry(&below, &name, &wanted_dir, &found_dir)? {
                pending.push(below);
            }
        }
        for extra in found {
            self.differs(&join(path, &extra), Damage::Extra);
        }
        Ok(())
    }

    /// Compares what both have under a name. True: both are directories.
    fn entry(
        &mut self,
        path: &[u8],
        name: &OsString,
        wanted_dir: &OwnedFd,
        found_dir: &OwnedFd,
    ) -> rustix::io::Result<bool> {
        let wanted = rustix::fs::statat(wanted_dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let found = match rustix::fs::statat(found_dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(e) => {
                self.differs(path, unreadable(e));
                return Ok(false);
            }
        };
        let kind = FileType::from_raw_mode(wanted.st_mode);
        if kind != FileType::from_raw_mode(found.st_mode) {
            self.differs(path, Damage::Type);
            return Ok(false);
        }
        self.ownership(path, &wanted, &found);
        if kind == FileType::Directory {
            match (open_at(wanted_dir, name, OFlags::DIRECTORY)?, open_at(found_dir, name, OFlags::DIRECTORY))
            {
                (_, Err(e)) => self.differs(path, unreadable(e)),
                (wanted, Ok(found)) => {
                    if attributes(wanted.as_fd())? != attributes(found.as_fd())? {
                        self.differs(path, Damage::Attributes);
                    }
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        // A whiteout has the time at which it was made.
        if time(&wanted) != time(&found) && !crate::tree::is_whiteout(&wanted) {
            self.differs(path, Damage::Time);
        }
        let (here, there) = ((wanted.st_dev, wanted.st_ino), (found.st_dev, found.st_ino));
        let seen = self.links.contains_key(&here);
        let same = *self.links.entry(here).or_insert(there) == there
            && *self.reverse.entry(there).or_insert(here) == here;
        if !same {
            self.differs(path, Damage::Links);
        } else if seen {
            return Ok(false); // compared under another name
        }
        match kind {
            FileType::RegularFile if wanted.st_size != found.st_size => {
                let size = |stat: &Stat| u64::try_from(stat.st_size).unwrap_or(0);
                self.differs(path, Damage::Size { wanted: size(&wanted), found: size(&found) });
            }
            FileType::RegularFile => {
                let nonblock = OFlags::NONBLOCK;
                match (open_at(wanted_dir, name, nonblock)?, open_at(found_dir, name, nonblock)) {
                    (_, Err(e)) => self.differs(path, unreadable(e)),
                    (wanted, Ok(found)) => self.file(path, wanted, found)?,
                }
            }
            FileType::Symlink => {
                let target = |dir: &OwnedFd| rustix::fs::readlinkat(dir, name, Vec::new());
                if target(found_dir).ok() != Some(target(wanted_dir)?) {
                    self.differs(path, Damage::Target);
                }
            }
            FileType::CharacterDevice | FileType::BlockDevice if wanted.st_rdev != found.st_rdev => {
                self.differs(path, Damage::Device);
            }
            _ => {}
        }
        Ok(false)
    }

    fn ownership(&mut self, path: &[u8], wanted: &Stat, found: &Stat) {
        let mode = |stat: &Stat| stat.st_mode & 0o7777;
        let symlink = FileType::from_raw_mode(wanted.st_mode) == FileType::Symlink;
        if mode(wanted) != mode(found) && !symlink {
            self.differs(path, Damage::Mode { wanted: mode(wanted), found: mode(found) });
        }
        let owner = |stat: &Stat| (stat.st_uid, stat.st_gid);
        if owner(wanted) != owner(found) {
            self.differs(path, Damage::Owner { wanted: owner(wanted), found: owner(found) });
        }
    }

    /// Two files of the same length.
    fn file(&mut self, path: &[u8], wanted: OwnedFd, found: OwnedFd) -> rustix::io::Result<()> {
        if attributes(wanted.as_fd())? != attributes(found.as_fd())? {
            self.differs(path, Damage::Attributes);
        }
        let (mut wanted, mut found) = (File::from(wanted), File::from(found));
        loop {
            let (one, other) = &mut self.buffers;
            let n = wanted.read(one).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            if n == 0 {
                return Ok(());
            }
            match found.read_exact(&mut other[..n]) {
                Err(e) => {
                    self.differs(path, Damage::Unreadable(e.to_string()));
                    return Ok(());
                }
                Ok(()) if one[..n] != other[..n] => {
                    self.differs(path, Damage::Content);
                    return Ok(());
                }
                Ok(()) => {}
            }
        }
    }
}

fn unreadable(error: Errno) -> Damage {
    Damage::Unreadable(std::io::Error::from(error).to_string())
}

fn join(path: &[u8], name: &OsString) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.as_bytes());
    joined
}

fn open(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(root, crate::tree::os(path), flags, Mode::empty(), inside) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn open_at(dir: &OwnedFd, name: &OsString, more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// The names in a directory, sorted.
fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(&*name, b"." | b"..") {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The attributes that came from the image or that overlay heeds, sorted. Others are the host's.
fn attributes(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, &mut list) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut attributes = Vec::new();
    for name in list[..length].split(|b| *b == 0).filter(|name| is_compared(name)) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(file, crate::tree::os(name), &mut value)?;
        value.truncate(length);
        attributes.push((name.to_vec(), value));
    }
    attributes.sort_unstable();
    Ok(attributes)
}

fn is_compared(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.overlay.", b"security.capability", b"system.posix_acl_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests;
