//! `images`: what is in the store.

use base::{Digest, Timestamp};

use crate::Engine;
use crate::error::{Result, unbuilt};

/// A line of `images`: one name of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// The repository in familiar form; none where the image has no name.
    pub repository: Option<String>,
    /// The tag; none where the name has a digest instead, or there is none.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// When it was made, as it says itself.
    pub created: Option<Timestamp>,
    /// Bytes of its layers, unpacked or as stored.
    pub size: u64,
    /// Every name of this image in familiar form.
    pub references: Vec<String>,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl Engine {
    /// All images, newest first, a line per name.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        Err(unbuilt("images"))
    }
}
