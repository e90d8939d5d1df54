//! `info`: what this machine gives and what is in force.

use std::path::Path;

use base::fs;
use runtime::{apparmor, cgroup};
use serde::Serialize;
use state::container::Status;

use crate::Engine;
use crate::config::Confinement;
use crate::error::Result;
use crate::system::version::version;

/// The engine's view of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Containers altogether.
    pub containers: u64,
    /// Those that run.
    pub containers_running: u64,
    /// Those that stand still.
    pub containers_paused: u64,
    /// Those that do not.
    pub containers_stopped: u64,
    /// Images.
    pub images: u64,
    /// Our version.
    pub server_version: String,
    /// How layers are mounted: `overlay`.
    pub storage_driver: String,
    /// How logs are written, unless a container says otherwise: `json-file`.
    pub logging_driver: String,
    /// `1`, `2`, or `1 (hybrid)`.
    pub cgroup_version: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// The distribution.
    pub operating_system: String,
    /// `x86_64`, …
    pub architecture: String,
    /// Processors.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes that all containers together may use.
    pub containers_memory_limit: Option<u64>,
    /// Where all containers' cgroups are.
    pub cgroup_parent: String,
    /// The default limit of processes; none: unlimited.
    pub default_pids_limit: Option<i64>,
    /// `seccomp (default profile)`, `no-new-privileges`, …
    pub security_options: Vec<String>,
    /// What survives a reboot.
    pub root_dir: String,
    /// What does not.
    pub run_dir: String,
    /// The default bridge's interface.
    pub bridge: String,
    /// The host's name.
    pub name: String,
    /// Entries of logs that wait to be sent to collectors.
    pub log_entries_pending: u64,
    /// Those that never will be: there were too many, or for too long nobody to take them.
    pub log_entries_dropped: u64,
    /// What people should know.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Looks at the machine and the store.
    pub fn info(&self) -> Result<Info> {
        let containers = self.containers(true)?;
        let count =
            |wanted: fn(Status) -> bool| containers.iter().filter(|c| wanted(c.status)).count() as u64;
        let paused = count(|status| status == Status::Paused);
        let up = count(Status::is_up);
        let mut images: Vec<_> = self.image_store()?.list()?.iter().map(|r| r.id).collect();
        images.sort_unstable();
        images.dedup();
        let kernel = rustix::system::uname();
        let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
        let hierarchy = cgroup::Hierarchy::detect()?;
        let parent = self.instance.global_name();
        let limits = cgroup::parent_limits(&hierarchy, &parent);
        let planned = cgroup::planned_parent_limits(self.config.memory_reserve);
        let mut warnings = Vec::new();
        if !hierarchy.is_v2() && !crate::containers::start::swap_is_accounted() {
            warnings.push("No swap limit support: -m bounds memory alone".to_owned());
        }
        if rustix::process::geteuid().is_root() && !may_raise_limits() {
            warnings.push("CAP_SYS_RESOURCE is missing: hard resource limits cannot be raised".to_owned());
        }
        let (log_entries_pending, log_entries_dropped) = self.shipping_totals();
        Ok(Info {
            log_entries_pending,
            log_entries_dropped,
            containers: containers.len() as u64,
            containers_running: up - paused,
            containers_paused: paused,
            containers_stopped: containers.len() as u64 - up,
            images: images.len() as u64,
            server_version: version().version.to_owned(),
            storage_driver: "overlay".to_owned(),
            logging_driver: self.config.log.driver.name().to_owned(),
            cgroup_version: cgroup_version(&hierarchy).to_owned(),
            kernel_version: text(kernel.release()),
            operating_system: distribution().unwrap_or_else(|| text(kernel.sysname())),
            architecture: text(kernel.machine()),
            cpus: processors().into(),
            memory_total: memory_total().unwrap_or(0),
            containers_memory_limit: limits.memory.or(planned.memory),
            cgroup_parent: parent,
            default_pids_limit: Some(self.config.pids_limit).filter(|limit| *limit > 0),
            security_options: self.security_options(),
            root_dir: self.instance.root().display().to_string(),
            run_dir: self.instance.run().display().to_string(),
            bridge: self.instance.bridge_name(),
            name: text(kernel.nodename()),
            warnings,
        })
    }

    fn security_options(&self) -> Vec<String> {
        let mut options = Vec::new();
        match &self.config.seccomp {
            Confinement::Default => options.push("seccomp (default profile)".to_owned()),
            Confinement::Unconfined => {}
            Confinement::Profile(path) => options.push(format!("seccomp ({path})")),
        }
        if apparmor::is_available() {
            match &self.config.apparmor {
                Confinement::Default => options.push(format!("apparmor ({})", apparmor::DEFAULT_PROFILE)),
                Confinement::Unconfined => {}
                Confinement::Profile(name) => options.push(format!("apparmor ({name})")),
            }
        }
        options.push("cgroup namespace".to_owned());
        if self.config.no_new_privileges {
            options.push("no-new-privileges".to_owned());
        }
        options
    }
}

/// How many processors there are for us.
pub(crate) fn processors() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count()).max(1)
}

fn cgroup_version(hierarchy: &cgroup::Hierarchy) -> &'static str {
    if hierarchy.is_v2() {
        return "2";
    }
    if Path::new("/sys/fs/cgroup/unified").is_dir() { "1 (hybrid)" } else { "1" }
}

fn memory_total() -> Option<u64> {
    let text = fs::read(Path::new("/proc/meminfo")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn distribution() -> Option<String> {
    let text = fs::read(Path::new("/etc/os-release")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// Whether we have CAP_SYS_RESOURCE (bit 24 of the effective set).
fn may_raise_limits() -> bool {
    let Ok(text) = fs::read(Path::new("/proc/self/status")) else { return true };
    let text = String::from_utf8_lossy(&text).into_owned();
    let bits = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    bits.and_then(|b| u64::from_str_radix(b.trim(), 16).ok()).is_none_or(|bits| bits >> 24 & 1 == 1)
}
