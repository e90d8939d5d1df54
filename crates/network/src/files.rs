//! The contents of a container's `/etc/hosts` and `/etc/resolv.conf`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use base::fs;
use state::options::{DnsOptions, HostEntry, NetworkMode};

use crate::{Error, Result};

pub(crate) const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved lists the resolvers behind its stub on 127.0.0.53.
const BEHIND_SYSTEMD_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// A resolver configuration larger than this is none.
const MAX_SIZE: usize = 64 * 1024;
/// What Docker falls back to, and so what users of `-p` and `--rm` on a laptop are used to.
pub(crate) const FALLBACK: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// The content of `/etc/hosts`. With the host's network: the host's own file.
pub fn hosts(mode: &NetworkMode, hostname: &str, addresses: &[IpAddr]) -> Result<String> {
    if *mode == NetworkMode::Host {
        return text(Path::new("/etc/hosts"));
    }
    Ok(own_hosts(mode, hostname, addresses))
}

fn own_hosts(mode: &NetworkMode, hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    // Where IPv6 is off, a name that leads to ::1 would only cost its users a failed attempt.
    if *mode == NetworkMode::None || addresses.iter().any(IpAddr::is_ipv6) {
        text.push_str(
            "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
    }
    // A name with blanks or line ends would be other names, or other lines.
    let good = !hostname.is_empty() && hostname.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    for ip in addresses.iter().filter(|_| good) {
        // Writing to a string cannot fail.
        write!(text, "{ip}\t{hostname}").ok();
        if let Some((short, _)) = hostname.split_once('.').filter(|(short, _)| !short.is_empty()) {
            write!(text, " {short}").ok();
        }
        text.push('\n');
    }
    text
}

/// A `resolv.conf`, and what the user should be told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// The file's content.
    pub text: String,
    /// What had to be changed in a way that may surprise.
    pub warnings: Vec<String>,
}

/// The content of `/etc/resolv.conf`, made from the host's. With the host's network: the host's own file.
/// What the user says of it takes the place of what it says.
pub fn resolv_conf(mode: &NetworkMode, dns: &DnsOptions) -> Result<ResolvConf> {
    let host = text(Path::new(HOST_RESOLV_CONF))?;
    if *mode == NetworkMode::Host {
        return Ok(ResolvConf { text: as_told(&host, dns), warnings: Vec::new() });
    }
    let behind =
        if asks_systemd_resolved(&host) { text(Path::new(BEHIND_SYSTEMD_RESOLVED))? } else { String::new() };
    let mut conf = for_container(&host, &behind);
    if *mode == NetworkMode::None {
        conf.warnings.clear(); // nobody will be asked
    }
    if !dns.servers.is_empty() {
        conf.warnings.clear(); // they are not asked
    }
    conf.text = as_told(&conf.text, dns);
    Ok(conf)
}

/// A `resolv.conf` with what the user wants otherwise.
pub(crate) fn as_told(text: &str, dns: &DnsOptions) -> String {
    if dns.is_default() {
        return text.to_owned();
    }
    let mut told = String::new();
    for ip in &dns.servers {
        writeln!(told, "nameserver {ip}").ok(); // cannot fail
    }
    for line in text.lines() {
        let replaced = match line.split_whitespace().next() {
            Some("nameserver") => !dns.servers.is_empty(),
            Some("search" | "domain") => !dns.search.is_empty(),
            Some("options") => !dns.options.is_empty(),
            _ => false,
        };
        if !replaced {
            writeln!(told, "{line}").ok();
        }
    }
    // Docker's word for no domain at all.
    if !dns.search.is_empty() && dns.search != ["."] {
        writeln!(told, "search {}", dns.search.join(" ")).ok();
    }
    if !dns.options.is_empty() {
        writeln!(told, "options {}", dns.options.join(" ")).ok();
    }
    told
}

/// The lines of `--add-host`. A host without an address is ours, as the container reaches it.
pub fn more_hosts(mode: &NetworkMode, hosts: &[HostEntry], gateway: Option<Ipv4Addr>) -> Result<String> {
    let mut text = String::new();
    for HostEntry { name, address } in hosts {
        let ours = match mode {
            NetworkMode::Host => Some(Ipv4Addr::LOCALHOST),
            _ => gateway,
        };
        let address = address.or(ours.map(IpAddr::V4)).ok_or_else(|| Error::NoGateway(name.clone()))?;
        writeln!(text, "{address}\t{name}").ok(); // cannot fail
    }
    Ok(text)
}

/// The IPv4 resolvers that the host uses: our subnet must not hide them.
pub(crate) fn host_resolvers() -> Vec<Ipv4Addr> {
    let files =
        [HOST_RESOLV_CONF, BEHIND_SYSTEMD_RESOLVED].map(|path| text(Path::new(path)).unwrap_or_default());
    let all = files.iter().flat_map(|text| text.lines()).filter_map(resolver);
    all.filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }).collect()
}

/// A file's content; empty if there is none, or if it is absurdly long.
pub(crate) fn text(path: &Path) -> Result<String> {
    let content = fs::read_if_exists(path)?.filter(|content| content.len() <= MAX_SIZE).unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn asks_systemd_resolved(host: &str) -> bool {
    // 127.0.0.53 is its stub; 127.0.0.54 the one that only forwards.
    let stubs = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];
    host.lines().filter_map(resolver).any(|ip| stubs.iter().any(|stub| ip == *stub))
}

/// The address on a `nameserver` line.
fn resolver(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    // An IPv6 address may carry a zone, `fe80::1%eth0`, which only the host can use; it is IPv6 still.
    words.next()?.split('%').next()?.parse().ok()
}

