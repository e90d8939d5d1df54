//! `images --tree`: which platforms of an image are here.

use std::collections::BTreeSet;

use base::Digest;
use image::{Document, Resolved, Store, classify, platform};

use crate::error::Result;
use crate::{Engine, ImageSummary};

/// One image, with the platforms of its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlatforms {
    /// Its names in familiar form.
    pub names: Vec<String>,
    /// The digest that the registry knows it by.
    pub digest: Digest,
    /// Bytes of blobs and unpacked layers.
    pub disk_usage: u64,
    /// Bytes of blobs.
    pub content_size: u64,
    /// How many containers were made of it.
    pub containers: u64,
    /// The platforms, as the index lists them.
    pub platforms: Vec<PlatformHere>,
}

/// One platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformHere {
    /// `linux/amd64`, …
    pub platform: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Bytes of blobs and unpacked layers.
    pub disk_usage: u64,
    /// Bytes of its blobs; none: it is not here.
    pub content_size: Option<u64>,
}

impl Engine {
    /// The platforms of these images, each image once.
    pub fn image_platforms(&self, images: &[ImageSummary]) -> Result<Vec<ImagePlatforms>> {
        let store = self.image_store()?;
        let records = store.list()?;
        let uses = self.image_uses()?;
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for image in images.iter().filter(|image| seen.insert((image.id, image.digest))) {
            let Some(record) = records.iter().find(|record| record.id == image.id) else { continue };
            let unpacked: u64 = record.diff_ids().map(|diff_id| self.layer_size(&diff_id)).sum();
            let own = PlatformHere {
                platform: platform::display(&record.config.platform),
                manifest: record.manifest,
                disk_usage: record.size + unpacked,
                content_size: Some(record.size),
            };
            let others = others(&store, record);
            let content_size = record.size + others.iter().filter_map(|p| p.content_size).sum::<u64>();
            found.push(ImagePlatforms {
                names: image.references.clone(),
                digest: image.digest,
                disk_usage: content_size + unpacked,
                content_size,
                containers: uses.get(&image.id).copied().unwrap_or(0),
                platforms: std::iter::once(own).chain(others).collect(),
            });
        }
        Ok(found)
    }
}

/// What else its index offers. One that is not here, or cannot be read, offers nothing.
fn others(store: &Store, record: &Resolved) -> Vec<PlatformHere> {
    let document =
        |digest: &Digest| store.read_blob(digest).ok().and_then(|bytes| classify(&bytes, None).ok());
    let Some(Document::Index(index)) = record.source.as_ref().and_then(document) else { return Vec::new() };
    let others = index.manifests.into_iter().filter(|d| d.digest != record.manifest);
    let known = others.filter_map(|d| d.platform.clone().map(|p| (p, d)));
    // Attestations are for no platform.
    known
        .filter(|(platform, _)| platform.os != "unknown")
        .map(|(platform, descriptor)| {
            let content_size = match document(&descriptor.digest) {
                Some(Document::Manifest(manifest))
                    if manifest.layers.iter().all(|layer| store.open_blob(&layer.digest).is_ok()) =>
                {
                    Some(
                        descriptor.size
                            + manifest.config.size
                            + manifest.layers.iter().map(|l| l.size).sum::<u64>(),
                    )
                }
                _ => None,
            };
            PlatformHere {
                platform: platform::display(&platform),
                manifest: descriptor.digest,
                disk_usage: content_size.unwrap_or(0),
                content_size,
            }
        })
        .collect()
}
