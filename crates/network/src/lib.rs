//! Links, addresses, firewall and published ports of a container.
//!
//! The command that makes a container calls [`prepare`]: it claims an address and makes sure that the bridge
//! and the firewall table stand. The [`Plan`] it gives is written into the monitor's request. The monitor
//! calls [`Plan::reserve_ports`] before the clone and [`Plan::attach`] while the child mounts its root; the
//! child then sends [`Plan::child_messages`] from inside its namespace. While it runs, [`Plan::republish`] changes what is
//! published. When the container has ended,
//! [`Plan::release`] gives everything back, and [`sweep`] removes bridge and table with their last user.
//!
//! Everything goes through netlink, in-process and blocking. Of the host's firewall nothing is touched but
//! the instance's own table.

mod addresses;
mod allowed;
mod bridge;
pub mod capture;
mod change;
mod conntrack;
mod definition;
pub mod egress;
mod endpoint;
mod error;
mod exposure;
pub mod files;
mod link;
pub mod look;
mod macvlan;
mod netlink;
mod nft;
mod plan;
mod ports;
mod republish;
mod resolver;
mod shape;
mod store;
mod subnet;
mod subnet6;
mod upstreams;
pub mod warden;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base::Id;
use state::Instance;

pub use change::{Running, namespace_of};
pub use definition::{BRIDGE_DRIVER, BridgeOptions, DEFAULT, Definition, FORMAT, Pool4, Pool6, check_name};
pub use endpoint::{Endpoint, Wish};
pub use error::{Error, HostPort, Result};
pub use exposure::{Reach, exposure};
pub use macvlan::{MACVLAN_DRIVER, MacvlanOptions};
pub use netlink::Refusal;
pub use nft::table::Firewall;
pub use plan::{Batch, DISABLE_IPV6, Plan, prepare, prepare_on};
pub use ports::PortReservations;
pub use republish::are_free;
pub use resolver::Resolver;
pub use shape::Bandwidth;
pub use store::{Store, new_id};
pub use subnet::Subnet;
pub use subnet6::Subnet6;
pub use upstreams::{Resolving, resolving};

/// Bridge and table outlive their last user by this, so that one container after the other finds them.
pub const QUIET: Duration = Duration::from_secs(2);

/// Removes the bridges of networks where no address is claimed and none was in the last [`QUIET`] seconds (less a
/// little, for who sleeps just so long before), and the table with the last of them. True if nothing of them is left. Never
/// waits: somebody who holds a network is using it.
pub fn sweep(instance: &Instance) -> Result<bool> {
    sweep_all(instance, QUIET.saturating_sub(Duration::from_millis(100)))
}

/// [`sweep`], however short ago the last address was claimed.
pub fn sweep_now(instance: &Instance) -> Result<bool> {
    sweep_all(instance, Duration::ZERO)
}

fn sweep_all(instance: &Instance, quiet: Duration) -> Result<bool> {
    let mut all = bridge::Bridge::of(instance).sweep(instance, quiet)?;
    for definition in Store::open(instance).list()? {
        all &= bridge::Bridge::of_network(instance, &definition).sweep(instance, quiet)?;
    }
    Ok(all)
}

/// Which addresses of a network are claimed, and by which live containers.
pub fn users(instance: &Instance, definition: &Definition) -> Result<BTreeMap<IpAddr, Id>> {
    let claims = bridge::Bridge::of_network(instance, definition).addresses().list()?;
    let live = |(ip, owner): (IpAddr, String)| Some((ip, owner.parse::<Id>().ok()?));
    Ok(claims.into_iter().filter_map(live).filter(|(_, id)| instance.live(id).exists()).collect())
}

/// Whether the ports of a running container are published by IPv6 as well.
pub fn publishes_ipv6(instance: &Instance, id: &Id) -> Result<bool> {
    Ok(plan::endpoints_in(&instance.live(id))?.first().is_some_and(|first| first.address6().is_some()))
}

/// Removes the bridge of a network that nobody uses. False if somebody does.
pub fn bring_down(instance: &Instance, definition: &Definition) -> Result<bool> {
    bridge::Bridge::of_network(instance, definition).sweep(instance, Duration::ZERO)
}

/// Removes what is still known of a network that has been brought down and is no more.
pub fn forget(instance: &Instance, definition: &Definition) -> Result<()> {
    Ok(base::fs::remove_dir_all(&bridge::Bridge::of_network(instance, definition).dir)?)
}

/// The subnet, gateway and range of a network: as it stands, or as it will. None of the default one that never stood.
pub fn addresses(
    instance: &Instance,
    definition: &Definition,
) -> Result<Option<(Subnet, Ipv4Addr, Option<Subnet>)>> {
    let pool = definition.ipv4.as_ref();
    let stood = bridge::Bridge::of_network(instance, definition).live()?.map(|network| network.subnet);
    let Some(subnet) = stood.or(pool.map(|pool| pool.subnet)) else { return Ok(None) };
    Ok(Some((subnet, bridge::gateway(subnet, pool), pool.and_then(|pool| pool.range))))
}
