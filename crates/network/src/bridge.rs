//! The default bridge of an instance: its live directory, and how it comes and goes.
//!
//! ```text
//! RUN/networks/bridge/       its flock: shared while an address is claimed, exclusive while bridge and table
//!                            are made or removed
//!   network.json             subnet and MTU; `ready` only while bridge and table stand
//!   next                     a counter: where to look for a free address
//!   addresses/<ip>           → the id of the container that has it
//!   ports/<ip>               what is published for it
//! ```
//!
//! **How instances agree on subnets.** There is no lock for the whole machine: it would have to lie where
//! every instance sees it (mount namespaces differ) and no local user can hold it. The kernel's list of routes
//! is the arbiter instead: an instance takes a subnet that no route overlaps, gives it to its bridge, and looks
//! again. Of two that take overlapping subnets at once, at least one sees the other's by then, and whoever
//! sees one steps back and tries the next. Both may step back; none can stay beside the other.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::fs::{self, At, Durability};
use serde::{Deserialize, Serialize};
use state::Instance;
use state::lock::Lock;

use crate::addresses::Addresses;
use crate::error::Attempt;
use crate::nft;
use crate::subnet::{self, Subnet};
use crate::{Error, Result, conntrack, link, ports};

/// [`Network::format`] as this code writes and reads it.
const FORMAT: u32 = 1;

/// `network.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    format: u32,
    /// Kept when the bridge goes, so that the next one has the same if it can.
    pub(crate) subnet: Subnet,
    pub(crate) mtu: u32,
    ready: bool,
}

/// The bridge and what belongs to it, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bridge {
    /// The live directory drawn above.
    pub(crate) dir: PathBuf,
    /// The link's name.
    pub(crate) name: String,
    /// The firewall table's name.
    pub(crate) table: String,
}

/// The bridge as it stands, safe from being swept while this is held.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) network: Network,
    pub(crate) index: u32,
    pub(crate) warnings: Vec<String>,
    _lock: Lock,
}

impl Bridge {
    pub(crate) fn of(instance: &Instance) -> Self {
        Self { dir: instance.network("bridge"), name: instance.bridge_name(), table: instance.global_name() }
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses::of(&self.dir)
    }

    /// The bridge, made if need be. Where it stands this costs a lock, a small file and two questions to the
    /// kernel, none of which lists anything.
    pub(crate) fn stand(&self) -> Result<Standing> {
        let lock = match Lock::shared(&self.dir) {
            Err(error) if error.is_not_found() => {
                fs::create_dir_all(&self.dir, 0o700)?;
                Lock::shared(&self.dir)?
            }
            other => other?,
        };
        if let Some((network, index)) = self.standing()? {
            return Ok(Standing { network, index, warnings: Vec::new(), _lock: lock });
        }
        drop(lock);
        let lock = Lock::exclusive(&self.dir)?;
        // Whoever had the lock before may have made it.
        if let Some((network, index)) = self.standing()? {
            return Ok(Standing { network, index, warnings: Vec::new(), _lock: lock });
        }
        let (network, index, warnings) = self.make()?;
        Ok(Standing { network, index, warnings, _lock: lock })
    }

    /// Bridge and table, if both stand.
    fn standing(&self) -> Result<Option<(Network, u32)>> {
        let Some(network) = self.read()?.filter(|network| network.ready) else { return Ok(None) };
        let Some(index) = self.index()? else { return Ok(None) };
        let table =
            nft::table::exists(&self.table).firewall(|| format!("look for the table `{}`", self.table))?;
        Ok(table.then_some((network, index)))
    }

    fn index(&self) -> Result<Option<u32>> {
        link::index_of(&self.name).link(|| format!("look for the bridge `{}`", self.name))
    }

    fn file(&self) -> PathBuf {
        self.dir.join("network.json")
    }

