//! Expressions about single frames of a bridge: what messages about neighbours say, and pieces of packets.

use std::net::Ipv6Addr;

use super::{
    Address, Is, LINK_HEADER, META_L4_PROTOCOL, NETWORK_HEADER, Ported, REGISTER, Rule, TRANSPORT_HEADER,
    Version,
};

const ICMPV6: u8 = 58;
/// Where the sender's is in a frame.
const HARDWARE_SOURCE: u32 = 6;
/// The length of an IPv6 header.
const IPV6_HEADER: u32 = 40;

/// Messages about neighbours (RFC 4861), but for those of routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nft) enum Neighbour {
    /// Who asks for a router.
    RouterSolicitation = 133,
    /// Who asks for a neighbour.
    Solicitation = 135,
    /// "I am here."
    Advertisement = 136,
}

impl Neighbour {
    /// The bytes of the message before its options.
    fn length(self) -> u32 {
        if self == Self::RouterSolicitation { 8 } else { 24 }
    }

    /// The option that tells a hardware address, and its length in eights of bytes.
    fn option(self) -> [u8; 2] {
        [if self == Self::Advertisement { 2 } else { 1 }, 1]
    }
}

impl Rule<'_> {
    /// What is known to be IPv6 carries ICMP, right behind its header.
    pub(in crate::nft) fn plain_icmpv6(&mut self) -> &mut Self {
        self.payload(NETWORK_HEADER, 6, 1, REGISTER);
        self.compare(Is::Equal, &[ICMPV6])
    }

    /// What is known to be IPv6 carries, or does not carry, ICMP, behind whatever else. Neither holds where that cannot be told.
    pub(in crate::nft) fn icmpv6(&mut self, is: Is) -> &mut Self {
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(is, &[ICMPV6])
    }

    /// The type of what is known to be ICMP.
    pub(in crate::nft) fn icmp_type(&mut self, is: Is, kind: u8) -> &mut Self {
        self.payload(TRANSPORT_HEADER, 0, 1, REGISTER);
        self.compare(is, &[kind])
    }

    /// A whole message of this kind, right behind the header, that has come from no other link.
    pub(in crate::nft) fn neighbour(&mut self, kind: Neighbour) -> &mut Self {
        self.plain_icmpv6();
        self.payload(NETWORK_HEADER, 7, 1, REGISTER);
        self.compare(Is::Equal, &[255]);
        self.payload(NETWORK_HEADER, IPV6_HEADER, 1, REGISTER);
        self.compare(Is::Equal, &[kind as u8])
    }

    /// A neighbour's message has no options.
    pub(in crate::nft) fn no_options(&mut self, kind: Neighbour) -> &mut Self {
        self.carries(kind.length())
    }

    /// Its only option is this hardware address.
    pub(in crate::nft) fn hardware_option_is(&mut self, kind: Neighbour, mac: [u8; 6]) -> &mut Self {
        let option = IPV6_HEADER + kind.length();
        self.carries(kind.length() + 8);
        self.payload(NETWORK_HEADER, option, 2, REGISTER);
        self.compare(Is::Equal, &kind.option());
        self.payload(NETWORK_HEADER, option + 2, 6, REGISTER);
        self.compare(Is::Equal, &mac)
    }

    /// Its only option is a number by which who asks knows its own question again (RFC 7527).
    pub(in crate::nft) fn nonce(&mut self, kind: Neighbour) -> &mut Self {
        self.carries(kind.length() + 8);
        self.payload(NETWORK_HEADER, IPV6_HEADER + kind.length(), 2, REGISTER);
        self.compare(Is::Equal, &[14, 1])
    }

    /// The sender's hardware address.
    pub(in crate::nft) fn hardware_sender(&mut self, mac: [u8; 6]) -> &mut Self {
        self.payload(LINK_HEADER, HARDWARE_SOURCE, 6, REGISTER);
        self.compare(Is::Equal, &mac)
    }

    /// The address that a solicitation or an advertisement is about. (No part of a set's key: `nft` has no name for it, and could
    /// not load what it lists.)
    pub(in crate::nft) fn target_is(&mut self, ip: Ipv6Addr) -> &mut Self {
        self.payload(NETWORK_HEADER, IPV6_HEADER + 8, 16, REGISTER);
        self.compare(Is::Equal, &ip.octets())
    }

    /// To many on the link: `ff02::/16`.
    pub(in crate::nft) fn for_many_on_link(&mut self) -> &mut Self {
        self.payload(NETWORK_HEADER, Address::Destination.in_ipv6(), 2, REGISTER);
        self.compare(Is::Equal, &[0xff, 0x02])
    }

    /// So many bytes are behind the header of IPv6.
    fn carries(&mut self, length: u32) -> &mut Self {
        self.payload(NETWORK_HEADER, 4, 2, REGISTER);
        self.compare(Is::Equal, &(length as u16).to_be_bytes())
    }

    /// A piece of a packet, but not the first: it has no ports.
    pub(in crate::nft) fn later_piece(&mut self, version: Version) -> &mut Self {
        let mask: u16 = match version {
            Version::V4 => {
                self.payload(NETWORK_HEADER, 6, 2, REGISTER);
                0x1fff
            }
            Version::V6 => {
                self.fragment_header();
                0xfff8
            }
        };
        self.bitwise(&mask.to_be_bytes());
        self.compare(Is::NotEqual, &[0; 2])
    }

    /// Loads offset and flags of a piece of IPv6; the rule ends where it is none.
    fn fragment_header(&mut self) {
        self.expression("exthdr", |r| {
            const DESTINATION: u16 = 1;
            const TYPE: u16 = 2;
            const OFFSET: u16 = 3;
            const LENGTH: u16 = 4;
            const FRAGMENT: u8 = 44;
            r.be32(DESTINATION, REGISTER);
            r.bytes(TYPE, &[FRAGMENT]);
            r.be32(OFFSET, 2);
            r.be32(LENGTH, 2);
        });
    }

    /// It is TCP, and goes on with a connection, or ends or refuses it. Pieces too small to tell are none.
    pub(in crate::nft) fn answers_by_tcp(&mut self, flag: TcpFlag) -> &mut Self {
        const FLAGS: u32 = 13;
        self.meta(META_L4_PROTOCOL, REGISTER);
        self.compare(Is::Equal, &[Ported::Tcp as u8]);
        self.payload(TRANSPORT_HEADER, FLAGS, 1, REGISTER);
        self.bitwise(&[flag as u8]);
        self.compare(Is::NotEqual, &[0])
    }
}

/// By which of TCP's flags an answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nft) enum TcpFlag {
    Reset = 0x04,
    Acknowledge = 0x10,
}
