//! The mounts: the root, what the specification lists, devices.
//!
//! Everything goes by descriptor: a destination is resolved inside the new root (`openat2`,
//! `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`), and the mount is moved onto what was found; no path is looked up
//! twice, so that nothing can be swapped in between (CVE-2021-30465, CVE-2025-31133).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base::Root;
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatfs, fstatvfs, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount,
    open_tree,
};
use sys::mount::{Change, attributes, change};

use super::{During, Outcome, copy_up, devices, errno, make_private, masks};
use crate::handshake::{Failed, Step};
use crate::plan::{
    HostTree, LaunchPlan, MountNamespace, MountPlan, MountSource, Place, RootPlan, RootSourcePlan,
};

/// The built root, and the mounts in it that later steps need.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    /// The one on `/proc`; another only where there is none. It may show less (`subset=pid`).
    pub(super) proc: Option<OwnedFd>,
    /// The one on `/dev/pts`; another only where there is none. Each is an instance of its own.
    pub(super) devpts: Option<OwnedFd>,
    /// `/dev`, where it has a place for the console.
    pub(super) dev: Option<OwnedFd>,
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
pub(super) fn build(plan: &mut LaunchPlan) -> Outcome<Tree> {
    if plan.namespaces.mounts == MountNamespace::New {
        make_private()?;
    }
    let root_fd = mount_root(&mut plan.root, plan.namespaces.mounts)?;
    let root = Root::from_fd(rustix::io::fcntl_dupfd_cloexec(&root_fd, 3).during(Step::Root)?);
    let mut tree = Tree { root: root_fd, proc: None, devpts: None, dev: None };
    let terminal = plan.process.terminal;
    let mut parameters = 0;
    for (n, mount) in plan.mounts.iter_mut().enumerate() {
        let index = Index { mount: n, parameters };
        parameters += mount.parameters().len();
        make(&root, mount, index, &mut tree, plan.devices.replaced, terminal)?;
    }
    devices::make(&plan.devices, &root, &mut tree, terminal)?;
    masks::mask(plan, &root, &tree)?;
    // While /proc/sys can still be written: the mount that makes it read-only would be in the way.
    for (n, (path, value)) in plan.sysctls.iter().enumerate() {
        super::write_proc(tree.proc.as_ref(), path, value, Step::Sysctl, n)?;
    }
    masks::make_readonly(plan, &root)?;
    Ok(tree)
}

/// The numbers by which a mount and its options are reported.
#[derive(Clone, Copy)]
struct Index {
    mount: usize,
    /// How many options the mounts before have.
    parameters: usize,
}

/// Makes one mount.
fn make(
    root: &Root,
    mount: &mut MountPlan,
    index: Index,
    tree: &mut Tree,
    replaced: u8,
    terminal: bool,
) -> Outcome<()> {
    let n = index.mount;
    let target = target_of(root, mount, n)?;
    if let MountSource::Bind { tree, .. } = &mut mount.source {
        tree.settle().during_nth(Step::Mount, n)?;
    }
    match &mount.source {
        MountSource::Cgroup { .. } => mount.held = Some(target.directory),
        MountSource::Bind { tree: HostTree { fd: bound, .. }, .. } if mount.place == Place::Proc => {
            // It was seen to be a procfs: the host's, for a container in the host's PID namespace.
            attach(bound, &target.directory).during_nth(Step::Mount, n)?;
            tree.proc = Some(clone_mount(bound).during_nth(Step::Mount, n)?);
            apply(bound.as_fd(), &mount.changes, n)?;
        }
        MountSource::Bind { tree: HostTree { fd: bound, .. }, .. } => {
            apply(bound.as_fd(), &mount.changes, n)?;
            attach(bound, &target.directory).during_nth(Step::Mount, n)?;
        }
        MountSource::Remount { parameters } => {
            if !parameters.is_empty() {
                reconfigure(&target.directory, parameters, index)?;
            }
            if mount.readonly_later {
                mount.held = Some(target.directory);
            } else {
                apply(target.directory.as_fd(), &mount.changes, n)?;
            }
        }
        MountSource::Filesystem { .. } => {
            let made = new_filesystem(mount, &target, index)?;
            if mount.is_dev() {
                // Filled before it is attached: no path of the image takes part (CVE-2026-41579).
                let denied = devices::fill(&made, replaced, terminal)?;
                attach(&made, &target.directory).during_nth(Step::Mount, n)?;
                if denied {
                    devices::bind_defaults(&made, replaced)?;
                }
            } else {
                attach(&made, &target.directory).during_nth(Step::Mount, n)?;
            }
            if mount.readonly_later {
                mount.held = Some(rustix::io::fcntl_dupfd_cloexec(&made, 3).during_nth(Step::Mount, n)?);
            }
            if mount.is_dev() {
                tree.dev = Some(made);
            } else if mount.is_kind("proc") && (mount.place == Place::Proc || tree.proc.is_none()) {
                let readonly = mount.readonly_later;
                tree.proc =
                    Some(if readonly { clone_mount(&made).during_nth(Step::Mount, n)? } else { made });
            } else if mount.is_kind("devpts") && (mount.place == Place::Terminals || tree.devpts.is_none()) {
                tree.devpts = Some(made);
            }
        }
    }
    Ok(())
}

