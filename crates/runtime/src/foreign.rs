//! What a container has mounted in a mount namespace that it did not make, and that does not go with it.
//!
//! All of it lies below its root, which is one mount at a path there. A child of ours looks which mount that is, before
//! the start and after it: where they differ, the later one is the container's, and by its number it is found again
//! and detached. It joins the namespace by descriptor, and detaches by descriptor what it has looked at.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::runtime::NamespaceKind;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, fstat, openat, statx};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, WaitId, WaitIdOptions, set_dumpable_behavior, waitid};
use serde::{Deserialize, Serialize};
use sys::process::{Cloned, clone};

use crate::child::{errno, retry};
use crate::plan::{LaunchPlan, MountNamespace};

/// The root of a container in a mount namespace of others: goes into a container's state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignRoot {
    /// Where the namespace was found, and which one it is.
    namespace: PathBuf,
    inode: u64,
    /// Where the root lies in it.
    mountpoint: PathBuf,
    /// The number of the mount; since Linux 6.8 none is used twice.
    mount: u64,
}

impl ForeignRoot {
    /// Detaches it, with all that is mounted in it. Nothing happens where it is gone, or the namespace is.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the mount not be detached.
    pub fn detach(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = match openat(CWD, &self.namespace, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if fstat(&namespace)?.st_ino != self.inode {
            return Ok(());
        }
        let mountpoint = c_path(&self.mountpoint)?;
        detach(namespace.as_fd(), &mountpoint, |mount| mount == self.mount)
    }
}

/// A start that builds a root in a namespace of others.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    namespace: &'a OwnedFd,
    path: &'a Path,
    mountpoint: &'a CStr,
    /// The mount that is there already.
    pub(crate) before: u64,
}

impl<'a> Start<'a> {
    /// None where the container has its own, and where we may not look: whoever has fewer rights there than the child
    /// will have.
    pub(crate) fn of(plan: &'a LaunchPlan) -> Option<Self> {
        let mut start = Self::again(plan, 0)?;
        start.before = mount_at(start.namespace.as_fd(), start.mountpoint).ok()?;
        Some(start)
    }

    /// The same once more, since the child changes the plan in between.
    pub(crate) fn again(plan: &'a LaunchPlan, before: u64) -> Option<Self> {
        if plan.namespaces.mounts != MountNamespace::Joined {
            return None;
        }
        let joined = plan.namespaces.joined.iter().find(|j| j.kind == NamespaceKind::Mount)?;
        let mountpoint = plan.root.mountpoint.as_c_str();
        Some(Self { namespace: &joined.namespace, path: &joined.path, mountpoint, before })
    }

    /// What it has built.
    pub(crate) fn built(&self) -> Option<ForeignRoot> {
        let mount = mount_at(self.namespace.as_fd(), self.mountpoint).ok()?;
        let root = ForeignRoot {
            namespace: self.path.to_owned(),
            inode: fstat(self.namespace).ok()?.st_ino,
            mountpoint: Path::new(std::ffi::OsStr::from_bytes(self.mountpoint.to_bytes())).to_owned(),
            mount,
        };
        (mount != self.before).then_some(root)
    }

    /// Takes down what it has built, if it came to that.
    pub(crate) fn undo(&self) -> io::Result<()> {
        detach(self.namespace.as_fd(), self.mountpoint, |mount| mount != self.before)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Which mount the directory at `path` is in.
fn mount_at(namespace: BorrowedFd<'_>, path: &CStr) -> io::Result<u64> {
    within(namespace, || Ok(look(path)?.1))
}

fn detach(namespace: BorrowedFd<'_>, path: &CStr, ours: impl Fn(u64) -> bool) -> io::Result<()> {
    let detached = within(namespace, || {
        let (directory, mount) = look(path)?;
        if ours(mount) {
            rustix::process::fchdir(&directory)?;
            rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        }
        Ok(0)
    });
    match detached {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop),
    }
}

fn look(path: &CStr) -> Result<(OwnedFd, u64), Errno> {
    /// `STATX_MNT_ID_UNIQUE` (Linux 6.8).
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty())?;
    let found = statx(&directory, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | UNIQUE)?;
    Ok((directory, found.stx_mnt_id))
}

/// Calls `work` in a child that has joined the namespace. As in every child of ours, nothing there allocates or locks.
fn within(namespace: BorrowedFd<'_>, work: impl FnOnce() -> Result<u64, Errno>) -> io::Result<u64> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let pidfd = match clone(0, None)? {
        Cloned::Child => {
            // What runs there must not trace us (CVE-2016-9962).
            let done = set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .and_then(|()| sys::namespace::join(namespace).map_err(errno))
                .and_then(|()| work());
            let (error, value) = match done {
                Ok(value) => (0, value),
                Err(e) => (e.raw_os_error(), 0),
            };
            let mut told = [0; 12];
            told[..4].copy_from_slice(&error.to_ne_bytes());
            told[4..].copy_from_slice(&value.to_ne_bytes());
            // Nobody is there to tell that nobody reads it.
            rustix::io::write(&write, &told).ok();
            sys::process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(write);
    let mut told = [0; 12];
    let length = retry(|| rustix::io::read(&read, &mut told));
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    if length? != told.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let [a, b, c, d, value @ ..] = told;
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(u64::from_ne_bytes(value)),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
