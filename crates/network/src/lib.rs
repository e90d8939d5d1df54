//! Links, addresses, firewall and published ports of a container.
//!
//! The command that makes a container calls [`prepare`]: it claims an address and makes sure that the bridge
//! and the firewall table stand. The [`Plan`] it gives is written into the monitor's request. The monitor
//! calls [`Plan::reserve_ports`] before the clone and [`Plan::attach`] while the child mounts its root; the
//! child then sends [`Plan::child_messages`] from inside its namespace. When the container has ended,
//! [`Plan::release`] gives everything back, and [`sweep`] removes bridge and table with their last user.
//!
//! Everything goes through netlink, in-process and blocking. Of the host's firewall nothing is touched but
//! the instance's own table.

mod addresses;
mod bridge;
mod conntrack;
mod definition;
mod endpoint;
mod error;
pub mod files;
mod link;
mod netlink;
mod nft;
mod plan;
mod ports;
mod store;
mod subnet;
mod subnet6;

use std::time::Duration;

use state::Instance;

pub use definition::{BRIDGE_DRIVER, BridgeOptions, DEFAULT, Definition, Pool4, Pool6, check_name};
pub use endpoint::{Endpoint, Wish};
pub use error::{Error, HostPort, Result};
pub use netlink::Refusal;
pub use plan::{Batch, Plan, prepare, prepare_on};
pub use ports::PortReservations;
pub use store::{Store, new_id};
pub use subnet::Subnet;
pub use subnet6::Subnet6;

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