/// A new file system as the plan wants it, attached nowhere yet.
fn new_filesystem(mount: &MountPlan, target: &Target, index: Index) -> Outcome<OwnedFd> {
    let n = index.mount;
    let MountSource::Filesystem { kind, parameters, takes_mode, copy_up } = &mount.source else {
        return Err(Failed::new(Step::Mount, n, Errno::INVAL));
    };
    let mode = if *takes_mode && target.existed {
        Some(rustix::fs::fstat(&target.directory).during_nth(Step::Mount, n)?.st_mode & 0o7777)
    } else {
        None
    };
    let made = match filesystem(kind, parameters, mode, mount.attributes) {
        Ok(made) => made,
        // Not without governing the namespace that is shown: a container in a user namespace has the network or
        // the IPC of somebody else.
        Err((None, Errno::PERM)) if mount.is_kind("sysfs") || mount.is_kind("mqueue") => {
            let sysfs = mount.is_kind("sysfs");
            let (path, readonly) = if sysfs { (c"/sys", attributes::RDONLY) } else { (c"/dev/mqueue", 0) };
            // Where the host has none either, the first answer is the better one.
            hosts(path, mount.attributes | readonly).map_err(|_| Failed::new(Step::Mount, n, Errno::PERM))?
        }
        Err((Some(k), e)) => return Err(Failed::new(Step::MountParameter, index.parameters + k, e)),
        Err((None, e)) => return Err(Failed::new(Step::Mount, n, e)),
    };
    if let Some(ids) = &mount.map_ids {
        let mapped = sys::mount::map_ids(made.as_fd(), ids.namespace.as_fd(), false);
        mapped.map_err(errno).during_nth(Step::MountIds, n)?;
    }
    if *copy_up {
        copy_up::copy(&target.directory, &made).during_nth(Step::CopyUp, n)?;
    }
    apply(made.as_fd(), &mount.changes, n)?;
    Ok(made)
}

fn apply(mount: BorrowedFd<'_>, changes: &[Change], n: usize) -> Outcome<()> {
    for wanted in changes {
        let mut done = change(mount, *wanted).map_err(errno);
        if done == Err(Errno::PERM) && wanted.clear & !attributes::ATIME_MASK != 0 {
            // What a user namespace found read-only, `nodev` and so on stays so: that is stricter than what was asked.
            let rest = Change { clear: wanted.clear & attributes::ATIME_MASK, ..*wanted };
            done = change(mount, rest).map_err(errno);
        }
        if done == Err(Errno::PERM) && wanted.clear & attributes::ATIME_MASK != 0 {
            // And how access times are kept is the host's to say.
            let kept = attributes::ATIME_MASK | attributes::NODIRATIME;
            let rest = Change { set: wanted.set & !kept, clear: 0, ..*wanted };
            done = change(mount, rest).map_err(errno);
        }
        done.during_nth(Step::Mount, n)?;
    }
    Ok(())
}

/// A copy of a mount that is attached: for us to write through when that becomes read-only.
fn clone_mount(mount: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(mount, c"", flags)
}

/// A copy of the host's mounts at `path`, none of which stays the host's peer.
pub(super) fn hosts(path: &CStr, attributes: u64) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let copy = open_tree(CWD, path, flags)?;
    let private = sys::mount::propagation::PRIVATE;
    let wanted = Change { set: attributes, propagation: private, recursive: true, ..Change::default() };
    change(copy.as_fd(), wanted).map_err(errno)?;
    Ok(copy)
}

