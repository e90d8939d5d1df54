//! The images that a Dockerfile begins with.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::build::graph::{Bases, Image};
use image::{Ingest, Resolved};
use oci::image::{ImageConfig, Platform};

use super::progress::{BuildEvent, BuildProgress};
use crate::error::Result;
use crate::{Engine, PullPolicy};

/// A reference, and a platform.
type Asked = (String, String);

/// An image, as the plan and as the store know it.
type Base = (Image, ImageConfig, Resolved);

/// Finds images here, or pulls them. What was found is kept for the build.
pub(super) struct Images<'b> {
    engine: &'b Engine,
    ingest: &'b Ingest,
    pull: PullPolicy,
    progress: &'b dyn BuildProgress,
    found: RefCell<BTreeMap<Asked, Base>>,
    /// How long those took that were not here, by the digest of their manifest.
    pulled: RefCell<BTreeMap<String, Duration>>,
    /// The number of the last vertex that was told of.
    vertices: &'b std::cell::Cell<usize>,
}

impl<'b> Images<'b> {
    pub(super) fn new(
        engine: &'b Engine,
        ingest: &'b Ingest,
        pull: PullPolicy,
        progress: &'b dyn BuildProgress,
        vertices: &'b std::cell::Cell<usize>,
    ) -> Self {
        Self {
            engine,
            ingest,
            pull,
            progress,
            found: RefCell::default(),
            pulled: RefCell::default(),
            vertices,
        }
    }

    /// All that were found, by the digest of their manifest.
    pub(super) fn found(&self) -> BTreeMap<String, Resolved> {
        let found = self.found.borrow();
        found.values().map(|(image, _, resolved)| (image.digest.clone(), resolved.clone())).collect()
    }

    /// How long those took that were pulled, by the digest of their manifest.
    pub(super) fn pulled(&self) -> BTreeMap<String, Duration> {
        self.pulled.borrow().clone()
    }

    fn fetch(&self, reference: &str, platform: &Platform) -> Result<Base> {
        let wanted = image::platform::display(platform);
        let began = Instant::now();
        let pulling = super::pulling::Pulling::new(self.progress, self.vertices.get());
        let resolved = self.engine.image_for(reference, Some(&wanted), self.pull, &pulling)?;
        crate::containers::create::refuse_artifact(&resolved, reference)?;
        let store = self.engine.image_store()?;
        store.note_use(&resolved);
        self.ingest.protect(&resolved.blobs().collect::<Vec<_>>())?;
        let config: ImageConfig = serde_json::from_slice(&store.read_blob(&resolved.id)?).map_err(|e| {
            let source = image::DocumentError::Json(e);
            image::store::Error::Document { what: "configuration", digest: resolved.id, source }
        })?;
        if pulling.pulled() {
            self.pulled.borrow_mut().insert(resolved.manifest.to_string(), began.elapsed());
        }
        let platform = config.platform.clone();
        let image =
            Image { reference: reference.to_owned(), digest: resolved.manifest.to_string(), platform };
        Ok((image, config, resolved))
    }
}

impl Bases for Images<'_> {
    fn find(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> std::result::Result<(Image, ImageConfig), String> {
        let key = (reference.to_owned(), image::platform::display(platform));
        if let Some((image, config, _)) = self.found.borrow().get(&key) {
            return Ok((image.clone(), config.clone()));
        }
        self.vertices.set(self.vertices.get() + 1);
        let (vertex, began) = (self.vertices.get(), Instant::now());
        let title = format!("[internal] load metadata for {reference}");
        self.progress.event(vertex, BuildEvent::Began { title: &title });
        match self.fetch(reference, platform) {
            Ok(found) => {
                self.progress.event(vertex, BuildEvent::Done { took: began.elapsed() });
                let result = (found.0.clone(), found.1.clone());
                self.found.borrow_mut().insert(key, found);
                Ok(result)
            }
            Err(error) => {
                let error = error.to_string();
                self.progress.event(vertex, BuildEvent::Failed { error: &error, took: began.elapsed() });
                Err(error)
            }
        }
    }
}
