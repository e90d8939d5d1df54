//! Copies a tree: owners, modes, times, extended attributes, holes and hard links come along.
//!
//! By descriptors, and no symlink is followed: each directory is opened from the root by its whole path, which must be
//! one of plain directories, so that neither the depth nor the number of directories costs descriptors or stack.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate, linkat, mkdirat,
    mknodat, openat, readlinkat, seek, sendfile, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
/// The kernel's bounds of an attribute's value and of the list of their names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LONGEST_ATTRIBUTE: usize = 64 << 10;

/// Copies all that `from` holds into the empty directory `to`, which nobody else reaches yet.
pub(crate) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut copy = Copy { from, to, links: HashMap::new() };
    let mut directories = vec![PathBuf::new()];
    let mut next = 0;
    while let Some(path) = directories.get(next).cloned() {
        let found = copy.entries(&path)?;
        directories.extend(found);
        next += 1;
    }
    // From below: what is made in a directory changes its times, and its mode may keep even root out on some file systems.
    for path in directories.iter().skip(1).rev() {
        look(below(from, path)?.as_fd(), below(to, path)?.as_fd())?;
    }
    Ok(())
}

/// Gives a directory or file the owner, mode, attributes and times of another.
pub(crate) fn look(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let stat = fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, mode_of(&stat))?;
    attributes(from, to)?;
    rustix::fs::futimens(to, &times(&stat))
}

struct Copy<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    /// Files with several names: where the first was copied to.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    /// Copies what one directory holds, and returns the directories among it, which are empty as yet.
    fn entries(&mut self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let (from, to) = (below(self.from, path)?, below(self.to, path)?);
        let mut directories = Vec::new();
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let whole = path.join(OsStr::from_bytes(name.to_bytes()));
            let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                mkdirat(&to, name, Mode::RWXU)?;
                directories.push(whole);
            } else if !self.link(&stat, &whole, &to, name)? {
                entry_of(&from, &to, name, &stat)?;
            }
        }
        Ok(directories)
    }

    /// A further name of a file that is copied already.
    fn link(&mut self, stat: &Stat, whole: &Path, to: &OwnedFd, name: &CStr) -> rustix::io::Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
            return linkat(self.to, first, to, name, AtFlags::empty()).map(|()| true);
        }
        self.links.insert((stat.st_dev, stat.st_ino), whole.to_owned());
        Ok(false)
    }
}

fn entry_of(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let source = openat(from, name, READ, Mode::empty())?;
            if FileType::from_raw_mode(fstat(&source)?.st_mode) != FileType::RegularFile {
                return Err(Errno::LOOP);
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
            data(&source, &made, stat.st_size.cast_unsigned())?;
            look(source.as_fd(), made.as_fd())
        }
        FileType::Symlink => {
            symlinkat(&readlinkat(from, name, Vec::new())?, to, name)?;
            own(to, name, stat)?;
            utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
        }
        kind => {
            mknodat(to, name, kind, mode_of(stat), stat.st_rdev)?;
            own(to, name, stat)?;
            // It was made just now, where nobody else is: there is no link to follow.
            chmodat(to, name, mode_of(stat), AtFlags::empty())?;
            utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

fn own(to: &OwnedFd, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// What a file says; where it says nothing, a hole.
fn data(from: &OwnedFd, to: &OwnedFd, size: u64) -> rustix::io::Result<()> {
    let mut at = 0;
    loop {
        let begin = match seek(from, SeekFrom::Data(at)) {
            // Nothing but a hole, up to the end.
            Err(Errno::NXIO) => return ftruncate(to, size.max(at)),
            // A file system that does not know where its holes are.
            Err(Errno::INVAL | Errno::OPNOTSUPP) if at == 0 => {
                while sendfile(to, from, None, 1 << 20)? > 0 {}
                return Ok(());
            }
            other => other?,
        };
        let end = seek(from, SeekFrom::Hole(begin))?;
        seek(to, SeekFrom::Start(begin))?;
        at = begin;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 20);
            if sendfile(to, from, Some(&mut at), left)? == 0 {
                return Ok(());
            }
        }
    }
}

/// All but overlay's own; what the file system of the volume does not take is left out.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = Vec::new();
    match flistxattr(from, &mut names[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        other => names.resize(other?.min(LONGEST_ATTRIBUTE), 0),
    }
    let length = flistxattr(from, &mut names[..])?;
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; LONGEST_ATTRIBUTE];
        let length = fgetxattr(from, name, &mut value[..])?;
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
            other => other?,
        }
    }
    Ok(())
}

/// A directory below a root, with no symlink on the way.
fn below(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn mode_of(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos.cast_signed() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
