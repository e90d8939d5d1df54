//! The plan of a container's network, and its verbs.

use std::net::Ipv4Addr;

use base::Id;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use state::Instance;
use state::container::Address;
use state::lock::Lock;
use state::options::{NetworkMode, PortMapping};

use crate::bridge::Bridge;
use crate::error::Attempt;
use crate::link::{self, Pair};
use crate::netlink::Request;
use crate::nft::elements::{self, Published};
use crate::subnet::{self, Subnet};
use crate::{PortReservations, Result, conntrack, ports};

/// Messages for one `send(2)` on a `NETLINK_ROUTE` socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The messages, back to back, each with `NLM_F_ACK`.
    pub bytes: Vec<u8>,
    /// How many there are: so many acknowledgements (`NLMSG_ERROR`, with errno 0 when all went well) follow,
    /// each in a datagram of its own.
    pub messages: usize,
}

/// What monitor and reconciler need to know of a container's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    mode: NetworkMode,
    pub(crate) bridge: Option<OnBridge>,
    pub(crate) ports: Vec<PortMapping>,
    warnings: Vec<String>,
}

/// A place on the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnBridge {
    pub(crate) ip: Ipv4Addr,
    subnet: Subnet,
    mtu: u32,
    pub(crate) bridge: Bridge,
    /// The bridge's interface index.
    index: u32,
    /// The name of the link's end on the host.
    link: String,
}

/// Claims what a container needs, and makes sure that the bridge stands. In the command's process; cheap
/// where the bridge exists. The container's live directory must exist by then: a claim without one is a
/// leftover to [`crate::sweep`].
pub fn prepare(instance: &Instance, id: &Id, mode: &NetworkMode, ports: &[PortMapping]) -> Result<Plan> {
    let mut plan = Plan { mode: mode.clone(), bridge: None, ports: ports.to_vec(), warnings: Vec::new() };
    if *mode != NetworkMode::Bridge {
        if !ports.is_empty() {
            let name = if *mode == NetworkMode::Host { "host" } else { "none" };
            plan.warnings.push(format!("published ports are discarded with the network mode `{name}`"));
            plan.ports.clear();
        }
        return Ok(plan);
    }
    ports::check(ports)?;
    let bridge = Bridge::of(instance);
    let standing = bridge.stand()?;
    let ip = bridge.addresses().claim(standing.network.subnet, id)?;
    plan.warnings.clone_from(&standing.warnings);
    plan.bridge = Some(OnBridge {
        ip,
        subnet: standing.network.subnet,
        mtu: standing.network.mtu,
        index: standing.index,
        link: link_name(instance.tag(), ip),
        bridge,
    });
    Ok(plan)
}

/// The host end's name, at most 14 bytes: unique because no two instances have the same address.
fn link_name(tag: &str, ip: Ipv4Addr) -> String {
    format!("dh{}{:08x}", tag.get(..4).unwrap_or_default(), ip.to_bits())
}

impl Plan {
    /// Whether the container gets a network namespace of its own.
    pub fn needs_namespace(&self) -> bool {
        self.mode != NetworkMode::Host
    }

    /// What the child sends inside its new namespace, after [`Plan::attach`] has returned in the parent.
    pub fn child_messages(&self) -> Batch {
        if !self.needs_namespace() {
            return Batch::default();
        }
        let mut request = Request::new();
        link::loopback_up(&mut request);
        if let Some(place) = &self.bridge {
            link::container_address(&mut request, place.ip, place.subnet.prefix(), place.subnet.gateway());
        }
        Batch { messages: request.len(), bytes: request.into_bytes() }
    }

