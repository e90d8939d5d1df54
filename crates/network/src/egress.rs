//! Limits of where containers may go, in the kernel: what `dhow-egressd` sets and hears.

mod heard;
mod watch;

use base::Id;
use state::Instance;
use state::egress::link::{Place, Registration};

use crate::error::Attempt;
use crate::nft::egress as table;
use crate::{Result, conntrack};

pub use crate::nft::egress::{Ears, Way, schemes, web_ports};
pub use heard::{Heard, Listener, Packet};
pub use watch::Watch;

/// The table of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    table: String,
}

impl Limits {
    /// By name; nothing is done.
    pub fn of(instance: &Instance) -> Self {
        Self { table: table::table_of(&instance.global_name()) }
    }

    /// Whether the table stands.
    pub fn stand(&self) -> Result<bool> {
        table::exists(&self.table).firewall(|| format!("look for the table `{}`", self.table))
    }

    /// Makes the table, with nobody in it, instead of one that may stand.
    pub fn make(&self) -> Result<()> {
        table::create(&self.table).firewall(|| format!("make the table `{}`", self.table))
    }

    /// Removes the table; fine if there is none.
    pub fn remove(&self) -> Result<()> {
        table::remove(&self.table).firewall(|| format!("remove the table `{}`", self.table))
    }

    /// Keeps a container within its limits from now on. What its names have opened stays open. None of its places may be
    /// another's.
    pub fn admit(&self, registration: &Registration, ears: Ears) -> Result<()> {
        table::admit(&self.table, registration, ears)
            .firewall(|| format!("limit the ways of container {}", registration.container.short()))
    }

    /// What goes out from addresses is nobody's by now: who has them next must not go on with connections of who had them.
    pub fn forget_flows(&self, places: &[Place]) -> Result<()> {
        let addresses: Vec<_> = places.iter().flat_map(|place| place.addresses.iter().copied()).collect();
        conntrack::forget_from(&addresses).firewall(|| "forget the flows of an address".to_owned())
    }

    /// Forgets a container; `places` are those that are not another's by now.
    pub fn dismiss(&self, registration: &Registration, places: &[&Place]) -> Result<()> {
        table::dismiss(&self.table, registration, places)
            .firewall(|| format!("forget the limits of container {}", registration.container.short()))
    }

    /// Opens ways to a container for so many seconds from now.
    pub fn open(&self, container: &Id, ways: &[Way], seconds: u32) -> Result<()> {
        table::open(&self.table, container, ways, seconds)
            .firewall(|| format!("open addresses for container {}", container.short()))
    }
}
