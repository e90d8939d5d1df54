//! The expressions of rules. Each loads something into a register, compares a register (and ends the rule if
//! it does not hold), or acts.

mod frames;
mod ways;

use std::net::Ipv4Addr;

pub(super) use frames::{Neighbour, TcpFlag};
pub(super) use ways::Refuse;

use crate::netlink::Request;
use crate::subnet::Subnet;
use crate::subnet6::Subnet6;

use super::{IPV4, IPV6, LIST_ELEMENT, VALUE};

/// Sixteen bytes; its first four are the register that nftables counts as number 8, and so on.
const REGISTER: u32 = 1;
/// What is put there is done.
const VERDICT_REGISTER: u32 = 0;
/// The 4-byte part number `n` of [`REGISTER`].
const fn part(n: u32) -> u32 {
    if n == 0 { REGISTER } else { 8 + n }
}

/// The expressions of one rule, written into its message.
pub(super) struct Rule<'a>(&'a mut Request);

/// How a comparison must come out.
#[derive(Clone, Copy)]
pub(super) enum Is {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(super) enum Address {
    Source,
    Destination,
}

impl Address {
    /// Where it is in an IPv4 header.
    fn in_ipv4(self) -> u32 {
        match self {
            Self::Source => 12,
            Self::Destination => 16,
        }
    }

    /// Where it is in an IPv6 header.
    fn in_ipv6(self) -> u32 {
        match self {
            Self::Source => 8,
            Self::Destination => 24,
        }
    }
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EtherType {
    Ipv4 = 0x0800,
    Arp = 0x0806,
    Ipv6 = 0x86dd,
}

impl Address {
    /// Where the port of this end is in a header of UDP or TCP.
    fn port(self) -> u32 {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }
}

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ported {
    Tcp = 6,
    Udp = 17,
}

impl Ported {
    /// Where the checksum is in its header.
    fn checksum(self) -> u32 {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// From which of a packet's ends a pair is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// From whom it is, to whom.
    AsSent,
    /// As an answer: to whom it is, from whom.
    Reversed,
}

/// A version of the internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// Which interface of a packet.
#[derive(Clone, Copy)]
pub(super) enum Interface {
    Incoming = 6,
    Outgoing = 7,
}

/// How a packet fares.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

const META_NETWORK_PROTOCOL: u32 = 15;
const META_L4_PROTOCOL: u32 = 16;
const META_PROTOCOL: u32 = 1;
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

impl<'a> Rule<'a> {
    /// Writes into a nest of expressions.
    pub(super) fn new(request: &'a mut Request) -> Self {
        Self(request)
    }

    fn expression(&mut self, name: &str, attributes: impl FnOnce(&mut Request)) {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        self.0.nest(LIST_ELEMENT, |r| {
            r.string(NAME, name);
            r.nest(DATA, attributes);
        });
    }

    /// The interface's name is, or is not, `name`.
    pub(super) fn interface(&mut self, which: Interface, is: Is, name: &str) -> &mut Self {
        self.meta(which as u32, REGISTER);
        // Compared with its terminator, so that it is no prefix.
        let mut padded = [0; 16];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.compare(is, &padded)
    }

    /// The packet is of this version. In a table of both, what looks into the network header says so first.
    pub(super) fn version(&mut self, version: Version) -> &mut Self {
        self.meta(META_NETWORK_PROTOCOL, REGISTER);
        // Of one byte: the rest of the register is 0.
        self.compare(Is::Equal, &[if version == Version::V4 { IPV4 } else { IPV6 }])
    }

    /// An IPv4 packet whose address lies, or does not lie, in `subnet`.
    pub(super) fn address(&mut self, which: Address, is: Is, subnet: Subnet) -> &mut Self {
        self.version(Version::V4);
        self.payload(NETWORK_HEADER, which.in_ipv4(), 4, REGISTER);
        self.bitwise(&subnet.mask().octets());
        self.compare(is, &subnet.network().octets())
    }

