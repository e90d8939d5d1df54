//! A container's place on one network: what it claims there, and how it is linked to the bridge.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use base::Id;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use state::Instance;
use state::container::Address;
use state::egress::Egress;
use state::lock::Lock;
use state::options::PortMapping;

use crate::addresses::Range;
use crate::bridge::{Bridge, gateway};
use crate::definition::Definition;
use crate::error::Attempt;
use crate::link::{self, Pair, Target};
use crate::macvlan::Mode;
use crate::netlink::Request;
use crate::nft::elements::Published;
use crate::nft::senders::{self, Owner};
use crate::nft::table::Firewall;
use crate::shape::{self, Bandwidth, Shaped};
use crate::subnet::{self, Subnet};
use crate::subnet6::Subnet6;
use crate::{Error, Result, conntrack, ports};

/// How long a network namespace that nobody lives in may take to be gone.
const LINGERING: Duration = Duration::from_secs(2);

/// What a container wants on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Which network.
    pub network: &'a Definition,
    /// This address, and no other.
    pub ip: Option<Ipv4Addr>,
    /// This IPv6 address, and no other.
    pub ip6: Option<Ipv6Addr>,
    /// This hardware address.
    pub mac: Option<[u8; 6]>,
    /// What decides about published ports, where this is the first network that comes up.
    pub firewall: Firewall,
    /// No more than this.
    pub bandwidth: Bandwidth,
    /// It speaks to nobody but to those that it is allowed to.
    pub closed: bool,
}

impl<'a> Wish<'a> {
    /// Whether somebody may have, one day, what is wanted.
    pub fn check(&self) -> Result<()> {
        if let Some(ip) = self.ip {
            let pool = self.network.ipv4.as_ref();
            let subnet = pool.map_or(Subnet::around(ip, 0), |pool| pool.subnet);
            wanted_address(self.network, subnet, pool.map_or(subnet.gateway(), |pool| pool.gateway), ip)?;
        }
        if let Some(ip) = self.ip6 {
            wanted_address6(self.network, ip)?;
        }
        Ok(())
    }

    /// Any address.
    pub fn any(network: &'a Definition, firewall: Firewall) -> Self {
        let bandwidth = Bandwidth::default();
        Self { network, ip: None, ip6: None, mac: None, firewall, bandwidth, closed: false }
    }
}

/// A place on a network's bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub(crate) ip: Ipv4Addr,
    subnet: Subnet,
    mtu: u32,
    pub(crate) bridge: Bridge,
    /// The bridge's interface index.
    index: u32,
    /// The name of the link's end on the host.
    link: String,
    /// The network's name; requests of the release before have only the default one.
    #[serde(default = "default_network")]
    network: String,
    /// The network's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network_id: Option<Id>,
    /// The bridge's address, where it is not the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ipv6: Option<Place6>,
    /// The hardware address, where it is not made from the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<[u8; 6]>,
    /// Nothing leads out of the network.
    #[serde(default)]
    internal: bool,
    /// The interface's number in the container: `eth0` is 0.
    #[serde(default)]
    number: u32,
    /// Where the network's containers may go.
    #[serde(default, skip_serializing_if = "Egress::is_allow")]
    egress: Egress,
    /// How much it may send and be sent.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    bandwidth: Bandwidth,
    /// It is on a link of the host's, not on a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    macvlan: Option<Mode>,
    /// It speaks to no neighbour but to those that it is allowed to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
}

/// An IPv6 address on a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place6 {
    ip: Ipv6Addr,
    subnet: Subnet6,
    gateway: Ipv6Addr,
}

fn default_network() -> String {
    crate::definition::DEFAULT.to_owned()
}

