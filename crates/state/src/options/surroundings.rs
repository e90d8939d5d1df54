//! What a container shares with the host or with another container, and which devices it may use.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Protocol;

/// `--ipc`, `--pid`, `--uts`, `--cgroupns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// `--ipc`.
    pub ipc: IpcMode,
    /// `--pid`.
    pub pid: PidMode,
    /// `--uts host`.
    pub host_uts: bool,
    /// `--cgroupns host`.
    pub host_cgroup: bool,
}

impl Namespaces {
    /// Whether all are the container's own.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `--ipc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpcMode {
    /// Its own, which no other container may join.
    #[default]
    Private,
    /// Its own, without `/dev/shm`.
    None,
    /// Its own, which others may join.
    Shareable,
    /// The host's.
    Host,
    /// That of another container.
    Container(String),
}

/// `--pid`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PidMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another container.
    Container(String),
}

/// `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// The host's device, or a directory of devices.
    pub source: PathBuf,
    /// The container's path, absolute.
    pub destination: PathBuf,
    /// Some of `rwm`.
    pub access: String,
}

/// `--add-host NAME:ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address; none: the host's, as the container reaches it (`host-gateway`).
    pub address: Option<IpAddr>,
}

/// `--dns`, `--dns-search`, `--dns-option`: what is empty is as the host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsOptions {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Domains in which names are looked for; a single dot: none.
    pub search: Vec<String>,
    /// `ndots:2`, …
    pub options: Vec<String>,
}

impl DnsOptions {
    /// Whether all is as the host has it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A port on which a container listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExposedPort {
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}
