//! `volume prune`: the volumes that no container has.

use std::collections::BTreeMap;

use state::events::{Event, Kind};
use volume::Error;

use crate::Engine;
use crate::error::Result;
use crate::images::sizes::disk_usage;

/// Which volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePruneOptions {
    /// Those with a name, too.
    pub all: bool,
    /// Labels that it must have, with a value where one is given.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that it must not have.
    pub without_labels: Vec<(String, Option<String>)>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedVolumes {
    /// Names.
    pub removed: Vec<String>,
    /// Bytes that are free now.
    pub reclaimed: u64,
}

impl VolumePruneOptions {
    fn wants(&self, anonymous: bool, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|wanted| wanted == found))
        };
        (self.all || anonymous) && self.labels.iter().all(has) && !self.without_labels.iter().any(has)
    }
}

impl Engine {
    /// Removes the anonymous volumes that no container has, or all that no container has.
    pub fn prune_volumes(&self, options: &VolumePruneOptions) -> Result<PrunedVolumes> {
        let store = self.volume_store();
        let mut pruned = PrunedVolumes::default();
        for volume in self.volumes()? {
            if !volume.users.is_empty() || !options.wants(volume.anonymous, &volume.labels) {
                continue;
            }
            let size = disk_usage(&volume.mountpoint);
            match store.remove(&volume.name) {
                Ok(()) => {
                    pruned.reclaimed += size;
                    pruned.removed.push(volume.name);
                }
                // Somebody took it, or removed it, meanwhile.
                Err(Error::InUse { .. } | Error::NotFound(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let event = Event::new(Kind::Volume, "prune", "");
        self.note(event.with("reclaimed", &pruned.reclaimed.to_string()));
        Ok(pruned)
    }
}
