//! Extended attributes that belong to a file's content: capabilities, access lists, `user.*`. What else a host's file has
//! (`security.selinux`, `trusted.*`) is that host's policy, and stays there.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::listing::os;

/// Names and values, ordered by name.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Those of an open file.
pub(super) fn read(file: BorrowedFd<'_>) -> std::io::Result<Attributes> {
    rootfs::copy::attributes(file)
}

/// Gives them to a file. Not every file system keeps them: then they are left out.
pub(super) fn write(file: BorrowedFd<'_>, attributes: &Attributes) -> rustix::io::Result<()> {
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(file, os(name), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
