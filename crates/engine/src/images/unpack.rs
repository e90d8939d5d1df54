//! Layers whose blobs are in the store are unpacked, several at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::processes::helpers;
use base::progress::{Progress, Step};
use image::{Layer, Resolved, Store};
use rootfs::LayerStore;

use crate::Engine;
use crate::error::{Error, Result};

/// How long what was unpacked is left to the kernel, which writes by itself what is half a minute old.
const QUIET: Duration = Duration::from_mins(2);

impl Engine {
    /// Makes durable what was unpacked some time ago. Best effort: what fails here, a later command tries again.
    pub(crate) fn settle_layers(&self) {
        self.layer_store().settle(QUIET).ok();
    }

    /// Unpacks what an image lacks: the power failed before it was written, or somebody removed it.
    pub(crate) fn unpack_missing(&self, image: &Resolved, progress: &dyn Progress) -> Result<()> {
        let (store, trees) = (self.image_store()?, self.layer_store());
        let ingest = store.ingest()?;
        ingest.protect(&image.blobs().chain(image.diff_ids()).collect::<Vec<_>>())?;
        let mut seen = HashSet::new();
        let missing = image.layers.iter().filter(|l| !trees.has(&l.diff_id) && seen.insert(l.diff_id));
        let missing: Vec<Layer> = missing.cloned().collect();
        unpack_from_store(&store, &trees, &missing, progress)
    }
}

/// Unpacks these layers from their blobs in the store: as many at once as there are processors.
pub(crate) fn unpack_from_store(
    store: &Store,
    layers: &LayerStore,
    wanted: &[Layer],
    progress: &dyn Progress,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while let Some(layer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = unpack(store, layers, layer, progress) {
                // The others stop after what they are at.
                next.store(wanted.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let count = (crate::system::info::processors() as usize).min(wanted.len()).saturating_sub(1);
        helpers(scope, count, work);
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn unpack(store: &Store, layers: &LayerStore, layer: &Layer, progress: &dyn Progress) -> Result<()> {
    let id = layer.digest.short();
    progress.begin(&id, Step::Unpack, Some(layer.size));
    let (blob, _) = store.open_blob(&layer.digest)?;
    layers.unpack(&layer.diff_id, &layer.media_type, blob, &|bytes| progress.advance(&id, bytes))?;
    progress.end(&id, Step::Unpack);
    Ok(())
}
