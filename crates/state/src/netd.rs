//! What monitors tell `dhow-netd`, the name server of an instance's networks.
//!
//! ```text
//!   monitor                                         dhow-netd
//!      │ ── Registration, and three descriptors ──────▶ │   in one message: the socket for UDP, the one that listens
//!      │                                                │   for TCP, the container's network namespace
//!      │ ── Registration ─────────────────────────────▶ │   any time after: it takes the place of the one before
//!      │ ◀── Vec<Allowed> ───────────────────────────── │   only to those that are allowed something: where it is by now
//!      │ ── hangs up ─────────────────────────────────▶ │   the container is gone
//! ```
//!
//! The socket below `RUN/netd` is of the kind `SOCK_SEQPACKET`: a message is a [`Registration`] as JSON. Who is allowed
//! nothing in particular is never answered. All that the server knows lies in its connections, so it can be killed at any
//! time: the monitors see it hang up, one of them starts the next, and all tell it the same again. They keep the sockets open
//! meanwhile, in which the containers' questions wait.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use base::Id;
use serde::{Deserialize, Serialize};

use crate::Instance;
use crate::egress::Egress;
use crate::options::{AllowRule, Protocol};

/// The version of [`Registration`].
pub const VERSION: u32 = 1;
/// Where a container on a network of its own asks: Docker's address, which people write into configurations.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The longest message: a container has a few names, not thousands.
pub const MAX_MESSAGE: usize = 128 << 10;
/// The server's program.
pub const PROGRAM: &str = "dhow-netd";
/// The socket, in the directory [`dir`].
pub const SOCKET: &str = "socket";

/// The argument that makes the program the warden of published ports and tables instead.
pub const WARDEN: &str = "warden";

/// The warden's directory. Whoever holds its `flock` is the warden, or is starting it. To its socket monitors of containers that
/// are on networks connect, and say nothing: that they are there is all.
pub fn warden_dir(instance: &Instance) -> PathBuf {
    instance.run().join("warden")
}

/// The server's directory. Whoever holds its `flock` is the server, or is starting it.
pub fn dir(instance: &Instance) -> PathBuf {
    instance.run().join("netd")
}

/// A container, as far as names go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The container.
    pub container: Id,
    /// The networks that it is on. In this order a name is looked for in them.
    pub networks: Vec<Membership>,
    /// Who is asked for what no container is called, in this order.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Names that this container alone knows (`--add-host`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<(String, IpAddr)>,
    /// Where the server's program is, for whoever has to start it.
    #[serde(default)]
    pub program: PathBuf,
    /// Where it may go, where that is not everywhere: no other names are looked up for it, and what they are is told to
    /// `dhow-egressd` before the container hears it.
    #[serde(default, skip_serializing_if = "Egress::is_allow")]
    pub egress: Egress,
}

impl Registration {
    /// Whether something leads out of one of the container's networks. Where nothing does, nobody is asked for it either: a
    /// question carries data out as well as a packet (CVE-2024-29018).
    pub fn leads_out(&self) -> bool {
        self.networks.iter().any(|network| !network.internal)
    }
}

/// A network that a container is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The network's name, which may be appended to a container's: `web.backend`.
    pub network: String,
    /// What the container is called there: its name first, then its short id, its host name, its aliases.
    pub names: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// The host's addresses there.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// The network's subnets: whose an address of them is, nobody outside is asked.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    /// Nothing leads out of it.
    #[serde(default)]
    pub internal: bool,
    /// Whom it may speak to there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<AllowRule>,
}

/// Where a name leads to that a container may speak to: all of it that the server tells a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// On this network.
    pub network: String,
    /// To this address.
    pub address: IpAddr,
    /// To this port of it.
    pub port: u16,
    /// By this protocol.
    pub protocol: Protocol,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// One of them.
    pub address: IpAddr,
    /// How many bits of it are common to all.
    pub prefix: u8,
}

impl Subnet {
    /// Whether all addresses that begin with the first `bits` of this one are of the subnet.
    pub fn contains(&self, address: IpAddr, bits: u8) -> bool {
        let same = |ours: u128, theirs: u128, width: u8| {
            let rest = u32::from(width.saturating_sub(self.prefix));
            ours.checked_shr(rest) == theirs.checked_shr(rest)
        };
        bits >= self.prefix
            && match (self.address, address) {
                (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                    same(ours.to_bits().into(), theirs.to_bits().into(), 32)
                }
                (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
                _ => false,
            }
    }
}

/// A name server outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// Its address; the port is 53, but in tests.
    pub address: SocketAddr,
    /// It is asked from the host's namespace, since it listens on the host's loopback, or has an address of a kind that the
    /// container has not. All others are asked from the container's, on the route that its other packets take.
    #[serde(default)]
    pub from_host: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_knows_its_addresses() {
        let subnet = |address: &str, prefix| Subnet { address: address.parse().unwrap(), prefix };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let four = subnet("10.1.2.1", 24);
        assert!(four.contains(ip("10.1.2.200"), 32));
        assert!(four.contains(ip("10.1.2.0"), 24));
        assert!(!four.contains(ip("10.1.0.0"), 16), "more than the subnet");
        assert!(!four.contains(ip("10.1.3.1"), 32));
        assert!(!four.contains(ip("fd00::1"), 128));
        assert!(subnet("fd00::1", 64).contains(ip("fd00::ffff"), 128));
        assert!(!subnet("fd00::1", 64).contains(ip("fd00:0:0:1::"), 128));
        assert!(subnet("10.0.0.0", 0).contains(ip("192.0.2.1"), 32));
        assert!(subnet("::", 0).contains(ip("fd00::1"), 128));
    }

    #[test]
    fn what_is_not_said_is_nothing() {
        let id = "a".repeat(64);
        let text = format!(r#"{{"version":1,"container":"{id}","networks":[]}}"#);
        let registration: Registration = serde_json::from_str(&text).unwrap();
        assert!(
            !registration.leads_out() && registration.upstreams.is_empty() && registration.hosts.is_empty()
        );
    }
}
