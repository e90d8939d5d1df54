//! Expressions about where a packet wants to go, and how it is refused.

use std::net::IpAddr;

use super::{
    Address, Interface, Is, LINK_HEADER, META_L4_PROTOCOL, NETWORK_HEADER, Ported, REGISTER, Rule,
    TRANSPORT_HEADER, VALUE, VERDICT_REGISTER, Verdict, Version, part,
};
use crate::subnet6::Subnet6;

/// How somebody is told that it may not go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nft) enum Refuse {
    /// A connection is reset.
    Reset,
    /// "Communication administratively prohibited".
    Prohibited,
}

const ICMPV6: u8 = 58;
/// Refusals that are logged in a second, of one container.
const LOGGED: u64 = 1000;
/// Bytes of a packet that are logged: the headers.
const SEEN: u32 = 128;

impl Rule<'_> {
    /// What the map says of the incoming interface and the sender's hardware address is done.
    pub(in crate::nft) fn verdict_by_place(&mut self, map: &str) {
        const HARDWARE_SOURCE: u32 = 6;
        const META_INCOMING_TYPE: u32 = 8;
        const ETHERNET: u16 = 1;
        // Said first, as nft says it: without that it does not know whose header it is, and cannot load what it has listed.
        self.meta(META_INCOMING_TYPE, REGISTER);
        self.compare(Is::Equal, &ETHERNET.to_ne_bytes());
        self.meta(Interface::Incoming as u32, part(0));
        self.payload(LINK_HEADER, HARDWARE_SOURCE, 6, part(4));
        self.look_up(map, VERDICT_REGISTER);
    }

    pub(in crate::nft) fn accept(&mut self) {
        self.verdict(Verdict::Accept);
    }

    pub(in crate::nft) fn drop(&mut self) {
        self.verdict(Verdict::Drop);
    }

    pub(in crate::nft) fn enters_by(&mut self, name: &str) -> &mut Self {
        self.interface(Interface::Incoming, Is::Equal, name)
    }

    /// The destination begins with these bits.
    pub(in crate::nft) fn leads_to(&mut self, address: IpAddr, prefix: u8) -> &mut Self {
        match address {
            IpAddr::V4(ip) => {
                self.address(Address::Destination, Is::Equal, crate::subnet::Subnet::around(ip, prefix))
            }
            IpAddr::V6(ip) => self.address6(Address::Destination, Is::Equal, Subnet6::around(ip, prefix)),
        }
    }

    /// The destination of what is known to be of its version is not this one.
    pub(in crate::nft) fn not_to(&mut self, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(ip) => {
                self.payload(NETWORK_HEADER, Address::Destination.in_ipv4(), 4, REGISTER);
                self.compare(Is::NotEqual, &ip.octets())
            }
            IpAddr::V6(ip) => {
                self.payload(NETWORK_HEADER, Address::Destination.in_ipv6(), 16, REGISTER);
                self.compare(Is::NotEqual, &ip.octets())
            }
        }
    }

    pub(in crate::nft) fn is_protocol(&mut self, protocol: Ported) -> &mut Self {
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[protocol as u8])
    }

    /// The packet is of this protocol, and goes to one of these ports.
    pub(in crate::nft) fn leads_to_port(&mut self, protocol: Ported, (first, last): (u16, u16)) -> &mut Self {
        self.is_protocol(protocol);
        self.payload(TRANSPORT_HEADER, Address::Destination.port(), 2, REGISTER);
        if first == last {
            return self.compare(Is::Equal, &first.to_be_bytes());
        }
        self.compare(Is::AtLeast, &first.to_be_bytes());
        self.compare(Is::AtMost, &last.to_be_bytes())
    }

    /// The destination, the protocol and the port stand together in the set.
    pub(in crate::nft) fn way_in_set(&mut self, version: Version, set: &str) -> &mut Self {
        self.version(version);
        let next = match version {
            Version::V4 => {
                self.payload(NETWORK_HEADER, Address::Destination.in_ipv4(), 4, part(0));
                1
            }
            Version::V6 => {
                self.payload(NETWORK_HEADER, Address::Destination.in_ipv6(), 16, part(0));
                4
            }
        };
        self.meta(META_L4_PROTOCOL, part(next));
        self.payload(TRANSPORT_HEADER, Address::Destination.port(), 2, part(next + 1));
        self.is_in_set(set, Is::Equal)
    }

    /// Asks, or tells, whose an IPv6 address on this link is: to a group, or to somebody on the link. (What has been forwarded
    /// is not heeded: its hop limit is not 255.)
    pub(in crate::nft) fn finds_neighbours(&mut self) -> &mut Self {
        const SOLICITATION: u8 = 135;
        const ADVERTISEMENT: u8 = 136;
        const HOP_LIMIT: u32 = 7;
        self.version(Version::V6);
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[ICMPV6]);
        self.payload(NETWORK_HEADER, HOP_LIMIT, 1, REGISTER);
        self.compare(Is::Equal, &[255]);
        self.local_destination();
        self.payload(TRANSPORT_HEADER, 0, 1, REGISTER);
        self.compare(Is::AtLeast, &[SOLICITATION]);
        self.compare(Is::AtMost, &[ADVERTISEMENT])
    }

    /// The destination is an address of this host, or a group.
    fn local_destination(&mut self) -> &mut Self {
        const DESTINATION: u16 = 1;
        const RESULT: u16 = 2;
        const FLAGS: u16 = 3;
        const ADDRESS_TYPE: u32 = 3;
        const BY_DESTINATION: u32 = 2;
        const UNICAST: u32 = 1;
        self.expression("fib", |r| {
            r.be32(DESTINATION, REGISTER);
            r.be32(RESULT, ADDRESS_TYPE);
            r.be32(FLAGS, BY_DESTINATION);
        });
        self.compare(Is::NotEqual, &UNICAST.to_ne_bytes())
    }

    /// What every IPv6 host says of the groups that it is in, or asks of routers, which are none of a container's.
    pub(in crate::nft) fn manages_groups(&mut self) -> &mut Self {
        self.version(Version::V6);
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[ICMPV6]);
        self.payload(NETWORK_HEADER, Address::Destination.in_ipv6(), 2, REGISTER);
        self.compare(Is::Equal, &[0xff, 0x02])
    }

    /// Ends the rule for what comes beyond so many in a second.
    pub(in crate::nft) fn limit(&mut self) -> &mut Self {
        const RATE: u16 = 1;
        const UNIT: u16 = 2;
        const BURST: u16 = 3;
        self.expression("limit", |r| {
            r.bytes(RATE, &LOGGED.to_be_bytes());
            r.bytes(UNIT, &1_u64.to_be_bytes());
            r.be32(BURST, LOGGED as u32);
        });
        self
    }

    /// Hands the packet's headers to whoever listens to the group, with these words.
    pub(in crate::nft) fn log(&mut self, group: u16, prefix: &str) {
        const GROUP: u16 = 1;
        const PREFIX: u16 = 2;
        const LENGTH: u16 = 3;
        self.expression("log", |r| {
            r.bytes(GROUP, &group.to_be_bytes());
            r.string(PREFIX, prefix);
            r.be32(LENGTH, SEEN);
        });
    }

    /// Tells the sender no, and drops the packet.
    pub(in crate::nft) fn refuse(&mut self, how: Refuse) {
        const TYPE: u16 = 1;
        const CODE: u16 = 2;
        const RESET: u32 = 1;
        const UNREACHABLE: u32 = 2;
        const PROHIBITED: u8 = 3;
        self.expression("reject", |r| match how {
            Refuse::Reset => r.be32(TYPE, RESET),
            Refuse::Prohibited => {
                r.be32(TYPE, UNREACHABLE);
                r.bytes(CODE, &[PROHIBITED]);
            }
        });
    }

    /// Leads the connection to this port of the host.
    pub(in crate::nft) fn redirect(&mut self, port: u16) {
        self.expression("immediate", |r| {
            const DESTINATION: u16 = 1;
            const DATA: u16 = 2;
            r.be32(DESTINATION, REGISTER);
            r.nest(DATA, |r| r.bytes(VALUE, &port.to_be_bytes()));
        });
        self.expression("redir", |r| {
            const PORT: u16 = 1;
            r.be32(PORT, REGISTER);
        });
    }
}
