//! Where the file system puts layers.
//!
//! ext4 puts a directory near the one above it, and so all layers into the same part of the disk. Of inodes that were
//! deleted in the last minutes it takes none (`recently_deleted` in fs/ext4/ialloc.c), but looks at each of them again
//! for every new one: unpacking an image of 42,000 files shortly after one was removed took 24 s, and takes 2 s where the
//! directory of the layers is a "top directory" (`T` in chattr(1)), whose subdirectories are spread over the disk.

use std::path::Path;

use rustix::fs::{CWD, IFlags, Mode, OFlags};

/// Lets what is made in the directory be spread. Where the file system knows nothing of that, nothing happens.
pub(crate) fn spread(layers: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::openat(CWD, layers, flags, Mode::empty()) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&dir)
        && !flags.contains(IFlags::TOPDIR)
    {
        // A hint: without it all is as well, if slower.
        rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR).ok();
    }
}