fn mount_root(plan: &mut RootPlan, namespace: MountNamespace) -> Outcome<OwnedFd> {
    let attached = |made: OwnedFd| -> Result<OwnedFd, Errno> {
        // Attached nowhere, the tree is nobody's but ours, and takes mounts since Linux 6.15.
        if namespace == MountNamespace::Shared {
            return Ok(made);
        }
        // The host's path, as whoever named it meant it: a bundle's root may be a link.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&made, c"", CWD, plan.mountpoint.as_c_str(), flags)?;
        Ok(made)
    };
    if let RootSourcePlan::Directory(tree) = &mut plan.source {
        tree.settle().during(Step::Root)?;
    }
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
                // Of what a build's command writes a layer is made: it has to have all that it shows, whatever the host's
                // overlays do by themselves.
                fsconfig_set_string(&context, c"redirect_dir", c"off")?;
                fsconfig_set_string(&context, c"metacopy", c"off")?;
            }
            if let Some(label) = &plan.label {
                fsconfig_set_string(&context, c"context", label.as_c_str())?;
            }
            fsconfig_create(&context)?;
            let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            attached(writable(mount)?)
        })()
        .during(Step::Root),
        // It would be seen, and stay, at the host.
        RootSourcePlan::OldOverlay { .. } if namespace == MountNamespace::Shared => {
            Err(Errno::OPNOTSUPP).during(Step::Root)
        }
        RootSourcePlan::OldOverlay { options, directories } => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            for (path, place) in directories {
                let directory = openat(CWD, path.as_c_str(), flags, Mode::empty()).during(Step::Root)?;
                sys::process::take_place(directory, place.as_fd()).map_err(errno).during(Step::Root)?;
            }
            rustix::process::chdir(c"/proc/self/fd").during(Step::Root)?;
            sys::mount::mount_old(c"overlay", &plan.mountpoint, c"overlay", 0, options)
                .map_err(errno)
                .during(Step::Root)?;
            rustix::process::chdir(c"/").during(Step::Root)?;
            openat(CWD, plan.mountpoint.as_c_str(), flags, Mode::empty())
                .and_then(writable)
                .during(Step::Root)
        }
        RootSourcePlan::Directory(tree) => {
            let copy = rustix::io::fcntl_dupfd_cloexec(&tree.fd, 3).during(Step::Root)?;
            // Or what is mounted in it would appear on the host, and nothing can be pivoted to.
            let apart = Change { propagation: plan.before, recursive: true, ..Change::default() };
            change(copy.as_fd(), apart).map_err(errno).during(Step::Root)?;
            attached(copy).during(Step::Root)
        }
    }
}

/// Overlayfs that cannot make its working directory (on a full disk, say) mounts all the same, read-only, and tells
/// the kernel's log alone. A container must not find out by itself.
fn writable(overlay: OwnedFd) -> Result<OwnedFd, Errno> {
    let read_only = fstatvfs(&overlay)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    if read_only { Err(Errno::ROFS) } else { Ok(overlay) }
}

/// Where a mount goes.
struct Target {
    /// Or the file, for a file.
    directory: OwnedFd,
    /// It was there before us.
    existed: bool,
}

/// Resolves the destination of a mount, made if it is missing: a directory, or a file for a file.
fn target_of(root: &Root, mount: &MountPlan, n: usize) -> Outcome<Target> {
    let path = &mount.destination;
    let kernels = mount.is_kind("proc") || mount.is_kind("sysfs");
    let mut existed = true;
    let found = match &mount.source {
        MountSource::Remount { .. } => root.resolve(path),
        MountSource::Bind { directory: false, .. } => root.create_file(path),
        // The kernel's own lie where they belong: with a symlink on the way, a volume could be there
        // (CVE-2019-19921, CVE-2023-27561).
        _ if kernels => match root.resolve_plain_dir(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => root.create_dir_all(path),
            other => other,
        },
        MountSource::Filesystem { takes_mode: true, .. } => match root.resolve(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                existed = false;
                root.create_dir_all(path)
            }
            other => other,
        },
        _ => root.create_dir_all(path),
    };
    let directory = found.map_err(errno).during_nth(Step::MountTarget, n)?;
    if !kernels {
        protect_proc(mount, &directory, n)?;
    }
    Ok(Target { directory, existed })
}