    /// The address is, or is not, a loopback one.
    pub(super) fn loopback(&mut self, which: Address, is: Is) -> &mut Self {
        self.address(which, is, Subnet::around(Ipv4Addr::LOCALHOST, 8))
    }

    /// An IPv6 packet whose address lies, or does not lie, in `subnet`.
    pub(super) fn address6(&mut self, which: Address, is: Is, subnet: Subnet6) -> &mut Self {
        self.version(Version::V6).in_subnet6(which, is, subnet)
    }

    /// The address of what is known to be an IPv6 packet lies, or does not lie, in `subnet`.
    pub(super) fn in_subnet6(&mut self, which: Address, is: Is, subnet: Subnet6) -> &mut Self {
        self.payload(NETWORK_HEADER, which.in_ipv6(), 16, REGISTER);
        self.bitwise(&subnet.mask().octets());
        self.compare(is, &subnet.network().octets())
    }

    /// An IPv6 router's advertisement.
    pub(super) fn router_advertisement(&mut self) -> &mut Self {
        self.version(Version::V6).advertises_router()
    }

    /// What is known to be IPv6 is a router's advertisement.
    pub(super) fn advertises_router(&mut self) -> &mut Self {
        const ICMPV6: u8 = 58;
        const ADVERTISEMENT: u8 = 134;
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[ICMPV6]);
        self.payload(TRANSPORT_HEADER, 0, 1, REGISTER);
        self.compare(Is::Equal, &[ADVERTISEMENT])
    }

    /// The address of what is known to be an IPv4 packet is this one.
    pub(super) fn is_address(&mut self, which: Address, ip: Ipv4Addr) -> &mut Self {
        self.payload(NETWORK_HEADER, which.in_ipv4(), 4, REGISTER);
        self.compare(Is::Equal, &ip.octets())
    }

    /// The packet is of this protocol, and the port, at this end, this one.
    pub(super) fn is_port(&mut self, which: Address, protocol: Ported, port: u16) -> &mut Self {
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[protocol as u8]);
        self.payload(TRANSPORT_HEADER, which.port(), 2, REGISTER);
        self.compare(Is::Equal, &port.to_be_bytes())
    }

    /// Writes another port into a packet of this protocol, and mends its checksum. No connection is tracked for that.
    pub(super) fn set_port(&mut self, which: Address, protocol: Ported, port: u16) {
        self.expression("immediate", |r| {
            const DESTINATION: u16 = 1;
            const DATA: u16 = 2;
            r.be32(DESTINATION, REGISTER);
            r.nest(DATA, |r| r.bytes(VALUE, &port.to_be_bytes()));
        });
        self.expression("payload", |r| {
            const BASE: u16 = 2;
            const OFFSET: u16 = 3;
            const LENGTH: u16 = 4;
            const SOURCE: u16 = 5;
            const CHECKSUM: u16 = 6;
            const CHECKSUM_OFFSET: u16 = 7;
            const INTERNET: u32 = 1;
            r.be32(SOURCE, REGISTER);
            r.be32(BASE, TRANSPORT_HEADER);
            r.be32(OFFSET, which.port());
            r.be32(LENGTH, 2);
            r.be32(CHECKSUM, INTERNET);
            r.be32(CHECKSUM_OFFSET, protocol.checksum());
        });
    }

    /// The destination is an address of this host.
    pub(super) fn destination_is_local(&mut self) -> &mut Self {
        const DESTINATION: u16 = 1;
        const RESULT: u16 = 2;
        const FLAGS: u16 = 3;
        const ADDRESS_TYPE: u32 = 3;
        const BY_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        self.expression("fib", |r| {
            r.be32(DESTINATION, REGISTER);
            r.be32(RESULT, ADDRESS_TYPE);
            r.be32(FLAGS, BY_DESTINATION);
        });
        self.compare(Is::Equal, &LOCAL.to_ne_bytes())
    }

