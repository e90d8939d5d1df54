//! The names in a directory, in order, in one piece of memory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Names, ordered by their bytes, and what each is of.
#[derive(Debug, Default)]
pub(super) struct Listing {
    bytes: Vec<u8>,
    places: Vec<(u32, u16, FileType)>,
}

impl Listing {
    pub(super) fn read(directory: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let mut listing = Self::default();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let start = u32::try_from(listing.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
            let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
            listing.bytes.extend_from_slice(name);
            // Some file systems do not tell.
            let kind = match entry.file_type() {
                FileType::Unknown => match look(directory, name)? {
                    Some(stat) => FileType::from_raw_mode(stat.st_mode),
                    None => continue,
                },
                kind => kind,
            };
            listing.places.push((start, length, kind));
        }
        let bytes = &listing.bytes;
        listing.places.sort_unstable_by(|a, b| slice(bytes, *a).cmp(slice(bytes, *b)));
        Ok(listing)
    }

    pub(super) fn get(&self, index: usize) -> Option<(&[u8], FileType)> {
        let place = self.places.get(index)?;
        Some((slice(&self.bytes, *place), place.2))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], FileType)> {
        self.places.iter().map(|place| (slice(&self.bytes, *place), place.2))
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

fn slice(bytes: &[u8], (start, length, _): (u32, u16, FileType)) -> &[u8] {
    &bytes[start as usize..start as usize + usize::from(length)]
}

/// A name's bytes as system calls take them.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// What is there, not followed.
pub(super) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, os(name), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

/// A directory in another, to be read; not behind a link.
pub(super) fn open_directory(above: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(above, os(name), flags, Mode::empty())
}

/// The same directory, to be read.
pub(super) fn reopen(directory: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, c".", flags, Mode::empty())
}

/// A file that was a regular one when it was looked at, to be read. What somebody put in its place meanwhile holds nobody up,
/// and is refused (`Errno::AGAIN`).
pub(in crate::build) fn open_regular(
    above: BorrowedFd<'_>,
    name: &[u8],
) -> rustix::io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(above, os(name), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok((file, stat))
    } else {
        Err(Errno::AGAIN)
    }
}
