//! What is run, as whom, with which rights (config.md, "Process").

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::nullable;

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// With a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// The terminal's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// As whom.
    #[serde(default)]
    pub user: User,
    /// The command line.
    #[serde(default, deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// The five capability sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Sets `no_new_privs`.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// The AppArmor profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// `/proc/self/oom_score_adj`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// How its processor time is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The SELinux label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// How its disk accesses are scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// On which CPUs a further command starts and runs. Not for a container's first process.
    #[serde(default, rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// `sched_setattr(2)`, in its words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_OTHER`, `SCHED_FIFO`, …
    pub policy: String,
    /// -20 to 19.
    #[serde(default)]
    pub nice: i32,
    /// Of the realtime policies.
    #[serde(default)]
    pub priority: i32,
    /// `SCHED_FLAG_RESET_ON_FORK`, …
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Nanoseconds per period, of `SCHED_DEADLINE`.
    #[serde(default)]
    pub runtime: u64,
    /// Nanoseconds, likewise.
    #[serde(default)]
    pub deadline: u64,
    /// Nanoseconds, likewise.
    #[serde(default)]
    pub period: u64,
}

/// `ioprio_set(2)`, in its words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE`, `IOPRIO_CLASS_IDLE`.
    pub class: String,
    /// 0 (first) to 7.
    #[serde(default)]
    pub priority: i32,
}

/// Lists of CPUs, `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// Before it joins the container's cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// Afterwards.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// As whom a process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// User id.
    #[serde(default)]
    pub uid: u32,
    /// Group id.
    #[serde(default)]
    pub gid: u32,
    /// The umask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// Where it is not resolved yet: `name`, `name:group`, `uid:gid`, … as Docker's `--user` takes it. The
    /// runtime looks names up in the container's own `/etc/passwd` and `/etc/group`. (The specification has
    /// this field for Windows alone; ours is an extension between our own parts.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Further groups, as names or numbers, where there is a [`username`](Self::username): looked up likewise.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub additional_groups: Vec<String>,
}

/// The five capability sets, as names (`CAP_CHOWN`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding.
    #[serde(default, deserialize_with = "nullable")]
    pub bounding: Vec<String>,
    /// Effective.
    #[serde(default, deserialize_with = "nullable")]
    pub effective: Vec<String>,
    /// Inheritable.
    #[serde(default, deserialize_with = "nullable")]
    pub inheritable: Vec<String>,
    /// Permitted.
    #[serde(default, deserialize_with = "nullable")]
    pub permitted: Vec<String>,
    /// Ambient.
    #[serde(default, deserialize_with = "nullable")]
    pub ambient: Vec<String>,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Soft.
    pub soft: u64,
    /// Hard.
    pub hard: u64,
}
