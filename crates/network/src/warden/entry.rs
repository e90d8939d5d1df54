//! What comes to published ports from outside: handed over by the kernel, told to its memory of connections, and sent again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use state::options::Protocol as Transport;

use crate::netlink::{ACK, CREATE, EXCLUSIVE, Protocol, Refusal, Request, Socket, parse};
use crate::nft::elements;
use crate::warden::has_lost;
use crate::warden::packet::Packet;

/// `NFNL_SUBSYS_ULOG`.
const SUBSYSTEM: u16 = 4;
const PACKET: u16 = 0;
const CONFIGURE: u16 = 1;
/// So many packets are let in before we look at anything else.
const AT_ONCE: usize = 64;
/// Room for the first packets of connections that come all at once.
const ROOM: usize = 4 << 20;

/// Hears what is handed over, and lets it in.
#[derive(Debug)]
pub(super) struct Entry {
    table: String,
    handed: Socket,
    /// For questions to the table.
    kernel: Socket,
    /// For what is told of connections. Only refusals are answered.
    connections: Socket,
    /// Where ports lead, as the table has said since it was last changed.
    known: HashMap<(IpAddr, u16, Transport), Option<(IpAddr, u16)>>,
    /// Where packets are sent as they are, with their headers.
    raw: OwnedFd,
    /// The same of IPv6, where there is any.
    raw6: Option<OwnedFd>,
    buffer: Box<[u8]>,
}

impl Entry {
    pub(super) fn open(table: &str, group: u16) -> Result<Self, Refusal> {
        let raw = |family| socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW));
        let entry = Self {
            table: table.to_owned(),
            handed: Socket::open(Protocol::Netfilter)?,
            kernel: Socket::open(Protocol::Netfilter)?,
            connections: Socket::open(Protocol::Netfilter)?,
            known: HashMap::new(),
            raw: raw(AddressFamily::INET)?,
            raw6: raw(AddressFamily::INET6).ok(),
            // The longest packet, and what is said of it.
            buffer: vec![0; (64 << 10) + 1024].into(),
        };
        hear(&entry.handed, group)?;
        Ok(entry)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.handed.as_fd()
    }

    /// The table has been changed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Lets in what has come, or a part of it: what is left is ready again. Whether there was anything.
    pub(super) fn serve(&mut self) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut result = Ok(false);
        for _ in 0..AT_ONCE {
            match self.handed.receive_now(&mut buffer) {
                Ok(length) => {
                    self.read(&buffer[..length]);
                    result = Ok(true);
                }
                Err(Errno::AGAIN) => break,
                // Lost are packets, which their senders send again.
                Err(errno) if has_lost(errno) || errno == Errno::MSGSIZE => {}
                Err(errno) => {
                    result = Err(errno.into());
                    break;
                }
            }
        }
        self.buffer = buffer;
        // Nobody asks why (mostly that the connection is known); but what is not taken fills the socket.
        let mut refusal = [0; 1024];
        while !matches!(self.connections.receive_now(&mut refusal), Err(errno) if errno != Errno::MSGSIZE) {}
        result
    }

    fn read(&mut self, datagram: &[u8]) {
        for (_, bytes) in handed_over(datagram) {
            let mut bytes = bytes.to_vec();
            if let Some(packet) = Packet::parse(&bytes) {
                self.let_in(&packet, &mut bytes);
            }
        }
    }

    /// Which container, and which port of it, this leads to.
    fn leads_to(&mut self, packet: &Packet) -> Option<(IpAddr, u16)> {
        /// So many are remembered: addresses times ports.
        const MOST: usize = 4096;
        let (ip, port) = packet.destination;
        if let Some(known) = self.known.get(&(ip, port, packet.protocol)) {
            return *known;
        }
        let led = elements::leads_to(&self.kernel, &self.table, packet.destination, packet.protocol).ok()?;
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert((ip, port, packet.protocol), led);
        led
    }

    fn let_in(&mut self, packet: &Packet, bytes: &mut [u8]) {
        // Unpublished meanwhile: nobody waits for it.
        let Some(container) = self.leads_to(packet) else { return };
        if packet.opens {
            // Where it cannot be told, the table translates the packet, too, as that of a new connection; but then others' chains
            // see all as new that comes before the first answer.
            self.tell(packet, container).ok();
        }
        let (address, _) = packet.destination;
        let socket = if address.is_ipv4() { Some(&self.raw) } else { self.raw6.as_ref() };
        let Some(socket) = socket else { return };
        for piece in packet.finish(bytes) {
            // What cannot be sent is lost, as packets sometimes are.
            sendto(socket, &piece, SendFlags::DONTWAIT, &SocketAddr::new(address, 0)).ok();
        }
    }

    /// Tells the kernel of a connection that leads to the container: one that was answered already, so that its packets count as
    /// established with everybody from the first one on. One that it knows (another packet was faster) is left as it is.
    fn tell(&self, packet: &Packet, (container, port): (IpAddr, u16)) -> Result<(), Refusal> {
        const NEW: u16 = 1 << 8;
        const ORIGINAL: u16 = 1;
        const REPLY: u16 = 2;
        const STATUS: u16 = 3;
        const ANSWERED_AND_CONFIRMED: u32 = 2 | 8;
        const PROTOCOL_STATE: u16 = 4;
        const TCP: u16 = 1;
        const TCP_STATE: u16 = 1;
        const SYN_SENT: u8 = 1;
        const TIMEOUT: u16 = 7;
        const TRANSLATION: u16 = 13;
        const PORTS: u16 = 3;
        const FIRST_AND_LAST: [u16; 2] = [1, 2];
        const FIRST_AND_LAST6: [u16; 2] = [4, 5];
        let family = if container.is_ipv4() { 2 } else { 10 };
        let mut request = Request::new();
        request.message(NEW, CREATE | EXCLUSIVE, &[family, 0, 0, 0], |r| {
            r.nest(ORIGINAL, |r| tuple(r, packet.protocol, packet.source, packet.destination));
            r.nest(REPLY, |r| tuple(r, packet.protocol, packet.destination, packet.source));
            r.nest(TRANSLATION, |r| {
                for kind in if container.is_ipv4() { FIRST_AND_LAST } else { FIRST_AND_LAST6 } {
                    address(r, kind, container);
                }
                r.nest(PORTS, |r| FIRST_AND_LAST.iter().for_each(|kind| r.bytes(*kind, &port.to_be_bytes())));
            });
            r.be32(STATUS, ANSWERED_AND_CONFIRMED);
            if packet.protocol == Transport::Tcp {
                r.nest(PROTOCOL_STATE, |r| r.nest(TCP, |r| r.bytes(TCP_STATE, &[SYN_SENT])));
                r.be32(TIMEOUT, 120);
            } else {
                r.be32(TIMEOUT, 30);
            }
        });
        self.connections.tell(&request)
    }
}

