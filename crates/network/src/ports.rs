//! Published ports: the sockets that hold them on the host, and the files that say what was published.
//!
//! A port is held by a bound socket, because that is where a conflict shows, with whatever program; packets
//! never reach it: the table translates them, and the socket discards the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::fs::{self, Durability};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};
use state::options::{PortMapping, Protocol};

use crate::error::HostPort;
use crate::nft::elements::Published;
use crate::{Error, Result};

/// The host's side of published ports: sockets that hold them, until this is dropped.
#[derive(Debug, Default)]
pub struct PortReservations {
    held: Vec<Held>,
    /// They are held for IPv6, too.
    ipv6: bool,
}

/// A port that is held.
#[derive(Debug)]
struct Held {
    mapping: PortMapping,
    sockets: Vec<OwnedFd>,
}

impl PortReservations {
    /// Binds each port; `0` becomes the port that the kernel chose. With `ipv6` also there.
    pub(crate) fn bind(ports: &mut [PortMapping], ipv6: bool) -> Result<Self> {
        let mut held = Vec::with_capacity(ports.len());
        for mapping in ports {
            let sockets = hold(mapping, ipv6)?;
            held.push(Held { mapping: mapping.clone(), sockets });
        }
        Ok(Self { held, ipv6 })
    }

    /// Lets go of what is in the way of `ports` and is none of them: the same port on other addresses.
    pub(crate) fn make_way(&mut self, ports: &[PortMapping]) -> Vec<PortMapping> {
        let in_the_way = |held: &Held| {
            let same = |port: &PortMapping| {
                (port.host_port, port.protocol) == (held.mapping.host_port, held.mapping.protocol)
            };
            ports.iter().any(same) && ports.iter().all(|port| host_side(port) != host_side(&held.mapping))
        };
        let (gone, held) = std::mem::take(&mut self.held).into_iter().partition(in_the_way);
        self.held = held;
        gone.into_iter().map(|held: Held| held.mapping).collect()
    }

    /// Binds those of `ports` that are not held yet.
    pub(crate) fn bind_more(&self, ports: &mut [PortMapping]) -> Result<Self> {
        let mut more = Self { held: Vec::new(), ipv6: self.ipv6 };
        for mapping in ports.iter_mut().filter(|mapping| !self.holds(mapping)) {
            more.held.extend(Self::bind(std::slice::from_mut(mapping), self.ipv6)?.held);
        }
        Ok(more)
    }

    /// Whether the host's side of this port is held, wherever it leads.
    fn holds(&self, mapping: &PortMapping) -> bool {
        self.held.iter().any(|held| host_side(&held.mapping) == host_side(mapping))
    }

    /// Binds what was let go of, as far as nobody has taken it.
    pub(crate) fn hold_again(&mut self, ports: Vec<PortMapping>) {
        for mut mapping in ports {
            if let Ok(again) = Self::bind(std::slice::from_mut(&mut mapping), self.ipv6) {
                self.held.extend(again.held);
            }
        }
    }

    /// Takes over others, and lets go of what is not one of `ports` any more.
    pub(crate) fn replace(&mut self, more: Self, ports: &[PortMapping]) {
        self.held.extend(more.held);
        self.held.retain(|held| ports.iter().any(|port| host_side(port) == host_side(&held.mapping)));
    }

    /// The sockets, for whoever must keep them across an exec.
    pub fn into_sockets(self) -> Vec<OwnedFd> {
        self.held.into_iter().flat_map(|held| held.sockets).collect()
    }
}

/// What of a published port nobody else can have.
fn host_side(mapping: &PortMapping) -> (Option<IpAddr>, u16, Protocol) {
    (mapping.host_ip.filter(|ip| !ip.is_unspecified()), mapping.host_port, mapping.protocol)
}

/// How often a port of the kernel's choice is tried, which must be free in both versions of the protocol.
const TRIES: u32 = 32;

