//! Networks: the verbs that make, show, remove, connect and disconnect them.

pub(crate) mod bandwidth;
pub(crate) mod capture;
pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod exposed;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod names;
pub(crate) mod prune;
pub(crate) mod remove;
pub(crate) mod why;

use base::Id;
use network::Definition;
use state::events::{Event, Kind};
use state::options::{ContainerOptions, EndpointOptions, NetworkMode};

use crate::Engine;

impl Engine {
    /// The networks of the instance. Touches nothing.
    pub(crate) fn network_store(&self) -> network::Store {
        network::Store::open(&self.instance)
    }

    /// Writes into the journal.
    pub(crate) fn note_network(&self, action: &str, network: &Definition, container: Option<&Id>) {
        let event = Event::new(Kind::Network, action, network.id.as_str());
        let event = event.with("name", &network.name).with("type", &network.driver);
        self.note(match container {
            Some(id) => event.with("container", id.as_str()),
            None => event,
        });
    }
}

/// The names of the networks that a container is on, as Docker counts: `host` and `none` are some.
pub(crate) fn names(options: &ContainerOptions) -> Vec<&str> {
    match &options.network {
        NetworkMode::Bridge => vec![network::DEFAULT],
        NetworkMode::Host => vec!["host"],
        NetworkMode::None => vec!["none"],
        NetworkMode::Networks => options.endpoints.iter().map(|e| e.network.as_str()).collect(),
        NetworkMode::Container(_) => Vec::new(),
    }
}

/// The networks that a container is on, with what it wants there.
pub(crate) fn endpoints(options: &ContainerOptions) -> Vec<EndpointOptions> {
    match options.network {
        NetworkMode::Bridge => vec![EndpointOptions::on(network::DEFAULT)],
        NetworkMode::Networks => options.endpoints.clone(),
        _ => Vec::new(),
    }
}

/// Whether a container is on networks, which publish its ports.
pub(crate) fn has_own(options: &ContainerOptions) -> bool {
    matches!(options.network, NetworkMode::Bridge | NetworkMode::Networks)
}

/// What `HostConfig.NetworkMode` says.
pub(crate) fn mode(options: &ContainerOptions) -> String {
    match &options.network {
        NetworkMode::Container(name) => format!("container:{name}"),
        // On none at all: all of them were taken away.
        _ => names(options).first().map_or("none", |name| name).to_owned(),
    }
}
