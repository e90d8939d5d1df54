//! Copies as BuildKit makes them, upon trees in temporary directories. What only root can do is left out where we are not.

use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ::build::graph::{self, Change, Mode, StepId};
use ::build::ignore::Patterns;
use base::{Digest, Timestamp};
use rustix::fs::{CWD, FileType, Timespec, Timestamps};

use super::*;

mod attacks;
mod rules;
mod same;

/// A source and a target.
struct Trees {
    dir: tempfile::TempDir,
    from: PathBuf,
    to: PathBuf,
    ignore: Option<Patterns>,
    owners: Owners,
}

impl Trees {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for path in [&from, &to] {
            fs::create_dir(path).unwrap();
        }
        Self { dir, from, to, ignore: None, owners: Owners::Root }
    }

    /// With these files in the source: the name is the content, and one that ends with a slash is a directory.
    fn with(names: &[&str]) -> Self {
        let trees = Self::new();
        for name in names {
            trees.add(name);
        }
        trees
    }

    fn add(&self, name: &str) {
        let path = self.from.join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }

    fn ignoring(mut self, text: &str) -> Self {
        self.ignore = Some(Patterns::parse(text).unwrap());
        self
    }

    fn source<'a>(&'a self, root: &'a OwnedFd) -> Source<'a> {
        Source {
            root: root.as_fd(),
            ignore: self.ignore.as_ref(),
            remembered: None,
            owners: self.owners,
            devices: None,
        }
    }

    fn apply(&self, change: &Change) -> Result<()> {
        self.apply_with(change, None)
    }

    fn apply_with(&self, change: &Change, epoch: Option<Timestamp>) -> Result<()> {
        let (root, target) = (open(&self.from), open(&self.to));
        apply(std::slice::from_ref(change), &|_| Ok(self.source(&root)), target.as_fd(), epoch)
    }

    fn digest(&self, change: &Change) -> Result<Digest> {
        let root = open(&self.from);
        digest(change, &|_| Ok(self.source(&root)))
    }

    /// Copies, and lists what is in the target then.
    fn copied(&self, sources: &[&str], target: &str) -> Vec<String> {
        self.apply(&copy(sources, target)).unwrap();
        self.there()
    }

    fn there(&self) -> Vec<String> {
        names(&self.to)
    }

    fn stat(&self, name: &str) -> fs::Metadata {
        fs::symlink_metadata(self.to.join(name)).unwrap()
    }
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// All below, in order; directories end with a slash.
fn names(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![path.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(path).unwrap().to_str().unwrap().to_owned();
            if entry.file_type().unwrap().is_dir() {
                found.push(format!("{name}/"));
                todo.push(entry.path());
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn copy_of(sources: &[&str], target: &str) -> graph::Copy {
    graph::Copy {
        from: StepId(0),
        sources: sources.iter().map(|&source| source.to_owned()).collect(),
        target: target.to_owned(),
        owner: None,
        mode: None,
        exclude: Vec::new(),
        parents: false,
        unpack: false,
        required: false,
    }
}

fn copy(sources: &[&str], target: &str) -> Change {
    Change::Copy(copy_of(sources, target))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn make_fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o640), 0).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