/// Over our `/proc` nothing is mounted: what is written there later must reach the kernel, not a volume
/// (CVE-2019-19921, CVE-2023-27561). A procfs may be bound in its place, and some of its files replaced.
fn protect_proc(mount: &MountPlan, target: &OwnedFd, n: usize) -> Outcome<()> {
    let is_proc = |fd: &OwnedFd| -> Outcome<bool> {
        Ok(fstatfs(fd).during_nth(Step::MountTarget, n)?.f_type as i64 == PROC_MAGIC)
    };
    let allowed = match (&mount.source, mount.place) {
        (MountSource::Remount { .. }, _) | (MountSource::Bind { directory: false, .. }, Place::ProcFile) => {
            true
        }
        (MountSource::Bind { tree, .. }, Place::Proc) => is_proc(&tree.fd)?,
        (_, Place::Proc) => false,
        _ => !is_proc(target)?,
    };
    if allowed { Ok(()) } else { Err(Failed::new(Step::MountOverProc, n, Errno::PERM)) }
}

/// A new file system, attached nowhere yet. What fails comes with the parameter that was refused, if it was one.
fn filesystem(
    kind: &CStr,
    parameters: &[(CString, Option<CString>)],
    mode: Option<u32>,
    attributes: u64,
) -> Result<OwnedFd, (Option<usize>, Errno)> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| (None, e))?;
    if let Some(mode) = mode {
        let digits = [9, 6, 3, 0].map(|shift| b'0' + (mode >> shift & 7) as u8);
        let text = [digits[0], digits[1], digits[2], digits[3], 0];
        let text = CStr::from_bytes_with_nul(&text).unwrap_or(c"755");
        fsconfig_set_string(&context, c"mode", text).map_err(|e| (None, e))?;
    }
    configure(&context, parameters).map_err(|(k, e)| (Some(k), e))?;
    let flags = MountAttrFlags::from_bits_retain(attributes as u32);
    fsconfig_create(&context)
        .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags))
        .map_err(|e| (None, e))
}

fn configure(context: &OwnedFd, parameters: &[(CString, Option<CString>)]) -> Result<(), (usize, Errno)> {
    for (k, (key, value)) in parameters.iter().enumerate() {
        match value {
            Some(value) => fsconfig_set_string(context, key.as_c_str(), value.as_c_str()),
            None => fsconfig_set_flag(context, key.as_c_str()),
        }
        .map_err(|e| (k, e))?;
    }
    Ok(())
}

/// Tells the file system that is mounted at `target` other parameters.
fn reconfigure(target: &OwnedFd, parameters: &[(CString, Option<CString>)], index: Index) -> Outcome<()> {
    let n = index.mount;
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = fspick(target, c"", flags).during_nth(Step::Mount, n)?;
    configure(&context, parameters)
        .map_err(|(k, e)| Failed::new(Step::MountParameter, index.parameters + k, e))?;
    fsconfig_reconfigure(&context).during_nth(Step::Mount, n)
}

pub(super) fn attach(mount: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match move_mount(mount, c"", target, c"", flags) {
        // Said as `mount` says it, which people and callers know: a file on a directory, or the other way round.
        Err(Errno::INVAL) if is_directory(mount)? != is_directory(target)? => Err(Errno::NOTDIR),
        other => other,
    }
}

fn is_directory(file: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

/// What is left to do after the pivot: the working directory may have to be made, so that only now the root can
/// become read-only.
pub(super) fn finish(plan: &LaunchPlan, tree: &Tree) -> Outcome<()> {
    let root = Root::from_fd(rustix::io::fcntl_dupfd_cloexec(&tree.root, 3).during(Step::WorkingDir)?);
    if root.resolve(&plan.process.working_dir).is_err() {
        root.create_dir_all(&plan.process.working_dir).map_err(errno).during(Step::WorkingDir)?;
    }
    let readonly = Change { set: attributes::RDONLY, ..Change::default() };
    // In their order: what was read-only at first may be remounted to be written to, and the other way round.
    for (n, mount) in plan.mounts.iter().enumerate().filter(|(_, mount)| mount.readonly_later) {
        let made = mount.held.as_ref().ok_or(Failed::new(Step::Mount, n, Errno::BADF))?;
        if matches!(mount.source, MountSource::Remount { .. }) {
            apply(made.as_fd(), &mount.changes, n)?;
        } else {
            change(made.as_fd(), readonly).map_err(errno).during_nth(Step::Mount, n)?;
        }
    }
    if let Some((propagation, recursive)) = plan.root.after {
        let wanted = Change { propagation, recursive, ..Change::default() };
        change(tree.root.as_fd(), wanted).map_err(errno).during(Step::Propagation)?;
    }
    if plan.root.readonly {
        change(tree.root.as_fd(), readonly).map_err(errno).during(Step::Root)?;
    }
    Ok(())
}
