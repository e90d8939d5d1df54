//! What a container puts on the wire by hand: who may say where somebody is, and what passes in pieces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use harness::world::World;
use harness::{Dhow, eventually};

const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");
const ICMPV6: u8 = 58;

type Mac = [u8; 6];

struct Place {
    mac: Mac,
    ip: Ipv4Addr,
    ip6: Ipv6Addr,
}

fn place(dhow: &Dhow, name: &str) -> Place {
    let there = &dhow.inspect(name)["NetworkSettings"]["Networks"]["back"];
    let get = |key: &str| there[key].as_str().unwrap().to_owned();
    Place {
        mac: mac(&get("MacAddress")),
        ip: get("IPAddress").parse().unwrap(),
        ip6: get("GlobalIPv6Address").parse().unwrap(),
    }
}

fn mac(text: &str) -> Mac {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Only the bridge's rules are met: otherwise the kernel may put pieces together before, and give them to other rules, too.
fn bridge_alone(world: &World) {
    let off = "for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do [ ! -e $f ] || echo 0 > $f; done";
    world.on_host("sh").args(&["-c", off]).ok();
}

/// A container that hears all that comes to it.
fn listen(dhow: &Dhow, name: &str, flags: &[&str]) {
    let run = ["run", "-d", "--name", name, "--network", "back", "-v", PROBE];
    dhow.ok(&[&run, flags, &["busybox", "probe", "hear", "eth0"]].concat());
    eventually("the listener", || dhow.ok(&["logs", name]).contains("listening").then_some(()));
}

/// Sends these frames and then one that passes, and says which were heard. All are different.
fn heard<'a>(
    dhow: &Dhow,
    from: &str,
    at: &str,
    frames: &[(&'a str, Vec<u8>)],
    last: &[u8],
) -> BTreeSet<&'a str> {
    let hex = |frame: &[u8]| {
        frame.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let mut all: Vec<String> = frames.iter().map(|(_, frame)| hex(frame)).collect();
    all.push(hex(last));
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    dhow.ok(&[&["exec", from, "probe", "frames", "eth0"], &words[..]].concat());
    let log = eventually("the last frame", || {
        let log = dhow.ok(&["logs", at]);
        log.contains(words[words.len() - 1]).then_some(log)
    });
    frames.iter().filter(|(_, frame)| log.contains(&hex(frame))).map(|(name, _)| *name).collect()
}

fn ethernet(to: Mac, from: Mac, carries: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &carries.to_be_bytes(), packet].concat()
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// With its checksum.
fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    let length = [0, 0, 0, message.len() as u8];
    let all = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, ICMPV6], &message].concat();
    let mut sum: u32 =
        all.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

/// A message about a neighbour; of advertisements both "you have asked" and "instead of what you knew".
fn neighbour(kind: u8, about: Ipv6Addr, option: Option<(u8, Mac)>) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, if kind == 136 { 0x60 } else { 0 }, 0, 0, 0];
    message.extend(about.octets());
    if let Some((kind, mac)) = option {
        message.extend([kind, 1]);
        message.extend(mac);
    }
    message
}