    /// The packet belongs to, or is caused by, a connection that exists.
    pub(super) fn established(&mut self) -> &mut Self {
        const STATE: u32 = 0;
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        self.connection(STATE, ESTABLISHED_OR_RELATED)
    }

    /// The packet begins a connection.
    pub(super) fn begins(&mut self) -> &mut Self {
        const STATE: u32 = 0;
        const NEW: u32 = 8;
        self.connection(STATE, NEW)
    }

    /// The connection's destination was translated.
    pub(super) fn translated(&mut self) -> &mut Self {
        const STATUS: u32 = 2;
        const DESTINATION_TRANSLATED: u32 = 1 << 5;
        self.connection(STATUS, DESTINATION_TRANSLATED)
    }

    /// One of the connection's `bits` is set.
    fn connection(&mut self, key: u32, bits: u32) -> &mut Self {
        const DESTINATION: u16 = 1;
        const KEY: u16 = 2;
        self.expression("ct", |r| {
            r.be32(DESTINATION, REGISTER);
            r.be32(KEY, key);
        });
        self.bitwise(&bits.to_ne_bytes());
        self.compare(Is::NotEqual, &[0; 4])
    }

    /// Translates the destination to the map's entry for `[address .] protocol . port`; the rule ends where
    /// there is none.
    pub(super) fn translate_by_map(&mut self, version: Version, map: &str, with_address: bool) {
        let (family, size) = match version {
            Version::V4 => (IPV4, 1),
            Version::V6 => (IPV6, 4),
        };
        self.load_port(version, with_address);
        self.look_up(map, REGISTER);
        self.expression("nat", |r| {
            const TYPE: u16 = 1;
            const FAMILY: u16 = 2;
            const ADDRESS: u16 = 3;
            const PORT: u16 = 5;
            const DESTINATION: u32 = 1;
            r.be32(TYPE, DESTINATION);
            r.be32(FAMILY, family.into());
            r.be32(ADDRESS, part(0));
            r.be32(PORT, part(size));
        });
    }

    /// Loads `[destination address .] protocol . destination port`.
    fn load_port(&mut self, version: Version, with_address: bool) {
        let next = match (with_address, version) {
            (false, _) => 0,
            (true, Version::V4) => {
                self.payload(NETWORK_HEADER, Address::Destination.in_ipv4(), 4, part(0));
                1
            }
            (true, Version::V6) => {
                self.payload(NETWORK_HEADER, Address::Destination.in_ipv6(), 16, part(0));
                4
            }
        };
        self.meta(META_L4_PROTOCOL, part(next));
        self.payload(TRANSPORT_HEADER, 2, 2, part(next + 1)); // the destination port of TCP, UDP and SCTP
    }

    /// `[address .] protocol . port` of the destination stands in the set.
    pub(super) fn port_in_set(&mut self, version: Version, set: &str, with_address: bool) -> &mut Self {
        self.load_port(version, with_address);
        self.is_in_set(set, Is::Equal)
    }

    /// The protocol stands in the set.
    pub(super) fn protocol_in_set(&mut self, set: &str) -> &mut Self {
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.is_in_set(set, Is::Equal)
    }

    /// Gives the whole packet to whoever listens to this group, at once.
    pub(super) fn hand_over(&mut self, group: u16) -> &mut Self {
        const GROUP: u16 = 1;
        const THRESHOLD: u16 = 4;
        self.expression("log", |r| {
            r.bytes(GROUP, &group.to_be_bytes());
            r.bytes(THRESHOLD, &1_u16.to_be_bytes());
        });
        self
    }

    /// The source lies in one of the set's subnets.
    pub(super) fn source_in_set(&mut self, version: Version, set: &str) -> &mut Self {
        self.version(version);
        match version {
            Version::V4 => self.payload(NETWORK_HEADER, Address::Source.in_ipv4(), 4, REGISTER),
            Version::V6 => self.payload(NETWORK_HEADER, Address::Source.in_ipv6(), 16, REGISTER),
        }
        self.is_in_set(set, Is::Equal)
    }

