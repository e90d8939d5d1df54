//! The container's side of a copy. Its paths are resolved by the kernel within its root; nothing leads out of that, and what
//! was resolved is held by a descriptor.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::Root;
use base::fs::At;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::{Error, Place};
use super::rules::{self, There, What};
use super::{MOST_LINKS, Source, kind_of};
use crate::error::Result;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// A path of a container is one from its root, wherever it seems to begin.
pub(super) fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// What is to be copied from a container.
pub(super) fn source(root: &Root, place: &Place, follow: bool) -> Result<Source> {
    let path = absolute(&place.path);
    let asserted = rules::asserts_directory(&path);
    let flags = match (asserted, follow) {
        (true, _) => OFlags::PATH | OFlags::DIRECTORY,
        (false, true) => OFlags::PATH,
        (false, false) => OFlags::PATH | OFlags::NOFOLLOW,
    };
    let handle = root.open_with(&path, flags, Mode::empty()).map_err(|e| place.because(&path, e))?;
    if rootfs::copy::is_the_kernels(handle.as_fd()).at("look at", &path)? {
        return Err(Error::Kernels(place.clone()).into());
    }
    let kind = kind_of(handle.as_fd(), &path)?;
    let what = What { directory: kind == FileType::Directory, contents: rules::is_contents(&path) };
    Ok(Source { handle, kind, what, name: rules::name(&path) })
}

/// Where in a container a copy goes.
pub(super) struct Destination {
    pub(super) there: There,
    /// The directory itself, or the one that it is in, and its path.
    pub(super) directory: OwnedFd,
    pub(super) path: PathBuf,
    /// Its name there.
    pub(super) name: Vec<u8>,
}

/// What is at a path of a container, behind all symlinks.
pub(super) fn destination(root: &Root, place: &Place) -> Result<Destination> {
    let mut path = absolute(&place.path);
    for _ in 0..MOST_LINKS {
        match root.open_with(&path, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                return Ok(Destination { there: There::Directory, directory, path, name: Vec::new() });
            }
            Err(e) if is_any(&e, &[Errno::NOENT, Errno::NOTDIR]) => {}
            Err(e) => return Err(place.because(&path, e).into()),
        }
        let (above, name) = rules::split(&path);
        let directory =
            root.open_with(above, DIRECTORY, Mode::empty()).map_err(|e| place.because(above, e))?;
        let (above, name) = (above.to_owned(), name.to_vec());
        let last = OsStr::from_bytes(&name);
        let kind = rustix::fs::statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode));
        let there = match kind {
            Err(Errno::NOENT) => There::Nothing,
            Err(e) => return Err(place.because(&path, e.into()).into()),
            Ok(FileType::Symlink) => {
                let target = rustix::fs::readlinkat(&directory, last, Vec::new())
                    .map_err(|e| place.because(&path, e.into()))?;
                path = rules::behind(&above, target.to_bytes());
                continue;
            }
            Ok(FileType::CharacterDevice | FileType::BlockDevice) => {
                return Err(Error::Device(place.clone()).into());
            }
            Ok(_) => There::Other,
        };
        return Ok(Destination { there, directory, path: above, name });
    }
    Err(place.because(&path, Errno::LOOP.into()).into())
}

fn is_any(error: &io::Error, errors: &[Errno]) -> bool {
    errors.iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}
