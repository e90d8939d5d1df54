//! What listens in a network namespace: `/proc/PID/net/{tcp,tcp6,udp,udp6}`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// A socket that waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listener {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

impl Listener {
    /// Whether what comes to this address comes to it.
    pub(super) fn hears(&self, address: IpAddr) -> bool {
        self.address == address
            || self.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            || self.address == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && address.is_ipv4()
            || matches!((self.address, address), (IpAddr::V6(ours), IpAddr::V4(ip)) if ours.to_ipv4_mapped() == Some(ip))
    }
}

/// All that listen in the network namespace of a process (`self` or a number), by TCP or UDP; none where that cannot be seen.
pub(super) fn listening(process: &str, udp: bool) -> Option<BTreeSet<Listener>> {
    let files = if udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let read = |file| std::fs::read_to_string(Path::new("/proc").join(process).join("net").join(file)).ok();
    let mut all = parse(&read(files[0])?, udp);
    all.extend(parse(&read(files[1]).unwrap_or_default(), udp));
    Some(all)
}

fn parse(table: &str, udp: bool) -> BTreeSet<Listener> {
    // TCP_LISTEN; of UDP, not connected (TCP_CLOSE).
    let wanted = if udp { "07" } else { "0A" };
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        if fields.nth(1)? != wanted {
            return None;
        }
        Some(Listener { address: self::address(address)?, port: u16::from_str_radix(port, 16).ok()? })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Words of the machine's order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |n: usize| {
        let word = u32::from_str_radix(hex.get(8 * n..8 * n + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let octets: Vec<u8> = (0..4).map(word).collect::<Option<Vec<_>>>()?.concat();
            Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_listens_is_told_from_what_is_connected() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:0050 00000000:0000 0A 0 0\n   \
                     1: 0200050A:1F90 0300050A:9C40 01 0 0\n   2: 00000000:1F90 00000000:0000 0A 0 0\n";
        let ports: Vec<String> =
            parse(table, false).iter().map(|l| format!("{}:{}", l.address, l.port)).collect();
        assert_eq!(ports, ["0.0.0.0:8080", "127.0.0.1:80"]);
        let any = Listener { address: "::".parse().unwrap(), port: 80 };
        assert!(any.hears("10.5.0.2".parse().unwrap()) && any.hears("fd00::2".parse().unwrap()));
        let loopback = Listener { address: "127.0.0.1".parse().unwrap(), port: 80 };
        assert!(!loopback.hears("10.5.0.2".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(text in "\\PC{0,120}") {
            parse(&text, false);
            address(&text);
        }
    }
}
