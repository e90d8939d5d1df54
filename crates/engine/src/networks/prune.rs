//! `network prune`: the networks that no running container is on.

use base::Kind;

use crate::error::Result;
use crate::{Engine, Selection};

impl Engine {
    /// Removes the networks that no running container is on. Returns their names.
    pub fn prune_networks(&self, which: &Selection) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks()? {
            if network.predefined || network.users > 0 || !which.wants(network.created, &network.labels) {
                continue;
            }
            match self.remove_network(&network.name) {
                Ok(name) => removed.push(name),
                // Somebody came, or removed it, meanwhile.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}
