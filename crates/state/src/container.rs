//! The records of a container: what it is, that it runs, how it ended.
//!
//! | file | where | written by | says |
//! |---|---|---|---|
//! | `record.json` | ROOT/containers/ID | the command that creates it, and those that change it | what was asked and resolved |
//! | `exit.json` | ROOT/containers/ID | the monitor (or whoever finds it dead) | how the last run ended; on a full disk in RUN: [`crate::exit`] |
//! | `live.json` | RUN/containers/ID | the monitor | that it runs, since when, as which process |
//! | `health.json` | RUN/containers/ID | the monitor | what the probes of its health have found |
//! | `paused` | RUN/containers/ID | `pause` | that it stands still |
//!
//! A container's status follows from which of them exist and whether the live directory's lock is held: see
//! [`Status::of`].

use std::net::{Ipv4Addr, Ipv6Addr};

use base::{Digest, Id, Kind, Timestamp};
use serde::{Deserialize, Serialize};

use crate::options::{ContainerOptions, ExposedPort, HealthCheck, PortMapping};

/// The newest record format that this code reads and the one that it writes.
pub const FORMAT: u32 = 1;

/// What a container is. Written when it is created, and replaced by `rename`, `update` and `set`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`] of the writer; a reader refuses what is newer than itself.
    pub format: u32,
    /// The id.
    pub id: Id,
    /// The name, which `names/containers/<name>` claims for the id.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image it was made from.
    pub image: ImageUsed,
    /// Entrypoint and command as they run.
    pub args: Vec<String>,
    /// What was asked.
    pub options: ContainerOptions,
    /// It was created to be started later: one that removes itself waits for that.
    #[serde(default)]
    pub waits: bool,
    /// What follows from that: environment, user, working directory, stop signal as resolved with the image.
    pub resolved: Resolved,
}

/// The image a container was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUsed {
    /// As the user wrote it.
    pub reference: String,
    /// The digest of its configuration: Docker's image id.
    pub id: Digest,
    /// The unpacked layers, lowest first: they are in use as long as the container exists.
    pub layers: Vec<Digest>,
}

impl Record {
    /// The images that it uses: the one it was made from, and those that it mounts.
    pub fn images(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.image.id).chain(self.options.image_mounts.iter().filter_map(|m| m.id.as_ref()))
    }

    /// Their layers, lowest first: what must stay as long as the container exists.
    pub fn stacks(&self) -> impl Iterator<Item = &[Digest]> {
        let mounted = self.options.image_mounts.iter().map(|mount| &mount.layers[..]);
        std::iter::once(&self.image.layers[..]).chain(mounted)
    }

    /// All of these layers.
    pub fn layers(&self) -> impl Iterator<Item = &Digest> {
        self.stacks().flatten()
    }
}

/// Options and image's defaults, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The environment.
    pub env: Vec<String>,
    /// `name|uid[:group|gid]`, maybe empty.
    pub user: String,
    /// The working directory.
    pub working_dir: String,
    /// The host name.
    pub hostname: String,
    /// The signal number that asks it to stop.
    pub stop_signal: i32,
    /// Seconds that it has to heed it.
    pub stop_timeout: u64,
    /// The capabilities it has, as `CAP_…`.
    pub capabilities: Vec<String>,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// How its health is looked at, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// The ports on which it listens, by its image and `--expose`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<ExposedPort>,
}

/// That a container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The monitor's process id.
    pub monitor_pid: u32,
    /// The process id of the container's init, on the host.
    pub pid: u32,
    /// When the command was executed.
    pub started: Timestamp,
    /// Its address on the bridge.
    pub address: Option<Address>,
    /// The ports as published, none of them 0.
    pub ports: Vec<PortMapping>,
    /// Those on all addresses are on the host's of IPv6, too.
    #[serde(default)]
    pub ports_on_ipv6: bool,
    /// How often its monitor has started it again.
    #[serde(default)]
    pub restarts: u32,
    /// Its command has ended, and its monitor waits to start it again.
    #[serde(default)]
    pub restarting: bool,
    /// [`crate::protocol::VERSION`] of its monitor; 0: of the first one, which did not say.
    #[serde(default)]
    pub protocol: u32,
}

impl Live {
    /// The ports as people are to see them: one that is on all addresses of both versions of the protocol is shown twice.
    pub fn shown_ports(&self) -> Vec<PortMapping> {
        let on_ipv6 = |port: &PortMapping| {
            let everywhere = self.ports_on_ipv6 && port.host_ip.is_none();
            everywhere.then(|| PortMapping { host_ip: Some(Ipv6Addr::UNSPECIFIED.into()), ..port.clone() })
        };
        self.ports.iter().flat_map(|port| [Some(port.clone()), on_ipv6(port)]).flatten().collect()
    }
}