impl Endpoint {
    /// Claims what a container wants on a network, whose bridge is made if need be. Also gives what the user should be
    /// told.
    pub(crate) fn claim(
        instance: &Instance,
        id: &Id,
        wish: &Wish<'_>,
        number: u32,
    ) -> Result<(Self, Vec<String>)> {
        let network = wish.network;
        let bridge = Bridge::of_network(instance, network);
        let standing = bridge.stand(instance, network, wish.firewall)?;
        let subnet = standing.network.subnet;
        let gateway = gateway(subnet, network.ipv4.as_ref());
        let addresses = bridge.addresses();
        let ip = match wish.ip {
            None => {
                let mut reserved: Vec<IpAddr> = network.reserved.values().copied().collect();
                reserved.push(gateway.into());
                let range = network.ipv4.as_ref().and_then(|pool| pool.range);
                addresses.claim(Range::new(subnet, range.filter(|r| subnet.overlaps(*r))), &reserved, id)?
            }
            Some(ip) => {
                wanted_address(network, subnet, gateway, ip)?;
                if !addresses.claim_this(ip.into(), id)? {
                    return Err(Error::AddressTaken { ip: ip.into(), network: network.name.clone() });
                }
                ip
            }
        };
        let release = |error: Error| {
            // The first error matters more; the claim goes with the container's live directory.
            addresses.release(ip.into(), id).ok();
            error
        };
        let ipv6 = claim6(&bridge, wish, ip, subnet, id).map_err(release)?;
        let macvlan =
            if network.is_macvlan() { Some(network.macvlan_options().map_err(release)?.mode) } else { None };
        let endpoint = Self {
            ip,
            subnet,
            mtu: standing.network.mtu,
            index: standing.index,
            link: link_name(instance.tag(), ip),
            network: network.name.clone(),
            network_id: Some(network.id.clone()),
            gateway: (gateway != subnet.gateway()).then_some(gateway),
            ipv6,
            mac: wish.mac,
            internal: network.internal,
            number,
            egress: network.egress.clone(),
            bandwidth: wish.bandwidth,
            macvlan,
            closed: wish.closed && macvlan.is_none(),
            bridge,
        };
        Ok((endpoint, standing.warnings))
    }

    /// The network's name.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// The network's id; none in requests of the release before.
    pub fn network_id(&self) -> Option<&Id> {
        self.network_id.as_ref()
    }

    /// Whether nothing leads out of the network.
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// Where the network's containers may go.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Whether it is on a link of the host's, with no bridge between.
    pub fn is_macvlan(&self) -> bool {
        self.macvlan.is_some()
    }

    /// The name of the bridge, or of the link of the host's, that it is on.
    pub fn bridge_name(&self) -> &str {
        &self.bridge.name
    }

    /// The name of its link's end on the host; none where there is no such end.
    pub fn host_link(&self) -> Option<&str> {
        (!self.is_macvlan()).then_some(&self.link)
    }

    /// Whether it speaks to no neighbour but to those that it is allowed to.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What it can send from.
    pub(crate) fn all_addresses(&self) -> Vec<IpAddr> {
        let six = self.ipv6.as_ref().map(|place| [place.ip.into(), senders::link_local(self.mac()).into()]);
        std::iter::once(self.ip.into()).chain(six.into_iter().flatten()).collect()
    }

    /// The interface's number in the container.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The address.
    pub fn address(&self) -> Address {
        Address {
            ip: self.ip,
            prefix: self.subnet.prefix(),
            gateway: self.gateway(),
            mac: self.mac().map(|byte| format!("{byte:02x}")).join(":"),
        }
    }

    /// The IPv6 address, the length of its prefix and the bridge's, where it has one.
    pub fn address6(&self) -> Option<(Ipv6Addr, u8, Ipv6Addr)> {
        self.ipv6.as_ref().map(|place| (place.ip, place.subnet.prefix(), place.gateway))
    }

    /// Where its packets come from, for who limits where they may go.
    pub fn place(&self) -> state::egress::link::Place {
        use state::netd::Subnet as Range;
        let (mut addresses, mut gateways) = (vec![self.ip.into()], vec![self.gateway().into()]);
        let mut subnets = vec![Range { address: self.ip.into(), prefix: self.subnet.prefix() }];
        if let Some(place) = &self.ipv6 {
            addresses.push(place.ip.into());
            gateways.push(place.gateway.into());
            subnets.push(Range { address: place.ip.into(), prefix: place.subnet.prefix() });
        }
        let bridge = self.bridge.name.clone();
        state::egress::link::Place { bridge, mac: self.mac(), addresses, gateways, subnets }
    }

    fn gateway(&self) -> Ipv4Addr {
        self.gateway.unwrap_or_else(|| self.subnet.gateway())
    }

    fn mac(&self) -> [u8; 6] {
        self.mac.unwrap_or_else(|| subnet::mac(self.ip))
    }

    /// What is sent inside the container's namespace once the link is there.
    pub(crate) fn messages(&self, request: &mut Request, default_route: bool) {
        link::container_address(request, self.number, self.ip.into(), self.subnet.prefix());
        if let Some(place) = &self.ipv6 {
            link::container_address(request, self.number, place.ip.into(), place.subnet.prefix());
        }
        if default_route {
            self.default_route(request);
        }
    }

    /// The route to everywhere else, where the network leads there.
    pub(crate) fn default_route(&self, request: &mut Request) {
        if self.internal {
            return;
        }
        link::container_route(request, self.number, self.gateway().into());
        if let Some(place) = &self.ipv6 {
            link::container_route(request, self.number, place.gateway.into());
        }
    }

