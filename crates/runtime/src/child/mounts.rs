//! The mounts: the root, what the specification lists, devices, masks.
//!
//! Everything goes by descriptor: a destination is resolved inside the new root (`openat2`,
//! `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`), and the mount is moved onto what was found; no path is looked up
//! twice, so that nothing can be swapped in between (CVE-2021-30465, CVE-2025-31133).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use base::Root;
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use sys::mount::{Change, attributes, change};

use super::{During, Outcome, devices, errno, make_private};
use crate::handshake::{Failed, Step};
use crate::plan::{LaunchPlan, MountPlan, MountSource, RootPlan, RootSourcePlan};

/// The built root, and the mounts in it that later steps need.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    pub(super) proc: Option<OwnedFd>,
    pub(super) devpts: Option<OwnedFd>,
    pub(super) dev: Option<OwnedFd>,
    /// Where the view of cgroups belongs.
    pub(super) cgroup_target: Option<OwnedFd>,
}

/// What the process still needs of the tree.
pub(crate) struct Handles<'a> {
    pub(crate) proc: Option<&'a OwnedFd>,
    pub(crate) devpts: Option<&'a OwnedFd>,
    pub(crate) dev: Option<&'a OwnedFd>,
}

impl Tree {
    pub(super) fn handles(&self) -> Handles<'_> {
        Handles { proc: self.proc.as_ref(), devpts: self.devpts.as_ref(), dev: self.dev.as_ref() }
    }
}

const PROC_MAGIC: i64 = 0x9fa0;

/// Builds the tree, all but what depends on the cgroup.
pub(super) fn build(plan: &LaunchPlan) -> Outcome<Tree> {
    make_private()?;
    let root_fd = mount_root(&plan.root)?;
    let root = Root::from_fd(rustix::io::fcntl_dupfd_cloexec(&root_fd, 3).during(Step::Root)?);
    let mut tree = Tree { root: root_fd, proc: None, devpts: None, dev: None, cgroup_target: None };
    for (n, mount) in plan.mounts.iter().enumerate() {
        let target = target_of(&root, mount, n)?;
        match &mount.source {
            MountSource::Cgroup => tree.cgroup_target = Some(target),
            MountSource::Bind { tree: bound, .. } => {
                change(bound.as_fd(), mount.change).map_err(errno).during_nth(Step::Mount, n)?;
                attach(bound, &target).during_nth(Step::Mount, n)?;
            }
            MountSource::Filesystem { kind, parameters } => {
                let made = filesystem(kind, parameters, mount.change.set).during_nth(Step::Mount, n)?;
                if mount.is_dev() {
                    // Filled before it is attached: no path of the image takes part (CVE-2026-41579).
                    devices::fill(&made, plan.process.terminal)?;
                }
                attach(&made, &target).during_nth(Step::Mount, n)?;
                if mount.is_dev() {
                    tree.dev = Some(made);
                } else if mount.is_kind("proc") {
                    tree.proc = Some(made);
                } else if mount.is_kind("devpts") {
                    tree.devpts = Some(made);
                }
            }
        }
    }
    mask(plan, &root, &tree)?;
    // While /proc/sys can still be written: the mount that makes it read-only would be in the way.
    for (n, (path, value)) in plan.sysctls.iter().enumerate() {
        super::write_proc(tree.proc.as_ref(), path, value, Step::Sysctl, n)?;
    }
    make_readonly(plan, &root)?;
    Ok(tree)
}

