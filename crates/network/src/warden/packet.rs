//! Packets as the kernel hands them over: what they are, and what has to be done to them before they are sent again.
//!
//! They come from anywhere, so nothing here trusts a length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use state::options::Protocol;

/// What is longer has come in fragments, which the kernel has put together; it goes on in such.
const WHOLE: usize = 1500;
/// What every link of IPv6 carries.
const FRAGMENT: usize = 1280;
const FRAGMENT_HEADER: usize = 8;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) protocol: Protocol,
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    /// It opens a connection, or its protocol has none.
    pub(crate) opens: bool,
    /// How many of the bytes are the packet's.
    length: usize,
    /// Where the header of the protocol begins.
    transport: usize,
    /// Where it is said that this header comes next.
    announced: usize,
}

impl Packet {
    /// Reads a packet's headers. None where it is cut off, a fragment, or of a protocol without ports.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse4(bytes),
            6 => Self::parse6(bytes),
            _ => None,
        }
    }

    fn parse4(bytes: &[u8]) -> Option<Self> {
        const PROTOCOL: usize = 9;
        const MORE_OR_LATER: u16 = 0x3fff;
        let transport = usize::from(bytes.first()? & 0xf) * 4;
        let length = usize::from(u16_at(bytes, 2)?);
        if transport < 20 || u16_at(bytes, 6)? & MORE_OR_LATER != 0 {
            return None;
        }
        let address =
            |at: usize| Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?)));
        Self::of(bytes, *bytes.get(PROTOCOL)?, (address(12)?, address(16)?), length, transport, PROTOCOL)
    }

    fn parse6(bytes: &[u8]) -> Option<Self> {
        const HEADER: usize = 40;
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const OPTIONS: u8 = 60;
        let length = HEADER + usize::from(u16_at(bytes, 4)?);
        let address = |at: usize| {
            Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?)))
        };
        let addresses = (address(8)?, address(24)?);
        let (mut announced, mut at) = (6, HEADER);
        // Each extension is eight bytes at least.
        while matches!(*bytes.get(announced)?, HOP_BY_HOP | ROUTING | OPTIONS) {
            announced = at;
            at += (usize::from(*bytes.get(at + 1)?) + 1) * 8;
        }
        Self::of(bytes, *bytes.get(announced)?, addresses, length, at, announced)
    }

    fn of(
        bytes: &[u8],
        protocol: u8,
        (source, destination): (IpAddr, IpAddr),
        length: usize,
        transport: usize,
        announced: usize,
    ) -> Option<Self> {
        const SYN_ACK_RST_FIN: u8 = 0x17;
        const SYN: u8 = 2;
        let header = bytes.get(..length)?.get(transport..)?;
        let (protocol, least) = match protocol {
            TCP => (Protocol::Tcp, 20),
            UDP => (Protocol::Udp, 8),
            SCTP => (Protocol::Sctp, 12),
            _ => return None,
        };
        if header.len() < least {
            return None;
        }
        let opens = match protocol {
            Protocol::Tcp => header.get(13)? & SYN_ACK_RST_FIN == SYN,
            Protocol::Udp => true,
            Protocol::Sctp => false,
        };
        Some(Self {
            protocol,
            source: (source, u16_at(header, 0)?),
            destination: (destination, u16_at(header, 2)?),
            opens,
            length,
            transport,
            announced,
        })
    }

    /// Makes the packet one that can be sent: what was handed over between two programs of one machine, or by hardware that
    /// helps, has no whole checksum. (One that came with a wrong one was not handed over: the kernel has looked.) Returns what is
    /// to be sent, one or several.
    pub(crate) fn finish(&self, bytes: &mut [u8]) -> Vec<Vec<u8>> {
        let Some(packet) = bytes.get_mut(..self.length) else { return Vec::new() };
        self.sum_up(packet);
        if self.length <= WHOLE {
            return vec![packet.to_vec()];
        }
        if self.destination.0.is_ipv4() {
            // The kernel fragments it where it must, if it may.
            packet[6] &= !0x40;
            return vec![packet.to_vec()];
        }
        self.fragments(packet)
    }

    fn sum_up(&self, packet: &mut [u8]) {
        let (place, number) = match self.protocol {
            Protocol::Tcp => (16, TCP),
            Protocol::Udp => (6, UDP),
            Protocol::Sctp => return sum_up_sctp(&mut packet[self.transport..]),
        };
        let header = &mut packet[self.transport..];
        if self.protocol == Protocol::Udp && header[place..place + 2] == [0, 0] {
            return; // its sender does without
        }
        header[place..place + 2].fill(0);
        let length = match self.protocol {
            Protocol::Udp => usize::from(u16::from_be_bytes([header[4], header[5]])).clamp(8, header.len()),
            _ => header.len(),
        };
        let mut sum = Sum::default();
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                sum.add(&source.octets());
                sum.add(&destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                sum.add(&source.octets());
                sum.add(&destination.octets());
            }
            _ => return,
        }
        sum.add(&(length as u32).to_be_bytes());
        sum.add(&[0, number]);
        sum.add(&header[..length]);
        let sum = match sum.finish() {
            // In UDP, 0 means that there is none.
            0 if self.protocol == Protocol::Udp => 0xffff,
            sum => sum,
        };
        header[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Cuts a packet of IPv6, whose routers do not.
    fn fragments(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        const FRAGMENT_NEXT: u8 = 44;
        const MORE: u16 = 1;
        let (head, body) = packet.split_at(self.transport);
        let room = FRAGMENT.saturating_sub(head.len() + FRAGMENT_HEADER) / 8 * 8;
        if room == 0 {
            return Vec::new();
        }
        // Any number will do that the same sender has not just used: the packet's own sum is as good as another.
        let mut sum = Sum::default();
        sum.add(body);
        let id = (u32::from(sum.finish()) << 16) | u32::from(self.source.1);
        let protocol = packet[self.announced];
        let pieces = body.len().div_ceil(room);
        body.chunks(room)
            .enumerate()
            .map(|(n, piece)| {
                let mut fragment = Vec::with_capacity(head.len() + FRAGMENT_HEADER + piece.len());
                fragment.extend_from_slice(head);
                fragment[self.announced] = FRAGMENT_NEXT;
                let more = if n + 1 < pieces { MORE } else { 0 };
                fragment.extend_from_slice(&[protocol, 0]);
                fragment.extend_from_slice(&((n * room) as u16 | more).to_be_bytes());
                fragment.extend_from_slice(&id.to_be_bytes());
                fragment.extend_from_slice(piece);
                let length = (fragment.len() - 40) as u16;
                fragment[4..6].copy_from_slice(&length.to_be_bytes());
                fragment
            })
            .collect()
    }
}