    /// Links the namespace of the process `pid` to the bridge.
    pub(crate) fn link(&self, pid: u32) -> Result<()> {
        self.link_to(Target::Process(pid))
    }

    /// Links this namespace to the bridge.
    pub(crate) fn link_into(&self, namespace: &File) -> Result<()> {
        self.link_to(Target::Namespace(namespace.as_fd()))
    }

    fn link_to(&self, target: Target<'_>) -> Result<()> {
        if let Some(mode) = self.macvlan {
            let mac = (mode != Mode::Passthru).then(|| self.mac());
            let create =
                || link::create_macvlan(self.index, mode.number(), self.mtu, self.number, mac, target);
            let deadline = Instant::now() + LINGERING;
            let mut made = create();
            // The hardware address is that of the run before, whose namespace the kernel takes apart in its own time.
            while made.as_ref().is_err_and(|refusal| refusal.errno == Errno::ADDRINUSE)
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(5));
                made = create();
            }
            return made.link(|| format!("put the container onto the link `{}`", self.bridge.name));
        }
        let pair = Pair {
            name: &self.link,
            index: subnet::link_index(self.ip),
            bridge: self.index,
            mtu: self.mtu,
            number: self.number,
            mac: self.mac(),
            target,
        };
        let made = match link::create_pair(&pair) {
            // The address's last owner is gone, but somebody keeps its network namespace, or the kernel has
            // not yet come round to removing it.
            Err(refusal) if matches!(refusal.errno, Errno::EXIST | Errno::BUSY) => {
                link::delete_name(&self.link).and_then(|()| link::create_pair(&pair))
            }
            other => other,
        };
        // Before anything can be sent: the container's command runs only when this is done.
        made.link(|| format!("link the container to the bridge `{}`", self.bridge.name))?;
        if !self.bandwidth.is_unlimited() {
            self.shaped().limit(self.bandwidth)?;
        }
        self.bridge.admit(&self.owner())?;
        if self.closed {
            self.bridge.close(&self.all_addresses())?;
        }
        link::wait_until_operational(&pair)
            .link(|| format!("wait for the link to the bridge `{}`", self.bridge.name))
    }

    /// Takes its interface away, from inside the container's namespace.
    pub(crate) fn remove_inside(&self) -> Result<()> {
        let name = format!("eth{}", self.number);
        link::delete_name(&name).link(|| format!("remove the link `{name}` of the container"))
    }

    fn shaped(&self) -> Shaped<'_> {
        Shaped { link: &self.link, index: subnet::link_index(self.ip), mtu: self.mtu }
    }

    /// How much it may send and be sent.
    pub fn bandwidth(&self) -> Bandwidth {
        self.bandwidth
    }

    /// The same place with other limits, which [`Endpoint::reshape`] brings into force.
    pub(crate) fn with_bandwidth(&self, bandwidth: Bandwidth) -> Self {
        Self { bandwidth, ..self.clone() }
    }

    /// Changes the limits of its link, which were `before`.
    pub(crate) fn reshape(&self, before: Bandwidth) -> Result<()> {
        if self.is_macvlan() { Ok(()) } else { self.shaped().change(before, self.bandwidth) }
    }

    /// What may be sent from it.
    pub(crate) fn owner(&self) -> Owner<'_> {
        let ip6 = self.ipv6.as_ref().map(|place| place.ip);
        Owner { link: &self.link, mac: self.mac(), ip: self.ip, ip6 }
    }

    /// Takes the link away, from both its ends; fine if it is gone.
    pub(crate) fn unlink(&self) -> Result<()> {
        link::delete_name(&self.link).link(|| format!("remove the link `{}`", self.link))?;
        self.unshape()
    }

    /// Takes away what is beside the link, where there is something.
    fn unshape(&self) -> Result<()> {
        if self.bandwidth.outgoing.is_some() { shape::remove(&self.link) } else { Ok(()) }
    }

    /// Opens its published ports.
    pub(crate) fn publish(&self, mappings: &[PortMapping]) -> Result<()> {
        let published = self.published(mappings);
        // First the file, then what it speaks of: whoever cleans up after a crash finds all of it.
        ports::remember(&self.bridge.dir, self.ip, &published)?;
        self.open(&published)
    }

    /// These ports as they lead to it.
    pub(crate) fn published(&self, mappings: &[PortMapping]) -> Vec<Published> {
        ports::published(mappings, self.ip, self.ipv6.as_ref().map(|place| place.ip))
    }

    /// Opens published ports; what may be open of them already leads to us, whose sockets hold them.
    pub(crate) fn open(&self, published: &[Published]) -> Result<()> {
        link::reflect(subnet::link_index(self.ip))
            .link(|| format!("prepare the link `{}` for published ports", self.link))?;
        self.bridge.publish(self.ip, published)?;
        conntrack::forget(published).firewall(|| "forget the flows to published ports".to_owned())
    }

    /// Gives address and ports back. May be called any number of times.
    pub(crate) fn release(&self, id: &Id) -> Result<()> {
        let addresses = self.bridge.addresses();
        if !addresses.held(self.ip.into(), id)? {
            return Ok(());
        }
        // What was published while it ran is not in the request.
        if ports::are_remembered(&self.bridge.dir, self.ip) {
            let _lock = Lock::shared(&self.bridge.dir)?;
            self.bridge.unpublish(self.ip)?;
        }
        self.unshape()?;
        if self.closed {
            self.bridge.unclose(&self.all_addresses())?;
        }
        // To take elements out costs more than all else at a container's end. What follows from the address alone is true of
        // whoever has the address next, whose link is called the same; until then there is no such link.
        if self.macvlan.is_none() && (self.mac.is_some() || self.ipv6.is_some()) {
            self.bridge.dismiss(&self.owner())?;
        }
        if let Some(place) = &self.ipv6 {
            addresses.release(place.ip.into(), id)?;
        }
        addresses.release(self.ip.into(), id)
    }
}

