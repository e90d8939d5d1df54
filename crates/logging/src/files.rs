//! The files of a log: how they are called, told apart and rotated. Both formats do it the same way.
//!
//! A reader opens files from the newest to the oldest and tells them apart by inode: a rotation in the middle of that
//! only shows a file a second time, and the second sight is dropped.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the search for older files ends, whatever the directory holds.
pub(crate) const MAX_FILES: u32 = 10_000;

/// A file that is read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: File,
    inode: (u64, u64),
}

/// The name of the `n`th older file; 0 is the current one.
pub(crate) fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// The log's files that are newer than `known` (all, without it), oldest first.
pub(crate) fn newer_than(path: &Path, known: Option<&Source>) -> io::Result<VecDeque<Source>> {
    let mut found = VecDeque::<Source>::new();
    let mut missing = None;
    for n in 0..MAX_FILES {
        let file = match File::open(rotated(path, n)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // In the middle of a rotation one of them is missing for a moment. Two are the end.
                if n > 0 && missing == Some(n - 1) {
                    break;
                }
                missing = Some(n);
                continue;
            }
            other => other?,
        };
        let metadata = file.metadata()?;
        let inode = (metadata.dev(), metadata.ino());
        if known.is_some_and(|k| k.inode == inode) {
            break;
        }
        if found.iter().all(|f| f.inode != inode) {
            found.push_front(Source { file, inode });
        }
    }
    Ok(found)
}

/// The current file becomes `.1`, `.1` becomes `.2` and so on; the oldest goes. With a single file it is removed
/// rather than emptied, so that a follower can still read it to its end.
pub(crate) fn rotate(path: &Path, max_files: u32) -> io::Result<()> {
    let last = max_files.max(1) - 1;
    for n in (0..last).rev() {
        match fs::rename(rotated(path, n), rotated(path, n + 1)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    if last == 0 {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether somebody has removed the file that is open here: `clear` does, and so may anybody.
pub(crate) fn is_removed(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() == 0)
}
