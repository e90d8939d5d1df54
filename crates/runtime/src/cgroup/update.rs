//! Other limits for a group that is in use: `update`.
//!
//! What is not asked for stays as it is. Nothing is rolled back where a limit is refused: what was written before is in
//! force, and the error says which one was not.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use base::fs::At as _;
use oci::runtime::Resources;
use rustix::fd::AsFd as _;
use rustix::fs::CWD;

use super::files::{controller_of, open_directory, read_text, write_limits, write_to};
use super::group::{Directory, Group, Kind};
use super::hierarchy::{Controller, Hierarchy};
use super::limits::{self, Need, Write};
use super::{Error, devices, levels, plan};

impl Group {
    /// Sets these limits. Device rules, where there are any, take the place of all that were there before.
    ///
    /// On v2 a memory limit below what is in use makes the kernel kill; `checkBeforeUpdate` refuses it instead. On v1
    /// the kernel refuses by itself. A hierarchy of v1 that the group is not in, but that a limit needs, is joined.
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        self.update_in(&Hierarchy::detect()?, resources)
    }

    /// The same, all or nothing: where a limit is refused, those that were written before it are put back.
    pub fn change(&self, resources: &Resources) -> Result<Changed, Error> {
        let hierarchy = Hierarchy::detect()?;
        let before = self.before(resources)?;
        match self.update_in(&hierarchy, resources) {
            Ok(()) => Ok(before),
            Err(error) => {
                before.undo();
                Err(error)
            }
        }
    }

    /// What the files say that this would write to.
    fn before(&self, resources: &Resources) -> Result<Changed, Error> {
        let requested = limits::settings(&self.completed(resources))?;
        let v2 = self.whole().is_some_and(|whole| whole.v2);
        let writes = if v2 { limits::v2(&requested.settings)? } else { limits::v1(&requested.settings)? };
        let mut files = Vec::new();
        for write in writes {
            let Some(directory) = self.place(write.controller) else { continue };
            let otherwise = write.otherwise.iter().map(|(file, _)| *file);
            for file in std::iter::once(&*write.file).chain(otherwise) {
                let path = directory.path.join(file);
                // Of several lines the first is the one for everything.
                let line = read_text(&path).and_then(|text| text.lines().next().map(str::to_owned));
                if let Some(line) = line.filter(|_| !files.iter().any(|(known, _)| *known == path)) {
                    files.push((path, line));
                }
            }
        }
        Ok(Changed(files))
    }

    pub(super) fn update_in(&self, hierarchy: &Hierarchy, resources: &Resources) -> Result<(), Error> {
        let Some(whole) = self.whole() else { return Ok(()) };
        if !whole.path.exists() {
            return Err(io::Error::from(io::ErrorKind::NotFound))
                .at("update the cgroup", &whole.path)
                .map_err(Error::File);
        }
        let resources = &self.completed(resources);
        let requested = limits::settings(resources)?;
        let mut writes = if whole.v2 {
            plan::lists_all(hierarchy, &requested.settings)?;
            limits::v2(&requested.settings)?
        } else {
            limits::v1(&requested.settings)?
        };
        let memory = resources.memory.as_ref();
        if !whole.v2 && memory.is_some_and(|m| m.disable_oom_killer == Some(false)) {
            // A new group has an OOM killer; this one may have been without.
            writes.push(Write {
                controller: Controller::Memory,
                file: Cow::Borrowed("memory.oom_control"),
                value: "0".to_owned(),
                otherwise: None,
                need: Need::Moot,
                limit: Cow::Borrowed("OOM killer"),
            });
        }
        if whole.v2 && memory.is_some_and(|m| m.check_before_update == Some(true)) {
            check_memory(whole, &writes)?;
        }
        if let Kind::Unit(unit) = &self.kind {
            unit.set(&writes)?;
        }
        self.write(hierarchy, &writes)?;
        if !resources.devices.is_empty() {
            self.update_devices(resources)?;
        }
        Ok(())
    }

    /// What the request leaves open, but has to be known to put it into files: swap is limited beside memory on v2, and
    /// the period of processor time is written with the quota.
    fn completed(&self, resources: &Resources) -> Resources {
        let mut resources = resources.clone();
        if let Some(memory) = &mut resources.memory
            && memory.swap.is_some_and(|s| s > 0)
            && memory.limit.is_none_or(|l| l == 0)
        {
            memory.limit = self.limits().memory.and_then(|bytes| i64::try_from(bytes).ok());
        }
        if let Some(cpu) = &mut resources.cpu
            && cpu.period.is_some_and(|p| p != 0)
            && cpu.quota.is_none_or(|q| q == 0)
        {
            cpu.quota = self.limits().cpu_quota.and_then(|quota| i64::try_from(quota).ok());
        }
        resources
    }

    fn write(&self, hierarchy: &Hierarchy, writes: &[Write]) -> Result<(), Error> {
        let mut rest: Vec<&Write> = writes.iter().collect();
        while let Some(first) = rest.first() {
            let controller = first.controller;
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|w| w.controller == controller);
            rest = later;
            let Some(directory) = self.place_for(hierarchy, now[0])? else { continue };
            let now: Vec<Write> = now.into_iter().cloned().collect();
            let open = open_directory(&directory.path).at("open the cgroup", &directory.path)?;
            write_limits(&open, &now, || Ok(self.repair(hierarchy, &directory)))?;
        }
        Ok(())
    }

    /// `None` where there is no such controller, and nobody asked for it.
    fn place_for(&self, hierarchy: &Hierarchy, write: &Write) -> Result<Option<Directory>, Error> {
        if let Some(directory) = self.place(write.controller) {
            return Ok(Some(directory.clone()));
        }
        match hierarchy.mount(write.controller) {
            Some(_) => self.join_late(hierarchy, write.controller, write.controller.v1_name()).map(Some),
            None if write.need == Need::Asked => {
                Err(Error::Missing { limit: write.limit.clone(), controller: controller_of(write) })
            }
            None => Ok(None),
        }
    }

    /// v2: a controller that nobody has handed down to this group yet.
    fn repair(&self, hierarchy: &Hierarchy, directory: &Directory) -> bool {
        let root = hierarchy.mount(Controller::Core).filter(|_| directory.v2);
        if let Some(root) = &root {
            levels::hand_down(root, &self.below);
        }
        root.is_some()
    }

    fn update_devices(&self, resources: &Resources) -> Result<(), Error> {
        let rules = devices::resolve(&resources.devices)?;
        let Some(directory) =
            self.directories.iter().find(|d| d.v2 || d.controller == Some(Controller::Devices))
        else {
            return Err(Error::Missing { limit: "device rules".into(), controller: "devices".into() });
        };
        let open = open_directory(&directory.path).at("open the cgroup", &directory.path)?;
        if !directory.v2 {
            let current = read_text(&directory.path.join("devices.list")).unwrap_or_default();
            return devices::write_v1(&open, &rules.v1_update(&current)?);
        }
        let failed = |source| Error::Devices { source };
        let old = sys::bpf::attached_device_filters(open.as_fd()).map_err(failed)?;
        // The new one first: in between both have to agree, and nothing is open that neither allows.
        if let Some(filter) = rules.v2() {
            let program = sys::bpf::load_device_filter(&filter).map_err(failed)?;
            sys::bpf::attach_device_filter(open.as_fd(), program.as_fd()).map_err(failed)?;
        }
        old.iter()
            .try_for_each(|old| sys::bpf::detach_device_filter(open.as_fd(), old.as_fd()))
            .map_err(failed)
    }
}

/// Limits that were changed, and what they were before.
#[derive(Debug)]
#[must_use = "it can be undone"]
pub struct Changed(Vec<(PathBuf, String)>);

impl Changed {
    /// Puts the limits back. What cannot be put back stays: a cause is being reported.
    pub fn undo(self) {
        // Some depend on each other, and are taken only after another.
        for _ in 0..2 {
            for (path, line) in self.0.iter().rev() {
                if read_text(path).is_some_and(|now| now.lines().next() != Some(line)) {
                    write_to(CWD, path, line.as_bytes()).ok();
                }
            }
        }
    }
}

fn check_memory(group: &Directory, writes: &[Write]) -> Result<(), Error> {
    let Some(write) = writes.iter().find(|w| w.file == "memory.max") else { return Ok(()) };
    let Ok(limit) = write.value.parse::<u64>() else { return Ok(()) };
    let used = read_text(&group.path.join("memory.current")).and_then(|text| text.trim().parse::<u64>().ok());
    match used {
        Some(used) if used > limit => Err(Error::Limit {
            limit: write.limit.clone(),
            value: write.value.clone(),
            source: io::Error::from_raw_os_error(libc::EBUSY),
        }),
        _ => Ok(()),
    }
}
