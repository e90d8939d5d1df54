//! `info`: what this machine gives and what is in force.

use serde::Serialize;

use crate::Engine;
use crate::error::{Result, unbuilt};

/// The engine's view of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Containers altogether.
    pub containers: u64,
    /// Those that run.
    pub containers_running: u64,
    /// Those that do not.
    pub containers_stopped: u64,
    /// Images.
    pub images: u64,
    /// Our version.
    pub server_version: String,
    /// How layers are mounted: `overlay`.
    pub storage_driver: String,
    /// How logs are written: `json-file`.
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
    /// What people should know.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Looks at the machine and the store.
    pub fn info(&self) -> Result<Info> {
        Err(unbuilt("info"))
    }
}
