//! Containers whose namespaces another one shares (`--ipc`, `--pid` and `--network container:X`).

use base::{Failure, Kind};
use monitor::Join;
use oci::runtime::NamespaceKind;
use state::container::Status;
use state::options::{ContainerOptions, IpcMode, NetworkMode, PidMode};

use crate::Engine;
use crate::containers::list::JoinSummary;
use crate::containers::records;
use crate::error::Result;

/// A container that cannot be joined.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot join the {what} namespace of container {name}: it does not run")]
    NotRunning { what: &'static str, name: String },
    #[error("cannot join the IPC namespace of container {0}: it keeps that to itself")]
    NotShareable(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotRunning { name, .. } => vec![format!("start it first: dhow start {name}")],
            Self::NotShareable(_) => vec!["make it with --ipc shareable".to_owned()],
        }
    }
}

fn asked(options: &ContainerOptions) -> impl Iterator<Item = (NamespaceKind, &str)> {
    let ipc = match &options.namespaces.ipc {
        IpcMode::Container(name) => Some((NamespaceKind::Ipc, name.as_str())),
        _ => None,
    };
    let pid = match &options.namespaces.pid {
        PidMode::Container(name) => Some((NamespaceKind::Pid, name.as_str())),
        _ => None,
    };
    let network = match &options.network {
        NetworkMode::Container(name) => Some((NamespaceKind::Network, name.as_str())),
        _ => None,
    };
    ipc.into_iter().chain(pid).chain(network)
}

/// Whose namespaces a container lives in; who shares its processes first.
pub(crate) fn summary(options: &ContainerOptions) -> Vec<JoinSummary> {
    let name = |kind| match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "network",
        _ => "ipc",
    };
    let summary =
        |(kind, container): (_, &str)| JoinSummary { namespace: name(kind), container: container.to_owned() };
    let mut joins: Vec<JoinSummary> = asked(options).map(summary).collect();
    joins.reverse();
    joins
}

impl Engine {
    /// Refuses containers that are not there.
    pub(crate) fn check_joins(&self, options: &ContainerOptions) -> Result<()> {
        for (_, name) in asked(options) {
            records::find(&self.instance, name)?;
        }
        Ok(())
    }

    /// Containers that are to be started, those first that join no other: they may be started all at once, the rest in turn.
    pub fn start_order(&self, names: &[String]) -> (Vec<String>, Vec<String>) {
        let joins = |name: &&String| {
            // Who is not there is told so when it is started.
            self.find(name).is_ok_and(|found| asked(&found.record.options).next().is_some())
        };
        if names.len() < 2 {
            return (names.to_vec(), Vec::new());
        }
        let (joining, free): (Vec<&String>, Vec<&String>) = names.iter().partition(joins);
        (free.into_iter().cloned().collect(), joining.into_iter().cloned().collect())
    }

    /// What a container joins, which must run.
    pub(crate) fn joins(&self, options: &ContainerOptions) -> Result<Vec<Join>> {
        let mut joins = Vec::new();
        for (kind, name) in asked(options) {
            let found = self.find(name)?;
            if !matches!(found.status, Status::Running | Status::Paused) {
                let what = match kind {
                    NamespaceKind::Ipc => "IPC",
                    NamespaceKind::Network => "network",
                    _ => "PID",
                };
                return Err(Error::NotRunning { what, name: name.to_owned() }.into());
            }
            let private = matches!(found.record.options.namespaces.ipc, IpcMode::Private | IpcMode::None);
            if kind == NamespaceKind::Ipc && private {
                return Err(Error::NotShareable(name.to_owned()).into());
            }
            joins.push(Join { kind, container: found.record.id });
        }
        Ok(joins)
    }
}
