//! Control groups: a container's limits, the list of its processes, and its wall before device nodes.
//!
//! ```text
//!   /sys/fs/cgroup[/CONTROLLER]
//!     dhow/               the instance's group: all containers together stop short of the machine
//!       <container id>/   one container's limits
//!     dhow-monitors/      the monitors, beside the limit, not under it
//! ```
//!
//! A container of others lies where its specification says, or where systemd puts it: see [`Location`].
//!
//! v2 is the model: `limits` turns the specification into typed settings and those into files and values; v1 is
//! another column of the same table, and one such group per hierarchy; systemd's properties are made from what goes to
//! the files. A launch decides first ([`GroupPlan::new`]), then makes ([`GroupPlan::make`], [`GroupPlan::restrict`]),
//! then the child joins: on v2 it is cloned into [`Group::open_v2`], on v1 it moves itself
//! ([`GroupPlan::join_self`]). systemd takes a process that exists ([`GroupPlan::make_for`]).
//!
//! A group that exists is a [`Group`]: `processes` lists and kills, `freezer` stops, `update` changes limits, `stats`
//! counts. What a later process needs to do so is its [`Record`].

mod devices;
mod files;
mod freezer;
mod group;
mod hierarchy;
mod in_force;
mod levels;
mod limits;
mod location;
mod mark;
mod own;
mod parent;
mod plan;
mod processes;
pub mod stats;
mod systemd;
mod update;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use base::{Failure, Kind};

pub use self::group::{Group, Record};
pub use self::hierarchy::Hierarchy;
pub use self::in_force::Limits;
pub use self::levels::remove_noted;
pub use self::limits::asks_for_limits;
pub use self::location::{Location, Placement};
pub use self::mark::Mark;
pub use self::own::{Possibility, beside_own, possibility};
pub use self::parent::{
    join_monitors, leave, open_monitors_v2, parent_limits, planned_parent_limits, sweep_parent,
};
pub use self::plan::GroupPlan;
pub(crate) use self::plan::Part;
pub use self::stats::Stats;
pub use self::systemd::BusError;
pub use self::update::Changed;

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
        limit: Cow<'static, str>,
        /// The kernel's name.
        controller: Cow<'static, str>,
    },
    /// The kernel does not take a limit.
    #[error("cannot set the {limit} to {value:?}")]
    Limit {
        /// What the user calls it.
        limit: Cow<'static, str>,
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
    /// A group at a path that has processes, or is frozen.
    #[error("the cgroup {} is in use: it has processes or is frozen", path.display())]
    InUse {
        /// The group.
        path: PathBuf,
    },
    /// Processes that do not stand still.
    #[error("processes in {} do not freeze", path.display())]
    Restless {
        /// The group.
        path: PathBuf,
    },
    /// systemd has made a group, but not where its rules say.
    #[error("systemd has not put the container into {}", path.display())]
    Elsewhere {
        /// Where it should be.
        path: PathBuf,
    },
    /// systemd, or the way to it.
    #[error(transparent)]
    Systemd(#[from] BusError),
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
            Self::Missing { .. } | Self::Elsewhere { .. } => Kind::Unsupported,
            Self::Limit { source, .. } => match source.raw_os_error() {
                Some(libc::EINVAL | libc::ERANGE) => Kind::Invalid,
                Some(libc::EBUSY | libc::ENOSPC) => Kind::Exhausted,
                _ => base::failure::kind_of_io(source),
            },
            Self::Devices { source } => base::failure::kind_of_io(source),
            Self::InUse { .. } => Kind::Conflict,
            Self::Systemd(e) => e.kind(),
            Self::Undying { .. } | Self::Restless { .. } => Kind::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::File(e) => e.hints(),
            Self::Missing { controller, .. } => vec![format!(
                "run without this limit, or boot a kernel with the cgroup controller {controller} enabled"
            )],
            Self::Systemd(e) => e.hints(),
            Self::Undying { .. } | Self::Restless { .. } => {
                vec!["look for processes in state D: they wait for a device or a file server".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
