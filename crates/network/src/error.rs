//! What can go wrong with a container's network.

use std::net::IpAddr;

use base::{Failure, Kind, fs};
use rustix::io::Errno;
use state::options::Protocol;

use crate::netlink::Refusal;

/// A failed network operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A state file or lock.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The kernel refused something about links, addresses or routes.
    #[error("cannot {action}")]
    Link {
        /// What was attempted: a verb phrase that names the object.
        action: String,
        /// Why not.
        source: Refusal,
    },
    /// The kernel refused something about the firewall.
    #[error("cannot {action}")]
    Firewall {
        /// What was attempted: a verb phrase that names the object.
        action: String,
        /// Why not.
        source: Refusal,
    },
    /// Every private network that we know is reached some other way.
    #[error("no private network is free for the bridge `{bridge}`: the host has routes to all of them")]
    NoSubnet {
        /// The bridge's name.
        bridge: String,
    },
    /// Every address is claimed.
    #[error("no address is free in {subnet}")]
    NoAddress {
        /// The bridge's network.
        subnet: String,
    },
    /// A host port is taken.
    #[error("cannot publish port {port}: something on this host listens there already")]
    PortTaken {
        /// `8080/tcp`, or `127.0.0.1:8080/tcp`.
        port: HostPort,
    },
    /// A host port cannot be had for another reason.
    #[error("cannot publish port {port}")]
    Port {
        /// The port.
        port: HostPort,
        /// Why not.
        source: std::io::Error,
    },
    /// No packet that comes from there is translated.
    #[error(
        "cannot publish port {port}: the kernel lets no packet out of the loopback interface's IPv6; publish it on \
         127.0.0.1, where clients of `localhost` find it, or on another address of this host"
    )]
    Loopback6 {
        /// The port.
        port: HostPort,
    },
    /// Its networks have IPv4 only.
    #[error("cannot publish port {port}: none of the container's networks has IPv6")]
    Ipv6 {
        /// The port.
        port: HostPort,
    },
    /// The host has no address that the container could reach it by.
    #[error("there is no host-gateway for `{0}`: the container has no network")]
    NoGateway(String),
    /// There is no such network.
    #[error("there is no network `{0}`")]
    NotFound(String),
    /// Several networks' ids begin so.
    #[error("`{0}` is the beginning of several networks' ids")]
    Ambiguous(String),
    /// No name of a network.
    #[error(
        "`{0}` is no name for a network: want letters, digits and _.- behind a letter or digit, at most 200"
    )]
    Name(String),
    /// A name that means something else.
    #[error("`{0}` cannot be the name of a network: it means something else")]
    Reserved(String),
    /// There is one of this name.
    #[error("there is a network `{0}` already")]
    Exists(String),
    /// An option of the driver.
    #[error("the driver's option {name}={value}: {reason}")]
    DriverOption {
        /// Its name.
        name: String,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address that nobody can have.
    #[error("cannot have {ip} on the network `{network}`: {reason}")]
    Address {
        /// The address.
        ip: IpAddr,
        /// The network.
        network: String,
        /// Why not.
        reason: String,
    },
    /// Somebody has the address.
    #[error("cannot have {ip} on the network `{network}`: another container has it")]
    AddressTaken {
        /// The address.
        ip: IpAddr,
        /// The network.
        network: String,
    },
    /// The host reaches the network's subnet some other way.
    #[error("the network `{network}` cannot come up: the host has a route into {subnet} already")]
    SubnetRouted {
        /// The network.
        network: String,
        /// Its subnet.
        subnet: String,
    },
    /// The link that a network's containers are to be on does not exist.
    #[error("there is no link `{0}` on this host for containers to be on")]
    NoParent(String),
    /// Another network's containers are on that link.
    #[error("the containers of the network `{network}` are on the link `{link}` already")]
    ParentTaken {
        /// The link.
        link: String,
        /// The network.
        network: String,
    },
    /// There is no such link.
    #[error("there is no interface `{link}`: there are {links}")]
    NoLink {
        /// The name that was asked for.
        link: String,
        /// Those that there are.
        links: String,
    },
    /// A link of the bridge's name is somebody else's.
    #[error("there is a link `{link}` on this host already, which is not ours")]
    LinkTaken {
        /// Its name.
        link: String,
    },
    /// The kernel gave no randomness.
    #[error("cannot get randomness for an id")]
    Random(#[source] std::io::Error),
    /// The network's state file is not what we write, or from a newer version.
    #[error("cannot understand {}: {reason}", path.display())]
    State {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The result of a network operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A port of the host as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// The address, if not all.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Link { source, .. } | Self::Firewall { source, .. } => match source.errno {
                Errno::PERM | Errno::ACCESS => Kind::Permission,
                Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => Kind::Unsupported,
                Errno::NOMEM | Errno::NOBUFS | Errno::NFILE | Errno::MFILE => Kind::Exhausted,
                _ => Kind::Internal,
            },
            Self::NoSubnet { .. } | Self::NoAddress { .. } => Kind::Exhausted,
            Self::Port { source, .. } => match source.kind() {
                std::io::ErrorKind::AddrNotAvailable => Kind::Invalid,
                _ => base::failure::kind_of_io(source),
            },
            Self::Ipv6 { .. } | Self::Loopback6 { .. } => Kind::Unsupported,
            Self::NotFound(_) | Self::NoLink { .. } | Self::NoParent(_) => Kind::NotFound,
            Self::NoGateway(_)
            | Self::Ambiguous(_)
            | Self::Name(_)
            | Self::Reserved(_)
            | Self::DriverOption { .. }
            | Self::Address { .. } => Kind::Invalid,
            Self::PortTaken { .. }
            | Self::Exists(_)
            | Self::AddressTaken { .. }
            | Self::ParentTaken { .. }
            | Self::SubnetRouted { .. }
            | Self::LinkTaken { .. } => Kind::Conflict,
            Self::Random(_) => Kind::Internal,
            Self::State { .. } => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::File(error) => error.hints(),
            Self::Link { source, .. } | Self::Firewall { source, .. } if source.errno == Errno::PERM => {
                vec!["run as root".to_owned()]
            }
            Self::Firewall { source, .. }
                if matches!(source.errno, Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::NOENT) =>
            {
                vec!["check that the kernel has nftables with nat, masquerade and fib (modules nft_nat, nft_masq, \
                      nft_fib_ipv4)"
                    .to_owned()]
            }
            Self::PortTaken { port } => vec![format!(
                "see who has it: ss -lnp{} 'sport = :{}'",
                if port.protocol == Protocol::Tcp { "t" } else { "u" },
                port.port
            )],
            Self::Port { source, .. } if source.kind() == std::io::ErrorKind::AddrNotAvailable => {
                vec!["publish on an address of this host, or on none to use all".to_owned()]
            }
            Self::NoParent(_) => {
                vec!["see those that there are: ip link; a VLAN's is made for LINK.NUMBER, where LINK is there".to_owned()]
            }
            Self::ParentTaken { network, .. } => {
                vec![format!("use the network `{network}`, or a VLAN: -o parent=LINK.NUMBER")]
            }
            Self::Link { source, .. } if source.errno == Errno::BUSY => {
                vec![
                    "the link may be a bridge's port, or have a container with macvlan_mode=passthru"
                        .to_owned(),
                ]
            }
            Self::NotFound(_) => vec!["see those that there are: dhow network ls".to_owned()],
            Self::SubnetRouted { subnet, .. } => vec![
                format!("see what leads there: ip route show root {subnet}"),
                "or make it again with another --subnet".to_owned(),
            ],
            Self::LinkTaken { .. } => vec!["choose another name for the bridge, or none".to_owned()],
            Self::Address { .. } => {
                vec!["make the network with --subnet, and choose an address of that".to_owned()]
            }
            Self::NoSubnet { .. } => vec!["use --network host or none".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// Says what was attempted when netlink refused.
pub(crate) trait Attempt<T> {
    fn link(self, action: impl FnOnce() -> String) -> Result<T>;
    fn firewall(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for std::result::Result<T, Refusal> {
    fn link(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Link { action: action(), source })
    }

    fn firewall(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Firewall { action: action(), source })
    }
}
