//! How much disk a tree takes. A layer never changes: what was found out once lies in `cache/layer-sizes/`.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::Digest;
use base::fs::{self, Durability};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use state::Instance;

use crate::Engine;

const DIR: &str = "layer-sizes";

impl Engine {
    /// Bytes on disk of an unpacked layer; 0 if there is none.
    pub(crate) fn layer_size(&self, diff_id: &Digest) -> u64 {
        let path = place(&self.instance, diff_id);
        if let Ok(Some(text)) = fs::read_if_exists(&path)
            && let Some(size) = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())
        {
            return size;
        }
        let tree = self.layer_store().path(diff_id);
        if !tree.is_dir() {
            return 0;
        }
        let size = disk_usage(&tree);
        // Only a cache: where it cannot be written, it is found out again.
        fs::create_dir_all(&self.instance.cache().join(DIR), 0o700).ok();
        fs::write_atomic(&path, size.to_string().as_bytes(), Durability::Volatile).ok();
        size
    }
}

/// Forgets the size of a layer that is removed or replaced.
pub(crate) fn forget(instance: &Instance, diff_id: &Digest) {
    fs::remove_file(&place(instance, diff_id)).ok();
}

fn place(instance: &Instance, diff_id: &Digest) -> PathBuf {
    instance.cache().join(DIR).join(diff_id.hex())
}

/// Bytes on disk of a tree, each file counted once whatever its names. What goes away meanwhile, or lies deeper than
/// a path can say, is not counted. Follows no symlink and crosses no mount.
pub(crate) fn disk_usage(tree: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::openat(CWD, tree, flags, Mode::empty()) else { return 0 };
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut seen = HashSet::new();
    let mut sum = rustix::fs::fstat(&root).map_or(0, |stat| blocks(&stat));
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let Ok(dir) = rustix::fs::openat2(&root, &path, flags, Mode::empty(), inside) else { continue };
        sum += directory(&dir, &path, &mut pending, &mut seen);
    }
    sum
}

fn directory(dir: &OwnedFd, path: &Path, pending: &mut Vec<PathBuf>, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let mut sum = 0;
    let Ok(entries) = Dir::read_from(dir) else { return 0 };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            use std::os::unix::ffi::OsStrExt;
            pending.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
        } else if stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        sum += blocks(&stat);
    }
    sum
}

/// `st_blocks` counts in 512 bytes, whatever the file system's blocks (stat(2)).
fn blocks(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_usage(dir.path());
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), vec![1; 100_000]).unwrap();
        let one = disk_usage(dir.path());
        assert!(one >= empty + 100_000, "{empty} {one}");
        std::fs::hard_link(dir.path().join("sub/file"), dir.path().join("again")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        assert!(disk_usage(dir.path()) < one + 50_000);
        assert_eq!(disk_usage(&dir.path().join("none")), 0);
    }
}
