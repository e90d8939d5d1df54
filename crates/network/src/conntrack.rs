//! Datagram flows that the kernel remembers from before a port was published, or unpublished.
//!
//! The maps decide about a flow's first packet only. A client that keeps sending from one port (a resolver, a
//! metrics sender) would go on reaching the last container, or nobody, for as long as it sends. So the memory of
//! flows to a UDP port is dropped when what it leads to changes. (TCP connections end by themselves.)

use std::net::{IpAddr, Ipv4Addr};

use rustix::io::Errno;
use state::options::Protocol as Transport;

use crate::link;
use crate::netlink::{ACK, Protocol, Refusal, Request, Socket, parse};
use crate::nft::elements::Published;

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const IPV4: [u8; 4] = [2, 0, 0, 0];
const IPV6: [u8; 4] = [10, 0, 0, 0];
const ORIGINAL: u16 = 1;
const UDP: u8 = 17;

/// Forgets the flows to those of `ports` that are UDP.
pub(crate) fn forget(ports: &[Published]) -> Result<(), Refusal> {
    if ports.iter().all(|port| port.protocol != Transport::Udp) {
        return Ok(());
    }
    let local = link::local_addresses()?;
    let leads_here = |ip: Ipv4Addr| ip.is_loopback() || local.contains(&ip);
    let mut tuples: Vec<Vec<u8>> = Vec::new();
    let listed = Socket::open(Protocol::Netfilter)?.dump(GET, &IPV4, |payload| {
        let tuple = payload.get(4..).and_then(|attributes| parse::attribute(attributes, ORIGINAL));
        let Some((tuple, flow)) = tuple.and_then(|tuple| Some((tuple, Flow::parse(tuple)?))) else { return };
        let ours = ports.iter().any(|port| {
            port.protocol == Transport::Udp
                && port.host_port == flow.port
                && port.container.is_ipv4()
                && port.host.map_or_else(|| leads_here(flow.destination), |ip| ip == flow.destination)
        });
        if flow.protocol == UDP && ours {
            tuples.push(tuple.to_vec());
        }
    });
    match listed {
        // A kernel without this interface: flows expire by themselves, in half a minute of silence.
        Err(refusal) if matches!(refusal.errno, Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::INVAL) => {
            return Ok(());
        }
        other => other?,
    }
    delete(IPV4, &tuples)
}

/// Forgets all that has come from these addresses.
pub(crate) fn forget_from(addresses: &[IpAddr]) -> Result<(), Refusal> {
    for (version, is_ipv4) in [(IPV4, true), (IPV6, false)] {
        if addresses.iter().all(|ip| ip.is_ipv4() != is_ipv4) {
            continue;
        }
        let mut tuples: Vec<Vec<u8>> = Vec::new();
        let listed = Socket::open(Protocol::Netfilter)?.dump(GET, &version, |payload| {
            let tuple = payload.get(4..).and_then(|attributes| parse::attribute(attributes, ORIGINAL));
            if let Some(tuple) = tuple
                && source(tuple).is_some_and(|ip| addresses.contains(&ip))
            {
                tuples.push(tuple.to_vec());
            }
        });
        match listed {
            // A kernel without this interface.
            Err(refusal)
                if matches!(refusal.errno, Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::INVAL) =>
            {
                continue;
            }
            other => other?,
        }
        delete(version, &tuples)?;
    }
    Ok(())
}

/// Where a flow's first packet came from.
fn source(tuple: &[u8]) -> Option<IpAddr> {
    const ADDRESSES: u16 = 1;
    const SOURCE4: u16 = 1;
    const SOURCE6: u16 = 3;
    let addresses = parse::attribute(tuple, ADDRESSES)?;
    if let Some(four) = parse::attribute(addresses, SOURCE4) {
        return Some(IpAddr::V4(Ipv4Addr::from_bits(parse::be32(four)?)));
    }
    let six = parse::attribute(addresses, SOURCE6)?;
    Some(IpAddr::from(*six.first_chunk::<16>()?))
}

fn delete(version: [u8; 4], tuples: &[Vec<u8>]) -> Result<(), Refusal> {
    for tuple in tuples {
        let mut request = Request::new();
        request.message(DELETE, ACK, &version, |r| r.nest(ORIGINAL, |r| r.raw(tuple)));
        match Socket::open(Protocol::Netfilter)?.transact(&request, 1) {
            Err(refusal) if refusal.errno == Errno::NOENT => {} // expired meanwhile
            other => other?,
        }
    }
    Ok(())
}

/// Where a flow's first packet went.
#[derive(Debug, PartialEq, Eq)]
struct Flow {
    destination: Ipv4Addr,
    protocol: u8,
    port: u16,
}

impl Flow {
    fn parse(tuple: &[u8]) -> Option<Self> {
        const ADDRESSES: u16 = 1;
        const DESTINATION: u16 = 2;
        const PROTOCOL: u16 = 2;
        const NUMBER: u16 = 1;
        const PORT: u16 = 3;
        let destination = parse::attribute(parse::attribute(tuple, ADDRESSES)?, DESTINATION)?;
        let protocol = parse::attribute(tuple, PROTOCOL)?;
        let port = parse::attribute(protocol, PORT)?;
        Some(Self {
            destination: Ipv4Addr::from_bits(parse::be32(destination)?),
            protocol: *parse::attribute(protocol, NUMBER)?.first()?,
            port: u16::from_be_bytes(port.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_tuple_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            Flow::parse(&bytes);
            source(&bytes);
        }
    }
}
