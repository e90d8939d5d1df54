//! The plan of a container's networks, and its verbs.

use std::path::Path;

use base::Id;
use base::fs::{self, Durability};
use serde::{Deserialize, Serialize};
use state::Instance;
use state::container::Address;
use state::netd::Allowed;
use state::options::{NetworkMode, PortMapping};

use crate::definition::Definition;
use crate::endpoint::{Endpoint, Wish};
use crate::netlink::Request;
use crate::nft::pairs::Pair;
use crate::nft::table::Firewall;
use crate::{Error, PortReservations, Result, allowed, link, ports};

/// Messages for one `send(2)` on a `NETLINK_ROUTE` socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The messages, back to back, each with `NLM_F_ACK`.
    pub bytes: Vec<u8>,
    /// How many there are: so many acknowledgements (`NLMSG_ERROR`, with errno 0 when all went well) follow,
    /// each in a datagram of its own.
    pub messages: usize,
}

/// What monitor and reconciler need to know of a container's networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    mode: NetworkMode,
    /// The first network: where its ports are published and its default route leads.
    pub(crate) bridge: Option<Endpoint>,
    /// The others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more: Vec<Endpoint>,
    pub(crate) ports: Vec<PortMapping>,
    warnings: Vec<String>,
}

/// What is set where no network of a container has IPv6.
pub const DISABLE_IPV6: &str = "net.ipv6.conf.all.disable_ipv6";
/// Where the endpoints of a running container are written down once they are other than its plan says.
const ENDPOINTS: &str = "endpoints.json";

/// Claims what a container on the default bridge needs, or one in another mode than on networks; see [`prepare_on`].
pub fn prepare(
    instance: &Instance,
    id: &Id,
    mode: &NetworkMode,
    ports: &[PortMapping],
    firewall: Firewall,
) -> Result<Plan> {
    if *mode == NetworkMode::Bridge {
        let network = Definition::default_of(instance);
        return prepare_on(instance, id, mode, &[Wish::any(&network, firewall)], ports);
    }
    let mut plan = Plan::new(mode, ports);
    plan.discard_ports(match mode {
        NetworkMode::Host => "with the network mode `host`",
        NetworkMode::Container(_) => "in the network of another container, which publishes its own",
        _ => "with the network mode `none`",
    });
    Ok(plan)
}

