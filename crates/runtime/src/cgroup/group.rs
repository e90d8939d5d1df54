//! A container's group that exists: joining, removing, finding it again.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs::At as _;
use rustix::fs::{CWD, rmdir};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::files::{open_directory, read_text, write_to};
use super::hierarchy::{Controller, Hierarchy, LATE, Layout};
use super::in_force::Limits;
use super::processes::{DEPTH, children};
use super::systemd::Unit;
use super::{Error, Location, levels, systemd};

/// How long the last process's leaving may lag behind its death.
const LEAVING: Duration = Duration::from_secs(2);

/// A container's group that exists. Dropping it removes nothing.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) directories: Vec<Directory>,
    /// Its path below the root of each hierarchy.
    pub(super) below: PathBuf,
    /// Parents that were made for it, to be removed with it if they are empty.
    pub(super) made: Vec<PathBuf>,
    pub(super) kind: Kind,
}

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Dhow's own engine's. What it joined late is swept with the instance's group.
    Instance,
    /// At a path.
    Path,
    /// systemd's.
    Unit(Unit),
    /// A part of another, which may be systemd's.
    Part(Option<Unit>),
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

/// What a later process has to know of a group to act on it: goes into a container's state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    below: PathBuf,
    directories: Vec<RecordedDirectory>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made: Vec<PathBuf>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedDirectory {
    path: PathBuf,
    /// v1's name; none: systemd's hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    controller: Option<String>,
    #[serde(default)]
    v2: bool,
}

impl Group {
    pub(super) fn nothing() -> Self {
        Self { directories: Vec::new(), below: PathBuf::new(), made: Vec::new(), kind: Kind::Part(None) }
    }

    /// The group of a container that was started before, whatever is left of it.
    pub fn existing(hierarchy: &Hierarchy, location: &Location) -> Self {
        // A location from a file that somebody wrote to leads nowhere.
        let Ok(below) = systemd::below_root(location) else { return Self::nothing() };
        let directories = match &hierarchy.0 {
            Layout::V2 { root, .. } => vec![Directory::new(root.join(&below), None, true)],
            Layout::V1 { mounts, systemd, .. } => {
                // Whether it joined more than it must is not written down anywhere but there.
                let late = LATE.into_iter().filter_map(|controller| {
                    let root = Hierarchy::beside(mounts, controller)?;
                    root.join(&below).exists().then_some((controller, root))
                });
                let limited = mounts.iter().cloned().chain(late).map(|(c, root)| (Some(c), root));
                limited
                    .chain(systemd.clone().map(|root| (None, root)))
                    .map(|(controller, root)| Directory::new(root.join(&below), controller, false))
                    .collect()
            }
        };
        Self { directories, below, made: Vec::new(), kind: Kind::of(location) }
    }

    /// What is kept of it.
    pub fn record(&self) -> Record {
        let directories = self.directories.iter().map(|d| RecordedDirectory {
            path: d.path.clone(),
            controller: d.controller.map(|c| c.v1_name().to_owned()),
            v2: d.v2,
        });
        Record {
            below: self.below.clone(),
            directories: directories.collect(),
            made: self.made.clone(),
            kind: self.kind.clone(),
        }
    }

    /// The group that was recorded, whatever is left of it. What in the record is no plain absolute path, or is something
    /// else than a group, is left out: a record leads to nothing that it was not made for.
    pub fn from_record(record: &Record) -> Self {
        let directories = record.directories.iter().filter(|d| is_usable(&d.path)).map(|d| {
            let controller = d.controller.as_deref().and_then(Controller::from_v1_name);
            Directory::new(d.path.clone(), controller, d.v2)
        });
        let below =
            if is_plain(&Path::new("/").join(&record.below)) { record.below.clone() } else { PathBuf::new() };
        Self {
            directories: directories.collect(),
            below,
            made: record.made.iter().filter(|p| is_usable(p)).cloned().collect(),
            kind: record.kind.clone(),
        }
    }

