//! Which network it is on, and what of it can be reached.

use clap::Args;
use state::options::ContainerOptions;

use crate::flags::network::Network;
use crate::flags::port::Publish;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Connect it to a network: bridge, host or none
    #[arg(long, visible_alias = "net", value_name = "NETWORK", help_heading = "Network")]
    network: Option<Network>,
    /// Publish a port
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]", help_heading = "Network")]
    publish: Vec<Publish>,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) {
        options.network = self.network.map(|Network(mode)| mode).unwrap_or_default();
        options.ports = self.publish.into_iter().flat_map(|Publish(ports)| ports).collect();
    }
}
