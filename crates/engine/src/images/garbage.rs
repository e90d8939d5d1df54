//! Removing what nothing needs: blobs, unpacked layers, what was made of these. Every verb that takes a name away
//! ends here.

use base::Digest;
use state::container::Record;
use state::lock::Lock;

use crate::Engine;
use crate::build::cache::Cache;
use crate::containers::records;
use crate::error::Result;
use crate::images::sizes;

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Blobs that were removed.
    pub blobs: Vec<Digest>,
    /// Unpacked layers that were removed.
    pub layers: Vec<Digest>,
    /// Bytes that both took.
    pub bytes: u64,
}

/// New containers are kept out while this is held, so that what no container uses stays so: a container is made
/// under the same lock, shared.
pub(crate) struct NoNewContainers {
    /// The records of all that there are.
    pub(crate) containers: Vec<Record>,
    _lock: Lock,
}

impl NoNewContainers {
    /// Whether a container was made of this image.
    pub(crate) fn use_image(&self, id: &Digest) -> bool {
        self.containers.iter().any(|container| container.images().any(|used| used == id))
    }
}

impl Engine {
    /// Waits for those that are being made, and keeps others from being made.
    pub(crate) fn keep_containers_out(&self) -> Result<NoNewContainers> {
        let lock = Lock::exclusive(&self.instance.containers())?;
        Ok(NoNewContainers { containers: self.all_records()?, _lock: lock })
    }

    /// Removes all that no name, no running pull or load and no container needs.
    pub(crate) fn collect_garbage(&self, guard: &NoNewContainers) -> Result<Collected> {
        let store = self.image_store()?;
        let mut in_use: Vec<Digest> = guard.containers.iter().flat_map(|c| c.layers().copied()).collect();
        let cache = Cache::of(&self.instance);
        // While somebody builds, no layer goes: what a step has made has no name before its record is written.
        let no_builds = cache.try_own()?;
        in_use.extend(cache.layers()?);
        let layers = self.layer_store();
        let candidates = if no_builds.is_some() { layers.list()? } else { Vec::new() };
        // Held until the layers are gone: nobody can begin to rely on one meanwhile.
        let garbage = store.collect_garbage(&candidates, &in_use)?;
        let mut collected =
            Collected { blobs: garbage.blobs.clone(), layers: Vec::new(), bytes: garbage.bytes };
        for layer in &garbage.layers {
            collected.bytes += self.layer_size(layer);
            layers.remove(layer)?;
            sizes::forget(&self.instance, layer);
            collected.layers.push(*layer);
        }
        let mut stacks: Vec<Vec<Digest>> =
            store.list()?.iter().map(|image| image.diff_ids().collect()).collect();
        stacks.extend(guard.containers.iter().flat_map(|container| container.stacks().map(<[_]>::to_vec)));
        if no_builds.is_some() {
            layers.sweep_derived(stacks.iter().map(Vec::as_slice))?;
        }
        self.sweep_registry()?;
        Ok(collected)
    }

    /// The records of all containers. One that cannot be read is an error: what it uses is not known.
    fn all_records(&self) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        for id in records::all(&self.instance)? {
            found.extend(records::record(&self.instance, &id)?);
        }
        Ok(found)
    }
}
