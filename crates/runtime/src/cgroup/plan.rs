//! A container's group: decided before the launch, made during it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::fs::At as _;
use oci::runtime::Resources;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{CWD, Mode, mkdir};
use rustix::io::Errno;
use sys::bpf::Instruction;

use super::files::{controller_of, open_directory, write_limits, write_to};
use super::group::{Directory, Group, Kind};
use super::hierarchy::{Controller, Hierarchy, Layout};
use super::levels::Parents;
use super::limits::{self, Need, Setting, Write};
use super::mark::Mark;
use super::systemd::{self, Scope};
use super::{Error, Location, devices, levels, own, parent};

/// What will be written where. Making it costs a few microseconds and touches nothing.
#[derive(Debug)]
pub struct GroupPlan {
    directories: Vec<DirectoryPlan>,
    below: PathBuf,
    kind: Kind,
    /// What systemd is to be told, where it makes the group.
    scope: Option<Scope>,
    /// Who may manage what is below the group: see [`owned_by`](Self::owned_by).
    owner: Option<u32>,
    /// What tells it from another's at the same path.
    mark: Option<Mark>,
    /// Where parents are noted before they are made.
    notes: Option<PathBuf>,
    /// Its rules forbid to make nodes, which matters where the process is in the group from the first.
    restricts_last: bool,
    warnings: Vec<String>,
}

/// Of what a group is restricted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    /// What never hinders the making of the container.
    Limits,
    /// Who has no right to a device may have none to make it, either.
    Devices,
}

#[derive(Debug)]
struct DirectoryPlan {
    /// Where the hierarchy is mounted.
    root: PathBuf,
    above: Above,
    directory: Directory,
    /// Before anybody is in it: see [`GroupPlan::make`].
    first: Vec<Write>,
    writes: Vec<Write>,
    lines: Vec<(&'static str, String)>,
    filter: Option<Vec<Instruction>>,
    /// Without the right to load it, there is no filter.
    filter_may_fail: bool,
}

/// What is between a hierarchy's root and the group.
#[derive(Debug)]
enum Above {
    /// The instance's group, and what that leaves of the machine's memory.
    Instance { parent: PathBuf, reserve: Option<u64> },
    /// Whatever is missing on the way to this path.
    Levels { below: PathBuf },
}

/// v2's controllers that a group has without being asked: by them it is counted and shown.
const EXPECTED: [&str; 3] = ["cpu", "memory", "pids"];

impl GroupPlan {
    /// Decides; touches nothing. (A user's systemd is asked where its groups are.) Fails where a limit was asked for
    /// that this machine cannot give.
    ///
    /// On v1, a container of Dhow's own joins `devices`, `pids`, `memory`, `cpu` and `cpuacct`; one elsewhere joins
    /// `freezer` and `blkio` as well. Others are joined where a limit asks for them.
    pub fn new(
        hierarchy: &Hierarchy,
        location: &Location,
        resources: Option<&Resources>,
    ) -> Result<Self, Error> {
        let below = systemd::below_root(location)?;
        let none = Resources::default();
        let resources = resources.unwrap_or(&none);
        let requested = limits::settings(resources)?;
        let settings = &requested.settings;
        let rules = devices::resolve(&resources.devices)?;
        let foreign = !matches!(location, Location::Instance(_));
        let mut plan = Self {
            directories: Vec::with_capacity(8),
            below,
            kind: Kind::of(location),
            scope: None,
            owner: None,
            mark: None,
            notes: None,
            restricts_last: rules.hinder_making(),
            warnings: requested.ignored,
        };
        let writes = match &hierarchy.0 {
            Layout::V2 { root, .. } => {
                lists_all(hierarchy, settings)?;
                let writes = plan.possible(hierarchy, limits::v2(settings)?)?;
                let mut directory = plan.directory(root, location, None, true);
                directory.filter = rules.v2();
                directory.filter_may_fail = foreign && directory.filter.is_some() && !own::is_privileged();
                let own = !matches!(location, Location::Systemd { .. });
                let first = |w: &Write| own && w.file == "memory.max";
                (directory.first, directory.writes) = writes.iter().cloned().partition(first);
                if directory.filter_may_fail {
                    plan.warnings.push(
                        "only root can restrict devices: the container may open what its user may".to_owned(),
                    );
                }
                plan.directories.push(directory);
                writes
            }
            Layout::V1 { mounts, systemd, .. } => {
                let writes = plan.possible(hierarchy, limits::v1(settings)?)?;
                if hierarchy.mount(Controller::Devices).is_none() && !rules.allow_everything() {
                    plan.warnings
                        .push(lacks("devices", "the container may open every device node it can make"));
                }
                // Callers read accounts from the groups that the process is in: of what it reads and writes they would
                // find their own, or the machine's.
                let callers = [Controller::Freezer, Controller::Io].into_iter().filter(|_| foreign);
                let mut late: Vec<(Controller, PathBuf)> = Vec::new();
                for controller in callers.chain(writes.iter().map(|w| w.controller)) {
                    let known = mounts.iter().chain(&late).any(|(c, _)| *c == controller);
                    if !known && let Some(root) = hierarchy.mount(controller) {
                        late.push((controller, root));
                    }
                }
                for (controller, root) in mounts.iter().cloned().chain(late) {
                    let mut directory = plan.directory(&root, location, Some(controller), false);
                    if controller == Controller::Devices {
                        directory.lines = rules.v1()?;
                    }
                    // A hierarchy can have several controllers: each file goes where its own is mounted.
                    let here = |w: &&Write| hierarchy.mount(w.controller).as_ref() == Some(&root);
                    directory.writes = writes.iter().filter(here).cloned().collect();
                    plan.directories.push(directory);
                }
                if let Some(root) = systemd {
                    let directory = plan.directory(root, location, None, false);
                    plan.directories.push(directory);
                }
                writes
            }
        };
        plan.scope = Scope::of(location, &writes, &rules, hierarchy.is_v2())?;
        Ok(plan)
    }

