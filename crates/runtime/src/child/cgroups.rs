//! The container's view of its cgroups, read-only where the specification says so.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base::root::KernelPath;
use oci::runtime::NamespaceKind;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, statfs, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use sys::mount::{Change, attributes, change, propagation};

use super::mounts::{attach, hosts};
use super::{During, Outcome, errno};
use crate::handshake::{Failed, Step};
use crate::plan::{CgroupView, HierarchyPlan, LaunchPlan, MountSource};

/// Mounts all views, now that this process is in its group and, where there is one, in its cgroup namespace.
pub(super) fn mount(plan: &LaunchPlan) -> Outcome<()> {
    let namespace = plan.namespaces.has(NamespaceKind::Cgroup);
    for (n, mount) in plan.mounts.iter().enumerate() {
        let MountSource::Cgroup { unified } = mount.source else { continue };
        let target = mount.held.as_ref().ok_or(Failed::new(Step::CgroupMount, n, Errno::BADF))?;
        let attributes = mount.attributes;
        match &plan.cgroup_view {
            view if unified || matches!(view, CgroupView::Unified) => mount_unified(target, attributes),
            CgroupView::All(hierarchies) => mount_v1(target, attributes, |top| {
                hierarchies.iter().try_for_each(|h| add_hierarchy(top, h, attributes, namespace))
            }),
            _ => mount_v1(target, attributes, |top| {
                FEW.into_iter().try_for_each(|name| add_controller(top, name, attributes))
            }),
        }
        .during_nth(Step::CgroupMount, n)?;
    }
    Ok(())
}

/// v2's: with a cgroup namespace it begins at the container's group, and without one it is the machine's.
fn mount_unified(target: &OwnedFd, attributes: u64) -> Result<(), Errno> {
    match new_hierarchy(c"cgroup2", |_| Ok(()), attributes) {
        Ok(made) => attach(&made, target),
        // Without cgroup2 there is no view; the container runs all the same.
        Err(Errno::NODEV) => Ok(()),
        // In a user namespace without a cgroup namespace of its own. The host's mount is the way then to groups that the
        // container's ids may own, be it those of other containers (CVE-2023-25809): it sees its own, and writes to none.
        Err(Errno::PERM | Errno::BUSY) => {
            let attributes = attributes | self::attributes::RDONLY;
            let seen = own_unified(attributes).or_else(|_| hosts(c"/sys/fs/cgroup", attributes))?;
            attach(&seen, target)
        }
        Err(e) => Err(e),
    }
}

/// A copy of the host's mount of v2 that begins at this process's group.
fn own_unified(attributes: u64) -> Result<OwnedFd, Errno> {
    // Alone, or beside v1.
    for mount in [c"/sys/fs/cgroup", c"/sys/fs/cgroup/unified"] {
        if statfs(mount).is_ok_and(|found| found.f_type == CGROUP2_MAGIC) {
            return own_group(b"", mount.to_bytes(), b"/", attributes);
        }
    }
    Err(Errno::NOENT)
}

/// `CGROUP2_SUPER_MAGIC`.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// v1's: a tmpfs with a directory per hierarchy, as container programs (the JVM, say) expect it.
fn mount_v1(
    target: &OwnedFd,
    attributes: u64,
    fill: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"mode", c"755")?;
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::from_bits_retain((attributes & !self::attributes::RDONLY) as u32);
    let top = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    attach(&top, target)?;
    fill(&top)?;
    if attributes & self::attributes::RDONLY != 0 {
        let readonly = Change { set: self::attributes::RDONLY, ..Change::default() };
        change(top.as_fd(), readonly).map_err(errno)?;
    }
    Ok(())
}

/// The controllers whose limits programs read.
const FEW: [&CStr; 4] = [c"memory", c"cpu", c"cpuacct", c"pids"];

fn add_controller(top: &OwnedFd, name: &CStr, attributes: u64) -> Result<(), Errno> {
    // A controller that is not mounted on the host, or together with others, is left out.
    let Ok(made) = new_hierarchy(c"cgroup", |context| fsconfig_set_flag(context, name), attributes) else {
        return Ok(());
    };
    place(top, name, &made)
}

fn add_hierarchy(
    top: &OwnedFd,
    hierarchy: &HierarchyPlan,
    attributes: u64,
    namespace: bool,
) -> Result<(), Errno> {
    let made = if namespace {
        let configure = |context: &OwnedFd| {
            hierarchy.parameters.iter().try_for_each(|(key, value)| match value {
                Some(value) => fsconfig_set_string(context, key.as_c_str(), value.as_c_str()),
                None => fsconfig_set_flag(context, key.as_c_str()),
            })
        };
        new_hierarchy(c"cgroup", configure, attributes)?
    } else {
        own_group(&hierarchy.controllers, &hierarchy.mount, &hierarchy.root, attributes)?
    };
    place(top, &hierarchy.name, &made)?;
    hierarchy.links.iter().try_for_each(|link| symlinkat(&*hierarchy.name, top, link.as_c_str()))
}

fn place(top: &OwnedFd, name: &CStr, made: &OwnedFd) -> Result<(), Errno> {
    mkdirat(top, name, Mode::from_raw_mode(0o755))?;
    move_mount(made, c"", top, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn new_hierarchy(
    kind: &CStr,
    configure: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    configure(&context)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
}

/// A copy of the host's mount that begins at this process's group. The mount shows what is below `root`.
fn own_group(controllers: &[u8], mount: &[u8], root: &[u8], attributes: u64) -> Result<OwnedFd, Errno> {
    // The host's /proc: nothing has been pivoted yet.
    let file = openat(CWD, c"/proc/thread-self/cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 8192];
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(&file, rest) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    let path = group_in(&buffer[..length], controllers).ok_or(Errno::NOENT)?;
    let below = path.strip_prefix(root).unwrap_or(path);
    let mut joined = [0; 4096];
    let whole = mount.len() + 1 + below.len();
    let place = joined.get_mut(..whole).ok_or(Errno::NAMETOOLONG)?;
    place[..mount.len()].copy_from_slice(mount);
    place[mount.len()] = b'/';
    place[mount.len() + 1..].copy_from_slice(below);
    let path = KernelPath::new(Path::new(OsStr::from_bytes(place))).map_err(errno)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, path.as_c_str(), flags)?;
    let wanted = Change { set: attributes, propagation: propagation::PRIVATE, ..Change::default() };
    change(copy.as_fd(), wanted).map_err(errno)?;
    Ok(copy)
}

/// The path behind these controllers in `/proc/self/cgroup`: `4:cpu,cpuacct:/path`.
fn group_in<'a>(table: &'a [u8], controllers: &[u8]) -> Option<&'a [u8]> {
    table.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (_, named, path) = (fields.next()?, fields.next()?, fields.next()?);
        (named == controllers).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_controllers() {
        let table = b"4:cpu,cpuacct:/a:b\n3:cpu:/c\n0::/d\n";
        assert_eq!(group_in(table, b"cpu,cpuacct"), Some(&b"/a:b"[..]));
        assert_eq!(group_in(table, b"cpu"), Some(&b"/c"[..]));
        assert_eq!(group_in(table, b"memory"), None);
    }
}
