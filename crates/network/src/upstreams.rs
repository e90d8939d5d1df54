//! Whom a container's questions are passed on to, where our name server answers them first, and the `resolv.conf` that
//! leads there.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;

use state::netd::{ADDRESS, Upstream};
use state::options::DnsOptions;

use crate::Result;
use crate::files::{FALLBACK, HOST_RESOLV_CONF, as_told, text};

/// Where resolvers listen.
const PORT: u16 = 53;
/// As many as a `resolv.conf` may name, and some: nobody waits for more of them.
const MOST: usize = 8;

/// What a container on a network of its own gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolving {
    /// Its `resolv.conf`.
    pub text: String,
    /// Who is asked for what our name server does not know.
    pub upstreams: Vec<Upstream>,
    /// What the user should be told.
    pub warnings: Vec<String>,
}

/// What a container on a network of its own gets, which has IPv6 or not.
pub fn resolving(dns: &DnsOptions, has_ipv6: bool) -> Result<Resolving> {
    let host = text(Path::new(HOST_RESOLV_CONF))?;
    Ok(made_from(&host, dns, has_ipv6))
}

fn made_from(host: &str, dns: &DnsOptions, has_ipv6: bool) -> Resolving {
    let mut warnings = Vec::new();
    let mut upstreams: Vec<Upstream> = if dns.servers.is_empty() {
        host.lines().filter_map(|line| on_line(line, has_ipv6)).collect()
    } else {
        dns.servers.iter().map(|ip| upstream(*ip, ip.is_ipv6() && !has_ipv6)).collect()
    };
    if upstreams.is_empty() {
        upstreams = FALLBACK.map(|ip| upstream(ip.into(), false)).to_vec();
        warnings.push(format!(
            "the host has no name server ({HOST_RESOLV_CONF}); containers ask {} and {} instead",
            FALLBACK[0], FALLBACK[1]
        ));
    }
    upstreams.truncate(MOST);
    let told = as_told(host, &DnsOptions { servers: vec![ADDRESS.into()], ..dns.clone() });
    let mut text = String::new();
    let mut options = Vec::new();
    for line in told.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            // All on one line, which is the last to be read.
            Some("options") => options.extend(words),
            Some(word) if !word.starts_with(['#', ';']) => {
                text.push_str(line.trim());
                text.push('\n');
            }
            _ => {}
        }
    }
    // With the host's search domains a neighbour's name would be looked for outside first, under each of them; so names are
    // tried as they are, whatever the host does, unless the user has said otherwise.
    if !dns.options.iter().any(|option| option.starts_with("ndots:")) {
        options.retain(|option| !option.starts_with("ndots:"));
        options.push("ndots:0");
    }
    text.extend(["options ", &options.join(" "), "\n"]);
    Resolving { text, upstreams, warnings }
}

fn upstream(ip: IpAddr, from_host: bool) -> Upstream {
    Upstream { address: SocketAddr::new(ip, PORT), from_host }
}

/// The server on a line of the host's file: a local one, which listens on its loopback, and one of a kind that the container
/// cannot reach are asked from there.
fn on_line(line: &str, has_ipv6: bool) -> Option<Upstream> {
    let mut words = line.split_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    let word = words.next()?;
    if let Some((ip, zone)) = word.split_once('%') {
        // On a link of the host's.
        let ip = ip.parse().ok()?;
        let link = zone.parse().ok().or_else(|| {
            std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?.trim().parse().ok()
        })?;
        return Some(Upstream { address: SocketAddrV6::new(ip, PORT, 0, link).into(), from_host: true });
    }
    let ip: IpAddr = word.parse().ok()?;
    // Nobody listens there: the resolver means the local one.
    let ip = if ip.is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { ip };
    Some(upstream(ip, ip.is_loopback() || (ip.is_ipv6() && !has_ipv6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(resolving: &Resolving) -> Vec<String> {
        let from = |u: &Upstream| format!("{} {}", u.address.ip(), if u.from_host { "host" } else { "own" });
        resolving.upstreams.iter().map(from).collect()
    }

    #[test]
    fn a_local_resolver_is_asked_from_the_host_and_others_on_the_containers_route() {
        let host = "# by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example\n\
                    options edns0 ndots:2\n";
        let made = made_from(host, &DnsOptions::default(), false);
        assert_eq!(shown(&made), ["127.0.0.53 host", "192.0.2.1 own", "2001:db8::1 host"]);
        assert_eq!(made.text, "nameserver 127.0.0.11\nsearch a.example\noptions edns0 ndots:0\n");
        assert!(made.warnings.is_empty());
        assert_eq!(shown(&made_from(host, &DnsOptions::default(), true))[2], "2001:db8::1 own");
    }

    #[test]
    fn what_the_user_says_counts() {
        let dns = DnsOptions {
            servers: vec!["192.0.2.9".parse().unwrap()],
            search: vec!["b".to_owned()],
            options: vec!["ndots:3".to_owned()],
        };
        let made = made_from("nameserver 127.0.0.1\nsearch a\n", &dns, false);
        assert_eq!(shown(&made), ["192.0.2.9 own"]);
        assert_eq!(made.text, "nameserver 127.0.0.11\nsearch b\noptions ndots:3\n");
    }

    #[test]
    fn somebody_is_always_asked() {
        let made = made_from("search a\n", &DnsOptions::default(), false);
        assert_eq!(shown(&made), ["8.8.8.8 own", "8.8.4.4 own"]);
        assert_eq!(made.warnings.len(), 1);
        let many = "nameserver 192.0.2.1\n".repeat(20);
        assert_eq!(made_from(&many, &DnsOptions::default(), false).upstreams.len(), MOST);
    }
}
