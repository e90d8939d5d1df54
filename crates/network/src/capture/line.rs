//! A packet as a line that people read. What is in a packet was written by anybody: only numbers of it are shown.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Seen;

/// `23:19:01.123456789 eth0 out TCP 10.5.0.2:40000 > 10.5.0.3:80 [S] length 0`; the time is UTC.
pub(super) fn line(seen: &Seen<'_>) -> String {
    let of_day = seen.seconds % 86_400;
    let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let direction = if seen.outgoing { "out" } else { "in " };
    let mut line =
        format!("{hours:02}:{minutes:02}:{seconds:02}.{:09} {} {direction} ", seen.nanoseconds, seen.link);
    match content(seen.bytes) {
        Some(content) => line += &content,
        None => {
            // Writing to a string does not fail.
            write!(line, "too short to be told, length {}", seen.length).ok();
        }
    }
    line
}

fn content(frame: &[u8]) -> Option<String> {
    let inner = frame.get(14..)?;
    Some(match half(frame, 12)? {
        0x0800 => ipv4(inner)?,
        0x86dd => ipv6(inner)?,
        0x0806 => arp(inner)?,
        other => format!("Ethernet type 0x{other:04x}, length {}", inner.len()),
    })
}

fn arp(packet: &[u8]) -> Option<String> {
    let (sender, target) = (address4(packet, 14)?, address4(packet, 24)?);
    Some(match half(packet, 6)? {
        1 => format!("ARP who has {target}? tell {sender}"),
        2 => {
            let mac: Vec<String> = packet.get(8..14)?.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("ARP {sender} is at {}", mac.join(":"))
        }
        other => format!("ARP operation {other}"),
    })
}

fn ipv4(packet: &[u8]) -> Option<String> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    let header = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(half(packet, 2)?);
    let (from, to) = (address4(packet, 12)?.into(), address4(packet, 16)?.into());
    let offset = half(packet, 6)? & FRAGMENT_OFFSET;
    if offset > 0 {
        return Some(format!("IP {from} > {to} fragment at {}", u32::from(offset) * 8));
    }
    // Zero where the kernel has joined what is longer than the field can say.
    let length = if total == 0 { packet.len() } else { total }.checked_sub(header)?;
    transport(*packet.get(9)?, from, to, packet.get(header..)?, length)
}

fn ipv6(packet: &[u8]) -> Option<String> {
    let address = |at: usize| {
        let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let payload = packet.get(40..)?;
    let length = match half(packet, 4)? {
        0 => payload.len(),
        length => length.into(),
    };
    transport(*packet.get(6)?, address(8)?, address(24)?, payload, length)
}

fn transport(protocol: u8, from: IpAddr, to: IpAddr, segment: &[u8], length: usize) -> Option<String> {
    let ends = |name: &str| {
        let (source, destination) = (half(segment, 0)?, half(segment, 2)?);
        Some(format!("{name} {} > {}", SocketAddr::new(from, source), SocketAddr::new(to, destination)))
    };
    Some(match protocol {
        6 => {
            let (header, flags) = (usize::from(segment.get(12)? >> 4) * 4, flags(*segment.get(13)?));
            format!("{} [{flags}] length {}", ends("TCP")?, length.checked_sub(header)?)
        }
        17 => format!("{} length {}", ends("UDP")?, length.checked_sub(8)?),
        132 => format!("{} length {length}", ends("SCTP")?),
        1 => format!("ICMP {from} > {to} {}", icmp(*segment.first()?, *segment.get(1)?)),
        58 => format!("ICMP6 {from} > {to} {}", icmp6(*segment.first()?, *segment.get(1)?)),
        other => format!("IP protocol {other} {from} > {to} length {length}"),
    })
}

fn flags(bits: u8) -> String {
    // As tcpdump shows them: the point is an acknowledgement.
    let known = [(0x02, 'S'), (0x01, 'F'), (0x04, 'R'), (0x08, 'P'), (0x20, 'U'), (0x10, '.')];
    known.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter).collect()
}

fn icmp(kind: u8, code: u8) -> String {
    match (kind, code) {
        (0, _) => "echo reply".to_owned(),
        (8, _) => "echo request".to_owned(),
        (3, 0) => "network unreachable".to_owned(),
        (3, 1) => "host unreachable".to_owned(),
        (3, 3) => "port unreachable".to_owned(),
        (3, 4) => "too large, must not be fragmented".to_owned(),
        (3, 9 | 10 | 13) => "prohibited by a firewall".to_owned(),
        (11, _) => "time exceeded".to_owned(),
        _ => format!("type {kind} code {code}"),
    }
}

fn icmp6(kind: u8, code: u8) -> String {
    match (kind, code) {
        (128, _) => "echo request".to_owned(),
        (129, _) => "echo reply".to_owned(),
        (1, 1) => "prohibited by a firewall".to_owned(),
        (1, 4) => "port unreachable".to_owned(),
        (1, _) => "unreachable".to_owned(),
        (2, _) => "too large".to_owned(),
        (133, _) => "router solicitation".to_owned(),
        (134, _) => "router advertisement".to_owned(),
        (135, _) => "neighbour solicitation".to_owned(),
        (136, _) => "neighbour advertisement".to_owned(),
        _ => format!("type {kind} code {code}"),
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(bytes: &[u8]) -> Seen<'_> {
        Seen {
            seconds: 86_400 + 3661,
            nanoseconds: 5,
            length: bytes.len() as u32,
            outgoing: true,
            bytes,
            link: "eth0",
        }
    }

    #[test]
    fn a_connection_and_an_answer_are_told() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 5, 0, 2, 10, 5, 0, 3]);
        frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            line(&seen(&frame)),
            "01:01:01.000000005 eth0 out TCP 10.5.0.2:40000 > 10.5.0.3:80 [S.] length 0"
        );
        assert!(line(&seen(&frame[..30])).ends_with("too short to be told, length 30"));
    }

    proptest! {
        #[test]
        fn any_frame_is_one_line(mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0..4_usize) {
            let kinds = [[8, 0], [0x86, 0xdd], [8, 6], [1, 2]];
            if bytes.len() > 14 {
                bytes[12..14].copy_from_slice(&kinds[kind]);
            }
            let is_one = !line(&seen(&bytes)).contains(|letter: char| letter.is_control());
            prop_assert!(is_one);
        }
    }
}
