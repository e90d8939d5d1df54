//! What a monitor is told to do.

use std::collections::BTreeMap;

use base::Id;
use serde::{Deserialize, Serialize};
use state::Instance;
use state::options::{HealthCheck, RestartPolicy};

/// The version of [`Request`] and [`ExecRequest`]. A monitor takes requests only from the release that it
/// belongs to; the reconciler of a later release reads them to learn what must be released.
pub const REQUEST_VERSION: u32 = 1;

/// Start and keep a container. Written as `request.json` into the live directory, where it also tells whoever
/// finds the monitor dead what it held.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// [`REQUEST_VERSION`] of the writer.
    pub version: u32,
    /// Whose container it is.
    pub instance: Instance,
    /// The container.
    pub id: Id,
    /// Its name, released with it where `auto_remove` says so.
    pub name: String,
    /// What to run.
    pub bundle: runtime::Bundle,
    /// Its network.
    pub network: network::Plan,
    /// Its log; none: what it says is not kept.
    pub log: Option<logging::Config>,
    /// The program that sends its log to a collector, if it goes to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipper: Option<std::path::PathBuf>,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// Standard input stays open (`-i`).
    pub interactive: bool,
    /// Whether the door that starts it wants the streams.
    pub attach: bool,
    /// What becomes of it when its command ends.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How its health is looked at, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthRequest>,
    /// The signal that asks it to end.
    #[serde(default)]
    pub stop_signal: i32,
    /// Seconds that it has to heed it.
    #[serde(default)]
    pub stop_timeout: u64,
    /// What its events say of it beside its name: its image, its labels.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Its volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeUse>,
    /// Namespaces of other containers that it joins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Join>,
    /// What it is called on networks of its own, which then answers what it asks at 127.0.0.11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<state::netd::Registration>,
    /// Where it may go, where that is not everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<state::egress::link::Registration>,
}

/// What stands in a path below `/proc` for the process whose namespaces are joined: no process is called so, and the
/// path leads nowhere until it is known which it is.
pub const JOINED: &str = "joined";

/// A namespace of another container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Join {
    /// Which; with the one of IPC comes `/dev/shm`.
    pub kind: oci::runtime::NamespaceKind,
    /// Whose.
    pub container: Id,
}

/// A volume of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VolumeUse {
    /// Which.
    pub name: String,
    /// Where in the container.
    pub destination: std::path::PathBuf,
    /// It cannot be written to.
    pub read_only: bool,
    /// It was made for a container, and goes with that where `auto_remove` says so.
    pub anonymous: bool,
    /// It is mounted on the host while this container, or another one, runs.
    pub mounted: bool,
}

/// How the health of a container is looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthRequest {
    /// When, and what follows.
    pub check: HealthCheck,
    /// The command of a probe.
    pub process: oci::runtime::Process,
    /// A compiled system call filter for it.
    pub seccomp: Option<std::path::PathBuf>,
}

/// Run a further command in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// [`REQUEST_VERSION`] of the writer.
    pub version: u32,
    /// Whose container it is.
    pub instance: Instance,
    /// The container.
    pub id: Id,
    /// The process id of the container's init, on the host.
    pub pid: u32,
    /// The command.
    pub process: oci::runtime::Process,
    /// A compiled system call filter.
    pub seccomp: Option<std::path::PathBuf>,
    /// The container's cgroup.
    pub cgroup: Option<runtime::cgroup::Location>,
    /// Standard input stays open (`-i`).
    pub interactive: bool,
    /// Nobody listens: output goes to `/dev/null`.
    pub detach: bool,
    /// What is written into the journal of events when it ends, with the time and the exit code of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<state::events::Event>,
}