    fn read(&self) -> Result<Option<Network>> {
        let path = self.file();
        let Some(content) = fs::read_if_exists(&path)? else { return Ok(None) };
        let network: Network = serde_json::from_slice(&content)
            .map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
        if network.format > FORMAT {
            return Err(Error::State { path, reason: "it was written by a newer version".to_owned() });
        }
        Ok(Some(network))
    }

    fn write(&self, network: &Network) -> Result<()> {
        let path = self.file();
        let content = serde_json::to_vec(network)
            .map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
        Ok(fs::write_atomic(&path, &content, Durability::Volatile)?)
    }

    /// Makes what is missing. The exclusive lock is held.
    fn make(&self) -> Result<(Network, u32, Vec<String>)> {
        let mut warnings = Vec::new();
        self.addresses().create_dirs()?;
        let before = self.read()?;
        let (mut network, index) = match (before, self.index()?) {
            // Only the table is gone: somebody flushed the rule set. The containers' links still hang there.
            (Some(network), Some(index)) if network.ready => (network, index),
            (before, half_made) => {
                if let Some(index) = half_made {
                    link::delete_index(index)
                        .link(|| format!("remove the half-made bridge `{}`", self.name))?;
                }
                self.make_bridge(before)?
            }
        };
        self.make_table(network.subnet)?;
        self.sysctl("ipv4", "route_localnet", "1")?;
        warnings.extend(enable_forwarding()?);
        let dropping =
            nft::others::dropping(&self.name).firewall(|| "list the firewall's chains".to_owned())?;
        warnings.extend(dropping.iter().map(|chain| chain.advice(&self.name)));
        network.ready = true;
        self.write(&network)?;
        Ok((network, index, warnings))
    }

    /// Makes the bridge in a subnet that nothing else reaches.
    fn make_bridge(&self, before: Option<Network>) -> Result<(Network, u32)> {
        // Instances that start at once should not all want the same; only the default one has no tag.
        let tag = self.name.strip_prefix("dhow-").and_then(|tag| u32::from_str_radix(tag, 16).ok());
        let resolvers = crate::files::host_resolvers();
        // Containers that still run, if somebody removed the bridge, have addresses of the old subnet.
        let candidates = before.iter().map(|network| network.subnet).chain(subnet::candidates(tag));
        let list = || link::reachable().link(|| "list the host's routes".to_owned());
        let mut reachable = list()?;
        for subnet in candidates {
            if !reachable.leaves_free(subnet, None) || resolvers.iter().any(|ip| subnet.contains(*ip)) {
                continue;
            }
            let mtu = match reachable.default_link {
                Some(link) => {
                    link::mtu_of(link).ok().flatten().unwrap_or(DEFAULT_MTU).clamp(MIN_MTU, DEFAULT_MTU)
                }
                None => DEFAULT_MTU,
            };
            let network = Network { format: FORMAT, subnet, mtu, ready: false };
            self.write(&network)?;
            let index = self.make_link(&network)?;
            reachable = list()?;
            if reachable.leaves_free(subnet, Some(index)) {
                return Ok((network, index));
            }
            link::delete_index(index).link(|| format!("remove the bridge `{}`", self.name))?;
            reachable = list()?;
        }
        Err(Error::NoSubnet { bridge: self.name.clone() })
    }

    fn make_link(&self, network: &Network) -> Result<u32> {
        let gateway = network.subnet.gateway();
        link::create_bridge(&self.name, subnet::mac(gateway), network.mtu)
            .link(|| format!("make the bridge `{}`", self.name))?;
        let index = self.index()?.ok_or_else(|| Error::Link {
            action: format!("find the bridge `{}`", self.name),
            source: rustix::io::Errno::NODEV.into(),
        })?;
        // Before it is up: no router advertisement of a container may reach the host (CVE-2020-13401).
        self.sysctl("ipv6", "disable_ipv6", "1")?;
        link::address_and_up(index, gateway, network.subnet.prefix())
            .link(|| format!("give {gateway} to the bridge `{}`", self.name))?;
        Ok(index)
    }

