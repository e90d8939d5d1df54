//! How a bridge is made.
//!
//! **How instances agree on subnets.** There is no lock for the whole machine: it would have to lie where
//! every instance sees it (mount namespaces differ) and no local user can hold it. The kernel's list of routes
//! is the arbiter instead: an instance takes a subnet that no route overlaps, gives it to its bridge, and looks
//! again. Of two that take overlapping subnets at once, at least one sees the other's by then, and whoever
//! sees one steps back and tries the next. Both may step back; none can stay beside the other.

use std::net::Ipv4Addr;
use std::path::Path;

use base::fs::{self, At};
use state::Instance;

use crate::bridge::live::{self, FORMAT};
use crate::bridge::{Bridge, Network};
use crate::definition::{Definition, Pool4};
use crate::error::Attempt;
use crate::nft;
use crate::nft::table::Firewall;
use crate::nft::zone::Zone;
use crate::store::Store;
use crate::subnet::{self, Subnet};
use crate::{Error, Result, link};

const DEFAULT_MTU: u32 = 1500;
const MIN_MTU: u32 = 576;
const OPEN: &str = "published ports are open whatever the host's firewall says: this kernel lacks nft_log or nfnetlink_log, or the first \
                    running container was started with `published-ports = \"open\"`";

impl Bridge {
    /// Makes what is missing. The exclusive lock is held.
    pub(super) fn make(
        &self,
        instance: &Instance,
        definition: &Definition,
        firewall: Firewall,
    ) -> Result<(Network, u32, Vec<String>)> {
        if definition.is_macvlan() {
            let (network, index) = self.make_parent(instance, definition)?;
            live::write(&self.dir, &network)?;
            return Ok((network, index, Vec::new()));
        }
        let mut warnings = Vec::new();
        self.addresses().create_dirs()?;
        let before = live::read(&self.dir)?;
        let (mut network, index) = match (before, self.index()?) {
            // Only the table is gone: somebody flushed the rule set. The containers' links still hang there.
            (Some(network), Some(index)) if network.ready => (network, index),
            (before, half_made) => {
                if let Some(index) = half_made {
                    let ours = before.is_some() || definition.bridge_options()?.bridge.is_none();
                    self.remove_half_made(index, ours)?;
                }
                self.make_bridge(instance, definition, before)?
            }
        };
        let options = definition.bridge_options()?;
        let zone = Zone {
            tag: if definition.is_default() {
                definition.name.clone()
            } else {
                definition.id.short().to_owned()
            },
            bridge: self.name.clone(),
            subnet: network.subnet,
            subnet6: definition.ipv6.as_ref().map(|pool| pool.subnet),
            internal: definition.internal,
            open: options.open,
            masquerade: options.masquerade && !definition.internal,
        };
        network.firewall = self.enter_table(&zone, firewall)?;
        if (network.firewall, firewall) == (Firewall::Open, Firewall::ObeyHostFirewall) {
            warnings.push(OPEN.to_owned());
        }
        sysctl("ipv4", &self.name, "route_localnet", "1")?;
        warnings.extend(forward()?);
        if definition.ipv6.is_some() {
            warnings.extend(forward6()?);
        }
        let dropping =
            nft::others::dropping(&self.name).firewall(|| "list the firewall's chains".to_owned())?;
        warnings.extend(dropping.iter().map(|chain| chain.advice(&self.name)));
        network.ready = true;
        network.zone = Some(zone);
        live::write(&self.dir, &network)?;
        Ok((network, index, warnings))
    }

    /// A link of the bridge's name that nobody finished, or whose network was swept half: unless it was never ours.
    fn remove_half_made(&self, index: u32, ours: bool) -> Result<()> {
        if !ours {
            return Err(Error::LinkTaken { link: self.name.clone() });
        }
        link::delete_index(index).link(|| format!("remove the half-made bridge `{}`", self.name))
    }

    /// Makes the bridge in a subnet that nothing else reaches.
    fn make_bridge(
        &self,
        instance: &Instance,
        definition: &Definition,
        before: Option<Network>,
    ) -> Result<(Network, u32)> {
        let list = || link::reachable().link(|| "list the host's routes".to_owned());
        let mut reachable = list()?;
        let mtu = match (definition.bridge_options()?.mtu, reachable.default_link) {
            (Some(mtu), _) => mtu,
            (None, Some(link)) => {
                link::mtu_of(link).ok().flatten().unwrap_or(DEFAULT_MTU).clamp(MIN_MTU, DEFAULT_MTU)
            }
            (None, None) => DEFAULT_MTU,
        };
        let resolvers = crate::files::host_resolvers();
        for subnet in self.candidates(instance, definition, before)? {
            let named = definition.ipv4.as_ref().is_some_and(|pool| pool.named);
            let hides = !named && resolvers.iter().any(|ip| subnet.contains(*ip));
            if hides || !reachable.leaves_free(subnet, None) {
                continue;
            }
            let network = Network {
                format: FORMAT,
                subnet,
                mtu,
                ready: false,
                firewall: Firewall::default(),
                zone: None,
                foreign_link: false,
            };
            live::write(&self.dir, &network)?;
            let index = self.make_link(&network, definition)?;
            reachable = list()?;
            if reachable.leaves_free(subnet, Some(index)) {
                return Ok((network, index));
            }
            link::delete_index(index).link(|| format!("remove the bridge `{}`", self.name))?;
            reachable = list()?;
        }
        match &definition.ipv4 {
            Some(pool) if pool.named => {
                Err(Error::SubnetRouted { network: definition.name.clone(), subnet: pool.subnet.to_string() })
            }
            _ => Err(Error::NoSubnet { bridge: self.name.clone() }),
        }
    }

