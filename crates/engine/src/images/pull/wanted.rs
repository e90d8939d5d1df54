//! What a name stands for in its registry: the documents, which are fetched one after another, and the blobs that
//! they name.

use std::collections::HashSet;

use base::Digest;
use base::progress::Step;
use image::{Document, Ingest, Layer, Resolved, artifact_type, choose_platform, classify, platform};
use oci::image::{Descriptor, Index, Manifest};
use registry::BlobRequest;
use rootfs::LayerStore;

use super::{Pull, PullError};
use crate::error::Result;
use crate::images::fetch::Job;

/// How many documents an index may lead to: no image in use has a hundred.
const MAX_DOCUMENTS: usize = 1000;

/// What has to be here before the name can be written.
pub(super) struct Wanted {
    /// The manifest of the image.
    pub(super) manifest: Digest,
    /// The index that it was chosen from.
    pub(super) source: Option<Digest>,
    /// What the index leads to besides.
    pub(super) others: Vec<Digest>,
    /// The image.
    pub(super) image: Resolved,
    /// Blobs of the others, and of an artifact: kept, not unpacked.
    blobs: Vec<Descriptor>,
}

impl Pull<'_> {
    /// Fetches the documents.
    pub(super) fn wanted(&self, ingest: &Ingest, by: &str, before: Option<&Resolved>) -> Result<Wanted> {
        let top = self.client.manifest(&self.location, by)?;
        ingest.write_blob(&top.digest, Some(top.bytes.len() as u64), &top.bytes[..])?;
        let (manifest, source, index) = match classify(&top.bytes, top.media_type.as_deref())? {
            Document::Manifest(_) => (top.digest, None, None),
            Document::Index(index) => {
                let chosen = self.choose(&index)?.clone();
                self.document(ingest, &chosen)?;
                (chosen.digest, Some(top.digest), Some(index))
            }
        };
        let (image, mut blobs) = self.image(ingest, &manifest)?;
        let mut others = Vec::new();
        if let Some(index) = &index {
            // What was here of other platforms under this name stays as long as it belongs to it.
            match before.filter(|before| before.source == source && !before.others.is_empty()) {
                Some(before) if !self.all_platforms && before.manifest == manifest => {
                    others.clone_from(&before.others);
                }
                _ if self.all_platforms => {
                    self.all(ingest, index, &manifest, &mut others, &mut blobs)?;
                }
                _ => {}
            }
        }
        Ok(Wanted { manifest, source, others, image, blobs })
    }

    /// What there is to do for that.
    pub(super) fn jobs(&self, ingest: &Ingest, trees: &LayerStore, wanted: &Wanted) -> Result<Vec<Job>> {
        let image = &wanted.image;
        let digests: Vec<Digest> = image.blobs().chain(image.diff_ids()).collect();
        ingest.protect(&digests)?;
        ingest.protect(&wanted.others)?;
        // The same layer may be in an image twice; it is fetched and unpacked once. (The two digests are one where
        // the blob is a plain archive.)
        let (mut seen, mut seen_trees) = (HashSet::new(), HashSet::new());
        let mut jobs = Vec::new();
        for layer in &image.layers {
            let fetch = seen.insert(layer.digest) && !ingest.has_blob(&layer.digest)?;
            let unpack = seen_trees.insert(layer.diff_id) && !trees.has(&layer.diff_id);
            if fetch || unpack {
                jobs.push(Job { layer: layer.clone(), fetch, unpack });
            } else {
                let id = layer.digest.short();
                self.progress.begin(&id, Step::Exists, Some(layer.size));
                self.progress.end(&id, Step::Exists);
            }
        }
        for blob in &wanted.blobs {
            if seen.insert(blob.digest) && !ingest.has_blob(&blob.digest)? {
                let Descriptor { digest, size, media_type, .. } = blob.clone();
                let layer = Layer { digest, diff_id: digest, media_type, size };
                jobs.push(Job { layer, fetch: true, unpack: false });
            }
        }
        Ok(jobs)
    }

    fn choose<'i>(&self, index: &'i Index) -> Result<&'i Descriptor> {
        choose_platform(index, &self.platform).ok_or_else(|| {
            let offered = index.manifests.iter().filter_map(|d| d.platform.as_ref());
            PullError::NoPlatform {
                wanted: platform::display(&self.platform),
                offered: offered.filter(|p| p.os != "unknown").map(platform::display).collect(),
            }
            .into()
        })
    }

    /// The image of a manifest that is here, with its configuration; of an artifact, the blobs.
    fn image(&self, ingest: &Ingest, manifest: &Digest) -> Result<(Resolved, Vec<Descriptor>)> {
        let Document::Manifest(parsed) = classify(&ingest.store().read_blob(manifest)?, None)? else {
            return Err(PullError::NestedIndex.into());
        };
        if artifact_type(&parsed).is_some() {
            return Ok((ingest.inspect(manifest)?, content(&parsed)));
        }
        let config = BlobRequest { digest: parsed.config.digest, size: parsed.config.size };
        if !ingest.has_blob(&config.digest)? {
            let bytes = self.client.small_blob(&self.location, &config)?;
            ingest.write_blob(&config.digest, Some(config.size), &bytes[..])?;
        }
        Ok((ingest.inspect(manifest)?, Vec::new()))
    }

    /// All that an index leads to, but for the image that was chosen.
    fn all(
        &self,
        ingest: &Ingest,
        index: &Index,
        chosen: &Digest,
        others: &mut Vec<Digest>,
        blobs: &mut Vec<Descriptor>,
    ) -> Result<()> {
        let mut left: Vec<Descriptor> = index.manifests.iter().rev().cloned().collect();
        let mut seen = HashSet::from([*chosen]);
        while let Some(descriptor) = left.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            if seen.len() > MAX_DOCUMENTS {
                return Err(PullError::TooMany(MAX_DOCUMENTS).into());
            }
            others.push(descriptor.digest);
            let bytes = self.document(ingest, &descriptor)?;
            match classify(&bytes, Some(&descriptor.media_type))? {
                Document::Index(inner) => left.extend(inner.manifests.into_iter().rev()),
                Document::Manifest(manifest) => {
                    let content = content(&manifest);
                    others.extend(content.iter().map(|blob| blob.digest));
                    blobs.extend(content);
                }
            }
        }
        Ok(())
    }

    /// A document that a descriptor names, fetched if it is not here.
    fn document(&self, ingest: &Ingest, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let Descriptor { digest, size, .. } = descriptor;
        if ingest.has_blob(digest)? {
            return Ok(ingest.store().read_blob(digest)?);
        }
        let answer = self.client.manifest(&self.location, &digest.to_string())?;
        ingest.write_blob(digest, Some(*size), &answer.bytes[..])?;
        Ok(answer.bytes)
    }
}

/// Configuration and layers.
fn content(manifest: &Manifest) -> Vec<Descriptor> {
    std::iter::once(&manifest.config).chain(&manifest.layers).cloned().collect()
}
