//! `load`: images come from an archive or a directory.

use std::collections::HashSet;
use std::path::PathBuf;

use base::Digest;
use base::progress::Progress;
use image::{Layer, load, platform};

use crate::Engine;
use crate::error::Result;
use crate::unpack::unpack_from_store;

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

impl Engine {
    /// Loads every image of an archive. No name is written before all of them are whole.
    pub fn load(&self, source: &LoadSource, progress: &dyn Progress) -> Result<Vec<Loaded>> {
        let store = self.image_store()?;
        let layers = self.layer_store();
        layers.sweep()?;
        let ingest = store.ingest()?;
        let mut stdin = std::io::stdin().lock();
        let source = match source {
            LoadSource::Path(path) => load::Source::Path(path.clone()),
            LoadSource::Stdin => load::Source::Stream(&mut stdin),
        };
        let found = load::read(&ingest, source, &platform::host())?;
        let mut wanted: Vec<Layer> = Vec::new();
        let mut seen = HashSet::new();
        for image in &found {
            for layer in ingest.inspect(&image.manifest)?.layers {
                ingest.protect(&[layer.diff_id])?;
                if seen.insert(layer.diff_id) && !layers.has(&layer.diff_id) {
                    wanted.push(layer);
                }
            }
        }
        unpack_from_store(&store, &layers, &wanted, progress)?;
        let mut loaded = Vec::new();
        for image in found {
            let record = ingest.commit(image.reference.as_ref(), &image.manifest, image.source.as_ref())?;
            loaded.push(Loaded { reference: image.reference.map(|r| r.to_string()), id: record.id });
        }
        Ok(loaded)
    }
}