    fn directory(
        &self,
        root: &Path,
        location: &Location,
        controller: Option<Controller>,
        v2: bool,
    ) -> DirectoryPlan {
        let above = match location {
            Location::Instance(placement) => {
                Above::Instance { parent: root.join(&placement.parent), reserve: placement.memory_reserve }
            }
            Location::Path(_) | Location::Systemd { .. } => Above::Levels { below: self.below.clone() },
        };
        DirectoryPlan {
            root: root.to_owned(),
            above,
            directory: Directory::new(root.join(&self.below), controller, v2),
            first: Vec::new(),
            writes: Vec::new(),
            lines: Vec::new(),
            filter: None,
            filter_may_fail: false,
        }
    }

    /// Sorts out what this machine cannot do: an error if it was asked for, a warning if it is our default.
    fn possible(&mut self, hierarchy: &Hierarchy, writes: Vec<Write>) -> Result<Vec<Write>, Error> {
        let mut possible = Vec::with_capacity(writes.len());
        for write in writes {
            match (hierarchy.mount(write.controller).is_some(), write.need) {
                (true, _) => possible.push(write),
                (false, Need::Asked) => {
                    let controller = controller_of(&write);
                    return Err(Error::Missing { limit: write.limit, controller });
                }
                (false, Need::Default) => {
                    let name = write.controller.v1_name();
                    self.warnings.push(lacks(name, &format!("the container has no {}", write.limit)));
                }
                (false, Need::Moot) => {}
            }
        }
        Ok(possible)
    }

