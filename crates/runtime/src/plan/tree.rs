//! Trees of the host's mounts, copied for the container.
//!
//! They are copied before the clone, while the host's paths mean what the user meant, and without the container's root
//! having to be let in there. But not for a mount namespace of a new owner: what the host's mounts forbid, and what they
//! cover, the kernel locks in those alone that have come into it with the namespace (`mount_namespaces(7)`, "Restrictions
//! on mount namespaces"). So the copies are made there: by the parent, who enters it ([`crate::trees`]), or by the child
//! where the parent has no rights that the child has not.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::elsewhere;

/// A copy of what is mounted at a path of the host, attached nowhere yet.
#[derive(Debug)]
pub(crate) struct HostTree {
    /// The copy, or as yet what is to be copied.
    pub(crate) fd: OwnedFd,
    /// What is copied later.
    later: Option<(CString, OpenTreeFlags)>,
}

/// Where trees are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copying {
    /// Here.
    Here,
    /// Here, or where we may not by the child, which has more rights in its user namespace.
    HereOrInside,
    /// In the container's mount namespace.
    Inside,
}

impl HostTree {
    /// Copies the tree, or finds what is to be copied.
    pub(super) fn new(path: &Path, recursive: bool, copying: Copying) -> io::Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        if copying != Copying::Inside {
            match open_tree(CWD, path, flags) {
                Err(Errno::PERM) if copying == Copying::HereOrInside => {}
                // So the kernel says of what is mounted in another namespace.
                Err(Errno::INVAL) if copying == Copying::Here => {
                    let fd = elsewhere::copy(path, flags).unwrap_or(Err(Errno::INVAL))?;
                    return Ok(Self { fd, later: None });
                }
                other => return Ok(Self { fd: other?, later: None }),
            }
        }
        let fd = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        // Where it really lies: a working directory or a link of ours in /proc may lead elsewhere from there.
        let path = match std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
            Ok(found) if found.is_absolute() => found,
            _ => std::path::absolute(path)?,
        };
        Ok(Self { fd, later: Some((CString::new(path.as_os_str().as_bytes())?, flags)) })
    }

    /// Copies the tree at what this descriptor is of, or remembers what is to be copied.
    pub(super) fn of(found: OwnedFd, recursive: bool, copying: Copying) -> io::Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        if copying != Copying::Inside {
            match open_tree(&found, c"", flags | OpenTreeFlags::AT_EMPTY_PATH) {
                Err(Errno::PERM) if copying == Copying::HereOrInside => {}
                other => return Ok(Self::copied(other?)),
            }
        }
        // Its path may mean something else by then: what is copied is compared with what was found.
        let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        Ok(Self { fd: found, later: Some((CString::new(path.as_os_str().as_bytes())?, flags)) })
    }

    /// This is a copy already.
    pub(super) fn copied(fd: OwnedFd) -> Self {
        Self { fd, later: None }
    }

    /// Copies it in the mount namespace that the caller is in. Nothing there is taken for what was found before: in a
    /// namespace that is joined the path may be somebody else's.
    pub(crate) fn copy(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some((path, flags)) = &self.later else { return Ok(None) };
        let copy = open_tree(CWD, path.as_c_str(), *flags)?;
        let (meant, found) = (fstat(&self.fd)?, fstat(&copy)?);
        if (meant.st_dev, meant.st_ino) != (found.st_dev, found.st_ino) {
            return Err(Errno::STALE);
        }
        Ok(Some(copy))
    }

    /// The child makes sure that it is a copy.
    pub(crate) fn settle(&mut self) -> Result<(), Errno> {
        if let Some(copy) = self.copy()? {
            self.become_copy(copy);
        }
        Ok(())
    }

    /// This is the copy.
    pub(crate) fn become_copy(&mut self, copy: OwnedFd) {
        self.fd = copy;
        // Freed it must not be by the child of a clone.
        std::mem::forget(self.later.take());
    }
}
