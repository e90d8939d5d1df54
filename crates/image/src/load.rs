//! Archives and layouts: `docker save`, OCI archives, OCI layout directories.

use std::io::Read;
use std::path::PathBuf;

use base::Digest;
use base::progress::Progress;
use oci::image::Platform;

use crate::{Ingest, Reference, store::Result};

/// Where the images come from.
pub enum Source<'s> {
    /// A file, or the directory of an OCI layout.
    Path(PathBuf),
    /// A stream that cannot seek.
    Stream(&'s mut dyn Read),
}

/// An image that is in the store now, but has no name yet: unpack its layers, then [`Ingest::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name that the archive gives it.
    pub reference: Option<Reference>,
    /// Its manifest.
    pub manifest: Digest,
    /// The index that the manifest was chosen from.
    pub source: Option<Digest>,
}

/// Reads a whole archive or layout into the store. Nothing has a name before [`Ingest::commit`], so that a
/// broken archive leaves nothing.
pub fn read(_ingest: &Ingest, _source: Source<'_>, _platform: &Platform, _progress: &dyn Progress) -> Result<Vec<Found>> {
    todo!()
}