    /// What is missing on this machine and was not asked for: lines for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Gives this user (on the host) the group's directory and the files by which groups below it are managed, on v2
    /// alone. For a container with a user namespace that sees its groups writable (config-linux.md, "Cgroup
    /// ownership").
    pub fn owned_by(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Takes the annotations `org.systemd.property.NAME` into account: `TimeoutStopUSec`, `TimeoutStopSec` and
    /// `CollectMode`. Others are ignored with a warning (CVE-2024-3154: a property can run a command as root). Nothing
    /// happens where systemd does not make the group.
    pub fn with_annotations(mut self, annotations: &BTreeMap<String, String>) -> Result<Self, Error> {
        if let Some(scope) = &mut self.scope {
            scope.annotate(annotations, &mut self.warnings)?;
        }
        Ok(self)
    }

    /// Marks the group as this container's ([`Group::bears`]), in place of whose it was before.
    pub(crate) fn marked(&mut self, mark: Mark) {
        self.mark = Some(mark);
    }

    /// Parents that are missing are noted in this file before they are made ([`super::remove_noted`]).
    pub(crate) fn noted_in(&mut self, file: PathBuf) {
        self.notes = Some(file);
    }

    /// True where systemd makes the group for a process that must be there: then [`make_for`](Self::make_for) it.
    pub fn needs_process(&self) -> bool {
        self.scope.is_some()
    }

    /// True where [`Part::Devices`] must wait until the container's own devices are made, if that is done in the group.
    pub(crate) fn restricts_last(&self) -> bool {
        self.restricts_last
    }

    /// [`make`](Self::make), then [`restrict`](Self::restrict). On failure nothing is left.
    pub fn create(&self) -> Result<Group, Error> {
        let group = self.make()?;
        self.restrict().inspect_err(|_| {
            // The cause is what counts; an empty group that stays does no harm.
            group.remove().ok();
        })?;
        Ok(group)
    }

    /// Makes the groups, still without limits, and what is above them where it is missing. On failure nothing is
    /// left.
    ///
    /// On v2 the limit of memory is set, into which a child is born at once: the kernel charges in advance, 64 pages
    /// for each CPU, as long as it may, and takes that back from another CPU too late. A small limit that came
    /// while the child already ran would be exceeded by what nobody uses, and kill it.
    ///
    /// # Errors
    /// Also where a group at a path is in use, and where systemd makes groups, since that needs a process.
    pub fn make(&self) -> Result<Group, Error> {
        if self.needs_process() {
            return Err(Error::Invalid { reason: "systemd makes groups for processes only" });
        }
        let group = self.make_directories()?;
        let first = || self.directories.iter().try_for_each(DirectoryPlan::restrict_first);
        self.set_mark(&group).and_then(|()| first()).inspect_err(|_| {
            // The cause is what counts; an empty group that stays does no harm.
            group.remove().ok();
        })?;
        Ok(group)
    }

    /// Makes the groups for a process, which exists and waits. Where systemd makes them it is then in (on v1 it has to
    /// join all the same), otherwise this is [`make`](Self::make).
    pub fn make_for(&self, pid: u32) -> Result<Group, Error> {
        let Some(scope) = &self.scope else { return self.make() };
        scope.start(pid)?;
        let made = if self.directories.iter().any(|d| d.directory.v2) {
            self.found_v2(pid)
        } else {
            self.make_directories()
        };
        made.and_then(|group| self.set_mark(&group).map(|()| group)).inspect_err(|_| {
            // The cause is what counts, and who started the process ends it.
            scope.unit().stop().ok();
        })
    }

    /// The group that systemd has made, which is where we expect it, with this process in it.
    fn found_v2(&self, pid: u32) -> Result<Group, Error> {
        let group = self.group(Vec::new());
        for plan in &self.directories {
            let list = super::files::read_text(&plan.directory.path.join("cgroup.procs")).unwrap_or_default();
            if !list.lines().any(|line| line.parse() == Ok(pid)) {
                return Err(Error::Elsewhere { path: plan.directory.path.clone() });
            }
            levels::ensure_controllers(&plan.root, &self.below, &plan.needed());
        }
        Ok(group)
    }

    fn set_mark(&self, group: &Group) -> Result<(), Error> {
        match (&self.mark, group.whole()) {
            (Some(mark), Some(directory)) => mark.set(&directory.path),
            _ => Ok(()),
        }
    }

    fn make_directories(&self) -> Result<Group, Error> {
        let mut parents = Parents { made: Vec::new(), file: self.notes.as_deref() };
        let mut new = Vec::with_capacity(self.directories.len());
        for plan in &self.directories {
            match plan.make(&mut parents) {
                Ok(true) => new.push(&plan.directory.path),
                Ok(false) => {}
                Err(error) => {
                    // What was there before stays: it is somebody's.
                    for path in new {
                        rustix::fs::rmdir(path).ok();
                    }
                    levels::remove_parents(&parents.made);
                    return Err(error);
                }
            }
        }
        Ok(self.group(parents.made))
    }

    /// Sets the limits and the device filter. Its own step, so that on v2 it can go on while a child that was born
    /// in the group mounts; nothing of the container may run before.
    pub fn restrict(&self) -> Result<(), Error> {
        self.restrict_part(Part::All)
    }

    /// The same in parts.
    pub(crate) fn restrict_part(&self, part: Part) -> Result<(), Error> {
        self.directories.iter().try_for_each(|directory| directory.restrict(part))?;
        if let Some(uid) = self.owner
            && part != Part::Devices
        {
            for plan in self.directories.iter().filter(|plan| plan.directory.v2) {
                own::hand_over(&plan.directory.path, uid)?;
            }
        }
        Ok(())
    }

    fn group(&self, made: Vec<PathBuf>) -> Group {
        Group {
            directories: self.directories.iter().map(|d| d.directory.clone()).collect(),
            below: self.below.clone(),
            made,
            kind: self.kind.clone(),
        }
    }

    /// The same as [`Group::join_self`], for a child that has the plan but not the group.
    pub fn join_self(&self) -> Result<(), Errno> {
        self.directories.iter().try_for_each(|d| write_to(CWD, &*d.directory.join, b"0"))
    }
}

fn lacks(controller: &str, consequence: &str) -> String {
    format!("this machine lacks the cgroup controller {controller}: {consequence}")
}

/// Whether v2 has every controller that is asked for by name.
pub(super) fn lists_all(hierarchy: &Hierarchy, settings: &[Setting]) -> Result<(), Error> {
    for (controller, file) in limits::named(settings) {
        if controller != Controller::Core.v1_name() && !hierarchy.lists(controller) {
            return Err(Error::Missing {
                limit: format!("cgroup file {file}").into(),
                controller: controller.to_owned().into(),
            });
        }
    }
    Ok(())
}

impl DirectoryPlan {
    /// False where it was there already.
    fn make(&self, parents: &mut Parents<'_>) -> Result<bool, Error> {
        let path = &self.directory.path;
        match &self.above {
            Above::Instance { .. } => {
                let new = match mkdir(path, Mode::from_raw_mode(0o755)) {
                    // The same container started before; or the hierarchy is known under two names.
                    Ok(()) => true,
                    Err(Errno::EXIST) => false,
                    Err(Errno::NOENT) => self.make_below_new_parent()?,
                    Err(error) => return Err(error).at("create the cgroup", path).map_err(Error::File),
                };
                // The parent may have been made by an update, for a container that ran already: then it gives nothing on.
                if !self.directory.v2
                    && let Ok(below) = path.strip_prefix(&self.root)
                {
                    levels::prepare_v1(&self.root, below, self.directory.controller);
                }
                Ok(new)
            }
            Above::Levels { below } => {
                let new = levels::make(&self.root, below, parents)?;
                if self.directory.v2 {
                    levels::ensure_controllers(&self.root, below, &self.needed());
                } else {
                    levels::prepare_v1(&self.root, below, self.directory.controller);
                }
                Ok(new)
            }
        }
    }

