//! `volume prune`: the volumes that no container has.

use state::events::{Event, Kind};
use volume::Error;

use crate::error::Result;
use crate::images::sizes::disk_usage;
use crate::{Engine, Selection};

/// Which volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePruneOptions {
    /// Those with a name, too.
    pub all: bool,
    /// Which of them.
    pub which: Selection,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedVolumes {
    /// Names.
    pub removed: Vec<String>,
    /// Bytes that are free now.
    pub reclaimed: u64,
}

impl Engine {
    /// Removes the anonymous volumes that no container has, or all that no container has.
    pub fn prune_volumes(&self, options: &VolumePruneOptions) -> Result<PrunedVolumes> {
        let store = self.volume_store();
        let mut pruned = PrunedVolumes::default();
        for volume in self.volumes()? {
            if !volume.users.is_empty()
                || !(options.all || volume.anonymous)
                || !options.which.wants(volume.created, &volume.labels)
            {
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
