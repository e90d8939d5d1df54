//! `image prune`: images that nobody uses go.

use std::time::Duration;

use crate::error::Result;
use crate::images::list::familiar;
use crate::{Engine, Removed, Selection};

/// Which images go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Every image that no container was made of, not only those without a name.
    pub all: bool,
    /// Which of them.
    pub which: Selection,
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names, images and layers.
    pub removed: Vec<Removed>,
    /// Bytes that are free now.
    pub reclaimed: u64,
}

impl Engine {
    /// Removes the images that nobody uses, and all that nothing needs. What is pinned stays.
    pub fn prune_images(&self, options: &PruneOptions) -> Result<Pruned> {
        self.reconcile()?;
        let store = self.image_store()?;
        let guard = self.keep_containers_out()?;
        let pins = store.pins()?;
        let records = store.list()?;
        let mut removed = Vec::new();
        for record in &records {
            let nameless = record.reference.is_empty();
            let labels = record.config.config.as_ref().map(|c| c.labels.clone()).unwrap_or_default();
            let pinned = records
                .iter()
                .filter(|r| r.id == record.id)
                .any(|r| pins.contains(&r.reference) || pins.contains(&r.id.to_string()));
            if (nameless || options.all)
                && !guard.use_image(&record.id)
                && !pinned
                && options.which.wants(record.created, &labels)
                && store.untag(record)?
            {
                removed.extend(familiar(record).map(Removed::Untagged));
                self.note_image("delete", &record.id.to_string(), &record.id.to_string());
                let image = Removed::Deleted(record.id);
                if !removed.contains(&image) {
                    removed.push(image);
                }
            }
        }
        let before = store.partial_size()?;
        if options.all {
            // Nobody will go on with what was fetched of images that are not here.
            store.sweep_partial(Duration::ZERO)?;
        }
        let swept = before.saturating_sub(store.partial_size()?);
        let collected = self.collect_garbage(&guard)?;
        removed.extend(collected.layers.into_iter().map(Removed::Deleted));
        Ok(Pruned { removed, reclaimed: collected.bytes + swept })
    }
}
