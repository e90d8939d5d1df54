//! `system prune`: all that nobody uses, in the order in which one thing sets another free.

use base::Timestamp;

use crate::error::Result;
use crate::{
    BuildPruneOptions, Engine, PruneOptions, Pruned, PrunedBuildCache, PrunedContainers, PrunedVolumes,
    Selection, VolumePruneOptions,
};

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemPruneOptions {
    /// Every image that no container was made of, not only those without a name.
    pub all: bool,
    /// Anonymous volumes, too.
    pub volumes: bool,
    /// Which of them.
    pub which: Selection,
}

/// What has gone.
#[derive(Debug, Clone, Default)]
pub struct PrunedSystem {
    /// Containers.
    pub containers: PrunedContainers,
    /// Networks' names.
    pub networks: Vec<String>,
    /// Volumes.
    pub volumes: PrunedVolumes,
    /// Images.
    pub images: Pruned,
    /// The build cache.
    pub build_cache: PrunedBuildCache,
    /// Bytes of logs that waited to be sent, of containers that are gone.
    pub spools: u64,
}

impl PrunedSystem {
    /// Bytes that are free now.
    pub fn reclaimed(&self) -> u64 {
        self.containers.reclaimed
            + self.volumes.reclaimed
            + self.images.reclaimed
            + self.build_cache.bytes
            + self.spools
    }
}

impl Engine {
    /// Removes containers that do not run, then what only they used.
    pub fn prune_system(&self, options: &SystemPruneOptions) -> Result<PrunedSystem> {
        let SystemPruneOptions { all, volumes, which } = options;
        let containers = self.prune_containers(which)?;
        let networks = self.prune_networks(which)?;
        let volumes = if *volumes {
            self.prune_volumes(&VolumePruneOptions { all: false, which: which.clone() })?
        } else {
            PrunedVolumes::default()
        };
        let images = self.prune_images(&PruneOptions { all: *all, which: which.clone() })?;
        // What has no labels is none of those with a label.
        let build_cache = if which.labels.is_empty() {
            let unused_for = which.until.map(|until| Timestamp::now().since(until));
            self.prune_build_cache(&BuildPruneOptions { unused_for, ..BuildPruneOptions::default() })?
        } else {
            PrunedBuildCache::default()
        };
        let spools = self.prune_spools()?;
        Ok(PrunedSystem { containers, networks, volumes, images, build_cache, spools })
    }
}