fn mount_root(plan: &RootPlan) -> Outcome<OwnedFd> {
    let attached = |made: OwnedFd| -> Result<OwnedFd, Errno> {
        move_mount(&made, c"", CWD, plan.mountpoint.as_c_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(made)
    };
    match &plan.source {
        RootSourcePlan::Overlay { lowers, upper, work, volatile } => (|| {
            let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            for lower in lowers {
                fsconfig_set_string(&context, c"lowerdir+", lower.as_c_str())?;
            }
            fsconfig_set_string(&context, c"upperdir", upper.as_c_str())?;
            fsconfig_set_string(&context, c"workdir", work.as_c_str())?;
            if *volatile {
                fsconfig_set_flag(&context, c"volatile")?;
            }
            fsconfig_create(&context)?;
            attached(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
        })()
        .during(Step::Root),
        RootSourcePlan::OldOverlay { options, directories } => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            for (path, place) in directories {
                let directory = openat(CWD, path.as_c_str(), flags, Mode::empty()).during(Step::Root)?;
                sys::process::duplicate_to(directory.as_fd(), place.as_raw_fd())
                    .map_err(errno)
                    .during(Step::Root)?;
            }
            rustix::process::chdir(c"/proc/self/fd").during(Step::Root)?;
            sys::mount::mount_old(c"overlay", &plan.mountpoint, c"overlay", 0, options)
                .map_err(errno)
                .during(Step::Root)?;
            rustix::process::chdir(c"/").during(Step::Root)?;
            openat(CWD, plan.mountpoint.as_c_str(), flags, Mode::empty()).during(Step::Root)
        }
        RootSourcePlan::Directory(tree) => {
            let copy = rustix::io::fcntl_dupfd_cloexec(tree, 3).during(Step::Root)?;
            attached(copy).during(Step::Root)
        }
    }
}

/// Resolves the destination of a mount, made if it is missing: a directory, or a file for a file.
fn target_of(root: &Root, mount: &MountPlan, n: usize) -> Outcome<OwnedFd> {
    let file = matches!(mount.source, MountSource::Bind { directory: false, .. });
    let found =
        if file { root.create_file(&mount.destination) } else { root.create_dir_all(&mount.destination) };
    let target = found.map_err(errno).during_nth(Step::MountTarget, n)?;
    // Over our /proc nothing is mounted: what is written there later must reach the kernel, not a volume
    // (CVE-2019-19921, CVE-2023-27561).
    if !mount.is_kind("proc")
        && fstatfs(&target).during_nth(Step::MountTarget, n)?.f_type as i64 == PROC_MAGIC
    {
        return Err(Failed::new(Step::MountOverProc, n, Errno::PERM));
    }
    Ok(target)
}

/// A new file system, attached nowhere yet.
fn filesystem(
    kind: &CStr,
    parameters: &[(CString, Option<CString>)],
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
}

fn attach(mount: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// Hides paths: a file under our own `/dev/null`, a directory under an empty read-only tmpfs. What we put there
/// is made by us, so that there is nothing to verify afterwards.
fn mask(plan: &LaunchPlan, root: &Root, tree: &Tree) -> Outcome<()> {
    let mut empty: Option<OwnedFd> = None;
    for (n, path) in plan.masked.iter().enumerate() {
        let Some(target) = existing(root, path, Step::Mask, n)? else { continue };
        let stat = rustix::fs::fstat(&target).during_nth(Step::Mask, n)?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
            let dev = tree.dev.as_ref().ok_or(Failed::new(Step::Mask, n, Errno::NODEV))?;
            let null = open_tree(dev, c"null", clone).during_nth(Step::Mask, n)?;
            attach(&null, &target).during_nth(Step::Mask, n)?;
            continue;
        }
        // One file system serves all directories; a clone of it is cheaper than another.
        if let Some(first) = &empty {
            let copy =
                open_tree(first, c"", clone | OpenTreeFlags::AT_EMPTY_PATH).during_nth(Step::Mask, n)?;
            attach(&copy, &target).during_nth(Step::Mask, n)?;
        } else {
            let made = empty_directory().during_nth(Step::Mask, n)?;
            attach(&made, &target).during_nth(Step::Mask, n)?;
            empty = Some(made);
        }
    }
    Ok(())
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
fn make_readonly(plan: &LaunchPlan, root: &Root) -> Outcome<()> {
    for (n, path) in plan.readonly.iter().enumerate() {
        let Some(target) = existing(root, path, Step::ReadOnly, n)? else { continue };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
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
        Err(e) if matches!(errno_of(&e), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
        Err(e) => Err(Failed::new(step, n, errno(e))),
    }
}

fn errno_of(error: &std::io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// The container's view of its cgroups, read-only unless the specification says otherwise: one `cgroup2` on v2; on
/// v1 a tmpfs with a directory per controller, as container programs (the JVM, say) expect it.
pub(super) fn mount_cgroups(plan: &LaunchPlan, tree: &Tree) -> Outcome<()> {
    let Some(target) = &tree.cgroup_target else { return Ok(()) };
    let index = plan.mounts.iter().position(|m| matches!(m.source, MountSource::Cgroup)).unwrap_or(0);
    let attributes = plan.mounts.get(index).map_or(0, |m| m.change.set);
    if plan.v2 || plan.group.is_none() {
        return match filesystem(c"cgroup2", &[], attributes) {
            Ok(made) => attach(&made, target).during_nth(Step::CgroupMount, index),
            // Without cgroup2 there is no view; the container runs all the same.
            Err(Errno::NODEV) => Ok(()),
            Err(e) => Err(Failed::new(Step::CgroupMount, index, e)),
        };
    }
    let made = {
        let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during_nth(Step::CgroupMount, index)?;
        fsconfig_set_string(&context, c"mode", c"755").during_nth(Step::CgroupMount, index)?;
        fsconfig_create(&context).during_nth(Step::CgroupMount, index)?;
        let flags = MountAttrFlags::from_bits_retain((attributes & !self::attributes::RDONLY) as u32);
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).during_nth(Step::CgroupMount, index)?
    };
    attach(&made, target).during_nth(Step::CgroupMount, index)?;
    for controller in V1_CONTROLLERS {
        let context = fsopen(c"cgroup", FsOpenFlags::FSOPEN_CLOEXEC).during_nth(Step::CgroupMount, index)?;
        // A controller that is not mounted on the host, or together with others, is left out.
        if fsconfig_set_flag(&context, controller).is_err() || fsconfig_create(&context).is_err() {
            continue;
        }
        let flags = MountAttrFlags::from_bits_retain(attributes as u32);
        let mount =
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).during_nth(Step::CgroupMount, index)?;
        rustix::fs::mkdirat(&made, controller, Mode::from_raw_mode(0o755))
            .during_nth(Step::CgroupMount, index)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, c"", &made, controller, flags).during_nth(Step::CgroupMount, index)?;
    }
    if attributes & self::attributes::RDONLY != 0 {
        let readonly = Change { set: self::attributes::RDONLY, ..Change::default() };
        change(made.as_fd(), readonly).map_err(errno).during_nth(Step::CgroupMount, index)?;
    }
    Ok(())
}

/// The controllers whose limits programs read.
const V1_CONTROLLERS: [&CStr; 4] = [c"memory", c"cpu", c"cpuacct", c"pids"];

/// What is left to do after the pivot: the working directory may have to be made, so that only now the root can
/// become read-only.
pub(super) fn finish(plan: &LaunchPlan, tree: &Tree) -> Outcome<()> {
    let root = Root::from_fd(rustix::io::fcntl_dupfd_cloexec(&tree.root, 3).during(Step::WorkingDir)?);
    if root.resolve(&plan.process.working_dir).is_err() {
        root.create_dir_all(&plan.process.working_dir).map_err(errno).during(Step::WorkingDir)?;
    }
    if plan.root.readonly {
        let readonly = Change { set: attributes::RDONLY, ..Change::default() };
        change(tree.root.as_fd(), readonly).map_err(errno).during(Step::Root)?;
    }
    Ok(())
}
