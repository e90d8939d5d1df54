//! `load`: images come from an archive or a directory.
//!
//! An archive in a file is looked through first; then each layer is read once, and on its way into the store
//! decompressed and unpacked, as many at once as there are processors. What comes through a pipe is in the store when
//! its end has come, and is unpacked from there.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use base::Digest;
use base::processes::helpers;
use base::progress::{Progress, Step};
use image::load::{self, Images, Pending};
use image::{Ingest, Layer};
use rootfs::LayerStore;

use crate::Engine;
use crate::error::{Error, Result};
use crate::images::pull::platform_of;

/// Where images are loaded from.
#[derive(Debug, Clone)]
pub enum LoadSource {
    /// A `docker save` archive, an OCI archive, or an OCI layout directory.
    Path(PathBuf),
    /// An archive on standard input.
    Stdin,
}

/// One loaded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its name in familiar form, if the archive gave it one.
    pub reference: Option<String>,
    /// Its id.
    pub id: Digest,
}

/// What there is to do for one layer.
struct Job<'j> {
    /// It is still in the archive.
    pending: Option<&'j Pending>,
    /// It is to be unpacked.
    layer: Option<Layer>,
}

/// So many more layers than there are processors are at work: some wait for the disk to have what they wrote.
const WAITING: usize = 2;

impl Engine {
    /// Loads every image of an archive; of several platforms that one (none: this machine's), and of others only those
    /// for it (`os/arch[/variant]`; none: all). No name is written before all of them are whole.
    pub fn load(
        &self,
        source: &LoadSource,
        platform: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>> {
        let wanted = platform.map(|text| platform_of(Some(text))).transpose()?;
        let store = self.image_store()?;
        let layers = self.layer_store();
        layers.sweep()?;
        self.settle_layers();
        let ingest = store.ingest()?;
        let mut stdin = std::io::stdin().lock();
        let source = match source {
            LoadSource::Path(path) => load::Source::Path(path.clone()),
            LoadSource::Stdin => load::Source::Stream(&mut stdin),
        };
        let images = load::open(&ingest, source, wanted.as_ref())?;
        let jobs = jobs(&images, &ingest, &layers)?;
        work_off(&images, &ingest, &layers, &jobs, progress)?;
        let mut loaded = Vec::new();
        for image in images.found {
            layers.prepare(&ingest.inspect(&image.manifest)?.diff_ids().collect::<Vec<_>>())?;
            let record = ingest.commit(image.reference.as_ref(), &image.manifest, image.source.as_ref())?;
            let id = record.id.to_string();
            self.note_image("load", &id, &image.reference.as_ref().map_or(id.clone(), ToString::to_string));
            loaded.push(Loaded { reference: image.reference.map(|r| r.to_string()), id: record.id });
        }
        drop(ingest);
        self.keep_to_budget(&loaded.iter().map(|image| image.id).collect::<Vec<_>>(), progress);
        Ok(loaded)
    }
}

/// What is to be done, the largest first: it takes longest.
fn jobs<'i>(images: &'i Images, ingest: &Ingest, layers: &LayerStore) -> Result<Vec<Job<'i>>> {
    let mut pending: HashMap<Digest, &Pending> = images.pending.iter().map(|p| (p.digest, p)).collect();
    let mut jobs = Vec::new();
    let mut seen = HashSet::new();
    for image in &images.found {
        for layer in ingest.inspect(&image.manifest)?.layers {
            ingest.protect(&[layer.diff_id])?;
            if seen.insert(layer.diff_id) && !layers.has(&layer.diff_id) {
                jobs.push(Job { pending: pending.remove(&layer.digest), layer: Some(layer) });
            }
        }
    }
    // Blobs of layers that are unpacked already.
    jobs.extend(pending.into_values().map(|pending| Job { pending: Some(pending), layer: None }));
    jobs.sort_by_key(|job| {
        std::cmp::Reverse(
            job.layer.as_ref().map_or(0, |layer| layer.size).max(job.pending.map_or(0, Pending::size)),
        )
    });
    Ok(jobs)
}

fn work_off(
    images: &Images,
    ingest: &Ingest,
    layers: &LayerStore,
    jobs: &[Job<'_>],
    progress: &dyn Progress,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = one(images, ingest, layers, job, progress) {
                // The others stop after what they are at.
                next.store(jobs.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers = crate::system::info::processors() as usize + WAITING;
        helpers(scope, workers.min(jobs.len()).saturating_sub(1), work);
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn one(
    images: &Images,
    ingest: &Ingest,
    layers: &LayerStore,
    job: &Job<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    let Some(layer) = &job.layer else {
        if let Some(pending) = job.pending {
            images.receive(ingest, pending, |_| ())?;
        }
        return Ok(());
    };
    let id = layer.digest.short();
    progress.begin(&id, Step::Unpack, Some(layer.size));
    let advance = |bytes| progress.advance(&id, bytes);
    if let Some(pending) = job.pending {
        images.receive(ingest, pending, |blob| {
            layers.unpack(&layer.diff_id, &layer.media_type, blob, &advance)
        })??;
    } else {
        let (blob, _) = ingest.store().open_blob(&layer.digest)?;
        layers.unpack(&layer.diff_id, &layer.media_type, blob, &advance)?;
    }
    progress.end(&id, Step::Unpack);
    Ok(())
}
