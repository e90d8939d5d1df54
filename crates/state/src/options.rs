//! What a user asks of a container, in Docker's terms, as all front doors hand it to the engine and as the
//! record keeps it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::mounts::{
    BindMount, IdKind, IdMap, ImageMount, Origin, Recursion, TmpfsMount, VolumeMount, VolumesFrom,
};

/// Everything that `run` and `create` may be told. `None` and empty mean: as the image or the defaults say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOptions {
    /// The image, as the user wrote it.
    pub image: String,
    /// The words after the image.
    pub command: Vec<String>,
    /// `--entrypoint`; one empty word clears the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `--name`.
    pub name: Option<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `-u`: `name|uid[:group|gid]`.
    pub user: Option<String>,
    /// `-w`.
    pub working_dir: Option<PathBuf>,
    /// `-e` and `--env-file`, resolved: `NAME=value`.
    pub env: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`: standard input stays open.
    pub interactive: bool,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--init`.
    pub init: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `-v` and `--mount` of what the host has.
    pub binds: Vec<BindMount>,
    /// `-v` and `--mount` of volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// `--mount` of images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_mounts: Vec<ImageMount>,
    /// `--volumes-from`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<VolumesFrom>,
    /// `--tmpfs`.
    pub tmpfs: Vec<TmpfsMount>,
    /// `--network`.
    pub network: NetworkMode,
    /// `-p`.
    pub ports: Vec<PortMapping>,
    /// `-m`, bytes.
    pub memory: Option<u64>,
    /// `--cpus`, in billionths of one processor.
    pub nano_cpus: Option<u64>,
    /// `--pids-limit`; -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// `--cap-add`, with or without `CAP_`, `ALL`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security: SecurityOptions,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--stop-timeout`, seconds.
    pub stop_timeout: Option<u64>,
}

impl ContainerOptions {
    /// Where something is mounted, whatever it is.
    pub fn destinations(&self) -> impl Iterator<Item = &Path> {
        let binds = self.binds.iter().map(|m| &m.destination);
        let volumes = self.volumes.iter().map(|m| &m.destination);
        let images = self.image_mounts.iter().map(|m| &m.destination);
        let tmpfs = self.tmpfs.iter().map(|m| &m.destination);
        binds.chain(volumes).chain(images).chain(tmpfs).map(PathBuf::as_path)
    }
}

/// `--network`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The default bridge.
    #[default]
    Bridge,
    /// The host's own namespace.
    Host,
    /// Loopback only.
    None,
}

/// Transport protocols of published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; none: all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's port; 0: any free one.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// `--security-opt`, decoded. An option that is unknown is an error, never ignored (GHSA-7236-3392-c5c6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityOptions {
    /// `no-new-privileges[=true|false]`; none: as config.toml says.
    pub no_new_privileges: Option<bool>,
    /// `seccomp=unconfined`, `seccomp=PROFILE.json` (its content), or ours.
    pub seccomp: SeccompChoice,
    /// `apparmor=PROFILE` (or `unconfined`).
    pub apparmor: Option<String>,
}

/// Which system call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompChoice {
    /// Ours.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON form, its text.
    Profile(String),
}
