//! What monitors and the name server tell `dhow-egressd`, which keeps containers within their limits.
//!
//! ```text
//!   monitor                                     dhow-egressd
//!      │ ── Registration ───────────────────────▶ │   before the container has a link
//!      │ ◀──────────── Answer: in force, or why ── │   only now it gets one
//!      │ ── Gone ───────────────────────────────▶ │   its addresses are free
//!      │ ◀───────────────────────────── Answer ── │   and not limited any more
//!
//!   dhow-netd
//!      │ ── Lookup ─────────────────────────────▶ │   a name was looked up: these are its addresses
//!      │ ◀───────────────────────────── Answer ── │   the container may use them: it is told now
//!      │ ── Unknown ────────────────────────────▶ │   a name was not allowed; never answered
//! ```
//!
//! The socket below `RUN/egress` is of the kind `SOCK_SEQPACKET`: a message is one of these as JSON. As with `dhow-netd`, what
//! the process knows are its connections: killed, it is started again, and told everything once more. Meanwhile the kernel's
//! rules and sets go on to hold; what wants the proxy is refused.

use std::net::IpAddr;
use std::path::PathBuf;

use base::Id;
use serde::{Deserialize, Serialize};

use super::Egress;
use crate::Instance;
use crate::netd::Subnet;

/// The version of what is told.
pub const VERSION: u32 = 1;
/// The longest message.
pub const MAX_MESSAGE: usize = 512 << 10;
/// The program.
pub const PROGRAM: &str = "dhow-egressd";
/// What the directory is called.
pub const DIRECTORY: &str = "egress";
/// The socket, in the directory [`dir`].
pub const SOCKET: &str = "socket";

/// The directory of the socket. Whoever holds its `flock` is the process, or is starting it.
pub fn dir(instance: &Instance) -> PathBuf {
    instance.run().join(DIRECTORY)
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// A container, by its monitor.
    Registration(Box<Registration>),
    /// The container of this connection is gone: its limits are taken away before the answer.
    Gone,
    /// A name and its addresses, by the name server.
    Lookup(Lookup),
    /// A name that a container may not look up, by the name server.
    Unknown {
        /// Which container.
        container: Id,
        /// The name, as text.
        name: String,
    },
}

/// A container whose ways are limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The container.
    pub container: Id,
    /// Its name, for people.
    pub name: String,
    /// Where its packets come from.
    pub places: Vec<Place>,
    /// Where it may go.
    pub egress: Egress,
    /// Where the program is, for whoever has to start it.
    pub program: PathBuf,
}

/// A place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The network's bridge.
    pub bridge: String,
    /// The container's hardware address there.
    pub mac: [u8; 6],
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// The host's addresses there.
    pub gateways: Vec<IpAddr>,
    /// The network's subnets.
    pub subnets: Vec<Subnet>,
}

/// A name that a container has looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// Repeated in the answer.
    pub number: u64,
    /// Which container.
    pub container: Id,
    /// The name that was asked for, as text, in lower case.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// For how many seconds they are believed.
    pub life: u32,
}

/// The answer to a registration, whose number is 0, or to a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the lookup.
    pub number: u64,
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}
