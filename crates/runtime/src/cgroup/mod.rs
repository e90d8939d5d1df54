//! Control groups: a container's limits, the list of its processes, and its wall before device nodes.
//!
//! ```text
//!   /sys/fs/cgroup[/CONTROLLER]
//!     dhow/               the instance's group: all containers together stop short of the machine
//!       <container id>/   one container's limits
//!     dhow-monitors/      the monitors, beside the limit, not under it
//! ```
//!
//! v2 is the model: `limits` turns the specification into typed settings and those into files and values; v1 is
//! another column of the same table, and one such group per hierarchy. A launch decides first
//! ([`GroupPlan::new`]), then makes ([`GroupPlan::make`], [`GroupPlan::restrict`]), then the child joins: on v2 it is cloned into
//! [`Group::open_v2`], on v1 it moves itself ([`GroupPlan::join_self`]).
//!
//! Not here: systemd's own management of groups over D-Bus, and the statistics.

mod devices;
mod group;
mod hierarchy;
mod limits;
mod parent;
mod plan;

use std::io;
use std::path::PathBuf;

use base::{Failure, Kind};
use serde::{Deserialize, Serialize};

pub use self::group::{Group, Limits};
pub use self::hierarchy::Hierarchy;
pub use self::parent::{join_monitors, open_monitors_v2, parent_limits, planned_parent_limits, sweep_parent};
pub use self::plan::GroupPlan;

/// Where a container's group lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The instance's group, which holds all containers together: `Instance::global_name()`.
    pub parent: String,
    /// The container's own: its id.
    pub name: String,
    /// Bytes of the machine's memory that all containers together must leave; none: 5 %, at least 512 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reserve: Option<u64>,
}

impl Placement {
    fn check(&self) -> Result<(), Error> {
        check_name(&self.parent)?;
        check_name(&self.name)
    }
}

/// A name is one directory: it must not lead anywhere else.
fn check_name(name: &str) -> Result<(), Error> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
    if plain && !name.is_empty() && name.len() <= 128 && !name.starts_with('.') {
        Ok(())
    } else {
        Err(Error::Invalid { reason: "a cgroup's name has other than letters, digits and -_.:" })
    }
}

/// A failure around control groups.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// The request makes no sense.
    #[error("the limits make no sense: {reason}")]
    Invalid {
        /// Why.
        reason: &'static str,
    },
    /// A limit was asked for that this machine cannot give.
    #[error("cannot set the {limit}: this machine lacks the cgroup controller {controller}, or part of it")]
    Missing {
        /// What the user calls it.
        limit: &'static str,
        /// The kernel's name.
        controller: &'static str,
    },
    /// The kernel does not take a limit.
    #[error("cannot set the {limit} to {value:?}")]
    Limit {
        /// What the user calls it.
        limit: &'static str,
        /// What was written.
        value: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The device filter could not be set. A container is not run without.
    #[error("cannot restrict the container's devices")]
    Devices {
        /// What the kernel said.
        source: io::Error,
    },
    /// Processes that survive SIGKILL for seconds.
    #[error("processes in {} have been killed but do not end", path.display())]
    Undying {
        /// The group.
        path: PathBuf,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::Invalid { .. } => Kind::Invalid,
            Self::Missing { .. } => Kind::Unsupported,
            Self::Limit { source, .. } => match source.raw_os_error() {
                Some(libc::EINVAL | libc::ERANGE) => Kind::Invalid,
                Some(libc::EBUSY | libc::ENOSPC) => Kind::Exhausted,
                _ => base::failure::kind_of_io(source),
            },
            Self::Devices { source } => base::failure::kind_of_io(source),
            Self::Undying { .. } => Kind::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::File(e) => e.hints(),
            Self::Missing { controller, .. } => vec![format!(
                "run without this limit, or boot a kernel with the cgroup controller {controller} enabled"
            )],
            Self::Undying { .. } => {
                vec!["look for processes in state D: they wait for a device or a file server".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
