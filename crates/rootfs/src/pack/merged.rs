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
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, open_tree,
};

use crate::Overlay;

/// `MS_RDONLY`.
const READ_ONLY: u64 = 1;
/// `CLONE_FS`: a thread's own root and working directory.
pub(crate) const CLONE_FS: u32 = 0x200;

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
            Self::File(e) => e.hints(),
            Self::Overlay { source, .. } if kind_of_io(source) == Kind::Exhausted => {
                vec![base::space::NEXT.to_owned()]
            }
            Self::Overlay { .. } => vec!["start the container: one that runs is read as it is".to_owned()],
            Self::Enter { .. } => Vec::new(),
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
    match new_overlay(layers, None) {
        Err(Errno::INVAL) => old_overlay(layers),
        other => Ok(other?),
    }
}

/// Layers as [`merged`] shows them, as a mount of its own that can be attached. For a thread that nobody else is in the mount
/// namespace of.
pub(crate) fn merged_here(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match layers {
        [] => Err(Errno::NOENT.into()),
        [only] => Ok(open_tree(CWD, &**only, copy)?),
        [first, ..] => match new_overlay(layers, None) {
            Err(Errno::INVAL) => mount_by_numbers(layers, None, first),
            other => Ok(other?),
        },
    }
}

/// The root of a container that can be written to. For a thread that nobody else is in the mount namespace of.
pub(crate) fn writable(overlay: &Overlay) -> io::Result<OwnedFd> {
    if overlay.lowers.is_empty() {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        return Ok(open_tree(CWD, &*overlay.upper, flags)?);
    }
    let top = Some(Top { upper: &overlay.upper, work: &overlay.work, volatile: false });
    match new_overlay(&overlay.lowers, top) {
        Err(Errno::INVAL) => mount_by_numbers(&overlay.lowers, top, &overlay.upper),
        other => Ok(other?),
    }
}

/// An overlay that can be written to, mounted nowhere. It is not synced when it goes: what is written is worth nothing before
/// somebody makes a layer of it.
pub fn written(overlay: &Overlay) -> Result<OwnedFd, MergeError> {
    if overlay.lowers.is_empty() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return Ok(rustix::fs::openat(CWD, &overlay.upper, flags, Mode::empty()).at("open", &overlay.upper)?);
    }
    let top = Some(Top { upper: &overlay.upper, work: &overlay.work, volatile: true });
    let mounted = match new_overlay(&overlay.lowers, top) {
        Err(Errno::INVAL) => {
            let overlay = overlay.clone();
            in_a_thread(move || {
                sys::process::unshare(sys::process::namespaces::MOUNT as u32)?;
                mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
                let top = Some(Top { upper: &overlay.upper, work: &overlay.work, volatile: true });
                mount_by_numbers(&overlay.lowers, top, &overlay.upper)
            })
        }
        other => other.map_err(io::Error::from),
    };
    mounted.map_err(|source| MergeError::Overlay { layers: overlay.lowers.len(), source })
}

/// Not synced; and with all that it shows, whatever the host's overlays do by themselves.
const WHOLE: &str = ",volatile,redirect_dir=off,metacopy=off";

/// Upper and work directory, where it is to be written to.
#[derive(Clone, Copy)]
struct Top<'a> {
    upper: &'a Path,
    work: &'a Path,
    volatile: bool,
}

/// # Errors
/// `EINVAL` where `lowerdir+` is not known: before Linux 6.7 at once, before 6.5 only when all is read together.
fn new_overlay(layers: &[PathBuf], top: Option<Top<'_>>) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(&context, c"lowerdir+", layer.as_path())?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOATIME;
    match top {
        Some(Top { upper, work, volatile }) => {
            fsconfig_set_string(&context, c"upperdir", upper)?;
            fsconfig_set_string(&context, c"workdir", work)?;
            if volatile {
                fsconfig_set_flag(&context, c"volatile")?;
                // What becomes a layer has all that it shows, whatever the host's overlays do by themselves.
                fsconfig_set_string(&context, c"redirect_dir", c"off")?;
                fsconfig_set_string(&context, c"metacopy", c"off")?;
            }
        }
        None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The same with the old system call. It needs a place to mount to, which is somewhere that nobody else sees.
fn old_overlay(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let layers = layers.to_vec();
    in_a_thread(move || {
        sys::process::unshare(sys::process::namespaces::MOUNT as u32)?;
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        // Any directory is good to be covered.
        let place = layers.first().map_or(Path::new("/"), PathBuf::as_path);
        mount_by_numbers(&layers, None, place)
    })
}

/// Its options are one page of text: so the directories are called by the numbers of their descriptors. The one that is
/// covered is looked at by its number, as all are.
fn mount_by_numbers(layers: &[PathBuf], top: Option<Top<'_>>, place: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |layer: &Path| rustix::fs::openat(CWD, layer, flags, Mode::empty());
    let open_layers: Vec<OwnedFd> = layers.iter().map(|layer| open(layer)).collect::<Result<_, _>>()?;
    let numbers: Vec<String> = open_layers.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
    let volatile = if top.is_some_and(|top| top.volatile) { WHOLE } else { "" };
    let top = top.map(|top| Ok::<_, Errno>((open(top.upper)?, open(top.work)?))).transpose()?;
    let numbered = |(upper, work): &(OwnedFd, OwnedFd)| {
        format!(",upperdir={},workdir={}{volatile}", upper.as_raw_fd(), work.as_raw_fd())
    };
    let options = format!("lowerdir={}{}", numbers.join(":"), top.as_ref().map(numbered).unwrap_or_default());
    let options = CString::new(options)?;
    if options.as_bytes_with_nul().len() > 4096 {
        return Err(Errno::TOOBIG.into());
    }
    let place = CString::new(place.as_os_str().as_bytes())?;
    rustix::process::chdir(c"/proc/thread-self/fd")?;
    let flags = if top.is_some() { 0 } else { READ_ONLY };
    sys::mount::mount_old(c"overlay", &place, c"overlay", flags, &options)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, &*place, flags)?)
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
pub(crate) fn in_a_thread<T: Send + 'static>(
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("root".to_owned()).spawn(open);
    let thread = thread.map_err(|error| base::processes::no_thread(&error));
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

    #[test]
    fn an_overlay_of_the_old_call_can_be_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["lower", "upper", "work"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("lower/below"), "").unwrap();
        let (lower, upper, work) = (path("lower"), path("upper"), path("work"));
        in_a_thread(move || {
            sys::process::unshare(sys::process::namespaces::MOUNT as u32)?;
            mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            let root = mount_by_numbers(
                &[lower],
                Some(Top { upper: &upper, work: &work, volatile: false }),
                &upper,
            )?;
            rustix::fs::statat(&root, "below", rustix::fs::AtFlags::empty())?;
            rustix::fs::openat(&root, "new", OFlags::WRONLY | OFlags::CREATE, Mode::RUSR)?;
            Ok(())
        })
        .unwrap();
        assert!(path("upper/new").exists());
    }
}
