//! `container prune`: those that do not run go.

use std::collections::BTreeMap;

use base::{Id, Kind, Timestamp};

use crate::Engine;
use crate::error::Result;

/// Which containers go.
#[derive(Debug, Clone, Default)]
pub struct PruneContainers {
    /// Only those created before then.
    pub until: Option<Timestamp>,
    /// Only those with all of these labels (key, value).
    pub labels: Vec<(String, Option<String>)>,
    /// Only those with none of these.
    pub without_labels: Vec<(String, Option<String>)>,
}

/// What has gone.
#[derive(Debug, Clone, Default)]
pub struct PrunedContainers {
    /// Their ids.
    pub ids: Vec<Id>,
    /// Bytes that their writable layers took.
    pub reclaimed: u64,
}

impl PruneContainers {
    fn wants(&self, created: Timestamp, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|v| value.as_ref().is_none_or(|wanted| wanted == v))
        };
        self.until.is_none_or(|until| created < until)
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

impl Engine {
    /// Removes the containers that do not run.
    pub fn prune_containers(&self, which: &PruneContainers) -> Result<PrunedContainers> {
        let mut pruned = PrunedContainers::default();
        for container in self.containers(true)? {
            if container.status.is_up() || !which.wants(container.created, &container.labels) {
                continue;
            }
            let size = self.writable_size(&container.id);
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