/// The internet's checksum of these bytes.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = Sum::default();
    sum.add(bytes);
    sum.finish()
}

/// The internet's checksum (RFC 1071).
#[derive(Default)]
struct Sum(u64);

impl Sum {
    /// Adds bytes, of which only the last may be odd in number.
    fn add(&mut self, bytes: &[u8]) {
        let pairs = bytes.chunks_exact(2);
        if let [last] = pairs.remainder() {
            self.0 += u64::from(*last) << 8;
        }
        self.0 += pairs.map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u64>();
    }

    fn finish(mut self) -> u16 {
        while self.0 > 0xffff {
            self.0 = (self.0 & 0xffff) + (self.0 >> 16);
        }
        !(self.0 as u16)
    }
}

fn sum_up_sctp(packet: &mut [u8]) {
    const PLACE: std::ops::Range<usize> = 8..12;
    packet[PLACE].fill(0);
    let sum = crc32c(packet);
    packet[PLACE].copy_from_slice(&sum.to_le_bytes());
}

/// SCTP's checksum (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let bit = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn udp4(data: &[u8]) -> Vec<u8> {
        let length = (28 + data.len()) as u16;
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&[0x30, 0x39, 0, 53]);
        packet.extend_from_slice(&(length - 20).to_be_bytes());
        packet.extend_from_slice(&[0xff, 0xff]);
        packet.extend_from_slice(data);
        packet
    }

    fn udp6(data: &[u8]) -> Vec<u8> {
        let length = (8 + data.len()) as u16;
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, UDP, 64];
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet.extend_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend_from_slice(&[0x30, 0x39, 0, 53]);
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&[1, 1]);
        packet.extend_from_slice(data);
        packet
    }

    /// The sum over a packet whose checksum is right is 0.
    fn is_right(packet: &Packet, bytes: &[u8]) -> bool {
        let mut sum = Sum::default();
        let (from, to) = if packet.source.0.is_ipv4() { (12, 20) } else { (8, 40) };
        sum.add(&bytes[from..to]);
        sum.add(&[0, UDP]);
        sum.add(&((bytes.len() - packet.transport) as u16).to_be_bytes());
        sum.add(&bytes[packet.transport..]);
        sum.finish() == 0
    }

    #[test]
    fn headers_are_read() {
        let packet = Packet::parse(&udp4(b"hello")).unwrap();
        assert_eq!(packet.source, ([192, 0, 2, 1].into(), 12345));
        assert_eq!(packet.destination, ([192, 0, 2, 2].into(), 53));
        assert!(packet.opens && packet.protocol == Protocol::Udp);
        let mut fragment = udp4(b"hello");
        fragment[6] = 0x20;
        assert_eq!(Packet::parse(&fragment), None);
        // An extension in between.
        let mut longer = udp6(b"");
        longer[6] = 60;
        longer[5] += 8;
        longer.splice(40..40, [UDP, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(Packet::parse(&longer).unwrap().destination.1, 53);
    }

    #[test]
    fn crc_of_sctp_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), version in 0_u8..3) {
            if let Some(first) = bytes.first_mut() {
                *first = [0x45, 0x60, *first][usize::from(version)];
            }
            if let Some(packet) = Packet::parse(&bytes) {
                packet.finish(&mut bytes);
            }
        }

        #[test]
        fn any_cut_or_flip_is_harmless(cut in 0_usize..80, at in 0_usize..60, bit in any::<u8>(), six in any::<bool>()) {
            let mut bytes = if six { udp6(b"payload") } else { udp4(b"payload") };
            let at = at % bytes.len();
            bytes[at] ^= bit;
            bytes.truncate(cut);
            if let Some(packet) = Packet::parse(&bytes) {
                packet.finish(&mut bytes);
            }
        }

        #[test]
        fn what_is_sent_is_whole_and_right(data in prop::collection::vec(any::<u8>(), 0..5000), six in any::<bool>()) {
            let mut bytes = if six { udp6(&data) } else { udp4(&data) };
            let packet = Packet::parse(&bytes).unwrap();
            let sent = packet.finish(&mut bytes);
            prop_assert!(is_right(&packet, &bytes));
            if sent.len() == 1 {
                prop_assert_eq!(&sent[0], &bytes);
            } else {
                prop_assert!(six && sent.iter().all(|fragment| fragment.len() <= FRAGMENT));
                let body: Vec<u8> = sent.iter().flat_map(|fragment| fragment[48..].to_vec()).collect();
                prop_assert_eq!(&body[..], &bytes[40..]);
                for (n, fragment) in sent.iter().enumerate() {
                    let offset = u16_at(fragment, 42).unwrap();
                    prop_assert_eq!(offset & 1 == 1, n + 1 < sent.len());
                    prop_assert_eq!(u16_at(fragment, 4).unwrap() as usize, fragment.len() - 40);
                }
            }
        }
    }
}
