//! Layers whose blobs are in the store are unpacked, several at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use base::progress::{Progress, Step};
use image::{Layer, Store};
use rootfs::LayerStore;

use crate::error::{Error, Result};

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
        let helpers = (crate::info::processors() as usize).min(wanted.len()).saturating_sub(1);
        for _ in 0..helpers {
            scope.spawn(work);
        }
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
