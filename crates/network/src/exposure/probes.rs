//! The packets that are tried, and what becomes of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use state::options::{PortMapping, Protocol};

use crate::exposure::Range;
use crate::exposure::model::Link;
use crate::exposure::rules::Others;
use crate::warden::Packet;

/// Somebody who might send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) address: IpAddr,
    /// The address or range that he stands for; none: anybody else.
    pub(super) name: Option<String>,
}

/// A packet that has come through: by which link, from whom, to which address and port, of which protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrived {
    link: String,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    tcp: bool,
}

impl Arrived {
    pub(super) fn by(
        link: &Link,
        (source, destination, port, protocol): (IpAddr, IpAddr, u16, Protocol),
    ) -> Self {
        Self { link: link.name.clone(), source, destination, port, tcp: protocol == Protocol::Tcp }
    }

    /// As it was handed over.
    pub(super) fn read(link: &Link, bytes: &[u8]) -> Option<Self> {
        let packet = Packet::parse(bytes)?;
        let (destination, port) = packet.destination;
        Some(Self::by(link, (packet.source.0, destination, port, packet.protocol)))
    }
}

/// More than so many are not tried.
const MOST: usize = 512;
/// So many addresses of a range are looked at to find one that stands for it.
const TRIES: u8 = 64;
/// Strangers: from all over the world, and of no range that is set apart for something.
const STRANGERS: [Ipv4Addr; 2] = [Ipv4Addr::new(20, 77, 0, 77), Ipv4Addr::new(151, 77, 0, 77)];
const STRANGERS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2600, 0x77, 0, 0, 0, 0, 0, 0x77), Ipv6Addr::new(0x2a00, 0x77, 0, 0, 0, 0, 0, 0x77)];

/// Who is tried: strangers, whoever is on a link, and all whom rules name.
pub(super) fn senders(others: &Others, links: &[Link]) -> Vec<Sender> {
    let strangers = STRANGERS.map(IpAddr::from).into_iter().chain(STRANGERS6.map(IpAddr::from));
    let mut all: Vec<Sender> = strangers.map(|address| Sender { address, name: None }).collect();
    let own: BTreeSet<IpAddr> =
        links.iter().flat_map(|link| link.addresses.iter().map(|(ip, _)| *ip)).collect();
    let on_links = links.iter().flat_map(|link| link.addresses.iter().copied());
    let named: BTreeSet<Range> =
        others.ranges().into_iter().chain(on_links).map(|(ip, bits)| (first(ip, bits), bits)).collect();
    for &(network, bits) in &named {
        // Nobody of whom a narrower range says something else.
        let narrower =
            |ip: IpAddr| named.iter().any(|(other, more)| *more > bits && first(ip, *more) == *other);
        let somebody =
            (0..=TRIES).filter_map(|n| nth(network, bits, n)).find(|ip| !own.contains(ip) && !narrower(*ip));
        let Some(address) = somebody else { continue };
        let whole = if network.is_ipv4() { 32 } else { 128 };
        let name = if bits == whole { network.to_string() } else { format!("{network}/{bits}") };
        all.push(Sender { address, name: Some(name) });
    }
    all.truncate(MOST);
    all
}

/// The first address of a range.
fn first(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// An address of a range that somebody may have.
fn nth(network: IpAddr, bits: u8, n: u8) -> Option<IpAddr> {
    match network {
        IpAddr::V4(ip) if bits >= 31 => (n == 0).then_some(ip.into()),
        IpAddr::V4(ip) => Some(Ipv4Addr::from_bits(ip.to_bits().checked_add(1 + u32::from(n))?).into()),
        IpAddr::V6(ip) if bits >= 127 => (n == 0).then_some(ip.into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits().checked_add(0x70 + u128::from(n))?).into()),
    }
}

/// Where a packet goes that comes to this port by this link.
pub(super) fn target(port: &PortMapping, link: &Link, six: bool) -> Option<IpAddr> {
    match port.host_ip.filter(|ip| !ip.is_unspecified()) {
        Some(ip) => (ip.is_ipv6() == six).then_some(ip),
        None if port.host_ip.is_some_and(|ip| ip.is_ipv6() != six) => None,
        None => link.addresses.iter().map(|(ip, _)| *ip).find(|ip| ip.is_ipv6() == six),
    }
}

/// A packet that would open a connection.
pub(super) fn packet(source: IpAddr, destination: IpAddr, port: u16, protocol: Protocol) -> Vec<u8> {
    const FROM: u16 = 50_077;
    let mut body = Vec::with_capacity(20);
    body.extend_from_slice(&FROM.to_be_bytes());
    body.extend_from_slice(&port.to_be_bytes());
    let number = if protocol == Protocol::Tcp {
        // A sequence number; no acknowledgement; five words of header; SYN; a window; no sum yet; nothing urgent.
        body.extend_from_slice(&[0, 0, 0, 77, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        6
    } else {
        // Its length; a sum that is not 0, which would mean none.
        body.extend_from_slice(&[0, 8, 0xff, 0xff]);
        17
    };
    let mut bytes = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut head = vec![0x45, 0, 0, 20 + body.len() as u8, 0, 77, 0x40, 0, 64, number, 0, 0];
            head.extend_from_slice(&source.octets());
            head.extend_from_slice(&destination.octets());
            let sum = crate::warden::sum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            head
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut head = vec![0x60, 0, 0, 0, 0, body.len() as u8, number, 64];
            head.extend_from_slice(&source.octets());
            head.extend_from_slice(&destination.octets());
            head
        }
        _ => return Vec::new(),
    };
    bytes.extend_from_slice(&body);
    let finished = Packet::parse(&bytes).map(|packet| packet.finish(&mut bytes));
    finished.and_then(|mut packets| packets.pop()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_what_they_say() {
        for (source, destination) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let bytes = packet(source.parse().unwrap(), destination.parse().unwrap(), 80, protocol);
                let read = Packet::parse(&bytes).unwrap();
                assert!(read.opens && read.protocol == protocol && read.destination.1 == 80);
            }
        }
        assert!(packet("192.0.2.1".parse().unwrap(), "::1".parse().unwrap(), 80, Protocol::Tcp).is_empty());
    }

    #[test]
    fn ranges_have_somebody_in_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(first(ip("10.1.2.3"), 8), ip("10.0.0.0"));
        assert_eq!(first(ip("10.1.2.3"), 32), ip("10.1.2.3"));
        assert_eq!(first(ip("2001:db8::1"), 64), ip("2001:db8::"));
        assert_eq!(nth(ip("10.0.0.0"), 8, 0), Some(ip("10.0.0.1")));
        assert_eq!(nth(ip("10.0.0.9"), 32, 0), Some(ip("10.0.0.9")));
        assert_eq!(nth(ip("10.0.0.9"), 32, 1), None);
    }
}