    /// The frame carries this.
    pub(super) fn ether_type(&mut self, carries: EtherType) -> &mut Self {
        self.meta(META_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &(carries as u16).to_be_bytes())
    }

    /// Incoming interface, hardware address and address of the sender stand together in the set.
    pub(super) fn sender_in_set(&mut self, carries: EtherType, set: &str) -> &mut Self {
        const HARDWARE_SOURCE: u32 = 6;
        const ARP_SENDER: u32 = 14;
        self.meta(Interface::Incoming as u32, part(0));
        self.payload(LINK_HEADER, HARDWARE_SOURCE, 6, part(4));
        let (offset, length) = match carries {
            EtherType::Ipv4 => (Address::Source.in_ipv4(), 4),
            EtherType::Arp => (ARP_SENDER, 4),
            EtherType::Ipv6 => (Address::Source.in_ipv6(), 16),
        };
        self.payload(NETWORK_HEADER, offset, length, part(6));
        self.is_in_set(set, Is::Equal)
    }

    /// The source of what is known to be of this version stands in the set.
    pub(super) fn sender_is_in_set(&mut self, version: Version, set: &str) -> &mut Self {
        self.address_into(version, Address::Source, part(0));
        self.is_in_set(set, Is::Equal)
    }

    fn address_into(&mut self, version: Version, which: Address, register: u32) {
        match version {
            Version::V4 => self.payload(NETWORK_HEADER, which.in_ipv4(), 4, register),
            Version::V6 => self.payload(NETWORK_HEADER, which.in_ipv6(), 16, register),
        }
    }

    /// Both addresses of what is known to be of this version, protocol and port stand together in the set.
    pub(super) fn pair_in_set(&mut self, version: Version, ends: Ends, set: &str) -> &mut Self {
        let (size, second) = self.load_ends(version, ends);
        self.payload(TRANSPORT_HEADER, second.port(), 2, part(2 * size + 1));
        self.is_in_set(set, Is::Equal)
    }

    /// Both addresses of what is known to be of this version and its protocol stand together in the set.
    pub(super) fn ends_in_set(&mut self, version: Version, ends: Ends, set: &str) -> &mut Self {
        self.load_ends(version, ends);
        self.is_in_set(set, Is::Equal)
    }

    /// Loads both addresses and the protocol. Gives an address's size in parts of a register, and which was the second.
    fn load_ends(&mut self, version: Version, ends: Ends) -> (u32, Address) {
        let size = if version == Version::V4 { 1 } else { 4 };
        let (first, second) = match ends {
            Ends::AsSent => (Address::Source, Address::Destination),
            Ends::Reversed => (Address::Destination, Address::Source),
        };
        self.address_into(version, first, part(0));
        self.address_into(version, second, part(size));
        self.meta(META_L4_PROTOCOL, part(2 * size));
        (size, second)
    }

    /// It is TCP.
    pub(super) fn is_tcp(&mut self) -> &mut Self {
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[Ported::Tcp as u8])
    }

