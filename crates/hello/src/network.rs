//! Interfaces, addresses and the way out: from rtnetlink, which tells all address families the same way, and
//! asks no library that would load others.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::report::{Body, Section, Value};

// linux/rtnetlink.h and its like.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_DONE: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;

#[derive(Default)]
struct Link {
    name: String,
    mac: String,
    up: bool,
    addresses: Vec<String>,
}

pub(crate) fn interfaces() -> Section {
    let rows = links().into_values().map(|link| {
        let state = if link.up { "up" } else { "down" };
        vec![link.name, state.to_owned(), link.mac, link.addresses.join(" ")]
    });
    let columns = &["name", "state", "hardware", "addresses"];
    Section { title: "Interfaces", body: Body::Table { columns, rows: rows.collect() } }
}

pub(crate) fn ways() -> Section {
    let resolvers: Vec<String> = fs::read_to_string("/etc/resolv.conf")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.split_whitespace().next().map(str::to_owned))
        .collect();
    let mut routes = default_v4(&fs::read_to_string("/proc/net/route").unwrap_or_default());
    routes.extend(default_v6(&fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default()));
    Section::facts(
        "Network",
        vec![("default route", Value::Words(routes)), ("resolvers", Value::Words(resolvers))],
    )
}

fn links() -> BTreeMap<u32, Link> {
    let mut links: BTreeMap<u32, Link> = BTreeMap::new();
    for (kind, reply) in [(RTM_GETLINK, RTM_NEWLINK), (RTM_GETADDR, RTM_NEWADDR)] {
        // Without an answer the table stays empty, which is what we know then.
        let _unanswered = dump(kind, |found, body| {
            if found == reply {
                take(found, body, &mut links);
            }
        });
    }
    links
}

/// Asks for all objects of a kind, and hands each answer's type and body to `each`.
fn dump(kind: u16, mut each: impl FnMut(u16, &[u8])) -> rustix::io::Result<()> {
    // No protocol is NETLINK_ROUTE.
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // The header (length, type, flags, sequence, port), then an empty `ifinfomsg` or `ifaddrmsg`.
    let mut request = Vec::new();
    request.extend_from_slice(&32_u32.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.resize(32, 0);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((found, body, next)) = message(rest) {
            if matches!(found, NLMSG_DONE | NLMSG_ERROR) {
                return Ok(());
            }
            each(found, body);
            rest = next;
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// The first message's type and body, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes that follow a message's fixed part.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn take(kind: u16, body: &[u8], links: &mut BTreeMap<u32, Link>) {
    let word = |at: usize| body.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let Some(index) = word(4) else { return };
    let link = links.entry(index).or_default();
    if kind == RTM_NEWLINK {
        link.up = word(8).unwrap_or_default() & IFF_UP != 0;
        for (attribute, value) in attributes(body.get(16..).unwrap_or_default()) {
            match attribute {
                IFLA_IFNAME => link.name = String::from_utf8_lossy(value).replace('\0', ""),
                IFLA_ADDRESS if value.iter().any(|&b| b != 0) => {
                    link.mac = value.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
                }
                _ => {}
            }
        }
        return;
    }
    // On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL ours; IPv6 has only the former.
    let found: BTreeMap<u16, &[u8]> = attributes(body.get(8..).unwrap_or_default()).collect();
    let address = found.get(&IFA_LOCAL).or(found.get(&IFA_ADDRESS)).and_then(|bytes| address(bytes));
    if let (Some(address), Some(prefix)) = (address, body.get(1)) {
        link.addresses.push(format!("{address}/{prefix}"));
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// The default routes in `/proc/net/route`: numbers in hexadecimal, addresses in the machine's byte order.
fn default_v4(text: &str) -> Vec<String> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, destination, gateway, .., mask] = fields.get(..8)? else { return None };
        let default = *destination == "00000000" && *mask == "00000000";
        let gateway = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes());
        default.then(|| format!("{gateway} through {name}"))
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// The same in `/proc/net/ipv6_route`. Routes through `lo` are the kernel's way to refuse.
fn default_v6(text: &str) -> Vec<String> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, gateway, .., name] = fields[..] else { return None };
        let default = length == "00" && destination.bytes().all(|b| b == b'0') && name != "lo";
        let gateway = Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
        default.then(|| format!("{gateway} through {name}"))
    };
    text.lines().filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found() {
        let links = links();
        let lo = links.values().find(|link| link.name == "lo").unwrap();
        assert!(!lo.up || lo.addresses.iter().any(|address| address == "127.0.0.1/8"));
    }

    #[test]
    fn default_routes_are_found_and_broken_messages_are_not() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(default_v4(table), ["172.17.0.1 through eth0"]);
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 0 0 0 0 eth0\n{zero} 00 {zero} 00 {zero} 0 0 0 0 lo\n"
        );
        assert_eq!(default_v6(&table), ["fe80::1 through eth0"]);
        for bytes in [&[][..], &[1, 0], &[255; 40], &[0; 40]] {
            assert!(message(bytes).is_none());
            assert!(attributes(bytes).take(100).count() < 100);
        }
    }
}