fn hold(mapping: &mut PortMapping, ipv6: bool) -> Result<Vec<OwnedFd>> {
    let asked = mapping.host_port;
    for _ in 0..TRIES {
        let attempt = hold_all(mapping, ipv6);
        match attempt {
            Err(Error::PortTaken { .. }) if asked == 0 && mapping.host_port != 0 => mapping.host_port = 0,
            other => return other,
        }
    }
    Err(Error::PortTaken { port: named(mapping) })
}

fn hold_all(mapping: &mut PortMapping, ipv6: bool) -> Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    if mapping.protocol == Protocol::Sctp {
        // The kernel may have no sockets of it: the map of ports is what shows a conflict.
        if mapping.host_port == 0 {
            drop(hold_one(mapping, !on_ipv4(mapping))?);
        }
        return Ok(sockets);
    }
    if on_ipv4(mapping) {
        sockets.push(hold_one(mapping, false)?);
    }
    if ipv6 && on_ipv6(mapping) {
        sockets.push(hold_one(mapping, true)?);
    }
    Ok(sockets)
}

/// Holds a port in one version of the protocol.
fn hold_one(mapping: &mut PortMapping, ipv6: bool) -> Result<OwnedFd> {
    let unspecified = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv4Addr::UNSPECIFIED) };
    let address = SocketAddr::new(mapping.host_ip.unwrap_or(unspecified), mapping.host_port);
    let kind = match mapping.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp | Protocol::Sctp => SocketType::DGRAM,
    };
    let bound = || -> rustix::io::Result<(OwnedFd, u16)> {
        let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        sys::socket::discard_all_packets(&socket)?;
        if ipv6 {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if mapping.protocol == Protocol::Tcp {
            // Connections of a former listener that linger are no conflict; one that listens is.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &address)?;
        if mapping.protocol == Protocol::Tcp {
            if ipv6 {
                // Who comes by ::1, which is not translated, shall be refused at once and try 127.0.0.1; held it is as long as
                // nobody may bind it as well.
                sockopt::set_socket_reuseaddr(&socket, false)?;
            } else {
                listen(&socket, 0)?;
            }
        }
        let port = SocketAddr::try_from(getsockname(&socket)?).map_or(0, |a| a.port());
        Ok((socket, port))
    };
    match bound() {
        Ok((socket, port)) => {
            mapping.host_port = port;
            Ok(socket)
        }
        Err(Errno::ADDRINUSE) => Err(Error::PortTaken { port: named(mapping) }),
        Err(errno) => Err(Error::Port { port: named(mapping), source: errno.into() }),
    }
}

/// Whether it is published on an IPv4 address of the host, or all.
fn on_ipv4(mapping: &PortMapping) -> bool {
    mapping.host_ip.is_none_or(|ip| ip.is_ipv4())
}

/// The same of IPv6.
fn on_ipv6(mapping: &PortMapping) -> bool {
    mapping.host_ip.is_none_or(|ip| ip.is_ipv6())
}

fn named(mapping: &PortMapping) -> HostPort {
    HostPort { ip: mapping.host_ip, port: mapping.host_port, protocol: mapping.protocol }
}

/// Refuses what can never be published, before anything is claimed.
pub(crate) fn check(ports: &[PortMapping], ipv6: bool) -> Result<()> {
    if let Some(mapping) = ports.iter().find(|mapping| mapping.host_ip == Some(Ipv6Addr::LOCALHOST.into())) {
        return Err(Error::Loopback6 { port: named(mapping) });
    }
    match ports.iter().find(|mapping| !ipv6 && !on_ipv4(mapping)) {
        Some(mapping) => Err(Error::Ipv6 { port: named(mapping) }),
        None => Ok(()),
    }
}

/// The elements for the ports of the container at these addresses.
pub(crate) fn published(ports: &[PortMapping], ip: Ipv4Addr, ip6: Option<Ipv6Addr>) -> Vec<Published> {
    let mut all = Vec::with_capacity(ports.len());
    for mapping in ports {
        let element = |container: IpAddr| Published {
            host: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
            host_port: mapping.host_port,
            protocol: mapping.protocol,
            container,
            container_port: mapping.container_port,
        };
        all.extend(on_ipv4(mapping).then(|| element(ip.into())));
        all.extend(ip6.filter(|_| on_ipv6(mapping)).map(|ip6| element(ip6.into())));
    }
    all
}

/// Writes down what is published for the container at `ip`: a table that has to be made anew gets it again,
/// and whoever finds the monitor dead knows what to remove.
pub(crate) fn remember(network: &Path, ip: Ipv4Addr, ports: &[Published]) -> Result<()> {
    let file = file(network, ip.into());
    let content =
        serde_json::to_vec(ports).map_err(|e| Error::State { path: file.clone(), reason: e.to_string() })?;
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir, 0o700)?;
    }
    Ok(fs::write_atomic(&file, &content, Durability::Volatile)?)
}