    /// Sysctls of the container's own namespace (`net.…`, value), for the child to write at any time before
    /// it executes the command. Empty without a namespace of its own.
    pub fn sysctls(&self) -> &'static [(&'static str, &'static str)] {
        const OWN: [(&str, &str); 3] = [
            // As Docker does: low ports and ping need no capability where nobody else is.
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
            // The bridge has no IPv6; left on, a neighbour could make itself everybody's IPv6 router
            // (CVE-2020-13401, CVE-2024-32473).
            ("net.ipv6.conf.all.disable_ipv6", "1"),
        ];
        match self.mode {
            NetworkMode::Host => &[],
            NetworkMode::None => &OWN[..2],
            NetworkMode::Bridge => &OWN,
        }
    }

    /// Binds the host's ports, so that a conflict shows before anything runs, and resolves port 0. In the
    /// monitor, before the clone; keep the sockets until [`Plan::release`] has been called.
    pub fn reserve_ports(&mut self) -> Result<PortReservations> {
        PortReservations::bind(&mut self.ports)
    }

    /// Links the namespace of the process `pid` to the bridge and opens the published ports. In the monitor,
    /// while the child mounts.
    pub fn attach(&self, pid: u32) -> Result<()> {
        let Some(place) = &self.bridge else { return Ok(()) };
        place.link(pid)?;
        if self.ports.is_empty() {
            return Ok(());
        }
        let published = ports::published(&self.ports, place.ip)?;
        // First the file, then what it speaks of: whoever cleans up after a crash finds all of it.
        ports::remember(&place.bridge.dir, place.ip, &published)?;
        place.open(&published)
    }

    /// Gives address and ports back. May be called any number of times, by the monitor or by whoever finds
    /// it dead. The link goes with the container's namespace.
    pub fn release(&self, instance: &Instance, id: &Id) -> Result<()> {
        let Some(place) = &self.bridge else { return Ok(()) };
        let bridge = Bridge::of(instance);
        let addresses = bridge.addresses();
        if !addresses.held(place.ip, id)? {
            return Ok(());
        }
        // What was published while it ran is not in the request.
        if !self.ports.is_empty() || ports::are_remembered(&bridge.dir, place.ip) {
            let _lock = Lock::shared(&bridge.dir)?;
            bridge.unpublish(place.ip)?;
        }
        addresses.release(place.ip, id)
    }

    /// The address on the bridge.
    pub fn address(&self) -> Option<Address> {
        let place = self.bridge.as_ref()?;
        Some(Address {
            ip: place.ip,
            prefix: place.subnet.prefix(),
            gateway: place.subnet.gateway(),
            mac: subnet::mac(place.ip).map(|byte| format!("{byte:02x}")).join(":"),
        })
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

impl OnBridge {
    /// Opens published ports; what may be open of them already leads to us, whose sockets hold them.
    pub(crate) fn open(&self, published: &[Published]) -> Result<()> {
        link::reflect(subnet::link_index(self.ip))
            .link(|| format!("prepare the link `{}` for published ports", self.link))?;
        self.publish(published)?;
        conntrack::forget(published).firewall(|| "forget the flows to published ports".to_owned())
    }

    fn publish(&self, ports: &[Published]) -> Result<()> {
        let Bridge { dir, table, .. } = &self.bridge;
        let refused = match elements::add(table, ports) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        match refused.errno {
            // The table went after the claim, with the rule set; a new one gets our ports from the file.
            Errno::NOENT => self.bridge.mend_table(self.subnet),
            // We hold the sockets, so what the map says is left from a monitor that died.
            Errno::EXIST => {
                let _lock = Lock::exclusive(dir)?;
                for port in ports {
                    elements::remove_any(table, port)
                        .firewall(|| format!("take over port {}", port.host_port))?;
                }
                elements::add(table, ports).firewall(|| format!("publish the ports of {}", self.ip))
            }
            _ => Err(refused).firewall(|| format!("publish the ports of {}", self.ip)),
        }
    }

    fn link(&self, pid: u32) -> Result<()> {
        let pair = Pair {
            name: &self.link,
            index: subnet::link_index(self.ip),
            bridge: self.index,
            mtu: self.mtu,
            mac: subnet::mac(self.ip),
            pid,
        };
        let made = match link::create_pair(&pair) {
            // The address's last owner is gone, but somebody keeps its network namespace, or the kernel has
            // not yet come round to removing it.
            Err(refusal) if matches!(refusal.errno, Errno::EXIST | Errno::BUSY) => {
                link::delete_name(&self.link).and_then(|()| link::create_pair(&pair))
            }
            other => other,
        };
        made.and_then(|()| link::wait_until_operational(&pair))
            .link(|| format!("link the container to the bridge `{}`", self.bridge.name))
    }
}
