//! The image that comes of a build: its layers' blobs, its configuration, its manifest.
//!
//! Layers of the base have their blobs. Those of this build get them now, and only those of the image: what served on the way is
//! never packed. What was packed once is remembered, and does not have to be again as long as its blob is there.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ::build::graph::Plan;
use base::fs::At;
use base::processes::helpers;
use base::{Digest, Timestamp};
use image::write::{NewBlob, of_layers};
use image::{Ingest, Layer, Resolved};
use oci::image::{ImageConfig, media_type};
use rootfs::{Compression, LayerStore, pack};
use rustix::fs::{CWD, Mode, OFlags};

use super::cache::{Blob, Cache};
use super::error::Error as BuildError;
use super::solve::Outcome;
use crate::containers::inspect::rfc3339;
use crate::error::{Error, Result};

/// Annotations that say what an image was built upon.
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// What images are made of.
pub(super) struct Parts<'p> {
    pub(super) ingest: &'p Ingest,
    pub(super) cache: &'p Cache,
    pub(super) layers: &'p LayerStore,
    pub(super) images: &'p BTreeMap<String, Resolved>,
    pub(super) epoch: Option<Timestamp>,
}

impl Parts<'_> {
    /// Writes the image into the store. It has no name yet.
    pub(super) fn image(
        &self,
        plan: &Plan,
        outcome: &Outcome,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Resolved> {
        let stack = outcome.layers(plan.output);
        let layers = self.blobs(&stack)?;
        let config = self.config(plan, outcome);
        let mut annotations = annotations.clone();
        if let Some(base) = &plan.base {
            let name = base.reference.parse::<image::Reference>().map(|name| name.canonical());
            let name = name.unwrap_or_else(|_| base.reference.clone());
            annotations.entry(BASE_NAME.to_owned()).or_insert(name);
            annotations.entry(BASE_DIGEST.to_owned()).or_insert_with(|| base.digest.clone());
        }
        Ok(of_layers(self.ingest, &layers, config, annotations)?)
    }

    /// The blobs of layers, lowest first; those that are missing are made, several at once.
    fn blobs(&self, stack: &[Digest]) -> Result<Vec<Layer>> {
        let mut known: BTreeMap<Digest, Layer> = BTreeMap::new();
        for layer in self.images.values().flat_map(|image| &image.layers) {
            known.entry(layer.diff_id).or_insert_with(|| layer.clone());
        }
        let mut missing: Vec<Digest> = Vec::new();
        for diff_id in stack {
            if known.contains_key(diff_id) || missing.contains(diff_id) {
                continue;
            }
            match self.cache.blob(diff_id) {
                Some(blob) if self.ingest.has_blob(&blob.digest)? => {
                    known.insert(*diff_id, layer(*diff_id, &blob));
                }
                _ => missing.push(*diff_id),
            }
        }
        let made: Mutex<Vec<Result<Layer>>> = Mutex::default();
        let next = AtomicUsize::new(0);
        let processors = crate::system::info::processors() as usize;
        let threads = processors.div_ceil(missing.len().max(1));
        let work = || {
            while let Some(diff_id) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.pack(diff_id, threads);
                if result.is_err() {
                    next.store(missing.len(), Ordering::Relaxed);
                }
                made.lock().unwrap_or_else(PoisonError::into_inner).push(result);
            }
        };
        if !missing.is_empty() {
            std::thread::scope(|scope| {
                // More than there are processors: each waits for the disk at its end.
                helpers(scope, (processors * 4).min(missing.len()) - 1, work);
                work();
            });
        }
        for layer in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let layer = layer?;
            known.insert(layer.diff_id, layer);
        }
        let gone = |diff_id: &Digest| Error::from(rootfs::Error::Missing(*diff_id));
        stack.iter().map(|diff_id| known.get(diff_id).cloned().ok_or_else(|| gone(diff_id))).collect()
    }

    fn pack(&self, diff_id: &Digest, threads: usize) -> Result<Layer> {
        let path = self.layers.path(diff_id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root: OwnedFd = rustix::fs::openat(CWD, &path, flags, Mode::empty()).at("open", &path)?;
        let mut blob = NewBlob::new(self.ingest)?;
        use std::os::fd::AsFd;
        let packed = pack::pack(root.as_fd(), pack::Source::Layer, Compression::Gzip, threads, &mut blob)?;
        if packed.diff_id != *diff_id {
            return Err(BuildError::Changed(diff_id.short()).into());
        }
        blob.keep(&packed.digest)?;
        let blob = Blob { digest: packed.digest, size: packed.size };
        self.cache.put_blob(diff_id, &blob)?;
        Ok(layer(*diff_id, &blob))
    }

    /// The configuration, with the times at which its layers were made.
    fn config(&self, plan: &Plan, outcome: &Outcome) -> ImageConfig {
        let mut config = plan.config.clone();
        let count = config.history.len();
        let old = config.history.iter().rposition(|entry| entry.created.is_some()).map_or(0, |last| last + 1);
        let mut layers = plan.layers.iter();
        let mut time =
            config.history[..old].last().and_then(|entry| entry.created.clone()).or(config.created.clone());
        let mut new = false;
        for entry in &mut config.history[old..count] {
            if !entry.empty_layer
                && let Some(done) = layers.next().and_then(|id| outcome.done.get(id))
            {
                time = Some(rfc3339(done.record.created));
                new = true;
            }
            if let Some(epoch) = self.epoch {
                time = Some(rfc3339(epoch));
                new = true;
            }
            entry.created.clone_from(&time);
        }
        if new || config.created.is_none() {
            config.created = time.or_else(|| Some(rfc3339(self.epoch.unwrap_or(Timestamp(0)))));
        }
        config
    }
}

fn layer(diff_id: Digest, blob: &Blob) -> Layer {
    Layer { digest: blob.digest, diff_id, media_type: media_type::LAYER_GZIP.to_owned(), size: blob.size }
}
