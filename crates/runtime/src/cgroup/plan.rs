//! A container's group: decided before the launch, made during it.

use std::path::{Path, PathBuf};

use base::fs::At as _;
use oci::runtime::Resources;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, mkdir, openat};
use rustix::io::Errno;
use sys::bpf::Instruction;

use super::group::{Directory, Group};
use super::hierarchy::{Controller, Hierarchy, Layout};
use super::limits::{self, Need, Write};
use super::{Error, Placement, devices, parent};

/// What will be written where. Making it costs a few microseconds and touches nothing.
#[derive(Debug)]
pub struct GroupPlan {
    pub(super) directories: Vec<DirectoryPlan>,
    warnings: Vec<String>,
}

#[derive(Debug)]
pub(super) struct DirectoryPlan {
    /// Where the hierarchy is mounted.
    pub(super) root: PathBuf,
    /// The instance's group.
    pub(super) parent: PathBuf,
    pub(super) directory: Directory,
    /// What the instance's group leaves of the machine's memory.
    pub(super) reserve: Option<u64>,
    writes: Vec<Write>,
    lines: Vec<(&'static str, String)>,
    filter: Option<Vec<Instruction>>,
}

impl GroupPlan {
    /// Decides; touches nothing. Fails where a limit was asked for that this machine cannot give.
    pub fn new(
        hierarchy: &Hierarchy,
        placement: &Placement,
        resources: Option<&Resources>,
    ) -> Result<Self, Error> {
        placement.check()?;
        let none = Resources::default();
        let resources = resources.unwrap_or(&none);
        let settings = limits::settings(resources)?;
        let rules = devices::resolve(&resources.devices)?;
        let mut plan = Self { directories: Vec::with_capacity(6), warnings: Vec::new() };
        match &hierarchy.0 {
            Layout::V2 { root, .. } => {
                let mut directory = DirectoryPlan::new(root, placement, None, true);
                directory.filter = rules.v2();
                directory.writes = plan.possible(hierarchy, limits::v2(&settings))?;
                plan.directories.push(directory);
            }
            Layout::V1 { mounts, systemd, .. } => {
                let writes = plan.possible(hierarchy, limits::v1(&settings))?;
                if hierarchy.mount(Controller::Devices).is_none() && !rules.allow_everything() {
                    plan.warnings
                        .push(lacks("devices", "the container may open every device node it can make"));
                }
                let cpuset = writes.iter().any(|w| w.controller == Controller::Cpuset);
                let cpuset = cpuset.then(|| hierarchy.mount(Controller::Cpuset)).flatten();
                let cpuset = cpuset.map(|path| (Controller::Cpuset, path));
                for (controller, root) in mounts.iter().cloned().chain(cpuset) {
                    let mut directory = DirectoryPlan::new(&root, placement, Some(controller), false);
                    if controller == Controller::Devices {
                        directory.lines = rules.v1();
                    }
                    // A hierarchy can have several controllers: each file goes where its own is mounted.
                    let here = |w: &&Write| hierarchy.mount(w.controller).as_ref() == Some(&root);
                    directory.writes = writes.iter().filter(here).cloned().collect();
                    plan.directories.push(directory);
                }
                if let Some(root) = systemd {
                    plan.directories.push(DirectoryPlan::new(root, placement, None, false));
                }
            }
        }
        Ok(plan)
    }

