//! A container's group that exists: joining, killing, asking, removing.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs::At as _;
use rustix::fs::{CWD, Mode, OFlags, openat, rmdir};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::hierarchy::{Controller, Hierarchy, Layout};
use super::plan::write_to;
use super::{Error, Placement};

/// How long a killed group may take to empty. A process in an uninterruptible wait can take for ever, and then
/// the caller has to be told.
const DYING: Duration = Duration::from_secs(10);
/// How long the last process's leaving may lag behind its death.
const LEAVING: Duration = Duration::from_secs(2);

/// A container's group that exists. Dropping it removes nothing.
#[derive(Debug)]
pub struct Group {
    directories: Vec<Directory>,
}

/// The group in one hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// The file by which a thread joins, prepared for the time when it may not allocate.
    pub(super) join: CString,
    pub(super) controller: Option<Controller>,
    pub(super) v2: bool,
}

impl Directory {
    pub(super) fn new(path: PathBuf, controller: Option<Controller>, v2: bool) -> Self {
        let join = path.join(if v2 { "cgroup.procs" } else { "tasks" });
        // Names are checked and mount points come from the kernel: neither has a zero byte. If one had, the empty
        // path would be refused when it is used.
        let join = CString::new(join.as_os_str().as_bytes()).unwrap_or_default();
        Self { path, join, controller, v2 }
    }
}

impl Group {
    pub(super) fn of(directories: Vec<Directory>) -> Self {
        Self { directories }
    }

    /// The group of a container that was started before, whatever is left of it.
    pub fn existing(hierarchy: &Hierarchy, placement: &Placement) -> Self {
        // A placement from a file that somebody wrote to leads nowhere.
        if placement.check().is_err() {
            return Self { directories: Vec::new() };
        }
        let at = |root: &Path| root.join(&placement.parent).join(&placement.name);
        let directories = match &hierarchy.0 {
            Layout::V2 { root, .. } => vec![Directory::new(at(root), None, true)],
            Layout::V1 { mounts, systemd, .. } => {
                // Whether it joined a cpuset is not written down anywhere but there.
                let cpuset = hierarchy.mount(Controller::Cpuset).map(|root| (Controller::Cpuset, root));
                let cpuset = cpuset.filter(|(_, root)| at(root).exists());
                let limited = mounts.iter().cloned().chain(cpuset).map(|(c, root)| (Some(c), root));
                limited
                    .chain(systemd.clone().map(|root| (None, root)))
                    .map(|(controller, root)| Directory::new(at(&root), controller, false))
                    .collect()
            }
        };
        Self { directories }
    }

    /// Moves a process in. On v1 this may wait for milliseconds; a process does better to move itself
    /// ([`join_self`](Self::join_self), [`GroupPlan::join_self`](super::GroupPlan::join_self)).
    pub fn join(&self, pid: u32) -> Result<(), Error> {
        let pid = pid.to_string();
        for directory in &self.directories {
            let file = directory.path.join("cgroup.procs");
            write_to(CWD, &file, pid.as_bytes()).at("move a process into the cgroup", &directory.path)?;
        }
        Ok(())
    }

    /// Moves the *calling thread*, the only one of its process, in. For the time between clone and exec: no memory
    /// is allocated, and the paths are the host's.
    ///
    /// On v1 this is how to join. A thread that moves itself through `tasks` is spared the lock that moving a
    /// process takes, behind which on an idle machine lies an RCU grace period: 15 µs against 6 to 15 ms. (On v2
    /// there is no such way, but there `CLONE_INTO_CGROUP` is better still.)
    pub fn join_self(&self) -> Result<(), Errno> {
        self.directories.iter().try_for_each(|directory| write_to(CWD, &*directory.join, b"0"))
    }

