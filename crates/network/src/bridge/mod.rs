//! The bridge of a network: its live directory, and how it comes and goes.
//!
//! ```text
//! RUN/networks/              its flock: shared while ports are published, exclusive while the table is made anew, or
//!                            networks come and go in it
//!   bridge/, <id>/           its flock: shared while an address is claimed, exclusive while bridge and table
//!                            are made or removed
//!     network.json           subnet and MTU; `ready` only while bridge and table stand
//!     next                   a counter: where to look for a free address
//!     addresses/<ip>         → the id of the container that has it
//!     ports/<ip>             what is published for it
//! ```
//!
//! Who needs both locks takes the network's own first.

mod live;
mod make;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::fs;
use serde::{Deserialize, Serialize};
use state::Instance;
use state::egress;
use state::lock::Lock;

use crate::addresses::Addresses;
use crate::definition::Definition;
use crate::endpoint::Endpoint;
use crate::error::Attempt;
use crate::nft;
use crate::nft::elements::Published;
use crate::nft::pairs::{self, Pair};
use crate::nft::senders::{self, Owner};
use crate::nft::table::Firewall;
use crate::nft::zone::Zone;
use crate::{Result, allowed, conntrack, link, plan, ports};

pub(crate) use live::Network;
pub(crate) use make::gateway;

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
    /// The one of the network that is always there.
    pub(crate) fn of(instance: &Instance) -> Self {
        Self { dir: instance.network("bridge"), name: instance.bridge_name(), table: instance.global_name() }
    }

    /// The one of this network.
    pub(crate) fn of_network(instance: &Instance, definition: &Definition) -> Self {
        if definition.is_default() {
            return Self::of(instance);
        }
        Self {
            dir: instance.network(definition.id.as_str()),
            name: definition.link(instance),
            table: instance.global_name(),
        }
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses::of(&self.dir)
    }

    /// The directory of all networks, whose lock is the table's.
    fn all(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// The bridge, made if need be. Where it stands this costs a lock, a small file and two questions to the
    /// kernel, none of which lists anything.
    pub(crate) fn stand(
        &self,
        instance: &Instance,
        definition: &Definition,
        firewall: Firewall,
    ) -> Result<Standing> {
        let lock = match Lock::shared(&self.dir) {
            Err(error) if error.is_not_found() => {
                fs::create_dir_all(&self.dir, 0o700)?;
                Lock::shared(&self.dir)?
            }
            other => other?,
        };
        if let Some((network, index)) = self.standing(definition)? {
            return Ok(Standing { network, index, warnings: Vec::new(), _lock: lock });
        }
        drop(lock);
        let lock = Lock::exclusive(&self.dir)?;
        // Whoever had the lock before may have made it.
        if let Some((network, index)) = self.standing(definition)? {
            return Ok(Standing { network, index, warnings: Vec::new(), _lock: lock });
        }
        let (network, index, warnings) = self.make(instance, definition, firewall)?;
        Ok(Standing { network, index, warnings, _lock: lock })
    }

    /// Bridge and table, if both stand.
    fn standing(&self, definition: &Definition) -> Result<Option<(Network, u32)>> {
        let Some(network) = live::read(&self.dir)?.filter(|network| network.ready) else { return Ok(None) };
        let Some(index) = self.index()? else { return Ok(None) };
        Ok((definition.is_macvlan() || self.table_stands()?).then_some((network, index)))
    }

    /// The network as it is written down, whether it stands or not.
    pub(crate) fn live(&self) -> Result<Option<Network>> {
        live::read(&self.dir)
    }

    fn table_stands(&self) -> Result<bool> {
        nft::table::exists(&self.table).firewall(|| format!("look for the table `{}`", self.table))
    }

    fn index(&self) -> Result<Option<u32>> {
        link::index_of(&self.name).link(|| format!("look for the bridge `{}`", self.name))
    }

    /// Puts the network into the table, which is made if there is none. Also gives what decides about published ports in it:
    /// where it stood already, that is not what is wanted now, but what was when it was made.
    fn enter_table(&self, zone: &Zone, wanted: Firewall) -> Result<Firewall> {
        let _table = Lock::exclusive(self.all())?;
        let stands = nft::table::standing(&self.table);
        match stands.firewall(|| format!("look for the table `{}`", self.table))? {
            Some(firewall) => {
                nft::table::add(&self.table, zone)
                    .firewall(|| format!("add the network to the table `{}`", self.table))?;
                Ok(firewall)
            }
            None => self.make_table(Some((zone, wanted))),
        }
    }

    /// Makes the table anew if it is gone, with this network and all others that stand. Between [`Bridge::stand`]
    /// and the start of the container somebody may have flushed the rule set.
    pub(crate) fn mend_table(&self) -> Result<()> {
        let _table = Lock::exclusive(self.all())?;
        if self.table_stands()? {
            return Ok(());
        }
        self.make_table(None).map(drop)
    }

    /// Makes all tables anew, whatever there is of them, as long as a network stands. False if none does.
    pub(crate) fn remake_tables(&self) -> Result<bool> {
        let _table = Lock::exclusive(self.all())?;
        let mut stands = false;
        for name in fs::names(self.all())? {
            stands |= live::read(&self.all().join(name))?.is_some_and(|network| network.is_in_table());
        }
        if stands {
            self.make_table(None)?;
            self.make_senders()?;
            self.make_pairs()?;
        }
        Ok(stands)
    }

    /// Whether all tables stand that have to.
    pub(crate) fn tables_stand(&self) -> Result<bool> {
        let look = || format!("look for the table `{}`", self.table);
        Ok(self.table_stands()?
            && senders::exists(&self.table).firewall(look)?
            && (pairs::exist(&self.table).firewall(look)? || self.closed()?.is_empty()))
    }

    /// Makes the table with all networks that stand and their containers' ports. The table's lock is held. Also gives what
    /// decides about them: what did for the networks that stand, or what is wanted with the first one.
    fn make_table(&self, own: Option<(&Zone, Firewall)>) -> Result<Firewall> {
        let (own, wanted) = own.unzip();
        let mut zones: Vec<Zone> = own.into_iter().cloned().collect();
        // Of two that claim the same, because one of them died, it is the first one's until the other takes it over.
        let mut published: BTreeMap<_, Published> = BTreeMap::new();
        let mut before = None;
        for name in fs::names(self.all())? {
            let dir = self.all().join(name);
            let stands = live::read(&dir)?.filter(live::Network::is_in_table);
            if dir != self.dir && stands.is_none() {
                continue;
            }
            for (ip, _) in Addresses::of(&dir).list()? {
                for port in ports::remembered(&dir, ip)? {
                    published.entry(port.place()).or_insert(port);
                }
            }
            if let Some(network) = &stands {
                before = before.or(Some(network.firewall));
            }
            zones
                .extend(stands.and_then(|n| n.zone).filter(|zone| own.is_none_or(|own| own.tag != zone.tag)));
        }
        let published: Vec<Published> = published.into_values().collect();
        let firewall = before.or(wanted).unwrap_or_default();
        let create = |firewall| {
            nft::table::create(&self.table, &zones, &published, firewall)
                .firewall(|| format!("make the table `{}`", self.table))
        };
        match create(firewall) {
            Ok(()) => Ok(firewall),
            // A kernel that cannot hand packets over (`nft_log`, `nfnetlink_log`): better published than not.
            Err(error) if firewall == Firewall::ObeyHostFirewall => {
                create(Firewall::Open).map(|()| Firewall::Open).map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets a container send through its link, in its own name. The kernel forgets a port with its link, but not what is
    /// written about it: see [`Bridge::dismiss`].
    pub(crate) fn admit(&self, owner: &Owner<'_>) -> Result<()> {
        let attempt = || {
            let _table = Lock::shared(self.all())?;
            Ok::<_, crate::Error>(senders::add(&self.table, owner))
        };
        match attempt()? {
            Err(refusal) if refusal.errno == rustix::io::Errno::NOENT => {
                self.mend_senders()?;
                attempt()?.firewall(|| format!("admit the link `{}`", owner.link))
            }
            other => other.firewall(|| format!("admit the link `{}`", owner.link)),
        }
    }

    /// Makes the table of senders, with all containers that are on one of our networks.
    fn mend_senders(&self) -> Result<()> {
        let _table = Lock::exclusive(self.all())?;
        if senders::exists(&self.table).firewall(|| format!("look for the table `{}`", self.table))? {
            return Ok(());
        }
        self.make_senders()
    }

    /// Makes the senders' table with all containers that run. The table's lock is held.
    fn make_senders(&self) -> Result<()> {
        // RUN/networks lies beside RUN/containers.
        let containers = self.all().with_file_name("containers");
        let mut endpoints = Vec::new();
        for name in fs::names(&containers)? {
            endpoints.extend(plan::endpoints_in(&containers.join(name))?);
        }
        let owners: Vec<Owner<'_>> =
            endpoints.iter().filter(|endpoint| !endpoint.is_macvlan()).map(Endpoint::owner).collect();
        senders::create(&self.table, &owners).firewall(|| format!("make the table `{}`", self.table))
    }

    /// Closes a container with these addresses to its neighbours, but for what it is allowed.
    pub(crate) fn close(&self, addresses: &[IpAddr]) -> Result<()> {
        let action = || "close a container to its neighbours".to_owned();
        // What the last owner of its addresses was allowed, if nobody has cleaned up.
        pairs::forget(&self.table, addresses).firewall(action)?;
        let attempt = || {
            let _table = Lock::shared(self.all())?;
            Ok::<_, crate::Error>(pairs::close(&self.table, &self.name, addresses))
        };
        match attempt()? {
            Err(refusal) if refusal.errno == rustix::io::Errno::NOENT => {
                self.mend_pairs()?;
                attempt()?.firewall(action)
            }
            other => other.firewall(action),
        }
    }

    /// Makes the tables of pairs for a container that is the first to be closed, or the first after somebody flushed them.
    fn mend_pairs(&self) -> Result<()> {
        let _table = Lock::exclusive(self.all())?;
        if pairs::exist(&self.table).firewall(|| "look for the tables of closed containers".to_owned())? {
            return Ok(());
        }
        let closed = self.closed()?;
        pairs::create(&self.table, &closed).firewall(|| "make the tables of closed containers".to_owned())
    }

    /// Makes the tables of pairs anew with all containers that are closed and what they are allowed, where there are any. The
    /// table's lock is held.
    fn make_pairs(&self) -> Result<()> {
        let action = || "close containers to their neighbours".to_owned();
        let closed = self.closed()?;
        if closed.is_empty() {
            return pairs::remove(&self.table).firewall(action);
        }
        pairs::create(&self.table, &closed).firewall(action)?;
        // The chains of closed networks, in the other table, know them, too.
        let pairs: Vec<_> = closed.into_iter().flat_map(|container| container.pairs).collect();
        pairs::change(&self.table, &pairs, &[]).firewall(action)
    }

    /// All containers that are closed.
    fn closed(&self) -> Result<Vec<pairs::Closed>> {
        let containers = self.all().with_file_name("containers");
        let mut closed = Vec::new();
        for name in fs::names(&containers)? {
            let live = containers.join(&name);
            for endpoint in plan::endpoints_in(&live)?.iter().filter(|e| e.is_closed()) {
                // One that is just going has given its addresses back, and somebody else may have them.
                let claims = endpoint.bridge.addresses();
                let mut addresses = endpoint.all_addresses();
                if let Ok(id) = name.parse() {
                    addresses.retain(|ip| claims.held(*ip, &id).unwrap_or(true));
                }
                if addresses.is_empty() {
                    continue;
                }
                let mut pairs = allowed::read(&live)?;
                // It may have left a network whose addresses somebody else has now.
                pairs.retain(|pair| addresses.contains(&pair.from));
                closed.push(pairs::Closed { bridge: endpoint.bridge.name.clone(), addresses, pairs });
            }
        }
        Ok(closed)
    }

    /// A closed container is gone. With the last of them go the tables.
    pub(crate) fn unclose(&self, addresses: &[IpAddr]) -> Result<()> {
        let action = || "open a container to its neighbours".to_owned();
        // Nobody else is closed in between.
        let _table = Lock::exclusive(self.all())?;
        pairs::forget(&self.table, addresses).firewall(action)?;
        if pairs::nobody(&self.table).firewall(action)? {
            pairs::remove(&self.table).firewall(action)?;
        }
        Ok(())
    }

    /// Lets closed containers speak to more of their neighbours, and to others no longer. `write` writes that down.
    pub(crate) fn allow(
        &self,
        more: &[Pair],
        less: &[Pair],
        write: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        // Nobody makes the tables anew between both.
        let _table = Lock::shared(self.all())?;
        write()?;
        pairs::change(&self.table, more, less)
            .firewall(|| "allow a container to speak to its neighbours".to_owned())
    }

    /// Nothing comes through this link any more.
    pub(crate) fn dismiss(&self, owner: &Owner<'_>) -> Result<()> {
        senders::remove(&self.table, owner).firewall(|| format!("dismiss the link `{}`", owner.link))
    }

    /// Publishes ports of one container.
    pub(crate) fn publish(&self, ip: Ipv4Addr, ports: &[Published]) -> Result<()> {
        use rustix::io::Errno;
        let attempt = || {
            // Nobody makes the table anew between the file, which is written, and the elements.
            let _table = Lock::shared(self.all())?;
            Ok::<_, crate::Error>(nft::elements::add(&self.table, ports))
        };
        let refused = match attempt()? {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        match refused.errno {
            // The table went after the claim, with the rule set; a new one gets our ports from the file.
            Errno::NOENT => self.mend_table(),
            // We hold the sockets, so what the map says is left from a monitor that died.
            Errno::EXIST => {
                let _lock = Lock::exclusive(&self.dir)?;
                for port in ports {
                    nft::elements::remove_any(&self.table, port)
                        .firewall(|| format!("take over port {}", port.host_port))?;
                }
                nft::elements::add(&self.table, ports).firewall(|| format!("publish the ports of {ip}"))
            }
            _ => Err(refused).firewall(|| format!("publish the ports of {ip}")),
        }
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
            if let IpAddr::V4(ip) = ip {
                self.unpublish(ip)?;
            }
            addresses.release(ip, &id)?;
        }
        let foreign = self.live()?.is_some_and(|network| network.foreign_link);
        self.leave_table()?;
        if let Some(index) = self.index()?.filter(|_| !foreign) {
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

    /// Takes the network out of the table, which goes with the last of them.
    fn leave_table(&self) -> Result<()> {
        let _table = Lock::exclusive(self.all())?;
        let mut zone = None;
        if let Some(mut network) = live::read(&self.dir)? {
            network.ready = false;
            live::write(&self.dir, &network)?;
            zone = network.zone;
        }
        for name in fs::names(self.all())? {
            if !live::read(&self.all().join(name))?.is_some_and(|network| network.is_in_table()) {
                continue;
            }
            // Another network stands.
            return match zone {
                Some(zone) => nft::table::take_out(&self.table, &zone)
                    .firewall(|| format!("take the network out of the table `{}`", self.table)),
                None => Ok(()),
            };
        }
        pairs::remove(&self.table)
            .and_then(|()| senders::remove_table(&self.table))
            .and_then(|()| nft::table::remove(&self.table))
            .firewall(|| format!("remove the table `{}`", self.table))?;
        // Mostly gone by now: whoever keeps it takes it away, unless it was killed at the end.
        if self.all().with_file_name(egress::link::DIRECTORY).is_dir() {
            let table = nft::egress::table_of(&self.table);
            nft::egress::remove(&table).firewall(|| format!("remove the table `{table}`"))?;
        }
        Ok(())
    }
}
