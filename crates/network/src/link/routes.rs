//! What the host reaches, by its routes and addresses.

use std::net::{IpAddr, Ipv4Addr};

use super::{GETADDR, GETROUTE, INET, INET6, ipv4};
use crate::netlink::{Protocol, Refusal, Request, Socket, parse};
use crate::subnet::Subnet;

/// What the host already reaches: networks by route or address.
#[derive(Debug, Default)]
pub(crate) struct Reachable {
    /// Each with the link it is reached through, 0 where the kernel names none.
    pub(crate) networks: Vec<(Subnet, u32)>,
    /// The link of a default route.
    pub(crate) default_link: Option<u32>,
}

impl Reachable {
    /// Whether nothing but the link `own` leads into `subnet`.
    pub(crate) fn leaves_free(&self, subnet: Subnet, own: Option<u32>) -> bool {
        // The default route overlaps everything, also where a VPN splits it in two or four.
        const DEFAULT_ROUTE: u8 = 2;
        let leads = |(network, link): &(Subnet, u32)| {
            Some(*link) != own && network.prefix() > DEFAULT_ROUTE && network.overlaps(subnet)
        };
        !self.networks.iter().any(leads)
    }
}

/// Lists routes of all tables, and addresses (those of links that are down have no route).
pub(crate) fn reachable() -> Result<Reachable, Refusal> {
    let mut found = Reachable::default();
    let socket = Socket::open(Protocol::Route)?;
    let mut rtmsg = [0; 12];
    rtmsg[0] = INET;
    socket.dump(GETROUTE, &rtmsg, |payload| {
        const DESTINATION: u16 = 1;
        const OUTGOING: u16 = 4;
        let (Some(&prefix), Some(attributes)) = (payload.get(1), payload.get(12..)) else { return };
        let link = parse::attribute(attributes, OUTGOING).and_then(|v| parse::u32_at(v, 0));
        match parse::attribute(attributes, DESTINATION).and_then(ipv4) {
            Some(ip) => found.networks.push((Subnet::around(ip, prefix), link.unwrap_or(0))),
            None if prefix == 0 => found.default_link = found.default_link.or(link),
            None => {}
        }
    })?;
    addresses(&socket, |ip, prefix, link| found.networks.push((Subnet::around(ip, prefix), link)))?;
    Ok(found)
}

/// The host's addresses.
pub(crate) fn local_addresses() -> Result<Vec<Ipv4Addr>, Refusal> {
    let mut found = Vec::new();
    addresses(&Socket::open(Protocol::Route)?, |ip, _, _| found.push(ip))?;
    Ok(found)
}

/// Each address with its prefix and link.
fn addresses(socket: &Socket, mut each: impl FnMut(Ipv4Addr, u8, u32)) -> Result<(), Refusal> {
    let mut ifaddrmsg = [0; 8];
    ifaddrmsg[0] = INET;
    socket.dump(GETADDR, &ifaddrmsg, |payload| {
        const ADDRESS: u16 = 1;
        const LOCAL: u16 = 2;
        let (Some(&prefix), Some(attributes)) = (payload.get(1), payload.get(8..)) else { return };
        // On a point-to-point link the address is the peer's, and says what lies behind the link.
        for kind in [ADDRESS, LOCAL] {
            if let Some(ip) = parse::attribute(attributes, kind).and_then(ipv4) {
                each(ip, prefix, parse::u32_at(payload, 4).unwrap_or(0));
            }
        }
    })
}

/// The route to an address, as the kernel would choose it.
pub(crate) fn route_to(to: IpAddr) -> Result<crate::look::Route, Refusal> {
    const DESTINATION: u16 = 1;
    const OUTGOING: u16 = 4;
    const GATEWAY: u16 = 5;
    const SOURCE: u16 = 7;
    const LOCAL: u8 = 2;
    let (family, octets) = match to {
        IpAddr::V4(ip) => (INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (INET6, ip.octets().to_vec()),
    };
    let header = [family, octets.len() as u8 * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut request = Request::new();
    request.message(GETROUTE, 0, &header, |r| r.bytes(DESTINATION, &octets));
    let address = |value: &[u8]| match value.len() {
        4 => ipv4(value).map(IpAddr::V4),
        _ => <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(octets.into())),
    };
    Socket::open(Protocol::Route)?.ask(&request, |payload| {
        let attributes = payload.get(12..).unwrap_or_default();
        crate::look::Route {
            link: parse::attribute(attributes, OUTGOING).and_then(|v| parse::u32_at(v, 0)).unwrap_or(0),
            gateway: parse::attribute(attributes, GATEWAY).and_then(address),
            source: parse::attribute(attributes, SOURCE).and_then(address),
            local: payload.get(7) == Some(&LOCAL),
        }
    })
}