/// An address on a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// `02:42:…`.
    pub mac: String,
}

/// How the last run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The exit code as Docker counts: the command's own, or 128 and the signal.
    pub code: i32,
    /// The kernel's OOM killer struck in its cgroup.
    pub oom_killed: bool,
    /// When it had been started, if it had.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
    /// What went wrong outside the container, if something did.
    pub error: Option<String>,
    /// It was asked to: `unless-stopped` does not start it when the machine comes up.
    #[serde(default)]
    pub stopped: bool,
    /// How often its monitor had started it again.
    #[serde(default)]
    pub restarts: u32,
    /// What its probes had found by then, where its health is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl Exit {
    /// The exit code of a container that could not be started, as shells count.
    pub fn code_of_failed_start(kind: Kind) -> i32 {
        match kind {
            Kind::CommandNotFound => 127,
            Kind::CommandNotExecutable => 126,
            _ => 128,
        }
    }
}

/// What is known of a running container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What follows from the probes.
    pub status: HealthStatus,
    /// So many failed in a row.
    pub failing_streak: u32,
    /// The last of them, oldest first.
    pub log: Vec<Probe>,
}

/// Docker's three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Not known yet.
    #[default]
    Starting,
    /// The last probe was good.
    Healthy,
    /// Too many in a row were not.
    Unhealthy,
}

impl HealthStatus {
    /// As Docker writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One probe of a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When it was started.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0: healthy; -1: it took too long or could not be started.
    pub exit_code: i32,
    /// The beginning of what it said.
    pub output: String,
}

/// The state a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, never started (or being started right now).
    Created,
    /// Its command runs.
    Running,
    /// Its command stands still until it is unpaused.
    Paused,
    /// Its command has ended and is about to be started again.
    Restarting,
    /// Its command has ended.
    Exited,
    /// Its monitor died: whatever it held must be released, then it is `Exited`.
    Dead,
}

impl Status {
    /// Whether a monitor keeps it: it runs, stands still, or comes back.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// As Docker writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// What the files and the lock say together.
    ///
    /// `live`: `live.json` exists. `owned`: somebody holds the live directory's lock. `live_dir`: that
    /// directory exists. `exit`: `exit.json` exists.
    #[expect(
        clippy::fn_params_excessive_bools,
        reason = "each is the presence of one file, as the table above has them"
    )]
    pub fn of(live_dir: bool, live: bool, owned: bool, exit: bool) -> Self {
        match (live_dir, live, owned, exit) {
            (true, true, true, _) => Self::Running,
            (true, _, false, _) => Self::Dead,
            (false, _, _, true) => Self::Exited,
            // Being started right now, or never started.
            (true, false, true, _) | (false, _, _, false) => Self::Created,
        }
    }
}

/// The names of the files.
pub mod file {
    /// [`super::Record`].
    pub const RECORD: &str = "record.json";
    /// [`super::Exit`].
    pub const EXIT: &str = "exit.json";
    /// [`super::Live`].
    pub const LIVE: &str = "live.json";
    /// The monitor's request; whoever finds the monitor dead reads from it what must be released.
    pub const REQUEST: &str = "request.json";
    /// The monitor's socket.
    pub const SOCKET: &str = "socket";
    /// [`super::Health`], in the live directory.
    pub const HEALTH: &str = "health.json";
    /// In the live directory, empty: it is paused.
    pub const PAUSED: &str = "paused";
    /// In the live directory: the name that it has got since it was started.
    pub const RENAMED: &str = "name";
    /// In the live directory: the limits (`linux.resources`) that have taken the place of the request's.
    pub const RESOURCES: &str = "resources.json";
    /// The writable layer.
    pub const UPPER: &str = "upper";
    /// Overlayfs' own.
    pub const WORK: &str = "work";
    /// The log of the driver `json-file`.
    pub const LOG: &str = "log.json";
    /// The log of the driver `local`.
    pub const LOCAL_LOG: &str = "log.local";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_from_the_files_and_the_lock() {
        assert_eq!(Status::of(true, true, true, false), Status::Running);
        assert_eq!(Status::of(true, false, true, false), Status::Created, "being started");
        assert_eq!(Status::of(true, true, false, false), Status::Dead, "the monitor was killed");
        assert_eq!(Status::of(true, false, false, true), Status::Dead, "the starter was killed");
        assert_eq!(Status::of(false, false, false, true), Status::Exited);
        assert_eq!(Status::of(false, false, false, false), Status::Created);
    }
}
