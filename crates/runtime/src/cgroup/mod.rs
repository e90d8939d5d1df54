//! Control groups.

use std::os::fd::OwnedFd;

use base::{Failure, Kind};
use oci::runtime::Resources;
use serde::{Deserialize, Serialize};

/// How this machine's control groups are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {}

impl Hierarchy {
    /// Looks at the machine.
    pub fn detect() -> Result<Self, Error> {
        todo!()
    }

    /// True on a machine with v2 alone, where a child can be cloned into its group.
    pub fn is_v2(&self) -> bool {
        todo!()
    }
}

/// Where a container's group lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The instance's group, which holds all containers together: `Instance::global_name()`.
    pub parent: String,
    /// The container's own: its id.
    pub name: String,
}

/// What will be written where.
#[derive(Debug)]
pub struct GroupPlan {}

impl GroupPlan {
    /// Decides; touches nothing. Fails where a limit was asked for that this machine cannot give.
    pub fn new(
        _hierarchy: &Hierarchy,
        _placement: &Placement,
        _resources: Option<&Resources>,
    ) -> Result<Self, Error> {
        todo!()
    }

    /// What is missing on this machine and was not asked for: lines for the user.
    pub fn warnings(&self) -> &[String] {
        todo!()
    }

    /// Makes the groups and sets their limits.
    pub fn create(&self) -> Result<Group, Error> {
        todo!()
    }
}

/// A container's group that exists.
#[derive(Debug)]
pub struct Group {}

impl Group {
    /// The group of a container that ran before, whatever is left of it.
    pub fn existing(_hierarchy: &Hierarchy, _placement: &Placement) -> Self {
        todo!()
    }

    /// Moves a process in.
    pub fn join(&self, _pid: u32) -> Result<(), Error> {
        todo!()
    }

    /// On v2: the directory, for `CLONE_INTO_CGROUP`.
    pub fn open_v2(&self) -> Option<OwnedFd> {
        todo!()
    }

    /// Kills every process in it, also those that are being forked.
    pub fn kill(&self) -> Result<(), Error> {
        todo!()
    }

    /// True if the kernel killed a process in it for want of memory.
    pub fn oom_killed(&self) -> bool {
        todo!()
    }

    /// Removes it, with what the container made below it.
    pub fn remove(&self) -> Result<(), Error> {
        todo!()
    }

    /// The limits in force, read back.
    pub fn limits(&self) -> Limits {
        todo!()
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

/// The limits in force on an instance's group: all containers together.
pub fn parent_limits(_hierarchy: &Hierarchy, _parent: &str) -> Limits {
    todo!()
}

/// Moves the calling process into the monitors' group, beside the limited parent.
pub fn join_monitors(_hierarchy: &Hierarchy, _parent: &str) -> Result<(), Error> {
    todo!()
}

/// On v2: the monitors' group's directory (made if missing), for `CLONE_INTO_CGROUP`.
pub fn open_monitors_v2(_hierarchy: &Hierarchy, _parent: &str) -> Result<Option<OwnedFd>, Error> {
    todo!()
}

/// Removes the instance's group and its monitors' group if nothing is in them. True if they are gone.
pub fn sweep_parent(_hierarchy: &Hierarchy, _parent: &str) -> Result<bool, Error> {
    todo!()
}

/// A failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file.
    #[error(transparent)]
    File(#[from] base::fs::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
        }
    }
}