/// Whether somebody may have this address of a network.
fn wanted_address(network: &Definition, subnet: Subnet, gateway: Ipv4Addr, ip: Ipv4Addr) -> Result<()> {
    let wrong = |reason: String| Error::Address { ip: ip.into(), network: network.name.clone(), reason };
    if !network.ipv4.as_ref().is_some_and(|pool| pool.named) {
        return Err(wrong(
            "its subnet was not named when it was made, and may be another tomorrow".to_owned(),
        ));
    }
    if !subnet.contains(ip) {
        return Err(wrong(format!("it is not of {subnet}")));
    }
    if ip == gateway || ip == subnet.network() || ip == subnet.broadcast() {
        return Err(wrong("it is the bridge's, or the subnet's first or last".to_owned()));
    }
    Ok(())
}

/// The same of IPv6.
fn wanted_address6(network: &Definition, ip: Ipv6Addr) -> Result<()> {
    let wrong = |reason: String| Error::Address { ip: ip.into(), network: network.name.clone(), reason };
    let Some(pool) = &network.ipv6 else { return Err(wrong("it has no IPv6".to_owned())) };
    if !pool.subnet.contains(ip) || ip == pool.gateway || ip == pool.subnet.network() {
        return Err(wrong(format!("want one of {} but the bridge's and the first", pool.subnet)));
    }
    Ok(())
}

/// Claims an IPv6 address, where the network has some.
fn claim6(bridge: &Bridge, wish: &Wish<'_>, ip: Ipv4Addr, subnet: Subnet, id: &Id) -> Result<Option<Place6>> {
    let name = &wish.network.name;
    if let Some(ip6) = wish.ip6 {
        wanted_address6(wish.network, ip6)?;
    }
    let Some(pool) = &wish.network.ipv6 else { return Ok(None) };
    let place = |ip| Place6 { ip, subnet: pool.subnet, gateway: pool.gateway };
    let addresses = bridge.addresses();
    if let Some(ip6) = wish.ip6 {
        if !addresses.claim_this(ip6.into(), id)? {
            return Err(Error::AddressTaken { ip: ip6.into(), network: name.clone() });
        }
        return Ok(Some(place(ip6)));
    }
    // Its number is that of the other address, which is nobody else's; unless somebody named it, or the subnet is small.
    let from = pool.range.unwrap_or(pool.subnet);
    let number = u128::from(ip.to_bits() - subnet.network().to_bits());
    for round in 0..64 {
        let ip6 = from.address(number + (round << 32) + round);
        let reserved = wish.network.reserved.values().any(|taken| *taken == IpAddr::V6(ip6));
        if ip6 == pool.gateway || ip6 == pool.subnet.network() || reserved {
            continue;
        }
        if addresses.claim_this(ip6.into(), id)? {
            return Ok(Some(place(ip6)));
        }
    }
    Err(Error::NoAddress { subnet: from.to_string() })
}

/// The host end's name, at most 14 bytes: unique because no two instances have the same address.
fn link_name(tag: &str, ip: Ipv4Addr) -> String {
    format!("dh{}{:08x}", tag.get(..4).unwrap_or_default(), ip.to_bits())
}