    /// The subnets that the network may have, best first.
    fn candidates(
        &self,
        instance: &Instance,
        definition: &Definition,
        before: Option<Network>,
    ) -> Result<Box<dyn Iterator<Item = Subnet>>> {
        if let Some(pool) = definition.ipv4.as_ref().filter(|pool| pool.named) {
            return Ok(Box::new(std::iter::once(pool.subnet)));
        }
        let taken = Store::open(instance).subnets_but(&definition.name)?;
        let free = move |subnet: &Subnet| !taken.iter().any(|other| other.overlaps(*subnet));
        // Containers that still run, if somebody removed the bridge, have addresses of the old subnet.
        let known = before.map(|network| network.subnet).into_iter();
        Ok(match &definition.ipv4 {
            None => {
                // Instances that start at once should not all want the same; only the default one has no tag.
                let tag = self.name.strip_prefix("dhow-").and_then(|tag| u32::from_str_radix(tag, 16).ok());
                Box::new(known.chain(subnet::candidates(tag)).filter(free))
            }
            Some(pool) => {
                let known = known.chain(std::iter::once(pool.subnet));
                Box::new(known.chain(subnet::narrow_candidates(&definition.id)).filter(free))
            }
        })
    }

    fn make_link(&self, network: &Network, definition: &Definition) -> Result<u32> {
        let gateway = gateway(network.subnet, definition.ipv4.as_ref());
        link::create_bridge(&self.name, subnet::mac(gateway), network.mtu)
            .link(|| format!("make the bridge `{}`", self.name))?;
        let index = self.index()?.ok_or_else(|| Error::Link {
            action: format!("find the bridge `{}`", self.name),
            source: rustix::io::Errno::NODEV.into(),
        })?;
        // Before it is up: no router advertisement of a container may reach the host (CVE-2020-13401).
        sysctl("ipv6", &self.name, "accept_ra", "0")?;
        let ipv6 = definition.ipv6.as_ref();
        sysctl("ipv6", &self.name, "disable_ipv6", if ipv6.is_some() { "0" } else { "1" })?;
        link::address_and_up(
            index,
            gateway,
            network.subnet.prefix(),
            ipv6.map(|p| (p.gateway, p.subnet.prefix())),
        )
        .link(|| format!("give {gateway} to the bridge `{}`", self.name))?;
        Ok(index)
    }
}

/// The bridge's address in this subnet, which need not be the one that was thought of when the network was made.
pub(crate) fn gateway(subnet: Subnet, pool: Option<&Pool4>) -> Ipv4Addr {
    match pool {
        Some(pool) if subnet.contains(pool.gateway) => pool.gateway,
        _ => subnet.gateway(),
    }
}

/// Sets a sysctl of a link. Without IPv6 in the kernel there is nothing to switch off.
fn sysctl(family: &str, link: &str, name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(family).join("conf").join(link).join(name);
    match std::fs::write(&path, value) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && family == "ipv6" && value != "0" => Ok(()),
        other => Ok(other.at("write", &path)?),
    }
}

/// Lets the host forward packets, and says so if it did not.
fn forward() -> Result<Option<String>> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    if fs::read(path)?.starts_with(b"1") {
        return Ok(None);
    }
    std::fs::write(path, "1").at("write", path)?;
    Ok(Some("switched on net.ipv4.ip_forward, which containers on the bridge need: this host now forwards packets".to_owned()))
}

/// The same of IPv6. A host that forwards does not listen to routers any more, unless it is told to: one that has its own
/// address from a router would lose it within the hour.
fn forward6() -> Result<Option<String>> {
    let conf = Path::new("/proc/sys/net/ipv6/conf");
    let path = conf.join("all/forwarding");
    if fs::read(&path)?.starts_with(b"1") {
        return Ok(None);
    }
    let mut listening = Vec::new();
    for link in fs::names(conf)? {
        let accept = conf.join(&link).join("accept_ra");
        if link != "all" && fs::read(&accept).is_ok_and(|value| value.starts_with(b"1")) {
            // A link may go at any time.
            if std::fs::write(&accept, "2").is_ok() && link != "default" && link != "lo" {
                listening.push(link);
            }
        }
    }
    std::fs::write(&path, "1").at("write", &path)?;
    let mut said =
        "switched on net.ipv6.conf.all.forwarding, which containers with IPv6 need: this host now forwards packets".to_owned();
    if !listening.is_empty() {
        said += "; so that it still listens to routers, accept_ra is 2 now of ";
        said += &listening.join(", ");
    }
    Ok(Some(said))
}
