//! What the kernel logs of packets that were refused (or, of who is watched, let pass): `NFLOG`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::Result;
use crate::error::Attempt;
use crate::netlink::{ACK, Protocol, Request, Socket, parse};

const SUBSYSTEM: u16 = 4;
const PACKET: u16 = SUBSYSTEM << 8;
const CONFIGURE: u16 = (SUBSYSTEM << 8) | 1;

/// Listens to a group of its own.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    group: u16,
    buffer: Vec<u8>,
}

/// A packet, as far as its headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Where it wanted to go.
    pub to: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// The port, of a protocol that has some.
    pub port: Option<u16>,
}

/// A packet, and the words of the rule that logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The words.
    pub prefix: String,
    /// The packet.
    pub packet: Packet,
}

impl Listener {
    /// Listens to this group, or to another one where that has a listener.
    pub fn open(first: u16) -> Result<Self> {
        /// So many groups are tried.
        const ATTEMPTS: u16 = 64;
        let action = || "listen to what the firewall refuses".to_owned();
        let mut refused = None;
        for n in 0..ATTEMPTS {
            // 0 is the kernel's own log on some hosts.
            let group = first.wrapping_add(n.wrapping_mul(257)).max(1);
            let socket = Socket::open(Protocol::Netfilter).firewall(action)?;
            match socket.transact(&bind(group), 2) {
                Ok(()) => return Ok(Self { socket, group, buffer: vec![0; 64 << 10] }),
                Err(refusal) if refusal.errno == Errno::BUSY || refusal.errno == Errno::PERM => {
                    refused = Some(refusal);
                }
                Err(refusal) => return Err(refusal).firewall(action),
            }
        }
        Err(refused.unwrap_or_else(|| Errno::BUSY.into())).firewall(action)
    }

    /// Its group.
    pub fn group(&self) -> u16 {
        self.group
    }

    /// What is ready when there is something to hear.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hears what there is. What came faster than it was heard is lost, and that is no error.
    pub fn hear(&mut self, mut each: impl FnMut(Heard)) {
        loop {
            let length = match self.socket.receive_now(&mut self.buffer) {
                Ok(length) => length,
                Err(Errno::NOBUFS | Errno::MSGSIZE) => continue,
                Err(_) => return,
            };
            for message in parse::messages(&self.buffer[..length]) {
                if message.kind == PACKET
                    && let Some(heard) = message.payload.get(4..).and_then(understand)
                {
                    each(heard);
                }
            }
        }
    }
}

/// Binds the socket to a group, and asks for the beginnings of its packets.
fn bind(group: u16) -> Request {
    const COMMAND: u16 = 1;
    const BIND: u8 = 1;
    const MODE: u16 = 2;
    const COPY_PACKET: u8 = 2;
    const RANGE: u32 = 128;
    const THRESHOLD: u16 = 5;
    let [high, low] = group.to_be_bytes();
    let header = [0, 0, high, low];
    let mut request = Request::new();
    request.message(CONFIGURE, ACK, &header, |r| r.bytes(COMMAND, &[BIND]));
    let mut mode = RANGE.to_be_bytes().to_vec();
    mode.extend_from_slice(&[COPY_PACKET, 0]);
    request.message(CONFIGURE, ACK, &header, |r| {
        r.bytes(MODE, &mode);
        // Each at once, instead of a hundred together or a second later.
        r.be32(THRESHOLD, 1);
    });
    request
}

fn understand(attributes: &[u8]) -> Option<Heard> {
    const PAYLOAD: u16 = 9;
    const PREFIX: u16 = 10;
    let prefix = parse::string(parse::attribute(attributes, PREFIX)?).to_owned();
    Some(Heard { prefix, packet: packet(parse::attribute(attributes, PAYLOAD)?)? })
}

/// Reads the headers of a packet.
fn packet(bytes: &[u8]) -> Option<Packet> {
    let (to, protocol, rest) = match bytes.first()? >> 4 {
        4 => {
            let to = Ipv4Addr::from(*bytes.get(16..)?.first_chunk::<4>()?);
            let length = usize::from(bytes.first()? & 0xf) * 4;
            (IpAddr::V4(to), *bytes.get(9)?, bytes.get(length..).unwrap_or_default())
        }
        6 => {
            let to = Ipv6Addr::from(*bytes.get(24..)?.first_chunk::<16>()?);
            let (protocol, rest) = behind_extensions(*bytes.get(6)?, bytes.get(40..).unwrap_or_default());
            (IpAddr::V6(to), protocol, rest)
        }
        _ => return None,
    };
    /// TCP, UDP, DCCP, SCTP, UDP-Lite: the destination port is the second number.
    const PORTED: [u8; 5] = [6, 17, 33, 132, 136];
    let port = rest.get(2..).and_then(<[u8]>::first_chunk::<2>).map(|bytes| u16::from_be_bytes(*bytes));
    Some(Packet { to, protocol, port: port.filter(|_| PORTED.contains(&protocol)) })
}

/// What an IPv6 packet carries behind its options.
fn behind_extensions(mut protocol: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    /// Hop-by-hop options, routing, destination options: all begin with what follows and their length.
    const EXTENSIONS: [u8; 3] = [0, 43, 60];
    while EXTENSIONS.contains(&protocol) {
        let (Some(next), Some(length)) = (rest.first(), rest.get(1)) else { break };
        let Some(behind) = rest.get((usize::from(*length) + 1) * 8..) else { break };
        (protocol, rest) = (*next, behind);
    }
    (protocol, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_tell_where_a_packet_wanted_to_go() {
        let mut four = vec![0; 24];
        four[0] = 0x45;
        four[9] = 17;
        four[16..20].copy_from_slice(&[192, 0, 2, 7]);
        four[22..24].copy_from_slice(&[0, 53]);
        assert_eq!(packet(&four), Some(Packet { to: [192, 0, 2, 7].into(), protocol: 17, port: Some(53) }));
        four[9] = 1;
        assert_eq!(packet(&four).unwrap().port, None);
        let mut six = vec![0; 52];
        six[0] = 0x60;
        six[6] = 60;
        six[39] = 1;
        six[40] = 6;
        six[50..52].copy_from_slice(&[1, 187]);
        assert_eq!(packet(&six), Some(Packet { to: "::1".parse().unwrap(), protocol: 6, port: Some(443) }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            packet(&bytes);
            understand(&bytes);
        }
    }
}
