//! The directories of a layer that is being unpacked.
//!
//! Every file is made relative to the descriptor of its directory, by its last name alone; and a directory is
//! found from the layer's root by `openat2` with `RESOLVE_IN_ROOT`: a symlink on the way (`lib` → `usr/lib`)
//! leads where it would lead inside the image, and never out of the layer.
//!
//! Making a file changes its directory's time, and an archive has a directory before what is in it. So a
//! directory's time is remembered while it is open, and set when it leaves the cache. That needs memory for
//! the cache alone, however many directories there are.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::mark;
use crate::name::Name;

/// How many directories are held open. An archive is in order of depth, so that a few serve; the rest is for
/// those that go back and forth (hard links into other directories).
const HELD: usize = 24;

/// Mode of a directory that the archive has no entry for.
const MISSING: u32 = 0o755;

/// The tree below a directory, seen as a root of its own.
pub(crate) struct Tree {
    root: OwnedFd,
    /// Least recently used first.
    held: Vec<Held>,
    made: u64,
    /// Some directory gives its files access lists.
    pub(crate) default_acls: bool,
    /// The layer hides all below it.
    pub(crate) opaque_root: bool,
}

/// An open directory.
struct Held {
    name: Name,
    fd: OwnedFd,
    /// Device and inode: two names can lead to one directory, and it has only one time to remember.
    identity: (u64, u64),
    mtime: Timespec,
}

/// What stood in the way of a new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    Nothing,
    Whiteout,
    Other,
}

