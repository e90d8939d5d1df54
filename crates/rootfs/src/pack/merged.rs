//! The root file system of a container as a directory to be walked: mounted nowhere, so that nobody sees it, and
//! without whatever is mounted into it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use base::failure::kind_of_io;
use base::fs::At;
use base::{Failure, Kind};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, open_tree,
};

/// `MS_RDONLY`.
const READ_ONLY: u64 = 1;
/// `CLONE_FS`: a thread's own root and working directory.
const CLONE_FS: u32 = 0x200;

/// Why there is no such directory.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// The layers cannot be put together.
    #[error("cannot stack the {layers} layers of the container")]
    Overlay {
        /// How many.
        layers: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mounts of a process cannot be entered.
    #[error("cannot enter the mount namespace of process {pid}")]
    Enter {
        /// Which process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Failure for MergeError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::Overlay { source, .. } | Self::Enter { source, .. } => kind_of_io(source),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Overlay { .. } => vec!["start the container: one that runs is read as it is".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// These directories as overlay shows them, the topmost first: read-only.
pub fn merged(layers: &[PathBuf]) -> Result<OwnedFd, MergeError> {
    if let [only] = layers {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return Ok(rustix::fs::openat(CWD, only, flags, Mode::empty()).at("open", only)?);
    }
    overlay(layers).map_err(|source| MergeError::Overlay { layers: layers.len(), source })
}

fn overlay(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set =
        layers.iter().try_for_each(|layer| fsconfig_set_string(&context, c"lowerdir+", layer.as_path()));
    match set.and_then(|()| fsconfig_create(&context)) {
        // `lowerdir+` is not known: before Linux 6.7 at once, before 6.5 only when all is read together.
        Err(Errno::INVAL) => return old_overlay(layers),
        other => other?,
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOATIME;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The same with the old system call, whose options are one page of text: so the layers are called by the numbers of their
/// descriptors. It needs a place to mount to, which is somewhere that nobody else sees.
fn old_overlay(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let list = layers.to_vec();
    in_a_thread(move || {
        sys::process::unshare(sys::process::namespaces::MOUNT as u32)?;
        let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(c"/", apart)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |layer: &PathBuf| rustix::fs::openat(CWD, layer, flags, Mode::empty());
        let open: Vec<OwnedFd> = list.iter().map(open).collect::<Result<_, _>>()?;
        let numbers: Vec<String> = open.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
        let options = CString::new(format!("lowerdir={}", numbers.join(":")))?;
        if options.as_bytes_with_nul().len() > 4096 {
            return Err(Errno::TOOBIG.into());
        }
        // Any directory is good to be covered. The topmost is looked at by its number, as all are.
        let place = CString::new(list.first().map_or(&b"/"[..], |first| first.as_os_str().as_bytes()))?;
        rustix::process::chdir(c"/proc/thread-self/fd")?;
        sys::mount::mount_old(c"overlay", &place, c"overlay", READ_ONLY, &options)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, &*place, flags)?)
    })
}

/// The root file system that a process has: a copy of that mount alone, so that what is mounted below it is not in the
/// way.
pub fn running(pid: u32) -> Result<OwnedFd, MergeError> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = File::open(&path).at("open", Path::new(&path))?;
    in_a_thread(move || {
        sys::process::unshare(CLONE_FS)?;
        sys::namespace::join(namespace.as_fd())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, c"/", flags)?)
    })
    .map_err(|source| MergeError::Enter { pid, source })
}

/// What goes to another mount namespace is a thread of its own, and ends there.
fn in_a_thread(open: impl FnOnce() -> io::Result<OwnedFd> + Send + 'static) -> io::Result<OwnedFd> {
    let thread = std::thread::Builder::new().name("root".to_owned()).spawn(open);
    thread.and_then(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread died"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_stacked_by_the_old_call_too() {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = (0..80)
            .map(|n| {
                let layer = dir.path().join(format!("a layer, with a name: {n}"));
                std::fs::create_dir(&layer).unwrap();
                std::fs::write(layer.join(n.to_string()), "").unwrap();
                std::fs::write(layer.join("who"), n.to_string()).unwrap();
                layer
            })
            .collect();
        for stack in [overlay, old_overlay] {
            let root = stack(&layers).unwrap();
            let who = rustix::fs::openat(&root, "who", OFlags::RDONLY, Mode::empty()).unwrap();
            assert_eq!(io::read_to_string(File::from(who)).unwrap(), "0");
            for n in 0..80 {
                rustix::fs::statat(&root, n.to_string(), rustix::fs::AtFlags::empty()).unwrap();
            }
            let written = rustix::fs::openat(&root, "x", OFlags::WRONLY | OFlags::CREATE, Mode::RUSR);
            assert_eq!(written.unwrap_err(), Errno::ROFS);
        }
    }
}
