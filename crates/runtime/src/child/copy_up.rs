//! `tmpcopyup`: what a directory of the image holds goes into the tmpfs that covers it.
//!
//! By descriptors, on the stack, following nothing. Modes, owners, times and extended attributes go along as far as the
//! tmpfs takes them; a hard link becomes a file of its own. How much it may be is the tmpfs's `size` to say.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate, futimens, mkdirat, mknodat, openat,
    readlinkat_raw, seek, sendfile, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

/// How deep directories may lie in each other. Each costs a few KiB of the stack.
const DEEPEST: u32 = 64;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Copies what `from` holds to `to`. Both may be `O_PATH` descriptors of directories.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let from = openat(from, c".", OPEN | OFlags::DIRECTORY, Mode::empty())?;
    let to = openat(to, c".", OPEN | OFlags::DIRECTORY, Mode::empty())?;
    // The modes are meant as they stand.
    let before = rustix::process::umask(Mode::empty());
    let copied = copy_entries(from.as_fd(), to.as_fd(), DEEPEST);
    rustix::process::umask(before);
    copied
}

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
            let inner = openat(from, name, OPEN | OFlags::DIRECTORY, Mode::empty())?;
            match mkdirat(to, name, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            let made = openat(to, name, OPEN | OFlags::DIRECTORY, Mode::empty())?;
            copy_entries(inner.as_fd(), made.as_fd(), depth)?;
            copy_attributes(inner.as_fd(), made.as_fd());
            own(to, name, &stat, mode)?;
            futimens(&made, &times(&stat))
        }
        FileType::RegularFile => {
            let inner = openat(from, name, OPEN, Mode::empty())?;
            if FileType::from_raw_mode(fstat(&inner)?.st_mode) != FileType::RegularFile {
                return Err(Errno::LOOP);
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let made = openat(to, name, flags, mode)?;
            copy_data(&inner, &made, stat.st_size as u64)?;
            own(to, name, &stat, mode)?;
            // After the owner, whose change takes capabilities away.
            copy_attributes(inner.as_fd(), made.as_fd());
            futimens(&made, &times(&stat))
        }
        FileType::Symlink => copy_link(from, to, name, &stat),
        // A node needs a right that a user namespace does not have; what uses it there says what it misses.
        _ => match mknodat(to, name, kind, mode, stat.st_rdev) {
            Ok(()) => own(to, name, &stat, mode),
            Err(Errno::PERM) => Ok(()),
            Err(e) => Err(e),
        },
    }
}

/// Copies what a file says, and leaves holes where it says nothing: they cost no memory.
fn copy_data(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
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
                // It has become shorter.
                return Ok(());
            }
        }
    }
}

fn copy_link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    // The kernel gives no more than PATH_MAX - 1 bytes, and the rest are zeros.
    let mut target = [MaybeUninit::new(0_u8); 4096];
    let (read, _) = readlinkat_raw(from, name, &mut target[..4095])?;
    let mut whole = [0; 4096];
    whole[..read.len()].copy_from_slice(read);
    let target = CStr::from_bytes_until_nul(&whole).map_err(|_| Errno::NAMETOOLONG)?;
    symlinkat(target, to, name)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Gives it its owner, and again its mode, of which a change of the owner takes bits away.
fn own(to: BorrowedFd<'_>, name: &CStr, stat: &Stat, mode: Mode) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    // Nobody but us reaches it yet, and it was made just now: there is no link to follow.
    chmodat(to, name, mode, AtFlags::empty())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// What the tmpfs does not take, or what is larger than the stack has room for, is left out.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let mut names = [0_u8; 1024];
    let Ok(length) = flistxattr(from, &mut names) else { return };
    let mut rest = &names[..length.min(1024)];
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        let mut value = [0_u8; 1024];
        if let Ok(length) = fgetxattr(from, name, &mut value) {
            fsetxattr(to, name, &value[..length.min(1024)], XattrFlags::empty()).ok();
        }
        rest = &rest[name.to_bytes().len() + 1..];
    }
}
