//! The instance's group above all its containers, and beside it the monitors' group.
//!
//! All containers together stop short of the machine's memory and process numbers, so that a leak kills a
//! container and never the host. The monitors stand outside that limit: the one who reports what died must not
//! be among the dead.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::fs::At as _;
use rustix::fs::{CWD, Mode, OFlags, mkdir, openat, rmdir};
use rustix::io::Errno;

use super::files::{read_text, write_to};
use super::hierarchy::{Controller, Hierarchy, LATE, Layout};
use super::in_force::Limits;
use super::plan::MONITORS;
use super::processes::children;
use super::{Error, check_name};

const MIB: u64 = 1 << 20;

/// What the host keeps for itself: what its configuration says, or 5 %, at least 512 MiB; but no more than half.
fn memory_limit(total: u64, reserve: Option<u64>) -> u64 {
    total - reserve.unwrap_or((total / 20).max(512 * MIB)).min(total / 2)
}

/// Likewise: a tenth, at least 1024, no more than half.
fn pids_limit(total: u64) -> u64 {
    total - (total / 10).max(1024).min(total / 2)
}

fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "its type differs between architectures")]
    let total = u64::from(info.totalram);
    total.saturating_mul(u64::from(info.mem_unit))
}

/// The smaller of the limits on process ids and on threads.
fn machine_pids() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let (pids, threads) = (read("/proc/sys/kernel/pid_max"), read("/proc/sys/kernel/threads-max"));
    pids.into_iter().chain(threads).min()
}

/// Makes the instance's group in one hierarchy and sets its limits; fine if it exists (then the limits are set
/// again, which repairs what a crash left half made).
pub(super) fn create(
    root: &Path,
    path: &Path,
    controller: Option<Controller>,
    v2: bool,
    reserve: Option<u64>,
) -> Result<(), Error> {
    // Before the group is there, so that its files are: v2 hands controllers down level by level.
    if v2 {
        hand_down(root);
    }
    match mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).at("create the cgroup", path).map_err(Error::File),
    }
    if v2 {
        hand_down(path);
        set(path, "memory.max", &memory_limit(machine_memory(), reserve).to_string());
        set_pids(path);
        return Ok(());
    }
    match controller {
        Some(Controller::Memory) => {
            set(path, "memory.limit_in_bytes", &memory_limit(machine_memory(), reserve).to_string());
        }
        Some(Controller::Pids) => set_pids(path),
        Some(Controller::Cpuset) => inherit_cpuset(root, path),
        _ => {}
    }
    Ok(())
}

fn set_pids(path: &Path) {
    if let Some(pids) = machine_pids() {
        set(path, "pids.max", &pids_limit(pids).to_string());
    }
}

/// The net under all containers is ours to offer, not theirs to demand: where it cannot be had, because the
/// controller is missing or we are ourselves confined, a container still starts. `info` shows what is in force.
fn set(path: &Path, file: &str, value: &str) {
    write_to(CWD, path.join(file), value.as_bytes()).ok();
}

/// Lets the groups below `path` use the controllers that it has. All at once, or where that fails (one of them
/// cannot be had here) those that can.
fn hand_down(path: &Path) {
    let available = read_text(&path.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<_> =
        [Controller::Cpu, Controller::Io, Controller::Memory, Controller::Pids, Controller::Cpuset]
            .into_iter()
            .map(Controller::v2_name)
            .filter(|name| available.split_ascii_whitespace().any(|a| a == *name))
            .map(|name| format!("+{name}"))
            .collect();
    let file = path.join("cgroup.subtree_control");
    if write_to(CWD, &file, wanted.join(" ").as_bytes()).is_err() {
        for one in wanted {
            write_to(CWD, &file, one.as_bytes()).ok();
        }
    }
}

/// A new cpuset is empty and takes no process: it gets what its parent has, and its children inherit that.
fn inherit_cpuset(root: &Path, path: &Path) {
    set(path, "cgroup.clone_children", "1");
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Some(value) = read_text(&root.join(file)) {
            set(path, file, value.trim());
        }
    }
}

/// The limits in force on an instance's group: all containers together. Nothing where there is no container.
pub fn parent_limits(hierarchy: &Hierarchy, parent: &str) -> Limits {
    Limits::read(|controller| Some(hierarchy.mount(controller)?.join(parent)), hierarchy.is_v2())
}

/// What [`parent_limits`] would be if a container were there.
pub fn planned_parent_limits(memory_reserve: Option<u64>) -> Limits {
    Limits {
        memory: Some(memory_limit(machine_memory(), memory_reserve)),
        pids: machine_pids().map(pids_limit),
        ..Limits::default()
    }
}

/// Where the monitors' groups are: in each hierarchy that limits something or tells services apart.
fn monitors(hierarchy: &Hierarchy, parent: &str) -> Vec<(PathBuf, bool)> {
    let name = format!("{parent}-monitors");
    match &hierarchy.0 {
        Layout::V2 { root, .. } => vec![(root.join(name), true)],
        Layout::V1 { mounts, systemd, .. } => {
            let limited = mounts.iter().filter(|(c, _)| MONITORS.contains(c)).map(|(_, path)| path);
            limited.chain(systemd).map(|path| (path.join(&name), false)).collect()
        }
    }
}

