//! The new mount API's calls that rustix lacks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attributes of a mount, `MOUNT_ATTR_*` (Linux 5.12).
pub mod attributes {
    /// Read-only.
    pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// No set-id bits.
    pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// No devices.
    pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
    /// No execution.
    pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// No access times.
    pub const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// All access times.
    pub const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// No access times of directories.
    pub const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    /// Symlinks are not followed.
    pub const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
    /// The bits that choose how access times are kept; clear them before setting one.
    pub const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
}

/// Changes a mount: attributes to set and to clear, and its propagation (`MS_PRIVATE`, …; 0: as it is).
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// New propagation.
    pub propagation: u64,
    /// Also for every mount below.
    pub recursive: bool,
}

/// How mount and umount events spread between a mount and its copies.
pub mod propagation {
    /// Both ways (`MS_SHARED`).
    pub const SHARED: u64 = libc::MS_SHARED;
    /// Towards the mount only.
    pub const SLAVE: u64 = libc::MS_SLAVE;
    /// Not at all.
    pub const PRIVATE: u64 = libc::MS_PRIVATE;
    /// Not at all, and it cannot be bound elsewhere.
    pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
}

/// `mount_setattr(2)` (5.12) on the mount that `mount` is the root of.
pub fn change(mount: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    // SAFETY: an all-zero mount_attr is valid and means "no change".
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = change.set;
    attr.attr_clr = change.clear;
    attr.propagation = change.propagation;
    set_attributes(mount, attr, change.recursive)
}

/// Shows the ids of a mount's files as the user namespace `mapping` maps them (`MOUNT_ATTR_IDMAP`, 5.12): id *n* of
/// the file system becomes what *n* inside of that namespace is outside. The mount is attached nowhere yet.
///
/// # Errors
/// `EINVAL` where the file system does not support it, `EPERM` where the mount has a mapping already or the caller
/// does not govern the file system.
pub fn map_ids(mount: BorrowedFd<'_>, mapping: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    // SAFETY: an all-zero mount_attr is valid and means "no change".
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = libc::MOUNT_ATTR_IDMAP;
    attr.userns_fd = mapping.as_raw_fd() as u64;
    set_attributes(mount, attr, recursive)
}

fn set_attributes(mount: BorrowedFd<'_>, attr: libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid C string, the structure is passed with its own size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The old `mount(2)`, with its options as one string: for kernels whose overlayfs does not know `lowerdir+`.
pub fn mount_old(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> io::Result<()> {
    // SAFETY: five valid C strings; the kernel copies the options.
    let result =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
