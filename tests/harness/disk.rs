//! Small file systems, to be filled to the last byte or the last inode.

use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::instance::{Dhow, real_directory};
use crate::invocation::Invocation;
use crate::wait::eventually;

/// A file system of its own, mounted until dropped. It outlives the instances on it: declare it before them.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    _home: TempDir,
}

impl Disk {
    /// An ext4 on a loop device, with so many inodes, or as many as it likes.
    pub fn ext4(mebibytes: u64, inodes: Option<u32>) -> Self {
        let disk = Self::new();
        let image = disk.place.with_file_name("image");
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let inodes = inodes.map(|n| n.to_string());
        let mut make = Invocation::new("mkfs.ext4").args(&["-q", "-F", "-m", "0"]);
        if let Some(inodes) = &inodes {
            make = make.args(&["-N", inodes]);
        }
        make.arg(&image).ok();
        Invocation::new("mount").args(&["-o", "loop"]).arg(&image).arg(&disk.place).ok();
        disk
    }

    /// One in memory.
    pub fn tmpfs(mebibytes: u64, inodes: u32) -> Self {
        let disk = Self::new();
        let options = format!("size={mebibytes}m,nr_inodes={inodes}");
        Invocation::new("mount").args(&["-t", "tmpfs", "-o", &options, "none"]).arg(&disk.place).ok();
        disk
    }

    fn new() -> Self {
        let home = real_directory("disk");
        let place = home.path().join("disk");
        std::fs::create_dir(&place).unwrap();
        Self { place, _home: home }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Has these directories of an instance (`root`, `run`) lie on it. They must hold nothing yet.
    pub fn take(&self, dhow: &Dhow, directories: &[&str]) {
        for name in directories {
            let (old, new) = (dhow.scratch().join(name), self.place.join(name));
            std::fs::remove_dir_all(&old).ok();
            std::fs::create_dir(&new).unwrap();
            std::os::unix::fs::symlink(new, old).unwrap();
        }
    }

    /// Takes every byte that is left.
    pub fn fill_bytes(&self) {
        for (round, size) in [256 << 10, 4096, 1, 1].into_iter().enumerate() {
            let chunk = vec![b'x'; size];
            // What is buffered finds its place first; then there may be a little more.
            rustix::fs::sync();
            for file in 0.. {
                let path = self.filler().join(format!("{round}.{file}"));
                let Ok(mut file) = std::fs::File::create(&path) else { break };
                let mut written = 0;
                while file.write_all(&chunk).is_ok() {
                    written += 1;
                    // Of small ones, each in a block of its own.
                    if size == 1 {
                        break;
                    }
                }
                if written == 0 {
                    break;
                }
            }
        }
    }

    /// Takes every inode that is left.
    pub fn fill_inodes(&self) {
        let filler = self.filler();
        let mut next = std::fs::read_dir(&filler).unwrap().count();
        while std::fs::File::create(filler.join(next.to_string())).is_ok() {
            next += 1;
        }
    }

    /// Gives back what was taken.
    pub fn empty(&self) {
        std::fs::remove_dir_all(self.place.join("filler")).ok();
        rustix::fs::sync();
    }

    fn filler(&self) -> PathBuf {
        let path = self.place.join("filler");
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let place = self.place.clone();
        eventually("the disk to be free", || {
            (Invocation::new("umount").arg(&place).output().code == 0).then_some(())
        });
    }
}
