//! What a name stands for: the record that `run` reads.

use base::{Digest, Timestamp};
use oci::image::{Descriptor, ImageConfig, Manifest};
use serde::{Deserialize, Serialize};

use crate::manifest::{DocumentError, own_type, total_size};

/// The record format that this code writes.
pub const VERSION: u32 = 1;

/// An image as its name's record has it: all that a container needs to start, parsed and checked when the
/// image came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The record's format; a reader refuses what is newer than itself.
    pub version: u32,
    /// The canonical reference; empty for an image without a name.
    pub reference: String,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest's size.
    pub manifest_size: u64,
    /// The image's id: the digest of its configuration; of an artifact, that of its manifest.
    pub id: Digest,
    /// What the name pointed to in the registry, if that is the index that the manifest was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Digest>,
    /// Every other blob that belongs to it: the images for other platforms, the content of an artifact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Digest>,
    /// What this is, if it is an artifact and no image: it has no layers then, and cannot be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The configuration, without its history (which stays in the blob [`id`](Self::id)).
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// The bytes of manifest, configuration and layers, as stored.
    pub size: u64,
    /// When the image was made, as its configuration says; the epoch if it does not.
    pub created: Timestamp,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of the blob.
    pub digest: Digest,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The media type, which tells the compression.
    pub media_type: String,
    /// The size of the blob.
    pub size: u64,
}

impl Resolved {
    /// From a manifest and the configuration that was checked against it; without a name.
    pub(crate) fn new(
        digest: Digest,
        manifest_size: u64,
        manifest: &Manifest,
        mut config: ImageConfig,
    ) -> Result<Self, DocumentError> {
        config.history = Vec::new();
        let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let layer = |(descriptor, diff_id): (&Descriptor, &Digest)| Layer {
            digest: descriptor.digest,
            diff_id: *diff_id,
            media_type: descriptor.media_type.clone(),
            size: descriptor.size,
        };
        Ok(Self {
            version: VERSION,
            reference: String::new(),
            manifest: digest,
            media_type: own_type(manifest).to_owned(),
            manifest_size,
            id: manifest.config.digest,
            source: None,
            others: Vec::new(),
            artifact: None,
            layers: pairs.map(layer).collect(),
            size: total_size(manifest)?.saturating_add(manifest_size),
            created: created(&config),
            config,
        })
    }

    /// From the manifest of an artifact; without a name.
    pub(crate) fn of_artifact(
        digest: Digest,
        manifest_size: u64,
        manifest: &Manifest,
        kind: &str,
    ) -> Result<Self, DocumentError> {
        let content = std::iter::once(&manifest.config).chain(&manifest.layers);
        let made = manifest.annotations.get("org.opencontainers.image.created").cloned();
        let config = ImageConfig { created: made, ..ImageConfig::default() };
        Ok(Self {
            version: VERSION,
            reference: String::new(),
            manifest: digest,
            media_type: own_type(manifest).to_owned(),
            manifest_size,
            id: digest,
            source: None,
            others: content.map(|descriptor| descriptor.digest).collect(),
            artifact: Some(kind.chars().take(100).collect()),
            layers: Vec::new(),
            size: total_size(manifest)?.saturating_add(manifest_size),
            created: created(&config),
            config,
        })
    }

    /// Every blob that the image needs.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        let own = [self.manifest, self.id].into_iter().chain(self.source);
        own.chain(self.layers.iter().map(|l| l.digest)).chain(self.others.iter().copied())
    }

    /// The diff ids, lowest first.
    pub fn diff_ids(&self) -> impl Iterator<Item = Digest> + '_ {
        self.layers.iter().map(|l| l.diff_id)
    }
}

fn created(config: &ImageConfig) -> Timestamp {
    let parsed = config.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Timestamp(parsed.and_then(|t| i64::try_from(t.as_nanosecond()).ok()).unwrap_or(0))
}