/// What is published for the container at `ip`.
pub(crate) fn remembered(network: &Path, ip: impl Into<IpAddr>) -> Result<Vec<Published>> {
    let file = file(network, ip.into());
    match fs::read_if_exists(&file)? {
        Some(content) => {
            serde_json::from_slice(&content).map_err(|e| Error::State { path: file, reason: e.to_string() })
        }
        None => Ok(Vec::new()),
    }
}

/// Whether anything is published for the container at `ip`.
pub(crate) fn are_remembered(network: &Path, ip: Ipv4Addr) -> bool {
    rustix::fs::access(file(network, ip.into()), rustix::fs::Access::EXISTS).is_ok()
}

pub(crate) fn forget(network: &Path, ip: Ipv4Addr) -> Result<()> {
    fs::remove_file(&file(network, ip.into()))?;
    Ok(())
}

pub(crate) fn remove_dir(network: &Path) -> Result<()> {
    Ok(fs::remove_dir_all(&network.join("ports"))?)
}

fn file(network: &Path, ip: IpAddr) -> PathBuf {
    network.join("ports").join(ip.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn mapping(protocol: Protocol, host_port: u16) -> PortMapping {
        PortMapping { host_ip: Some(Ipv4Addr::LOCALHOST.into()), host_port, container_port: 80, protocol }
    }

    #[test]
    fn port_zero_becomes_a_port_and_is_held() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut ports = [mapping(protocol, 0)];
            let held = PortReservations::bind(&mut ports, false).unwrap();
            assert_ne!(ports[0].host_port, 0);
            let error = PortReservations::bind(&mut ports.clone(), false).unwrap_err();
            let expected = format!(
                "cannot publish port 127.0.0.1:{}/{protocol}: something on this host listens there already",
                ports[0].host_port
            );
            assert_eq!(error.to_string(), expected);
            drop(held);
            PortReservations::bind(&mut ports, false).unwrap();
        }
    }

    #[test]
    fn a_listener_is_a_conflict_and_lingering_connections_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(PortReservations::bind(&mut [mapping(Protocol::Tcp, port)], false).is_err());
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // Whoever closes first lingers: the server's side.
        drop(listener.accept().unwrap());
        drop((listener, client));
        PortReservations::bind(&mut [mapping(Protocol::Tcp, port)], false).unwrap();

        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = datagrams.local_addr().unwrap().port();
        assert!(PortReservations::bind(&mut [mapping(Protocol::Udp, port)], false).is_err());
    }

    #[test]
    fn foreign_addresses_and_ipv6_are_refused_by_name() {
        let mut port = mapping(Protocol::Tcp, 80);
        port.host_ip = Some("203.0.113.1".parse().unwrap());
        let error = PortReservations::bind(&mut [port.clone()], false).unwrap_err();
        assert_eq!(error.to_string(), "cannot publish port 203.0.113.1:80/tcp");
        port.host_ip = Some("2001:db8::1".parse().unwrap());
        assert_eq!(
            check(&[port.clone()], false).unwrap_err().to_string(),
            "cannot publish port [2001:db8::1]:80/tcp: none of the container's networks has IPv6"
        );
        port.host_ip = Some("::1".parse().unwrap());
        let error = check(&[port], true).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot publish port [::1]:80/tcp: ") && error.contains("127.0.0.1"),
            "{error}"
        );
    }
}
