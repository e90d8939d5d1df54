//! `--network`: which networks a container is on, and as what.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

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
}

impl EndpointOptions {
    /// On this network, with nothing in particular.
    pub fn on(network: &str) -> Self {
        Self { network: network.to_owned(), ..Self::default() }
    }
}