#[test]
fn nobody_says_where_others_are() {
    let world = World::new();
    let dhow = Dhow::in_namespace("frames", world.host());
    bridge_alone(&world);
    dhow.ok(&["network", "create", "--ipv6", "back"]);
    listen(&dhow, "victim", &[]);
    listen(&dhow, "other", &[]);
    dhow.ok(&["run", "-d", "--name", "crook", "--network", "back", "-v", PROBE, "busybox", "sleep", "1000"]);
    let [victim, other, crook] = ["victim", "other", "crook"].map(|name| place(&dhow, name));
    let gateway: Ipv6Addr = dhow.inspect("victim")["NetworkSettings"]["Networks"]["back"]["IPv6Gateway"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    // What is forbidden to crooks is not in others' way: neighbours are found, also by large packets.
    for to in [gateway, other.ip6, crook.ip6] {
        dhow.ok(&["exec", "victim", "ping", "-6", "-c", "1", "-W", "5", "-s", "3000", &to.to_string()]);
    }
    let known = || {
        let all = [
            dhow.ok(&["exec", "victim", "ip", "-6", "neigh"]),
            world.on_host("ip").args(&["-6", "neigh"]).ok(),
        ]
        .join("\n");
        let of = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mac = words.iter().position(|word| *word == "lladdr").map(|at| words[at + 1].to_owned());
            Some((words.first()?.to_string(), mac?))
        };
        all.lines().filter_map(of).collect::<BTreeSet<_>>()
    };
    let before = known();
    assert!(before.iter().any(|(ip, _)| *ip == victim.ip6.to_string()) && before.len() >= 4, "{before:?}");

    let own = |message: Vec<u8>| {
        let message = icmpv6(crook.ip6, victim.ip6, message);
        ethernet(victim.mac, crook.mac, 0x86dd, &ipv6(crook.ip6, victim.ip6, ICMPV6, &message))
    };
    // An empty header of options before it, or one that says it is a piece, and the whole.
    let behind = |header: u8, message: Vec<u8>| {
        let message = icmpv6(crook.ip6, victim.ip6, message);
        let mut payload = vec![ICMPV6, 0, 0, 0, 0, 0, 0, 0];
        if header != 44 {
            payload[2..4].copy_from_slice(&[1, 4]);
        }
        payload.extend(message);
        ethernet(victim.mac, crook.mac, 0x86dd, &ipv6(crook.ip6, victim.ip6, header, &payload))
    };
    let to_all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let nameless = |to: Ipv6Addr, next: u8, payload: &[u8]| {
        let hardware = if to == to_all { [0x33, 0x33, 0, 0, 0, 1] } else { victim.mac };
        let none = Ipv6Addr::UNSPECIFIED;
        let payload = if next == ICMPV6 { icmpv6(none, to, payload.to_vec()) } else { payload.to_vec() };
        ethernet(hardware, crook.mac, 0x86dd, &ipv6(none, to, next, &payload))
    };
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let mut redirect = vec![137, 0, 0, 0, 0, 0, 0, 0];
    redirect.extend(crook.ip6.octets());
    redirect.extend(other.ip6.octets());
    let frames = [
        ("own: here", own(neighbour(136, crook.ip6, Some((2, crook.mac))))),
        ("own: here, plain", own(neighbour(136, crook.ip6, None))),
        ("own: where", own(neighbour(135, victim.ip6, Some((1, crook.mac))))),
        ("own: free?", nameless(to_all, ICMPV6, &[neighbour(135, crook.ip6, None), nonce.to_vec()].concat())),
        ("gateway's", own(neighbour(136, gateway, Some((2, crook.mac))))),
        ("gateway's, plain", own(neighbour(136, gateway, None))),
        ("other's", own(neighbour(136, other.ip6, Some((2, crook.mac))))),
        ("own at the other's", own(neighbour(136, crook.ip6, Some((2, other.mac))))),
        ("asks at the other's", own(neighbour(135, victim.ip6, Some((1, other.mac))))),
        (
            "two options",
            own({
                let mut message = neighbour(136, crook.ip6, Some((2, crook.mac)));
                message.extend([2, 1]);
                message.extend(other.mac);
                message
            }),
        ),
        ("behind options", behind(60, neighbour(136, gateway, Some((2, crook.mac))))),
        ("behind hops", behind(0, neighbour(136, gateway, Some((2, crook.mac))))),
        ("in a piece", behind(44, neighbour(136, gateway, Some((2, crook.mac))))),
        ("redirects", own(redirect)),
        ("a router", own(vec![134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("other's: free?", nameless(to_all, ICMPV6, &neighbour(135, victim.ip6, None))),
        ("nameless datagram", nameless(victim.ip6, 17, &[0, 9, 0, 9, 0, 8, 0, 0])),
        ("nameless echo", nameless(victim.ip6, ICMPV6, &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("nameless where", nameless(victim.ip6, ICMPV6, &neighbour(135, crook.ip6, None))),
    ];
    let last = own(vec![129, 0, 0, 0, 4, 7, 1, 1]);
    let passed = heard(&dhow, "crook", "victim", &frames, &last);
    assert_eq!(passed, frames[..4].iter().map(|(name, _)| *name).collect::<BTreeSet<_>>());
    // The host is told the same.
    let bridge: Vec<u8> = {
        let (_, hardware) = before.iter().find(|(ip, _)| *ip == gateway.to_string()).unwrap();
        mac(hardware).to_vec()
    };
    let to_host = icmpv6(crook.ip6, gateway, neighbour(136, victim.ip6, Some((2, crook.mac))));
    let to_host =
        ethernet(bridge.try_into().unwrap(), crook.mac, 0x86dd, &ipv6(crook.ip6, gateway, ICMPV6, &to_host));
    heard(&dhow, "crook", "victim", &[("host", to_host)], &own(vec![129, 0, 0, 0, 4, 7, 1, 2]));
    let after = known();
    assert!(before.is_subset(&after), "{before:?} {after:?}");
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, (id, offset): (u16, u16), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(offset.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum: u32 = packet.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet.extend(payload);
    packet
}

/// TCP's header, with these flags.
fn tcp(sequence: u8, flags: u8) -> Vec<u8> {
    vec![0x30, 0x39, 0, 80, 0, 0, 0, sequence, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]
}

#[test]
fn a_closed_container_begins_nothing_in_pieces_and_its_large_datagrams_arrive() {
    let world = World::new();
    let dhow = Dhow::in_namespace("pieces", world.host());
    bridge_alone(&world);
    dhow.ok(&["network", "create", "--ipv6", "back"]);
    listen(&dhow, "victim", &[]);
    // Closed, too: its answers are large, as well.
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "dns",
        "--network",
        "back",
        "--allow",
        "nobody:9",
        "-v",
        PROBE,
        "busybox",
        "probe",
        "udp-echo",
        "53",
    ]);
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "app",
        "--network",
        "back",
        "--allow",
        "dns:53/udp",
        "-v",
        PROBE,
        "busybox",
        "sleep",
        "1000",
    ]);
    let [victim, dns, app] = ["victim", "dns", "app"].map(|name| place(&dhow, name));
    let packet = |piece, protocol, payload: &[u8]| {
        ethernet(victim.mac, app.mac, 0x0800, &ipv4(app.ip, victim.ip, piece, protocol, payload))
    };
    const MORE: u16 = 0x2000;
    let frames = [
        ("begins", packet((1, 0), 6, &tcp(1, 0x02))),
        ("begins, small", packet((2, MORE), 6, &tcp(2, 0x02)[..8])),
        ("the rest", packet((2, 1), 6, &tcp(2, 0x02)[8..])),
        ("ends", packet((3, 0), 6, &tcp(3, 0x01))),
        ("says nothing", packet((4, 0), 6, &tcp(4, 0))),
        ("pushes", packet((5, 0), 6, &tcp(5, 0x29))),
        ("a datagram", packet((6, 0), 17, &[0, 53, 0, 53, 0, 9, 0, 0, 6])),
        ("a datagram's rest", packet((7, 185), 17, &[7; 20])),
        ("of ICMP", packet((8, 185), 1, &[8; 20])),
        ("answers", packet((9, 0), 6, &tcp(9, 0x12))),
    ];
    let passed = heard(&dhow, "app", "victim", &frames, &packet((10, 0), 6, &tcp(10, 0x10)));
    assert_eq!(passed.into_iter().collect::<Vec<_>>(), ["answers"]);
    for to in [dns.ip.to_string(), dns.ip6.to_string()] {
        for size in ["100", "3000"] {
            eventually("the datagram and its answer", || {
                let back = dhow.run(&["exec", "app", "probe", "udp-ask", &to, "53", size]).stdout;
                (back.trim() == size).then_some(())
            });
        }
    }
}