impl Tree {
    /// The tree whose root is the (open) directory.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, held: Vec::with_capacity(HELD), made: 0, default_acls: false, opaque_root: false }
    }

    /// The directory `name`, made with its parents where it is missing. It is good until the next call.
    pub(crate) fn dir(&mut self, name: &Name) -> rustix::io::Result<BorrowedFd<'_>> {
        let index = match self.find(name) {
            // A directory in the place of a whiteout, which no entry speaks of.
            Err(Errno::NOTDIR) => {
                self.replace_whiteout(name)?;
                self.find(name)?
            }
            other => other?,
        };
        let index = match index {
            Some(index) => index,
            None => self.create(name)?,
        };
        Ok(self.held[index].fd.as_fd())
    }

    /// The directory `name`, if it is there.
    pub(crate) fn existing_dir(&mut self, name: &Name) -> rustix::io::Result<Option<BorrowedFd<'_>>> {
        Ok(self.find(name)?.map(|index| self.held[index].fd.as_fd()))
    }

    /// Whether this layer has something else than a directory at `name` or on the way to it. A symlink is.
    pub(crate) fn is_cut_off(&self, name: &Name) -> rustix::io::Result<bool> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open_with(self.root.as_fd(), name, flags, ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP | Errno::NOTDIR) => Ok(true),
            Ok(_) | Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Remembers the time that the directory shall have in the end.
    pub(crate) fn set_dir_mtime(&mut self, name: &Name, mtime: Timespec) -> rustix::io::Result<()> {
        if let Some(index) = self.find(name)? {
            self.held[index].mtime = mtime;
        }
        Ok(())
    }

    /// Removes whatever is at `name`, so that an entry can take its place.
    pub(crate) fn clear(&mut self, name: &Name) -> std::io::Result<Replaced> {
        let Some((parent, last)) = name.split() else { return Ok(Replaced::Nothing) };
        let dir = self.dir(&parent)?;
        let stat = match rustix::fs::statat(dir, os(last), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Replaced::Nothing),
            other => other?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                // Whatever leads into it must be forgotten; its parent is held again afterwards.
                self.forget_all()?;
                let dir = self.dir(&parent)?;
                base::remove::remove_dir_all_at(dir, os(last))?;
            }
            kind => {
                if kind == FileType::Symlink {
                    self.forget_all()?;
                }
                let dir = self.dir(&parent)?;
                rustix::fs::unlinkat(dir, os(last), AtFlags::empty())?;
            }
        }
        let whiteout = is_whiteout(&stat);
        Ok(if whiteout { Replaced::Whiteout } else { Replaced::Other })
    }

    /// How many directories were made that nobody asked for by themselves.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Sets the times that are still to be set, and notes what is to be known of the layer.
    pub(crate) fn finish(mut self) -> rustix::io::Result<()> {
        self.forget_all()?;
        let (opaque, implied) = (self.opaque_root, self.made > 0);
        let note = mark::Layer { opaque, implied, ..mark::Layer::default() };
        note.write(&self.root)
    }

    /// Where a whiteout of this layer is on the way to `name`, makes it a directory that hides what is below.
    fn replace_whiteout(&mut self, name: &Name) -> rustix::io::Result<()> {
        let bytes = name.as_bytes();
        let slashes = (0..bytes.len()).filter(|&i| bytes[i] == b'/');
        for end in slashes.chain([bytes.len()]) {
            let part = name.prefix(end);
            let Some((parent, last)) = part.split() else { continue };
            let Some(parent) = self.existing_dir(&parent)? else { break };
            let stat = rustix::fs::statat(parent, os(last), AtFlags::SYMLINK_NOFOLLOW)?;
            if is_whiteout(&stat) {
                rustix::fs::unlinkat(parent, os(last), AtFlags::empty())?;
                let index = self.create(&part)?;
                mark::clear_implied(&self.held[index].fd)?;
                return mark::set_opaque(&self.held[index].fd);
            }
        }
        Err(Errno::NOTDIR)
    }

    fn forget_all(&mut self) -> rustix::io::Result<()> {
        self.held.drain(..).try_for_each(|held| held.close())
    }

    /// The index of the directory in `held`, where it exists.
    fn find(&mut self, name: &Name) -> rustix::io::Result<Option<usize>> {
        if let Some(index) = self.held.iter().rposition(|held| held.name == *name) {
            self.held[index..].rotate_left(1);
            return Ok(Some(self.held.len() - 1));
        }
        match open_dir(self.root.as_fd(), name) {
            Ok(fd) => self.hold(name, fd).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn hold(&mut self, name: &Name, fd: OwnedFd) -> rustix::io::Result<usize> {
        let stat = rustix::fs::fstat(&fd)?;
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(index) = self.held.iter().position(|held| held.identity == identity) {
            let mut same = self.held.remove(index);
            same.name = name.clone();
            self.held.push(same);
            return Ok(self.held.len() - 1);
        }
        if self.held.len() == HELD {
            self.held.remove(0).close()?;
        }
        let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        self.held.push(Held { name: name.clone(), fd, identity, mtime });
        Ok(self.held.len() - 1)
    }

    /// Makes the directory, and those above it that are missing.
    fn create(&mut self, name: &Name) -> rustix::io::Result<usize> {
        // Ends of the prefixes, shortest first: a directory exists only where those above it do, so that the
        // first missing one is found by halving. A name can have two thousand components.
        let bytes = name.as_bytes();
        let mut ends: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i] == b'/').collect();
        ends.push(bytes.len());
        let (mut there, mut missing) = (0, ends.len() - 1); // before `there`: exist; `missing`: does not
        while there < missing {
            let middle = usize::midpoint(there, missing);
            if self.find(&name.prefix(ends[middle]))?.is_some() {
                there = middle + 1;
            } else {
                missing = middle;
            }
        }
        let above = name.prefix(if missing == 0 { 0 } else { ends[missing - 1] });
        let mut index = self.find(&above)?.ok_or(Errno::NOENT)?;
        let mut start = if missing == 0 { 0 } else { ends[missing - 1] + 1 };
        for &end in &ends[missing..] {
            let parent = self.held[index].fd.as_fd();
            let last = os(&bytes[start..end]);
            // Where a symlink that leads nowhere is in the way, this is EEXIST.
            rustix::fs::mkdirat(parent, last, Mode::from_raw_mode(MISSING))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, last, flags, Mode::empty())?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(MISSING))?; // whatever the umask
            mark::set_implied(&fd)?;
            self.made += 1;
            index = self.hold(&name.prefix(end), fd)?;
            start = end + 1;
        }
        Ok(index)
    }
}

impl Held {
    fn close(self) -> rustix::io::Result<()> {
        rustix::fs::futimens(&self.fd, &both(self.mtime))
    }
}

/// A name's bytes as system calls take them.
pub(crate) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Access and modification times, the same: what nobody has read yet was last read when it was written.
pub(crate) fn both(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}

/// Whether overlay takes this for "hidden": the character device 0:0.
pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn open_dir(root: BorrowedFd<'_>, name: &Name) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open_with(root, name, flags, ResolveFlags::NO_MAGICLINKS)
}

fn open_with(
    root: BorrowedFd<'_>,
    name: &Name,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let confined = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV;
    let path = if name.is_root() { b"." } else { name.as_bytes() };
    loop {
        match rustix::fs::openat2(root, os(path), flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}
