//! What a user asks of a container, in Docker's terms, as all front doors hand it to the engine and as the
//! record keeps it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::egress::Egress;

pub use crate::mounts::{
    BindMount, IdKind, IdMap, ImageMount, Origin, Recursion, TmpfsMount, VolumeMount, VolumesFrom,
};
mod limits;
mod logging;
mod network;
mod surroundings;

pub use limits::{DeviceRate, Limits, Ulimit};
pub use logging::{LogDriver, LogOptions};
pub use network::{AllowRule, EndpointOptions, NetworkMode};
pub use surroundings::{DeviceMapping, DnsOptions, ExposedPort, HostEntry, IpcMode, Namespaces, PidMode};

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
    /// `-a` and `-d`.
    #[serde(skip_serializing_if = "Attach::is_none")]
    pub attach: Attach,
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
    /// The networks, where the mode says so; the first gives the default route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointOptions>,
    /// `--egress`.
    #[serde(skip_serializing_if = "Egress::is_allow")]
    pub egress: Egress,
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
    /// `--log-driver` and `--log-opt`.
    pub log: LogOptions,
    /// `--restart`.
    pub restart: RestartPolicy,
    /// `--health-…` and `--no-healthcheck`.
    pub health: HealthOptions,
    /// All other limits.
    #[serde(skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// `--ipc`, `--pid`, `--uts`, `--cgroupns`.
    #[serde(skip_serializing_if = "Namespaces::is_default")]
    pub namespaces: Namespaces,
    /// `--privileged`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// `--device`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceMapping>,
    /// `--device-cgroup-rule`: `c 10:200 rwm`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_rules: Vec<String>,
    /// `--group-add`: names or numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// `--sysctl`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// `--cgroup-parent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// `--domainname`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// `--annotation`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// `--add-host`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostEntry>,
    /// `--dns`, `--dns-search`, `--dns-option`.
    #[serde(skip_serializing_if = "DnsOptions::is_default")]
    pub dns: DnsOptions,
    /// `--expose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<ExposedPort>,
    /// `-P`: every exposed port is published.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub publish_all: bool,
    /// `--platform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// The streams of a container that whoever creates it is attached to: `-a`. With `-d` there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attach {
    /// Its standard input.
    pub stdin: bool,
    /// Its standard output.
    pub stdout: bool,
    /// Its standard error.
    pub stderr: bool,
}

impl Attach {
    /// No stream.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// `--restart`: what becomes of a container whose command has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It stays ended.
    #[default]
    No,
    /// It is started again if it failed, so many times at most (0: any number).
    OnFailure(u32),
    /// It is started again, also when the machine comes up.
    Always,
    /// The same, unless it was stopped before the machine went down.
    UnlessStopped,
}

impl RestartPolicy {
    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// Whether a command that ended by itself with `code` is started again, which it was `restarts` times already.
    pub fn restarts(self, code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && (most == 0 || restarts < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

impl std::fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OnFailure(most) if *most > 0 => write!(f, "on-failure:{most}"),
            other => f.write_str(other.name()),
        }
    }
}

/// `--health-…`: what is not said is as the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthOptions {
    /// `--no-healthcheck`.
    pub disabled: bool,
    /// `--health-cmd`: for a shell.
    pub command: Option<String>,
    /// `--health-interval`, nanoseconds.
    pub interval: Option<u64>,
    /// `--health-timeout`, nanoseconds.
    pub timeout: Option<u64>,
    /// `--health-start-period`, nanoseconds.
    pub start_period: Option<u64>,
    /// `--health-start-interval`, nanoseconds.
    pub start_interval: Option<u64>,
    /// `--health-retries`.
    pub retries: Option<u32>,
    /// `--health-on-failure`.
    pub on_failure: OnUnhealthy,
}

/// What is done to a container that has become unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnhealthy {
    /// Nothing.
    #[default]
    None,
    /// It is killed; its restart policy decides what comes then.
    Kill,
    /// It is stopped and started again, whatever its restart policy.
    Restart,
    /// It is stopped, and stays so.
    Stop,
}

/// How a container's health is looked at: the options and the image's `HEALTHCHECK` put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The command, for `execve`.
    pub command: Vec<String>,
    /// As Docker shows it: `CMD` or `CMD-SHELL` first.
    pub test: Vec<String>,
    /// Nanoseconds from the end of a probe to the next.
    pub interval: u64,
    /// Nanoseconds that a probe may take.
    pub timeout: u64,
    /// Nanoseconds after the start in which failures do not count.
    pub start_period: u64,
    /// Nanoseconds from the end of a probe to the next in that time.
    pub start_interval: u64,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
    /// What then.
    pub on_failure: OnUnhealthy,
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

/// Transport protocols of published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
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
    /// `systempaths=unconfined`: nothing of `/proc` and `/sys` is hidden or read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub system_paths_unconfined: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_versions_are_read_and_what_is_not_asked_for_is_not_written() {
        let old = r#"{"image":"x","memory":67108864,"ports":[]}"#;
        let options: ContainerOptions = serde_json::from_str(old).unwrap();
        assert_eq!((options.memory, options.limits.is_default()), (Some(64 << 20), true));
        let written = serde_json::to_string(&options).unwrap();
        for key in ["limits", "namespaces", "privileged", "devices", "sysctls", "dns", "platform"] {
            assert!(!written.contains(&format!("\"{key}\"")), "{key}");
        }
        assert_eq!(serde_json::from_str::<ContainerOptions>(&written).unwrap(), options);
    }
}
