//! `--network`: which networks a container is on, and as what.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::Protocol;

/// What a container's network is.
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
    /// Those that the options name as endpoints.
    Networks,
    /// The network of another container, by its name or id.
    Container(String),
}

/// A network that a container is on, and what it wants there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointOptions {
    /// Its name. (Before the container is made: its name, id or the beginning of that.)
    pub network: String,
    /// More names that the container has there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// This address and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// This IPv6 address and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// This hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
    /// To these of its neighbours alone may it speak; none said: to all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<AllowRule>,
}

/// `--allow NAME:PORT[/PROTOCOL]`: a neighbour's port that a container may speak to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowRule {
    /// A container's name, or an alias: then all that have it.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl std::fmt::Display for AllowRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", self.name, self.port, self.protocol)
    }
}

impl EndpointOptions {
    /// On this network, with nothing in particular.
    pub fn on(network: &str) -> Self {
        Self { network: network.to_owned(), ..Self::default() }
    }
}
