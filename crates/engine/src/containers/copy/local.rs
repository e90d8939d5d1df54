//! The host's side of a copy. Its paths are the user's own: they mean what they mean to any program.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::fs::At;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;
use super::rules::{self, There, What};
use super::{MOST_LINKS, Source, kind_of};
use crate::error::Result;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What is to be copied from the host. Only a path that ends like a directory's follows a symlink, unless all shall.
pub(super) fn source(path: &Path, follow: bool) -> Result<Source> {
    let asserted = rules::asserts_directory(path);
    let flags = match (asserted, follow) {
        (true, _) => HANDLE | OFlags::DIRECTORY,
        (false, true) => HANDLE,
        (false, false) => HANDLE | OFlags::NOFOLLOW,
    };
    let handle = rustix::fs::openat(CWD, path, flags, Mode::empty()).at("open", path)?;
    let kind = kind_of(handle.as_fd(), path)?;
    let absolute = std::path::absolute(path).at("make absolute", path)?;
    let what = What { directory: kind == FileType::Directory, contents: rules::is_contents(path) };
    Ok(Source { handle, kind, what, name: rules::name(&absolute) })
}

/// Where on the host a copy goes.
pub(super) struct Destination {
    pub(super) there: There,
    /// The directory itself, or the one that it is in.
    pub(super) directory: OwnedFd,
    /// Its name there.
    pub(super) name: Vec<u8>,
}

/// What is at a path of the host, behind all symlinks.
pub(super) fn destination(path: &Path) -> Result<Destination> {
    let mut path: PathBuf = path.to_owned();
    for _ in 0..MOST_LINKS {
        match rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()) {
            Ok(directory) => return Ok(Destination { there: There::Directory, directory, name: Vec::new() }),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) if !rules::asserts_directory(&path) => {}
            Err(e) => return Err(e).at("open", &path).map_err(Into::into),
        }
        let (above, name) = rules::split(&path);
        let directory = match rustix::fs::openat(CWD, above, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::NoLocalDirectory(above.to_owned()).into()),
            other => other.at("open", above)?,
        };
        let name = name.to_vec();
        let stat = rustix::fs::statat(&directory, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW);
        match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Err(Errno::NOENT) => return Ok(Destination { there: There::Nothing, directory, name }),
            Err(e) => return Err(e).at("look at", &path).map_err(Into::into),
            Ok(FileType::Symlink) => {
                let target = std::fs::read_link(&path).at("read the link", &path)?;
                path = rules::behind(above, target.as_os_str().as_bytes());
            }
            Ok(FileType::CharacterDevice | FileType::BlockDevice) => {
                return Err(Error::LocalDevice(path).into());
            }
            Ok(_) => return Ok(Destination { there: There::Other, directory, name }),
        }
    }
    let looping: io::Error = Errno::LOOP.into();
    Err(looping).at("follow the links of", path).map_err(Into::into)
}
