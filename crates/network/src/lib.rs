//! Links, addresses, firewall and published ports of a container.
//!
//! The command that makes a container calls [`prepare`]: it claims an address and makes sure that the bridge
//! and the firewall table stand. The [`Plan`] it gives is written into the monitor's request. The monitor
//! calls [`Plan::reserve_ports`] before the clone and [`Plan::attach`] while the child mounts its root; the
//! child then sends [`Plan::child_messages`] from inside its namespace. When the container has ended,
//! [`Plan::release`] gives everything back, and [`sweep`] removes bridge and table with their last user.

mod error;
pub mod files;
mod plan;

pub use error::{Error, Result};
pub use plan::{Batch, Plan, PortReservations, prepare, sweep, sweep_now};
