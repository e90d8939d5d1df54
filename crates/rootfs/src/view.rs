//! The files of a container as it sees them, with what is mounted into it: of one that runs by a descriptor of its root, of
//! one at rest put together for the occasion, in a mount namespace that nobody else is in.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::Root;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use sys::mount::{Change, attributes, change, propagation};
use sys::process::{namespaces, set_namespaces, unshare};

use crate::Overlay;
use crate::pack::MergeError;
use crate::pack::merged::{CLONE_FS, in_a_thread, merged_here, writable};

/// What a container has mounted somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A path of the host.
    Host {
        /// The path.
        path: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
    },
    /// What a path leads to in a directory of the host, and not out of it.
    Within(PathBuf, PathBuf),
    /// Layers, the topmost first.
    Layers(Vec<PathBuf>),
}

/// A directory or file that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// What it is.
    pub origin: Origin,
    /// In the container.
    pub destination: PathBuf,
    /// It cannot be written to.
    pub read_only: bool,
}

/// A root that was put together. It is there as long as this.
#[derive(Debug)]
pub struct Assembled {
    /// Its directory.
    pub root: OwnedFd,
    /// Without anybody who holds the namespace its mounts would fall apart.
    _namespace: OwnedFd,
}

/// The root of the mount namespace that a process is in: whatever that process calls its root. A descriptor that only
/// resolving paths within it is good for.
pub fn of_process(process: BorrowedFd<'_>, pid: u32) -> Result<OwnedFd, MergeError> {
    let enter = || {
        let process = process.try_clone_to_owned()?;
        in_a_thread(move || {
            unshare(CLONE_FS)?;
            set_namespaces(process.as_fd(), namespaces::MOUNT as u32)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(CWD, c"/", flags, Mode::empty())?)
        })
    };
    enter().map_err(|source| MergeError::Enter { pid, source })
}

/// Puts the root of a container together that does not run, and that nobody else can start meanwhile: it can be written to.
/// Where a bind has no place to be, one is made, as a start would make it; and one whose source is missing is left out.
pub fn assemble(overlay: Overlay, binds: Vec<Bind>, read_only: bool) -> Result<Assembled, MergeError> {
    let layers = overlay.lowers.len() + 1;
    let build = move || {
        unshare(namespaces::MOUNT as u32)?;
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let mut trees = Vec::new();
        for bind in binds {
            match whole_tree(&bind) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => trees.push((bind, other?)),
            }
        }
        let root = writable(&overlay)?;
        // Any directory is good to be covered: only here somebody could see it.
        let nowhere = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&root, c"", CWD, &*overlay.upper, nowhere)?;
        let inside = Root::from_fd(root.try_clone()?);
        for (bind, tree) in trees {
            attach(&inside, &bind.destination, &tree)?;
        }
        if read_only {
            change(root.as_fd(), Change { set: attributes::RDONLY, ..Change::default() })?;
        }
        let namespace = File::open("/proc/thread-self/ns/mnt")?.into();
        Ok(Assembled { root, _namespace: namespace })
    };
    in_a_thread(build).map_err(|source| MergeError::Overlay { layers, source })
}

/// A copy of the mounts that a bind consists of.
fn whole_tree(bind: &Bind) -> io::Result<OwnedFd> {
    let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let (tree, recursive) = match &bind.origin {
        Origin::Host { path, recursive: false } => (open_tree(CWD, &**path, copy)?, false),
        Origin::Host { path, recursive: true } => {
            (open_tree(CWD, &**path, copy | OpenTreeFlags::AT_RECURSIVE)?, true)
        }
        Origin::Within(root, path) => {
            let place = Root::open(root)?.resolve(path)?;
            (open_tree(&place, c"", copy | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_EMPTY_PATH)?, true)
        }
        Origin::Layers(layers) => (merged_here(layers)?, false),
    };
    let set = if bind.read_only { attributes::RDONLY } else { 0 };
    let private = Change { set, propagation: propagation::PRIVATE, recursive, ..Change::default() };
    change(tree.as_fd(), private)?;
    Ok(tree)
}

fn attach(root: &Root, destination: &Path, tree: &OwnedFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(tree)?;
    let target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => root.create_dir_all(destination)?,
        _ => root.create_file(destination)?,
    };
    let handles = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", &target, c"", handles)?)
}