/// One direction of a connection.
fn tuple(
    r: &mut Request,
    protocol: Transport,
    (source, from): (IpAddr, u16),
    (destination, to): (IpAddr, u16),
) {
    const ADDRESSES: u16 = 1;
    const PROTOCOL: u16 = 2;
    const NUMBER: u16 = 1;
    const SOURCE_PORT: u16 = 2;
    const DESTINATION_PORT: u16 = 3;
    let (first, second) = if source.is_ipv4() { (1, 2) } else { (3, 4) };
    r.nest(ADDRESSES, |r| {
        address(r, first, source);
        address(r, second, destination);
    });
    r.nest(PROTOCOL, |r| {
        r.bytes(NUMBER, &[if protocol == Transport::Tcp { 6 } else { 17 }]);
        r.bytes(SOURCE_PORT, &from.to_be_bytes());
        r.bytes(DESTINATION_PORT, &to.to_be_bytes());
    });
}

fn address(r: &mut Request, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => r.bytes(kind, &ip.octets()),
        IpAddr::V6(ip) => r.bytes(kind, &ip.octets()),
    }
}

/// Asks for the packets of this group, whole, each at once.
pub(crate) fn hear(socket: &Socket, group: u16) -> Result<(), Refusal> {
    const COMMAND: u16 = 1;
    const BIND: u8 = 1;
    const MODE: u16 = 2;
    const WHOLE_PACKETS: u8 = 2;
    const THRESHOLD: u16 = 5;
    socket.listen(0, ROOM)?;
    let [high, low] = group.to_be_bytes();
    let kind = (SUBSYSTEM << 8) | CONFIGURE;
    let mut request = Request::new();
    request.message(kind, ACK, &[0, 0, high, low], |r| r.bytes(COMMAND, &[BIND]));
    request.message(kind, ACK, &[0, 0, high, low], |r| {
        r.bytes(MODE, &[0, 0, 0xff, 0xff, WHOLE_PACKETS, 0]);
        r.be32(THRESHOLD, 1);
    });
    socket.transact(&request, 2)
}

/// The packets that are handed over in a datagram, and the index of the link that each came by.
pub(crate) fn handed_over(datagram: &[u8]) -> impl Iterator<Item = (Option<u32>, &[u8])> {
    const INCOMING: u16 = 4;
    const PAYLOAD: u16 = 9;
    let messages = parse::messages(datagram).filter(|message| message.kind == (SUBSYSTEM << 8) | PACKET);
    messages.filter_map(|message| {
        let attributes = message.payload.get(4..)?;
        let link = parse::attribute(attributes, INCOMING).and_then(parse::be32);
        Some((link, parse::attribute(attributes, PAYLOAD)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_are_found() {
        let mut request = Request::new();
        request.message(SUBSYSTEM << 8, 0, &[2, 0, 0, 7], |r| {
            r.bytes(1, &[8, 0, 1, 0]);
            r.be32(4, 7);
            r.bytes(9, b"packet");
        });
        request.message(3, 0, &[], |_| {});
        assert_eq!(handed_over(request.as_bytes()).collect::<Vec<_>>(), [(Some(7), &b"packet"[..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for (_, packet) in handed_over(&bytes) {
                Packet::parse(packet);
            }
        }
    }
}