    /// On v2: the directory, for `CLONE_INTO_CGROUP`.
    pub fn open_v2(&self) -> Option<OwnedFd> {
        let directory = self.directories.iter().find(|d| d.v2)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &directory.path, flags, Mode::empty()).ok()
    }

    /// Kills every process in it and in what the container made below it, also those that are just being
    /// forked, and waits until they are gone. Fine if there is no such group.
    pub fn kill(&self) -> Result<(), Error> {
        let Some(directory) = self.whole() else { return Ok(()) };
        let deadline = Instant::now() + DYING;
        if directory.v2 {
            match write_to(CWD, directory.path.join("cgroup.kill"), b"1") {
                Ok(()) => {}
                // It has been removed: before we opened the file, or (ENODEV) right after.
                Err(Errno::NODEV) => return Ok(()),
                Err(Errno::NOENT) if !directory.path.exists() => return Ok(()),
                // Kernels before 5.14 have no such file.
                Err(Errno::NOENT) => signal_all(&directory.path),
                Err(error) => {
                    return Err(error).at("kill the cgroup", &directory.path).map_err(Error::File);
                }
            }
        }
        let mut pause = Duration::from_micros(200);
        while is_populated(&directory.path) {
            if Instant::now() > deadline {
                return Err(Error::Undying { path: directory.path.clone() });
            }
            if !directory.v2 {
                signal_all(&directory.path);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The directory that has all processes, whatever else it controls. On v1 a container cannot leave `pids`
    /// or `devices` without the host's view, and both are always joined where they exist.
    fn whole(&self) -> Option<&Directory> {
        let preferred = self.directories.iter().find(|d| d.v2 || d.controller == Some(Controller::Pids));
        preferred.or_else(|| self.directories.first())
    }

    /// True if the kernel killed a process in it for want of memory.
    pub fn oom_killed(&self) -> bool {
        let file = |d: &Directory| {
            if d.v2 {
                Some(d.path.join("memory.events"))
            } else {
                (d.controller == Some(Controller::Memory)).then(|| d.path.join("memory.oom_control"))
            }
        };
        // Both files have lines of a word and a number.
        self.directories.iter().filter_map(file).filter_map(|path| read_text(&path)).any(|text| {
            text.lines().any(|line| {
                line.strip_prefix("oom_kill ").is_some_and(|n| n.trim().parse::<u64>().is_ok_and(|n| n > 0))
            })
        })
    }

    /// Removes it, with what the container made below it. Waits for a moment while its processes are leaving;
    /// fine if it is gone already.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + LEAVING;
        for directory in &self.directories {
            let mut pause = Duration::from_micros(100);
            loop {
                match remove_tree(&directory.path) {
                    Err(Errno::BUSY | Errno::NOTEMPTY) if Instant::now() < deadline => {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(20));
                    }
                    removed => {
                        removed.at("remove the cgroup", &directory.path)?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The limits in force, read back.
    pub fn limits(&self) -> Limits {
        let v2 = self.directories.iter().any(|d| d.v2);
        let place = |c: Controller| {
            let found = self.directories.iter().find(|d| d.v2 || d.controller == Some(c))?;
            Some(found.path.clone())
        };
        Limits::read(place, v2)
    }
}

/// Limits in force; none: unlimited or not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap: Option<u64>,
    /// Processes.
    pub pids: Option<u64>,
    /// Microseconds per period.
    pub cpu_quota: Option<u64>,
    /// The period in microseconds.
    pub cpu_period: Option<u64>,
}

impl Limits {
    pub(super) fn read(place: impl Fn(Controller) -> Option<PathBuf>, v2: bool) -> Self {
        let text = |controller, file: &str| read_text(&place(controller)?.join(file));
        let number = |controller, file: &str| limit(text(controller, file)?.trim());
        let pids = number(Controller::Pids, "pids.max");
        if v2 {
            let memory = number(Controller::Memory, "memory.max");
            let swap = number(Controller::Memory, "memory.swap.max");
            let cpu = text(Controller::Cpu, "cpu.max").unwrap_or_default();
            let mut cpu = cpu.split_ascii_whitespace();
            let (quota, period) = (cpu.next().and_then(limit), cpu.next().and_then(limit));
            let memory_and_swap = memory.zip(swap).and_then(|(m, s)| m.checked_add(s));
            return Self {
                memory,
                memory_and_swap,
                pids,
                cpu_quota: quota,
                cpu_period: period.filter(|_| quota.is_some()),
            };
        }
        let cpu_quota = number(Controller::Cpu, "cpu.cfs_quota_us");
        Self {
            memory: number(Controller::Memory, "memory.limit_in_bytes"),
            memory_and_swap: number(Controller::Memory, "memory.memsw.limit_in_bytes"),
            pids,
            cpu_quota,
            cpu_period: cpu_quota.and_then(|_| number(Controller::Cpu, "cpu.cfs_period_us")),
        }
    }
}

/// `max`, -1, and v1's "all pages that a number can count" are no limits.
fn limit(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|n| *n < i64::MAX as u64 - 0xffff)
}

pub(super) fn read_text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Groups nest a few levels deep; a container that nests more of them than this keeps its rubbish.
const DEPTH: usize = 64;

fn processes(path: &Path, depth: usize, found: &mut Vec<i32>) {
    // A group with threads of its own (v2) does not tell its processes; the group above it does.
    let list = read_text(&path.join("cgroup.procs")).unwrap_or_default();
    found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth > 0 {
        for child in children(path) {
            processes(&child, depth - 1, found);
        }
    }
}

fn is_populated(path: &Path) -> bool {
    let mut found = Vec::new();
    processes(path, DEPTH, &mut found);
    !found.is_empty()
}

fn signal_all(path: &Path) {
    let mut found = Vec::new();
    processes(path, DEPTH, &mut found);
    for number in found {
        // A number that is not ours to see (another PID namespace) is 0. Once its descriptor is held, a process
        // cannot be mistaken for a later one; so being in the group is asked afterwards.
        let Some(pid) = Pid::from_raw(number) else { continue };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let mut again = Vec::new();
        processes(path, DEPTH, &mut again);
        if again.contains(&number) {
            pidfd_send_signal(process.as_fd(), Signal::KILL).ok();
        }
    }
}

/// From the deepest up. Directories are the only thing that can be removed there.
fn remove_tree(path: &Path) -> Result<(), Errno> {
    match rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {
            remove_below(path, DEPTH);
            match rmdir(path) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            }
        }
        other => other,
    }
}

fn remove_below(path: &Path, depth: usize) {
    for child in children(path) {
        if rmdir(&child).is_err() && depth > 0 {
            remove_below(&child, depth - 1);
            // What stays shows when the top is tried again.
            rmdir(&child).ok();
        }
    }
}
