//! A directory that is held open: what is in it is found without walking its path again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use rustix::io::Errno;

use crate::fs::{At, Result, read_to_end};

/// An open directory. It stays the same one, whatever its path leads to meanwhile.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens it for reading.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).at("open", path)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole content of a file in it, `None` if there is none.
    pub fn read_if_exists(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match openat(&self.fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => read_to_end(file.into()).map(Some).at("read", self.path.join(name)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(io::Error::from(errno)).at("read", self.path.join(name)),
        }
    }

    /// Whether there is something of this name in it.
    pub fn has(&self, name: &str) -> bool {
        accessat(&self.fd, name, Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Its descriptor alone.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_is_read_wherever_it_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let (before, after) = (scratch.path().join("before"), scratch.path().join("after"));
        std::fs::create_dir(&before).unwrap();
        assert!(Dir::open(&after).unwrap_err().is_not_found());
        let dir = Dir::open(&before).unwrap();
        // As long as a page, the longest that is read at once, and longer.
        for length in [0, 1, 4095, 4096, 4097, 100_000] {
            let content = vec![b'x'; length];
            std::fs::write(before.join("file"), &content).unwrap();
            assert!(dir.read_if_exists("file").unwrap() == Some(content), "{length}");
        }
        std::fs::rename(&before, &after).unwrap();
        assert!(dir.has("file") && !dir.has("none"));
        assert_eq!(dir.read_if_exists("file").unwrap().unwrap().len(), 100_000);
        assert_eq!(dir.read_if_exists("none").unwrap(), None);
        let error = dir.read_if_exists("file/none").unwrap_err();
        assert!(error.to_string().contains("before/file/none"), "{error}");
    }
}
