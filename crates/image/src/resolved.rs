//! What a name stands for: the record that `run` reads.

use base::{Digest, Timestamp};
use oci::image::ImageConfig;
use serde::{Deserialize, Serialize};

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
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// What the name pointed to in the registry: the manifest, or the index that it was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Digest>,
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
