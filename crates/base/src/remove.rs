//! Removal of trees that somebody hostile may have made.
//!
//! A container can make directories nested as deep as it has inodes. Recursion with a descriptor per level,
//! as `std::fs::remove_dir_all` does it, then ends in `EMFILE` or in a stack overflow. Here what lies deeper
//! than `DEEPEST` is moved up to the top of the tree and removed from there: the depth costs time, but
//! neither descriptors nor stack.
//!
//! Nothing outside the tree is touched: every step is relative to the descriptor of a directory, no symlink
//! is followed, and a mount point inside the tree is an error rather than a way out.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// How many levels are walked down before directories are moved up. Real trees are rarely deeper, so the
/// moving costs them nothing; a descriptor is held per level, and the usual limit is 1024.
const DEEPEST: u32 = 48;

/// Removes the directory at `path`, a trusted path, with all that is in it. Others may be doing the same.
pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    remove_dir_all_at(CWD, path.as_os_str())
}

/// Removes the directory `name` in `dir` with all that is in it. Others may be doing the same.
pub fn remove_dir_all_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    loop {
        empty(top.as_fd(), top.as_fd(), 0)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Directories were moved up here after we had read past them, or somebody else does it too.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Removes all that is in `dir`, which lies `depth` levels below `top`.
fn empty(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // Some file systems do not tell the type; a directory then shows by EISDIR.
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if depth == DEEPEST {
            hoist(top, dir, name)?;
        } else {
            remove_child(top, dir, name, depth)?;
        }
    }
    Ok(())
}

fn remove_child(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &CStr, depth: u32) -> io::Result<()> {
    loop {
        // Most directories on the way are not empty: looking first would cost more than it saves.
        let child = match open_child(dir, name) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        empty(top, child.as_fd(), depth + 1)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Reading a directory while it shrinks may skip entries on some file systems.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn open_child(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Moves a directory to the top of the tree, under a name that nothing there has.
fn hoist(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let free = format!(".deep-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match rustix::fs::renameat_with(dir, name, top, &*free, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dhow-remove-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let outside = scratch("outside");
        std::fs::write(outside.join("kept"), "kept").unwrap();
        let tree = scratch("links");
        std::fs::create_dir(tree.join("a")).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        remove_dir_all(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        std::fs::remove_dir_all(outside).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_descriptors_and_paths_allow_goes() {
        let tree = scratch("deep");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::openat(CWD, &tree, flags, Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::mkdirat(&at, "e", Mode::from_raw_mode(0)).unwrap();
            at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        remove_dir_all(&tree).unwrap();
        assert!(!tree.exists());
    }
}