    /// Sorts out what this machine cannot do: an error if it was asked for, a warning if it is our default.
    fn possible(&mut self, hierarchy: &Hierarchy, writes: Vec<Write>) -> Result<Vec<Write>, Error> {
        let mut possible = Vec::with_capacity(writes.len());
        for write in writes {
            let name = write.controller.v1_name();
            match (hierarchy.mount(write.controller).is_some(), write.need) {
                (true, _) => possible.push(write),
                (false, Need::Asked) => {
                    return Err(Error::Missing { limit: write.limit, controller: name });
                }
                (false, Need::Default) => {
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

    /// [`make`](Self::make), then [`restrict`](Self::restrict). On failure nothing is left.
    pub fn create(&self) -> Result<Group, Error> {
        let group = self.make()?;
        self.restrict().inspect_err(|_| {
            // The cause is what counts; an empty group that stays does no harm.
            group.remove().ok();
        })?;
        Ok(group)
    }

    /// Makes the groups, still without limits, and the instance's group above them where it is missing. On
    /// failure nothing is left.
    pub fn make(&self) -> Result<Group, Error> {
        let group = self.group();
        self.directories.iter().try_for_each(DirectoryPlan::make).inspect_err(|_| {
            group.remove().ok();
        })?;
        Ok(group)
    }

    /// Sets the limits and the device filter. Its own step, so that on v2 it can go on while a child that was born
    /// in the group mounts; nothing of the container may run before.
    pub fn restrict(&self) -> Result<(), Error> {
        self.directories.iter().try_for_each(DirectoryPlan::restrict)
    }

    fn group(&self) -> Group {
        Group::of(self.directories.iter().map(|d| d.directory.clone()).collect())
    }

    /// The same as [`Group::join_self`], for a child that has the plan but not the group.
    pub fn join_self(&self) -> Result<(), Errno> {
        self.directories.iter().try_for_each(|d| write_to(CWD, &*d.directory.join, b"0"))
    }
}

fn lacks(controller: &str, consequence: &str) -> String {
    format!("this machine lacks the cgroup controller {controller}: {consequence}")
}

impl DirectoryPlan {
    fn new(root: &Path, placement: &Placement, controller: Option<Controller>, v2: bool) -> Self {
        let parent = root.join(&placement.parent);
        let directory = Directory::new(parent.join(&placement.name), controller, v2);
        let root = root.to_owned();
        let reserve = placement.memory_reserve;
        Self { root, parent, directory, reserve, writes: Vec::new(), lines: Vec::new(), filter: None }
    }

    fn make(&self) -> Result<(), Error> {
        const MODE: Mode = Mode::from_raw_mode(0o755);
        match mkdir(&self.directory.path, MODE) {
            // The same container started before; or the hierarchy is known under two names.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(Errno::NOENT) => self.make_below_new_parent(),
            Err(error) => Err(error).at("create the cgroup", &self.directory.path).map_err(Error::File),
        }
    }

    fn restrict(&self) -> Result<(), Error> {
        if self.writes.is_empty() && self.lines.is_empty() && self.filter.is_none() {
            return Ok(());
        }
        let directory = openat(
            CWD,
            &self.directory.path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at("open the cgroup", &self.directory.path)?;
        for write in &self.writes {
            self.apply(&directory, write)?;
        }
        for (file, line) in &self.lines {
            match write_to(&directory, *file, line.as_bytes()) {
                Ok(()) => {}
                // The group above us does not allow it, so we are in somebody's container ourselves: the device
                // stays forbidden, as it is for us.
                Err(Errno::PERM) if *file == "devices.allow" => {}
                Err(source) => return Err(Error::Devices { source: source.into() }),
            }
        }
        if let Some(filter) = &self.filter {
            let program = sys::bpf::load_device_filter(filter).map_err(|source| Error::Devices { source })?;
            sys::bpf::attach_device_filter(directory.as_fd(), program.as_fd())
                .map_err(|source| Error::Devices { source })?;
        }
        Ok(())
    }

    /// Another command may sweep the parent away at the very moment, when it finds it empty.
    fn make_below_new_parent(&self) -> Result<(), Error> {
        const ATTEMPTS: u32 = 10;
        let mut attempt = 0;
        loop {
            parent::create(self)?;
            match mkdir(&self.directory.path, Mode::from_raw_mode(0o755)) {
                Err(Errno::NOENT) if attempt < ATTEMPTS => attempt += 1,
                Ok(()) | Err(Errno::EXIST) => return Ok(()),
                Err(error) => {
                    return Err(error).at("create the cgroup", &self.directory.path).map_err(Error::File);
                }
            }
        }
    }

    fn apply(&self, directory: &OwnedFd, write: &Write) -> Result<(), Error> {
        let mut written = write_to(directory, write.file, write.value.as_bytes());
        if written == Err(Errno::NOENT) && self.directory.v2 {
            // The parent was made by somebody who did not get to hand the controllers down.
            parent::create(self)?;
            written = write_to(directory, write.file, write.value.as_bytes());
        }
        match written {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) if write.need != Need::Asked => Ok(()),
            Err(Errno::NOENT) => {
                Err(Error::Missing { limit: write.limit, controller: write.controller.v1_name() })
            }
            Err(source) => {
                Err(Error::Limit { limit: write.limit, value: write.value.clone(), source: source.into() })
            }
        }
    }
}

/// Writes the whole of a cgroup's file at once, as the kernel wants it.
pub(super) fn write_to(
    directory: impl rustix::fd::AsFd,
    file: impl rustix::path::Arg,
    content: &[u8],
) -> Result<(), Errno> {
    let file = openat(directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_all(file.as_fd(), content)
}

fn write_all(file: BorrowedFd<'_>, content: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::io::write(file, content) {
            Err(Errno::INTR) => {}
            // A write to these files is taken whole or not at all.
            other => return other.map(|_| ()),
        }
    }
}

/// The controllers of v1 whose hierarchies the monitors join too: what they use counts, but not against the
/// containers' limit.
pub(super) const MONITORS: [Controller; 2] = [Controller::Memory, Controller::Pids];