    /// A group below it that the container made, for a command that is executed there: a path of plain names, which on
    /// v1 may be `CONTROLLER,…:PATH` for some of the hierarchies alone.
    pub fn subgroup(&self, name: &str) -> Result<Self, Error> {
        let (controllers, path) = match name.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, name),
        };
        let root = path.trim_matches('/').is_empty();
        let part = if root { PathBuf::new() } else { Location::Path(path.into()).below_root()? };
        let meant = |d: &Directory| {
            controllers.is_none_or(|list| {
                list.split(',').any(|name| d.controller.is_some_and(|c| !d.v2 && c.v1_name() == name))
            })
        };
        if controllers.is_some() && !self.directories.iter().any(meant) {
            return Err(Error::Invalid {
                reason: "the group of the command names no controller of the container",
            });
        }
        let directories = self.directories.iter().map(|d| {
            let path = if meant(d) { d.path.join(&part) } else { d.path.clone() };
            Directory::new(path, d.controller, d.v2)
        });
        Ok(Self {
            directories: directories.collect(),
            below: self.below.join(&part),
            made: Vec::new(),
            kind: Kind::Part(self.unit().cloned()),
        })
    }

    /// v2: where in it this process is. A container that manages groups itself (systemd inside) leaves its own group
    /// empty, and once it has handed controllers down nobody may join that any more; a further command goes where
    /// the container's first process is.
    pub fn place_of(&self, pid: u32) -> Option<Self> {
        let directory = self.directories.iter().find(|d| d.v2)?;
        let text = read_text(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let place = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let whole = Path::new("/").join(&self.below);
        let part = Path::new(place).strip_prefix(&whole).ok()?;
        let path = directory.path.join(part);
        path.exists().then(|| Self {
            directories: vec![Directory::new(path, None, true)],
            below: self.below.join(part),
            made: Vec::new(),
            kind: Kind::Part(self.unit().cloned()),
        })
    }

    /// Where it is: by v1's names of the controllers (and `name=systemd`), or on v2 under the empty name.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for directory in &self.directories {
            let name = match directory.controller {
                _ if directory.v2 => "",
                None => "name=systemd",
                Some(controller) => controller.v1_name(),
            };
            paths.insert(name.to_owned(), directory.path.clone());
        }
        // One hierarchy with two controllers is listed under its first.
        if let Some(cpu) = paths.get("cpu").filter(|path| path.join("cpuacct.usage").exists()).cloned() {
            paths.entry("cpuacct".to_owned()).or_insert(cpu);
        }
        paths
    }

    /// Whether it is one of v2, into which a process can be born.
    pub fn is_v2(&self) -> bool {
        // The only hierarchy there is; beside others it is v1 with one more.
        matches!(&*self.directories, [directory] if directory.v2)
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

    /// Whether the user's systemd can move a process in ([`attach`](Self::attach)).
    pub(crate) fn is_users(&self) -> bool {
        self.unit().is_some_and(|unit| unit.user)
    }

    /// Has systemd move a process in, which may where a user may not: whoever comes from outside of what is delegated
    /// to the user, from a login's session above all (cgroups(7), "Delegation containment").
    pub(crate) fn attach(&self, pid: u32) -> Result<(), Error> {
        let Some(unit) = self.unit() else { return self.join(pid) };
        let below = self.below.iter().skip_while(|name| *name != unit.scope.as_str()).skip(1);
        unit.attach(&below.collect::<PathBuf>(), pid)
    }

    /// The scope that it is, or is in.
    fn unit(&self) -> Option<&Unit> {
        match &self.kind {
            Kind::Unit(unit) | Kind::Part(Some(unit)) => Some(unit),
            _ => None,
        }
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

    /// On v2: the directory, for `CLONE_INTO_CGROUP`. None on v1.
    pub fn open_v2(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(directory) = self.directories.iter().find(|d| d.v2) else { return Ok(None) };
        Ok(Some(open_directory(&directory.path).at("open the cgroup", &directory.path)?))
    }

    /// True where it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.whole().is_some_and(|directory| directory.path.exists())
    }

    /// The directory that has all processes, whatever else it controls. On v1 a container cannot leave `pids`
    /// or `devices` without the host's view, and both are always joined where they exist.
    pub(super) fn whole(&self) -> Option<&Directory> {
        let preferred = self.directories.iter().find(|d| d.v2 || d.controller == Some(Controller::Pids));
        preferred.or_else(|| self.directories.first())
    }

    /// The directory of this controller.
    pub(super) fn place(&self, controller: Controller) -> Option<&Directory> {
        let find = |c| self.directories.iter().find(|d| d.v2 || d.controller == Some(c));
        match controller {
            // Often one hierarchy under its first name.
            Controller::Cpuacct => find(Controller::Cpuacct).or_else(|| find(Controller::Cpu)),
            other => find(other),
        }
    }

    /// Where in a hierarchy of v1 that it did not join it would be: that one's root, and it.
    pub(super) fn late(
        &self,
        hierarchy: &Hierarchy,
        controller: Controller,
        limit: &'static str,
    ) -> Result<(PathBuf, Directory), Error> {
        let missing = || Error::Missing { limit: limit.into(), controller: controller.v1_name().into() };
        if self.below.as_os_str().is_empty() || hierarchy.is_v2() {
            return Err(missing());
        }
        let root = hierarchy.mount(controller).ok_or_else(missing)?;
        let directory = Directory::new(root.join(&self.below), Some(controller), false);
        Ok((root, directory))
    }

    /// Joins a hierarchy of v1 while it runs, with all its processes.
    pub(super) fn join_late(
        &self,
        hierarchy: &Hierarchy,
        controller: Controller,
        limit: &'static str,
    ) -> Result<Directory, Error> {
        let (root, directory) = self.late(hierarchy, controller, limit)?;
        levels::make_shared(&root, &self.below)?;
        levels::prepare_v1(&root, &self.below, Some(controller));
        // Who is forked meanwhile is found in the next round; children of who has moved are born there.
        const ROUNDS: usize = 10;
        for _ in 0..ROUNDS {
            if self.gather(&directory.path)? == 0 {
                break;
            }
        }
        Ok(directory)
    }

    /// True if the kernel killed a process in it for want of memory.
    pub fn oom_killed(&self) -> bool {
        self.oom_kills() > 0
    }

    /// How many processes in it the kernel killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let Some(directory) = self.place(Controller::Memory) else { return 0 };
        let file = if directory.v2 { "memory.events" } else { "memory.oom_control" };
        // Both files have lines of a word and a number.
        let text = read_text(&directory.path.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }

    /// Removes it, with what the container made below it, and the parents that were made for it and are empty. Waits
    /// for a moment while its processes are leaving; fine if it is gone already.
    pub fn remove(&self) -> Result<(), Error> {
        if let Kind::Unit(unit) = &self.kind {
            let gone = |error: &Error| matches!(error, Error::Systemd(_)) && !self.exists();
            match unit.stop() {
                Err(error) if !gone(&error) => return Err(error),
                _ => {}
            }
        }
        let deadline = Instant::now() + LEAVING;
        for directory in &self.directories {
            remove_waiting(&directory.path, deadline)?;
        }
        if matches!(self.kind, Kind::Path | Kind::Unit(_)) {
            self.remove_late(deadline)?;
        }
        levels::remove_parents(&self.made);
        Ok(())
    }

    /// What an update or a pause made in further hierarchies of v1.
    fn remove_late(&self, deadline: Instant) -> Result<(), Error> {
        let pids = self.directories.iter().find(|d| !d.v2 && d.controller == Some(Controller::Pids));
        let depth = self.below.components().count() + 1;
        let Some(base) = pids.and_then(|d| d.path.ancestors().nth(depth)) else { return Ok(()) };
        for controller in LATE {
            if self.directories.iter().any(|d| d.controller == Some(controller)) {
                continue;
            }
            let root = base.join(controller.v1_name());
            let path = root.join(&self.below);
            if path.exists() {
                remove_waiting(&path, deadline)?;
                for parent in self.below.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
                    // Those that were made for it elsewhere were made for it here.
                    if self.made.iter().any(|made| made.ends_with(parent)) {
                        rmdir(root.join(parent)).ok();
                    }
                }
            }
        }
        Ok(())
    }

    /// The limits in force, read back.
    pub fn limits(&self) -> Limits {
        let v2 = self.directories.iter().any(|d| d.v2);
        Limits::read(|controller| Some(self.place(controller)?.path.clone()), v2)
    }
}