    /// It is a message of ICMP of this type.
    pub(super) fn is_icmp(&mut self, version: Version, kind: u8) -> &mut Self {
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[if version == Version::V4 { 1 } else { 58 }]);
        self.payload(TRANSPORT_HEADER, 0, 1, REGISTER);
        self.compare(Is::Equal, &[kind])
    }

    /// Incoming and outgoing interface stand together in the set.
    pub(super) fn interfaces_in_set(&mut self, set: &str) -> &mut Self {
        self.meta(Interface::Incoming as u32, part(0));
        self.meta(Interface::Outgoing as u32, part(4));
        self.is_in_set(set, Is::Equal)
    }

    /// The interface's name stands in the set, or does not.
    pub(super) fn interface_in_set(&mut self, which: Interface, set: &str, is: Is) -> &mut Self {
        self.meta(which as u32, REGISTER);
        self.is_in_set(set, is)
    }

    fn is_in_set(&mut self, set: &str, is: Is) -> &mut Self {
        const SET: u16 = 1;
        const SOURCE: u16 = 2;
        const FLAGS: u16 = 5;
        const INVERTED: u32 = 1;
        self.expression("lookup", |r| {
            r.string(SET, set);
            r.be32(SOURCE, REGISTER);
            if matches!(is, Is::NotEqual) {
                r.be32(FLAGS, INVERTED);
            }
        });
        self
    }

    /// What the map says of the interface's name is done; the rule ends where it says nothing.
    pub(super) fn verdict_by_interface(&mut self, which: Interface, map: &str) {
        self.meta(which as u32, REGISTER);
        self.look_up(map, VERDICT_REGISTER);
    }

    /// Puts the map's entry for what is in the first register into another one.
    fn look_up(&mut self, map: &str, destination: u32) {
        self.expression("lookup", |r| {
            const SET: u16 = 1;
            const SOURCE: u16 = 2;
            const DESTINATION: u16 = 3;
            r.string(SET, map);
            r.be32(SOURCE, REGISTER);
            r.be32(DESTINATION, destination);
        });
    }

    /// Gives the packet the outgoing interface's address as its source.
    pub(super) fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    /// The kernel tells which rules the packet meets from here on.
    pub(super) fn trace(&mut self) {
        const TRACE: u32 = 12;
        const KEY: u16 = 2;
        const SOURCE: u16 = 3;
        self.expression("immediate", |r| {
            const DESTINATION: u16 = 1;
            const DATA: u16 = 2;
            r.be32(DESTINATION, REGISTER);
            r.nest(DATA, |r| r.bytes(VALUE, &[1]));
        });
        self.expression("meta", |r| {
            r.be32(KEY, TRACE);
            r.be32(SOURCE, REGISTER);
        });
    }

    /// Counts packets and bytes: for a person who looks why something does not arrive.
    pub(super) fn count(&mut self) -> &mut Self {
        self.expression("counter", |_| {});
        self
    }

    /// Ends the chain.
    pub(super) fn verdict(&mut self, verdict: Verdict) {
        const DESTINATION: u16 = 1;
        const DATA: u16 = 2;
        const VERDICT: u16 = 2;
        const CODE: u16 = 1;
        self.expression("immediate", |r| {
            r.be32(DESTINATION, VERDICT_REGISTER);
            r.nest(DATA, |r| r.nest(VERDICT, |r| r.be32(CODE, verdict as u32)));
        });
    }

    fn meta(&mut self, key: u32, register: u32) {
        const DESTINATION: u16 = 1;
        const KEY: u16 = 2;
        self.expression("meta", |r| {
            r.be32(DESTINATION, register);
            r.be32(KEY, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        const DESTINATION: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        self.expression("payload", |r| {
            r.be32(DESTINATION, register);
            r.be32(BASE, base);
            r.be32(OFFSET, offset);
            r.be32(LENGTH, length);
        });
    }

    fn bitwise(&mut self, mask: &[u8]) {
        const SOURCE: u16 = 1;
        const DESTINATION: u16 = 2;
        const LENGTH: u16 = 3;
        const MASK: u16 = 4;
        const XOR: u16 = 5;
        self.expression("bitwise", |r| {
            r.be32(SOURCE, REGISTER);
            r.be32(DESTINATION, REGISTER);
            r.be32(LENGTH, mask.len() as u32);
            r.nest(MASK, |r| r.bytes(VALUE, mask));
            r.nest(XOR, |r| r.bytes(VALUE, &[0; 16][..mask.len()]));
        });
    }

    fn compare(&mut self, is: Is, value: &[u8]) -> &mut Self {
        const SOURCE: u16 = 1;
        const OPERATION: u16 = 2;
        const DATA: u16 = 3;
        self.expression("cmp", |r| {
            r.be32(SOURCE, REGISTER);
            r.be32(OPERATION, is as u32);
            r.nest(DATA, |r| r.bytes(VALUE, value));
        });
        self
    }
}
