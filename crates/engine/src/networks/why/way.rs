//! Links, routes, settings and listeners on the way there and back.

use std::net::IpAddr;

use network::look;

use super::sockets::listening;
use super::walk::{Walk, has, near};
use crate::error::Result;

impl Walk<'_> {
    /// Whether the links are up, from end to end.
    pub(super) fn links(&mut self) -> Result<()> {
        let on_host = look::links(None)?;
        let mut down: Vec<(String, String)> = Vec::new();
        for end in [self.from.as_ref(), self.to.as_ref()].into_iter().flatten() {
            let Some(namespace) = end.namespace() else { continue };
            let inside = look::links(Some(namespace))?;
            for endpoint in end.endpoints() {
                let name = format!("eth{}", endpoint.number());
                if !inside.iter().any(|link| link.name == name && link.up) {
                    let words = format!("the link {name} of {} is down, or gone", end.name);
                    down.push((words, end.there(&format!("ip link set {name} up"))));
                }
                for name in endpoint.host_link().into_iter().chain([endpoint.bridge_name()]) {
                    if !on_host.iter().any(|link| link.name == name && link.up) {
                        let words = format!(
                            "the link {name} on the host, on the way of {}, is down, or gone",
                            end.name
                        );
                        down.push((words, format!("ip link set {name} up")));
                    }
                }
            }
        }
        if down.is_empty() {
            self.good("link", "all links on the way are up");
        }
        for (words, mend) in down {
            self.bad("link", "link-down", words, mend);
        }
        Ok(())
    }

    /// The route from where it begins.
    pub(super) fn route_there(&mut self) -> Result<()> {
        let Some(address) = self.address else { return Ok(()) };
        let from = self.from();
        if let Some(route) = look::route(from.namespace(), address)? {
            let by = route.gateway.map(|gateway| format!(" by way of {gateway}")).unwrap_or_default();
            let words = format!("{} has a route to {address}{by}", from.name);
            self.good("route", words);
        } else {
            let gateway = from.endpoints().iter().find(|e| !e.is_internal()).map(|e| e.address().gateway);
            let words = format!("{} has no route to {address}", from.name);
            let mend = gateway.map_or_else(
                || from.there("ip route"),
                |gateway| from.there(&format!("ip route add default via {gateway}")),
            );
            self.bad("route", "no-route", words, mend);
        }
        Ok(())
    }

    /// What the host makes of it.
    pub(super) fn host(&mut self) -> Result<()> {
        let Some(address) = self.address else { return Ok(()) };
        let number =
            |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let on_link = self.from().endpoints().iter().any(|endpoint| near(endpoint, address));
        let local = look::route(None, address)?.is_some_and(|route| route.local);
        if !self.from().is_host() && !on_link && !local {
            let (path, key) = if address.is_ipv4() {
                ("/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward")
            } else {
                ("/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding")
            };
            if number(path) == Some(0) {
                let words = format!("the host does not forward packets ({key} is 0)");
                self.bad("forwarding", "ip-forward", words, format!("sysctl -w {key}=1"));
            } else {
                self.good("forwarding", format!("the host forwards packets ({key})"));
            }
        }
        let count = number("/proc/sys/net/netfilter/nf_conntrack_count");
        let most = number("/proc/sys/net/netfilter/nf_conntrack_max");
        if let (Some(count), Some(most)) = (count, most)
            && is_full(count, most)
        {
            let words =
                format!("the host tracks {count} connections, and no more than {most}: new ones are dropped");
            self.bad(
                "conntrack",
                "conntrack-full",
                words,
                format!("sysctl -w net.netfilter.nf_conntrack_max={}", most * 2),
            );
        }
        // Where the host sends it itself, or turns it around for a published port.
        let routed = self.from().is_host() || self.inner_port != self.target.port || local;
        let inner = self.to.as_ref().and_then(|to| {
            let endpoint =
                to.endpoints().iter().find(|e| has(e, address)).or_else(|| to.endpoints().first())?;
            (!endpoint.is_macvlan())
                .then(|| (endpoint.bridge_name().to_owned(), endpoint.address().ip, to.name.clone()))
        });
        if let (true, Some((bridge, ip, to))) = (routed, inner) {
            let links = look::links(None)?;
            let route = look::route(None, ip.into())?;
            let by = route.and_then(|route| links.into_iter().find(|link| link.index == route.link));
            match by {
                Some(link) if link.name != bridge => {
                    let words = format!(
                        "the host sends packets for {to} ({ip}) to {} and not to {bridge}: another route hides the network's",
                        link.name
                    );
                    self.bad(
                        "host-route",
                        "shadowed-route",
                        words,
                        format!("ip route get {ip}; ip route del {ip} dev {}", link.name),
                    );
                }
                Some(_) => self.good("host-route", format!("the host reaches {to} through {bridge}")),
                None => self.bad(
                    "host-route",
                    "shadowed-route",
                    format!("the host has no route to {to} ({ip})"),
                    format!("ip route get {ip}"),
                ),
            }
        }
        Ok(())
    }

    /// Whether somebody listens.
    pub(super) fn listener(&mut self) {
        let Some(to) = self.to.as_ref().filter(|to| !to.is_host()) else { return };
        let (port, protocol, name) = (self.inner_port, self.target.protocol(), to.name.clone());
        let Some(all) = listening(&to.process(), self.target.udp) else {
            self.unknown("listener", format!("what listens in {name} cannot be seen"));
            return;
        };
        let address = self.address.filter(|ip| to.endpoints().iter().any(|e| has(e, *ip)));
        let address = address.or_else(|| to.endpoints().first().map(|e| e.address().ip.into()));
        let here: Vec<_> = all.iter().filter(|listener| listener.port == port).collect();
        if here.iter().any(|listener| address.is_none_or(|ip| listener.hears(ip))) {
            self.good("listener", format!("{name} listens on port {port}/{protocol}"));
            return;
        }
        if let Some(only) = here.first() {
            let words = format!("{name} listens on port {port}/{protocol} of {} alone", only.address);
            let culprit =
                if here.iter().all(|l| l.address.is_loopback()) { "loopback-only" } else { "other-address" };
            self.bad(
                "listener",
                culprit,
                words,
                format!("have the program in {name} listen on 0.0.0.0, or [::]"),
            );
            return;
        }
        let ours = IpAddr::V4(state::netd::ADDRESS);
        let mut others: Vec<u16> =
            all.iter().filter(|l| l.address != ours && !l.address.is_loopback()).map(|l| l.port).collect();
        others.dedup();
        if others.is_empty() {
            let words = format!("nothing in {name} listens on port {port}/{protocol}, nor on any other");
            self.bad("listener", "nothing-listens", words, format!("dhow logs {name}"));
        } else {
            let ports: Vec<String> = others.iter().map(ToString::to_string).collect();
            let words = format!(
                "nothing in {name} listens on port {port}/{protocol}; it does on {}",
                ports.join(", ")
            );
            self.bad("listener", "wrong-port", words, format!("use another port: {}", ports.join(", ")));
        }
    }

    /// Whether answers find their way, and are taken for what they are.
    pub(super) fn route_back(&mut self) -> Result<()> {
        let (Some(address), Some(to)) = (self.address, &self.to) else { return Ok(()) };
        let Some(endpoint) = to.endpoints().iter().find(|endpoint| has(endpoint, address)) else {
            return Ok(());
        };
        let source = look::route(self.from().namespace(), address)?.and_then(|route| route.source);
        let Some(source) = source else { return Ok(()) };
        let (name, link) = (to.name.clone(), format!("eth{}", endpoint.number()));
        let back = look::route(to.namespace(), source)?;
        let links = look::links(to.namespace())?;
        let by = back.and_then(|route| links.into_iter().find(|link| link.index == route.link));
        let Some(by) = by else {
            let words = format!("{name} has no route back to {source}");
            self.bad("reply", "no-return-route", words, to.there("ip route"));
            return Ok(());
        };
        if by.name == link {
            self.good("reply", format!("{name} answers the way it is asked, through {link}"));
            return Ok(());
        }
        // The kernel's files are those of who reads them: a thread that is in there.
        let strict = look::try_inside(to.namespace(), || {
            let of = |link: &str| {
                let value = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"));
                value.ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
            };
            Ok(of("all").max(of(&link)) == 1)
        })?;
        let words =
            format!("{name} is asked through {link}, and has its route back to {source} through {}", by.name);
        if strict.unwrap_or(false) {
            let mend = to
                .there(&format!("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{link}.rp_filter=2"));
            self.bad(
                "reply",
                "rp-filter",
                format!("{words}: it drops what comes another way (rp_filter is 1)"),
                mend,
            );
        } else {
            self.unknown("reply", words);
        }
        Ok(())
    }

    /// Whether large packets fit everywhere.
    pub(super) fn sizes(&mut self) -> Result<()> {
        let Some(from) = self.from.as_ref().filter(|from| !from.is_host()) else { return Ok(()) };
        let Some(address) = self.address else { return Ok(()) };
        let Some(route) = look::route(from.namespace(), address)? else { return Ok(()) };
        let inside = look::links(from.namespace())?;
        let Some(own) = inside.into_iter().find(|link| link.index == route.link) else { return Ok(()) };
        let mut passed: Vec<String> = Vec::new();
        let here = from.endpoints().iter().find(|endpoint| format!("eth{}", endpoint.number()) == own.name);
        passed.extend(here.into_iter().filter_map(|e| e.host_link()).map(str::to_owned));
        let there =
            self.to.as_ref().and_then(|to| to.endpoints().iter().find(|endpoint| has(endpoint, address)));
        passed.extend(there.into_iter().filter_map(|e| e.host_link()).map(str::to_owned));
        let on_host = look::links(None)?;
        let narrow = on_host.iter().filter(|link| passed.contains(&link.name)).min_by_key(|link| link.mtu);
        match narrow {
            Some(narrow) if narrow.mtu < own.mtu => {
                let words = format!(
                    "packets of {} may have {} bytes, but {} on the host takes only {}: larger ones vanish, and nobody is told",
                    from.name, own.mtu, narrow.name, narrow.mtu
                );
                self.bad("size", "mtu", words, format!("ip link set {} mtu {}", narrow.name, own.mtu));
            }
            Some(_) => self.good("size", format!("packets of {} bytes fit everywhere on the host", own.mtu)),
            None => {}
        }
        Ok(())
    }
}

/// Whether there is no room for another connection.
fn is_full(count: u64, most: u64) -> bool {
    most > 0 && count >= most
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_without_a_bound_is_never_full() {
        assert!(super::is_full(10, 10) && super::is_full(11, 10));
        assert!(!super::is_full(9, 10) && !super::is_full(9, 0));
    }
}