impl Kind {
    pub(super) fn of(location: &Location) -> Self {
        match location {
            Location::Instance(_) => Self::Instance,
            Location::Path(_) => Self::Path,
            Location::Systemd { user, .. } => match location.units() {
                Ok(Some((_, scope))) => Self::Unit(Unit { scope, user: *user }),
                _ => Self::Part(None),
            },
        }
    }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

/// Whether a path from a file can be a group's.
pub(super) fn is_usable(path: &Path) -> bool {
    is_plain(path) && is_group_or_gone(path)
}

/// Whether nothing is there, or a directory of a cgroup file system.
fn is_group_or_gone(path: &Path) -> bool {
    /// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC`.
    const MAGIC: [i64; 2] = [0x0027_e0eb, 0x6367_7270];
    match rustix::fs::statfs(path) {
        #[allow(clippy::useless_conversion, reason = "its type differs between architectures")]
        Ok(found) => MAGIC.contains(&i64::from(found.f_type)),
        Err(_) => true,
    }
}

fn remove_waiting(path: &Path, deadline: Instant) -> Result<(), Error> {
    let mut pause = Duration::from_micros(100);
    loop {
        match remove_tree(path) {
            Err(Errno::BUSY | Errno::NOTEMPTY) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            removed => return removed.at("remove the cgroup", path).map_err(Error::File),
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