/// Moves the calling process, which must have a single thread, into the monitors' group, beside the limited
/// parent. On v2 it is better born there ([`open_monitors_v2`]): moving takes milliseconds.
pub fn join_monitors(hierarchy: &Hierarchy, parent: &str) -> Result<(), Error> {
    check_name(parent)?;
    for (path, v2) in monitors(hierarchy, parent) {
        make_monitors(&path)?;
        let file = path.join(if v2 { "cgroup.procs" } else { "tasks" });
        write_to(CWD, &file, b"0").at("join the cgroup", &path)?;
    }
    Ok(())
}

/// Moves the calling process, which must have a single thread, out of its caller's groups into the roots, on v1: for who stays
/// after the last monitor, and may not remove groups there. (On v2 one is born beside the monitors, and may remove the group.)
pub fn leave(hierarchy: &Hierarchy, parent: &str) -> Result<(), Error> {
    check_name(parent)?;
    for (path, v2) in monitors(hierarchy, parent) {
        if let (Some(root), false) = (path.parent(), v2) {
            write_to(CWD, root.join("tasks"), b"0").at("join the cgroup", root)?;
        }
    }
    Ok(())
}

/// On v2: the monitors' group's directory (made if missing), for `CLONE_INTO_CGROUP`. On a hybrid machine with
/// systemd likewise, since that is where systemd looks for what belongs to a service.
pub fn open_monitors_v2(hierarchy: &Hierarchy, parent: &str) -> Result<Option<OwnedFd>, Error> {
    check_name(parent)?;
    let root = match &hierarchy.0 {
        Layout::V2 { root, .. } | Layout::V1 { unified: Some(root), .. } => root,
        Layout::V1 { unified: None, .. } => return Ok(None),
    };
    let path = root.join(format!("{parent}-monitors"));
    let open = || openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {
            make_monitors(&path)?;
            Ok(Some(open().at("open the cgroup", &path)?))
        }
        opened => Ok(Some(opened.at("open the cgroup", &path)?)),
    }
}

fn make_monitors(path: &Path) -> Result<(), Error> {
    match mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).at("create the cgroup", path).map_err(Error::File),
    }
}

/// Removes the instance's group and its monitors' group if nothing is in them. True if both are gone. A caller that
/// is the last process in the monitors' group leaves it, to the root of the hierarchy.
pub fn sweep_parent(hierarchy: &Hierarchy, parent: &str) -> Result<bool, Error> {
    check_name(parent)?;
    let roots: Vec<PathBuf> = match &hierarchy.0 {
        Layout::V2 { root, .. } => vec![root.clone()],
        Layout::V1 { mounts, systemd, .. } => {
            for controller in LATE {
                if let Some(root) = Hierarchy::beside(mounts, controller) {
                    sweep_late(&root.join(parent));
                }
            }
            mounts.iter().map(|(_, path)| path.clone()).chain(systemd.clone()).collect()
        }
    };
    for root in roots {
        if !remove_if_empty(&root.join(parent))? {
            return Ok(false);
        }
    }
    let mut groups = monitors(hierarchy, parent);
    if let Layout::V1 { unified: Some(root), .. } = &hierarchy.0 {
        groups.push((root.join(format!("{parent}-monitors")), true));
    }
    let mut gone = true;
    for (path, v2) in groups {
        if remove_if_empty(&path)? {
            continue;
        }
        if holds_only_us(&path) {
            // Leaving costs nothing that matters: whoever sweeps is about to end.
            if let Some(root) = path.parent() {
                let file = root.join(if v2 { "cgroup.procs" } else { "tasks" });
                write_to(CWD, &file, b"0").ok();
            }
        }
        gone &= remove_if_empty(&path)?;
    }
    Ok(gone)
}

/// Where containers join only when they are paused or given another limit, what they leave is empty groups; those that
/// are not are in use, which shows in the other hierarchies.
fn sweep_late(parent: &Path) {
    if rmdir(parent).is_err_and(|e| e != Errno::NOENT) {
        for child in children(parent) {
            rmdir(&child).ok();
        }
        rmdir(parent).ok();
    }
}

/// False where something is in it.
fn remove_if_empty(path: &Path) -> Result<bool, Error> {
    match rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(error) => Err(error).at("remove the cgroup", path).map_err(Error::File),
    }
}

fn holds_only_us(path: &Path) -> bool {
    let us = std::process::id().to_string();
    read_text(&path.join("cgroup.procs"))
        .is_some_and(|list| !list.is_empty() && list.lines().all(|pid| pid == us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_keeps_its_share() {
        const GIB: u64 = 1 << 30;
        assert_eq!(memory_limit(100 * GIB, None), 95 * GIB);
        assert_eq!(memory_limit(4 * GIB, None), 4 * GIB - 512 * MIB);
        assert_eq!(memory_limit(512 * MIB, None), 256 * MIB);
        assert_eq!(memory_limit(0, None), 0);
        assert_eq!(memory_limit(4 * GIB, Some(GIB)), 3 * GIB);
        assert_eq!(memory_limit(4 * GIB, Some(9 * GIB)), 2 * GIB);
        assert_eq!(pids_limit(32_768), 32_768 - 3276);
        assert_eq!(pids_limit(4000), 2976);
        assert_eq!(pids_limit(100), 50);
    }
}