/// The host's configuration as a container can use it: `host` is its `resolv.conf`, `behind` the one with the
/// resolvers behind a local stub, or empty.
fn for_container(host: &str, behind: &str) -> ResolvConf {
    // The bridge has no IPv6, and in the container loopback is its own.
    let usable = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified());
    let of = |text: &str| text.lines().filter_map(resolver).filter(usable).collect::<Vec<_>>();
    let (source, mut resolvers) = match of(behind) {
        found if found.is_empty() => (host, of(host)),
        found => (behind, found),
    };
    let mut warnings = Vec::new();
    if resolvers.is_empty() {
        resolvers = FALLBACK.map(IpAddr::V4).to_vec();
        warnings.push(format!(
            "the host has no name server that containers can reach ({HOST_RESOLV_CONF}); they ask {} and {} instead",
            FALLBACK[0], FALLBACK[1]
        ));
    }
    let mut text = String::new();
    for ip in resolvers {
        writeln!(text, "nameserver {ip}").ok(); // cannot fail
    }
    // Everything else is kept: search, domain, options, sortlist.
    for line in source.lines().map(str::trim) {
        let comment = line.is_empty() || line.starts_with(['#', ';']);
        if !comment && line.split_whitespace().next() != Some("nameserver") {
            text.push_str(line);
            text.push('\n');
        }
    }
    ResolvConf { text, warnings }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resolvers_that_a_container_cannot_reach_are_dropped() {
        let host = "# made by hand\nsearch example.org\nnameserver 127.0.0.1\nnameserver 192.0.2.53\n\
                    nameserver fe80::1%eth0\noptions edns0 trust-ad\n";
        let conf = for_container(host, "");
        assert_eq!(conf.text, "nameserver 192.0.2.53\nsearch example.org\noptions edns0 trust-ad\n");
        assert!(conf.warnings.is_empty());
    }

    #[test]
    fn the_resolvers_behind_a_stub_are_found() {
        let host = "nameserver 127.0.0.53\noptions edns0\nsearch a\n";
        assert!(asks_systemd_resolved(host));
        let conf = for_container(host, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch b c\n");
        assert_eq!(conf.text, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch b c\n");
    }

    #[test]
    fn without_any_the_fallback_is_said() {
        for host in ["", "nameserver ::1\nnameserver 127.0.0.53\n", "nameserver\nnameserver x\n"] {
            let conf = for_container(host, "");
            assert_eq!(conf.text, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
            assert!(conf.warnings[0].contains("ask 8.8.8.8"));
        }
    }

    #[test]
    fn what_the_user_says_takes_the_place_of_what_the_host_says() {
        let host = "nameserver 192.0.2.1\nsearch a\noptions edns0\nsortlist x\n";
        let told = |servers: &[&str], search: &[&str], options: &[&str]| {
            let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
            let servers = servers.iter().map(|ip| ip.parse().unwrap()).collect();
            as_told(host, &DnsOptions { servers, search: words(search), options: words(options) })
        };
        assert_eq!(told(&[], &[], &[]), host);
        assert_eq!(told(&["::1"], &[], &[]), "nameserver ::1\nsearch a\noptions edns0\nsortlist x\n");
        assert_eq!(
            told(&[], &["b", "c"], &["ndots:2"]),
            "nameserver 192.0.2.1\nsortlist x\nsearch b c\noptions ndots:2\n"
        );
        assert_eq!(told(&[], &["."], &[]), "nameserver 192.0.2.1\noptions edns0\nsortlist x\n");
    }

    #[test]
    fn more_hosts_are_lines_and_the_host_is_the_gateway() {
        let entry = |name: &str, ip: Option<&str>| HostEntry {
            name: name.to_owned(),
            address: ip.map(|ip| ip.parse().unwrap()),
        };
        let hosts = [entry("db", Some("2001:db8::1")), entry("me", None)];
        let gateway = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            more_hosts(&NetworkMode::Bridge, &hosts, gateway).unwrap(),
            "2001:db8::1\tdb\n10.0.0.1\tme\n"
        );
        assert!(more_hosts(&NetworkMode::Host, &hosts, None).unwrap().ends_with("127.0.0.1\tme\n"));
        assert!(more_hosts(&NetworkMode::None, &hosts, None).is_err());
    }

    #[test]
    fn hosts_name_the_container_and_nothing_else() {
        let ip = &[IpAddr::from([10, 210, 0, 2])];
        let bridge = &NetworkMode::Bridge;
        assert_eq!(
            own_hosts(bridge, "web.example", ip),
            "127.0.0.1\tlocalhost\n10.210.0.2\tweb.example web\n"
        );
        assert_eq!(own_hosts(bridge, "a\n1.2.3.4 bank", ip), "127.0.0.1\tlocalhost\n");
        assert!(own_hosts(&NetworkMode::None, "x", &[]).contains("::1\tlocalhost"));
    }

    proptest! {
        #[test]
        fn whatever_the_host_has_the_container_gets_reachable_resolvers(host in "(nameserver [0-9.:a-f%]{0,20}\n|.{0,30}\n){0,10}", behind in ".{0,80}") {
            let conf = for_container(&host, &behind);
            let resolvers: Vec<_> = conf.text.lines().filter_map(resolver).collect();
            prop_assert!(!resolvers.is_empty());
            prop_assert!(resolvers.iter().all(|ip| ip.is_ipv4() && !ip.is_loopback()));
        }
    }
}