    /// v2's controllers by name.
    fn needed(&self) -> Vec<&str> {
        let named =
            self.first.iter().chain(&self.writes).map(|w| w.file.split('.').next().unwrap_or_default());
        EXPECTED.into_iter().chain(named.filter(|name| *name != Controller::Core.v1_name())).collect()
    }

    fn restrict_first(&self) -> Result<(), Error> {
        if self.first.is_empty() {
            return Ok(());
        }
        let directory = open_directory(&self.directory.path).at("open the cgroup", &self.directory.path)?;
        write_limits(&directory, &self.first, || self.repair())
    }

    fn restrict(&self, part: Part) -> Result<(), Error> {
        let writes = if part == Part::Devices { &[][..] } else { &self.writes };
        let (lines, filter) = match part {
            Part::Limits => (&[][..], None),
            _ => (&self.lines[..], self.filter.as_ref()),
        };
        if writes.is_empty() && lines.is_empty() && filter.is_none() {
            return Ok(());
        }
        let directory = open_directory(&self.directory.path).at("open the cgroup", &self.directory.path)?;
        write_limits(&directory, writes, || self.repair())?;
        devices::write_v1(&directory, lines)?;
        if let Some(filter) = filter {
            self.attach(&directory, filter)?;
        }
        Ok(())
    }

    fn attach(&self, directory: &OwnedFd, filter: &[Instruction]) -> Result<(), Error> {
        let attached = sys::bpf::load_device_filter(filter)
            .and_then(|program| sys::bpf::attach_device_filter(directory.as_fd(), program.as_fd()));
        match attached {
            Err(e)
                if self.filter_may_fail && matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES)) =>
            {
                Ok(())
            }
            other => other.map_err(|source| Error::Devices { source }),
        }
    }

    /// The parent was made by somebody who did not get to hand the controllers down.
    fn repair(&self) -> Result<bool, Error> {
        if !self.directory.v2 {
            return Ok(false);
        }
        match &self.above {
            Above::Instance { .. } => self.make_parent()?,
            Above::Levels { below } => levels::hand_down(&self.root, below),
        }
        Ok(true)
    }

    fn make_parent(&self) -> Result<(), Error> {
        let Above::Instance { parent, reserve } = &self.above else { return Ok(()) };
        let (controller, v2) = (self.directory.controller, self.directory.v2);
        parent::create(&self.root, parent, controller, v2, *reserve)
    }

    /// Another command may sweep the parent away at the very moment, when it finds it empty.
    fn make_below_new_parent(&self) -> Result<bool, Error> {
        const ATTEMPTS: u32 = 10;
        let mut attempt = 0;
        loop {
            self.make_parent()?;
            match mkdir(&self.directory.path, Mode::from_raw_mode(0o755)) {
                Err(Errno::NOENT) if attempt < ATTEMPTS => attempt += 1,
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => return Ok(false),
                Err(error) => {
                    return Err(error).at("create the cgroup", &self.directory.path).map_err(Error::File);
                }
            }
        }
    }
}

/// The controllers of v1 whose hierarchies the monitors join too: what they use counts, but not against the
/// containers' limit.
pub(super) const MONITORS: [Controller; 2] = [Controller::Memory, Controller::Pids];
