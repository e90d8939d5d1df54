//! Masked and read-only paths.
//!
//! What is put over a path is made by us or taken from the host and looked at, never found in the image: an image's
//! `/dev/null` may be anything (CVE-2025-31133). The paths are resolved inside the root, and nothing of the container
//! runs yet that could move them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use base::Root;
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, open_tree,
};
use sys::mount::{Change, attributes, change};

use super::mounts::{Tree, attach};
use super::{During, Outcome, devices, errno};
use crate::handshake::{Failed, Step};
use crate::plan::{Dev, LaunchPlan};

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// Hides paths: a file under a null device, a directory under an empty read-only tmpfs.
pub(super) fn mask(plan: &LaunchPlan, root: &Root, tree: &Tree) -> Outcome<()> {
    let (mut empty, mut null): (Option<OwnedFd>, Option<OwnedFd>) = (None, None);
    for (n, path) in plan.masked.iter().enumerate() {
        let Some(target) = existing(root, path, Step::Mask, n)? else { continue };
        let stat = fstat(&target).during_nth(Step::Mask, n)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // One mount serves all; a clone of it is cheaper than another.
        let first = if directory { &mut empty } else { &mut null };
        if let Some(first) = first {
            let copy =
                open_tree(&*first, c"", CLONE | OpenTreeFlags::AT_EMPTY_PATH).during_nth(Step::Mask, n)?;
            attach(&copy, &target).during_nth(Step::Mask, n)?;
            continue;
        }
        let made = if directory { empty_directory() } else { null_device(plan, tree) };
        let made = made.during_nth(Step::Mask, n)?;
        attach(&made, &target).during_nth(Step::Mask, n)?;
        *first = Some(made);
    }
    Ok(())
}

/// The null device that we made, or else the host's.
fn null_device(plan: &LaunchPlan, tree: &Tree) -> Result<OwnedFd, Errno> {
    if let (Dev::Ours, 0, Some(dev)) = (plan.devices.dev, plan.devices.replaced & 1, &tree.dev) {
        return open_tree(dev, c"null", CLONE);
    }
    devices::hosts(c"/dev/null", FileType::CharacterDevice, rustix::fs::makedev(1, 3))
}

/// A file system that holds nothing and takes nothing.
fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [(c"size", c"0k"), (c"nr_inodes", c"1"), (c"mode", c"755")] {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_create(&context)?;
    let all = attributes::RDONLY | attributes::NOSUID | attributes::NODEV | attributes::NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(all as u32))
}

/// Makes paths read-only by mounting them over themselves.
pub(super) fn make_readonly(plan: &LaunchPlan, root: &Root) -> Outcome<()> {
    for (n, path) in plan.readonly.iter().enumerate() {
        let Some(target) = existing(root, path, Step::ReadOnly, n)? else { continue };
        let flags = CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_EMPTY_PATH;
        let copy = open_tree(&target, c"", flags).during_nth(Step::ReadOnly, n)?;
        let readonly = Change { set: attributes::RDONLY, recursive: true, ..Change::default() };
        change(copy.as_fd(), readonly).map_err(errno).during_nth(Step::ReadOnly, n)?;
        attach(&copy, &target).during_nth(Step::ReadOnly, n)?;
    }
    Ok(())
}

/// A masked or read-only path that does not exist (not every kernel has them all) needs nothing.
fn existing(root: &Root, path: &Path, step: Step, n: usize) -> Outcome<Option<OwnedFd>> {
    match root.resolve(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
        Err(e) => Err(Failed::new(step, n, errno(e))),
    }
}