    /// Makes the table, with the ports of the containers that have some.
    fn make_table(&self, subnet: Subnet) -> Result<()> {
        nft::table::create(&self.table, &self.name, subnet)
            .firewall(|| format!("make the table `{}`", self.table))?;
        for (ip, _) in self.addresses().list()? {
            let published = ports::remembered(&self.dir, ip)?;
            nft::elements::add(&self.table, &published)
                .firewall(|| format!("publish the ports of {ip} again"))?;
        }
        Ok(())
    }

    /// Makes the table anew if it is gone. Between [`Bridge::stand`] and the start of the container somebody
    /// may have flushed the rule set.
    pub(crate) fn mend_table(&self, subnet: Subnet) -> Result<()> {
        let _lock = Lock::exclusive(&self.dir)?;
        if nft::table::exists(&self.table).firewall(|| format!("look for the table `{}`", self.table))? {
            return Ok(());
        }
        self.make_table(subnet)
    }

    /// Sets a sysctl of the bridge. Without IPv6 in the kernel there is nothing to switch off.
    fn sysctl(&self, family: &str, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(family).join("conf").join(&self.name).join(name);
        match std::fs::write(&path, value) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && family == "ipv6" => Ok(()),
            other => Ok(other.at("write", &path)?),
        }
    }

    /// Removes bridge, table and claims if nobody has an address, nor had one made in the last `quiet`. True if
    /// nothing of them is left.
    pub(crate) fn sweep(&self, instance: &Instance, quiet: Duration) -> Result<bool> {
        if !self.dir.is_dir() {
            return Ok(true);
        }
        let Some(_lock) = Lock::try_exclusive(&self.dir)? else { return Ok(false) };
        let addresses = self.addresses();
        // A clock that went back makes the last use lie in the future: then nothing is known of it.
        if addresses.last_use().and_then(|at| at.elapsed().ok()).is_some_and(|since| since < quiet) {
            return Ok(false);
        }
        for (ip, owner) in addresses.list()? {
            // A command that died between claiming and starting leaves a claim without a live directory.
            let Ok(id) = owner.parse() else { return Ok(false) };
            if instance.live(&id).exists() {
                return Ok(false);
            }
            self.unpublish(ip)?;
            addresses.release(ip, &id)?;
        }
        if let Some(mut network) = self.read()? {
            network.ready = false;
            self.write(&network)?;
        }
        nft::table::remove(&self.table).firewall(|| format!("remove the table `{}`", self.table))?;
        if let Some(index) = self.index()? {
            // Links whose namespace somebody keeps alive would be left behind.
            for port in link::ports_of(index).link(|| "list links".to_owned())? {
                link::delete_index(port).link(|| format!("remove a link of the bridge `{}`", self.name))?;
            }
            link::delete_index(index).link(|| format!("remove the bridge `{}`", self.name))?;
        }
        ports::remove_dir(&self.dir)?;
        addresses.remove_dir()?;
        Ok(true)
    }

    /// Removes the published ports of the container at `ip`. A lock is held.
    pub(crate) fn unpublish(&self, ip: Ipv4Addr) -> Result<()> {
        let published = ports::remembered(&self.dir, ip)?;
        for port in &published {
            nft::elements::remove(&self.table, port)
                .firewall(|| format!("unpublish port {}", port.host_port))?;
        }
        conntrack::forget(&published).firewall(|| format!("forget the flows to {ip}"))?;
        ports::forget(&self.dir, ip)
    }
}

const DEFAULT_MTU: u32 = 1500;
const MIN_MTU: u32 = 576;

/// Lets the host forward packets, and says so if it did not.
fn enable_forwarding() -> Result<Option<String>> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    if fs::read(path)?.starts_with(b"1") {
        return Ok(None);
    }
    std::fs::write(path, "1").at("write", path)?;
    Ok(Some("switched on net.ipv4.ip_forward, which containers on the bridge need: this host now forwards packets".to_owned()))
}
