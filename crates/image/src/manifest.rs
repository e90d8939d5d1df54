//! Manifests and indexes: which of them some bytes are.

use base::{Failure, Kind};
use oci::image::{Index, Manifest};

/// What the bytes under a name are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images by platform.
    Index(Index),
}

/// Why bytes are neither.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifyError {
    /// Placeholder.
    #[error("not a manifest")]
    NotOne,
}

impl Failure for ClassifyError {
    fn kind(&self) -> Kind {
        Kind::Corrupt
    }
}

/// Tells a manifest from an index, and refuses what could be read as both.
pub fn classify(_bytes: &[u8], _content_type: Option<&str>) -> Result<Document, ClassifyError> {
    todo!()
}
