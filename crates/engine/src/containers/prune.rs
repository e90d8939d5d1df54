//! `container prune`: those that do not run go.

use base::{Id, Kind};

use crate::error::Result;
use crate::{Engine, Selection};

/// What has gone.
#[derive(Debug, Clone, Default)]
pub struct PrunedContainers {
    /// Their ids.
    pub ids: Vec<Id>,
    /// Bytes that their writable layers took.
    pub reclaimed: u64,
}

impl Engine {
    /// Removes the containers that do not run.
    pub fn prune_containers(&self, which: &Selection) -> Result<PrunedContainers> {
        let mut pruned = PrunedContainers::default();
        for container in self.containers(true)? {
            if container.status.is_up() || !which.wants(container.created, &container.labels) {
                continue;
            }
            let size = self.container_size(&container.id);
            match self.remove(container.id.as_str(), false) {
                Ok(()) => {
                    pruned.reclaimed += size;
                    pruned.ids.push(container.id);
                }
                // Started meanwhile, or removed by somebody else: not ours any more.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }
}
