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
mod bridge;
mod conntrack;
mod error;
pub mod files;
mod link;
mod netlink;
mod nft;
mod plan;
mod ports;
mod republish;
mod subnet;

use std::time::Duration;

use state::Instance;

pub use error::{Error, HostPort, Result};
pub use netlink::Refusal;
pub use plan::{Batch, Plan, prepare};
pub use ports::PortReservations;
pub use republish::are_free;

/// Bridge and table outlive their last user by this, so that one container after the other finds them.
pub const QUIET: Duration = Duration::from_secs(2);

/// Removes bridge and table if no address is claimed and none was in the last [`QUIET`] seconds (less a
/// little, for who sleeps just so long before). True if nothing of them is left. Never waits: somebody who
/// holds the network is using it.
pub fn sweep(instance: &Instance) -> Result<bool> {
    bridge::Bridge::of(instance).sweep(instance, QUIET.saturating_sub(Duration::from_millis(100)))
}

/// [`sweep`], however short ago the last address was claimed.
pub fn sweep_now(instance: &Instance) -> Result<bool> {
    bridge::Bridge::of(instance).sweep(instance, Duration::ZERO)
}