/// Claims what a container on these networks needs, and makes sure that their bridges stand. In the command's process;
/// cheap where they exist. The container's live directory must exist by then: a claim without one is a
/// leftover to [`crate::sweep`].
pub fn prepare_on(
    instance: &Instance,
    id: &Id,
    mode: &NetworkMode,
    wishes: &[Wish<'_>],
    ports: &[PortMapping],
) -> Result<Plan> {
    ports::check(ports, wishes.iter().any(|wish| wish.network.ipv6.is_some()))?;
    let mut plan = Plan::new(mode, ports);
    let mut endpoints = Vec::with_capacity(wishes.len());
    for (number, wish) in (0..).zip(wishes) {
        match Endpoint::claim(instance, id, wish, number) {
            Ok((endpoint, warnings)) => {
                endpoints.push(endpoint);
                plan.warnings.extend(warnings);
            }
            Err(error) => {
                for endpoint in &endpoints {
                    // The first error matters more; claims go with the container's live directory.
                    endpoint.release(id).ok();
                }
                return Err(error);
            }
        }
    }
    // What leads nowhere is no place for ports nor for the default route.
    if let Some(first) = endpoints.iter().position(|endpoint| !endpoint.is_internal()) {
        let first = endpoints.remove(first);
        if first.is_macvlan() {
            plan.discard_ports("on a macvlan network, where all its ports can be reached at its own address");
        }
        if endpoints.iter().chain([&first]).any(|e| e.is_macvlan() && !e.bandwidth().is_unlimited()) {
            plan.warnings.push("limits of bandwidth are discarded on macvlan networks".to_owned());
        }
        plan.bridge = Some(first);
    } else {
        if !endpoints.is_empty() {
            plan.bridge = Some(endpoints.remove(0));
        }
        plan.discard_ports("on internal networks");
    }
    plan.more = endpoints;
    Ok(plan)
}

impl Plan {
    fn new(mode: &NetworkMode, ports: &[PortMapping]) -> Self {
        Self {
            mode: mode.clone(),
            bridge: None,
            more: Vec::new(),
            ports: ports.to_vec(),
            warnings: Vec::new(),
        }
    }

    fn discard_ports(&mut self, why: &str) {
        if !self.ports.is_empty() {
            self.warnings.push(format!("published ports are discarded {why}"));
            self.ports.clear();
        }
    }

    /// Whether the container gets a network namespace of its own.
    pub fn needs_namespace(&self) -> bool {
        !matches!(self.mode, NetworkMode::Host | NetworkMode::Container(_))
    }

    /// Its places on networks, the first one first.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.bridge.iter().chain(&self.more)
    }

    /// What the child sends inside its new namespace, after [`Plan::attach`] has returned in the parent.
    pub fn child_messages(&self) -> Batch {
        if !self.needs_namespace() {
            return Batch::default();
        }
        let mut request = Request::new();
        link::loopback_up(&mut request);
        for (n, endpoint) in self.endpoints().enumerate() {
            endpoint.messages(&mut request, n == 0);
        }
        Batch { messages: request.len(), bytes: request.into_bytes() }
    }

    /// Sysctls of the container's own namespace (`net.…`, value), for the child to write at any time before
    /// it executes the command. Empty without a namespace of its own.
    pub fn sysctls(&self) -> &'static [(&'static str, &'static str)] {
        // As Docker does: low ports and ping need no capability where nobody else is.
        const PORTS: (&str, &str) = ("net.ipv4.ip_unprivileged_port_start", "0");
        const PING: (&str, &str) = ("net.ipv4.ping_group_range", "0 2147483647");
        // Where a network has no IPv6, a neighbour could make itself everybody's IPv6 router if it were left on
        // (CVE-2020-13401, CVE-2024-32473).
        const NO_IPV6: (&str, &str) = (DISABLE_IPV6, "1");
        // Where it has, addresses and routes are the ones we give.
        const NO_ROUTERS: [(&str, &str); 2] =
            [("net.ipv6.conf.all.accept_ra", "0"), ("net.ipv6.conf.default.accept_ra", "0")];
        match self.mode {
            NetworkMode::Host | NetworkMode::Container(_) => &[],
            NetworkMode::None => &[PORTS, PING],
            _ if self.has_ipv6() => &[PORTS, PING, NO_ROUTERS[0], NO_ROUTERS[1]],
            _ => &[PORTS, PING, NO_IPV6],
        }
    }

    /// Whether it is on a network that has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.endpoints().any(|endpoint| endpoint.address6().is_some())
    }

    /// Binds the host's ports, so that a conflict shows before anything runs, and resolves port 0. In the
    /// monitor, before the clone; keep the sockets until [`Plan::release`] has been called.
    pub fn reserve_ports(&mut self) -> Result<PortReservations> {
        let ipv6 = self.publishes_on_ipv6();
        PortReservations::bind(&mut self.ports, ipv6)
    }

    /// Whether what is published on all addresses is on those of IPv6, too.
    pub fn publishes_on_ipv6(&self) -> bool {
        self.bridge.as_ref().is_some_and(|endpoint| endpoint.address6().is_some())
    }

    /// Links the namespace of the process `pid` to the bridges and opens the published ports. In the monitor,
    /// while the child mounts.
    pub fn attach(&self, pid: u32) -> Result<()> {
        for endpoint in self.endpoints() {
            endpoint.link(pid)?;
        }
        match &self.bridge {
            Some(first) if !self.ports.is_empty() => first.publish(&self.ports),
            _ => Ok(()),
        }
    }

    /// Gives addresses and ports back. May be called any number of times, by the monitor or by whoever finds
    /// it dead. The links go with the container's namespace.
    pub fn release(&self, instance: &Instance, id: &Id) -> Result<()> {
        if self.bridge.is_none() {
            return Ok(());
        }
        // First those that it has by now, which may be limited otherwise than they were.
        let (now, mut result) = match read_endpoints(&instance.live(id)) {
            Ok(now) => (now.unwrap_or_default(), Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        for endpoint in now.iter().chain(self.endpoints()) {
            result = result.and(endpoint.release(id));
        }
        result
    }

    /// The plan as it is by now, with what was connected and disconnected while the container ran.
    pub fn by_now(&self, instance: &Instance, id: &Id) -> Result<Self> {
        self.by_now_in(&instance.live(id))
    }

    fn by_now_in(&self, live: &Path) -> Result<Self> {
        let mut plan = self.clone();
        if let Some(endpoints) = read_endpoints(live)? {
            let mut endpoints = endpoints.into_iter();
            plan.bridge = endpoints.next();
            plan.more = endpoints.collect();
        }
        Ok(plan)
    }

    /// Writes down that the container's endpoints are these from now on: the first of them publishes its ports.
    pub fn write_endpoints(instance: &Instance, id: &Id, endpoints: &[Endpoint]) -> Result<()> {
        let path = instance.live(id).join(ENDPOINTS);
        let bytes = serde_json::to_vec(endpoints)
            .map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
        Ok(fs::write_atomic(&path, &bytes, Durability::Volatile)?)
    }

    /// Allows a closed container to speak to these neighbours, and to no others any longer. The plan is that of
    /// [`Plan::by_now`].
    pub fn allow(&self, instance: &Instance, id: &Id, allowed: &[Allowed]) -> Result<()> {
        let Some(first) = self.endpoints().find(|endpoint| endpoint.is_closed()) else { return Ok(()) };
        let mut pairs = Vec::new();
        for endpoint in self.endpoints().filter(|endpoint| endpoint.is_closed()) {
            for to in allowed.iter().filter(|allowed| allowed.network == endpoint.network()) {
                let from = endpoint.all_addresses();
                let same = from.into_iter().filter(|ip| ip.is_ipv4() == to.address.is_ipv4());
                pairs.extend(same.map(|from| Pair {
                    from,
                    to: to.address,
                    protocol: to.protocol,
                    port: to.port,
                }));
            }
        }
        let live = instance.live(id);
        let mut less = allowed::read(&live)?;
        less.retain(|pair| !pairs.contains(pair));
        // All tables are the instance's.
        first.bridge.allow(&pairs, &less, || allowed::write(&live, &pairs))
    }

    /// The address on the first network.
    pub fn address(&self) -> Option<Address> {
        self.bridge.as_ref().map(Endpoint::address)
    }

    /// The published ports; none is 0 once they have been reserved.
    pub fn ports(&self) -> &[PortMapping] {
        &self.ports
    }

    /// What the user should be told, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The endpoints of a container by its live directory; nothing where it has none (any more).
pub(crate) fn endpoints_in(live: &Path) -> Result<Vec<Endpoint>> {
    /// What of the monitor's request matters here.
    #[derive(Deserialize)]
    struct Request {
        network: Plan,
    }
    let Some(bytes) = fs::read_if_exists(&live.join(state::container::file::REQUEST))? else {
        return Ok(Vec::new());
    };
    // One that is half written belongs to a container that has not been started.
    let Ok(request) = serde_json::from_slice::<Request>(&bytes) else { return Ok(Vec::new()) };
    Ok(request.network.by_now_in(live)?.endpoints().cloned().collect())
}

/// The endpoints of a running container, where they are other than its plan says.
fn read_endpoints(live: &Path) -> Result<Option<Vec<Endpoint>>> {
    let path = live.join(ENDPOINTS);
    let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
    let endpoints = serde_json::from_slice(&bytes)
        .map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
    Ok(Some(endpoints))
}
