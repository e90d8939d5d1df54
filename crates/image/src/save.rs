//! Images leave the store: as `docker save` writes them, as an OCI archive, or as the directory of an OCI layout.
//!
//! ```text
//!              index.json  manifest.json  oci-layout  blobs/sha256/<hex> …
//! docker       yes         yes            yes         manifests, configurations, then layers
//! OCI          yes                        yes         the same
//! ```
//!
//! Blobs go as they are stored: what is compressed stays so, for Docker too (its `load` unpacks gzip since 1.10). Only
//! zstd, which Docker before version 23 cannot read, is unpacked for it, and the manifest made anew to fit. The same
//! images give the same bytes.

mod archive;
mod layout;
mod plan;

use std::fs::File;
use std::path::{Path, PathBuf};

use base::{Digest, Failure, Kind};

use self::plan::Plan;
use crate::{Ingest, Reference, Resolved, Store, store};

/// The shape of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Docker's archive, which is an OCI layout as well (as Docker's own is since version 25).
    Docker,
    /// The OCI image layout alone.
    Oci,
}

/// Where it goes.
#[derive(Debug, Clone, Copy)]
pub enum Target<'t> {
    /// A tar archive, into a file or pipe.
    Archive(&'t File),
    /// A directory, which is made; or is there, and empty.
    Directory(&'t Path),
}

/// An image, and the names that it shall have there; maybe none.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The image.
    pub image: Resolved,
    /// Its names.
    pub names: Vec<Reference>,
}

/// The result of saving.
pub type Result<T> = std::result::Result<T, Error>;

/// Why images could not be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store, or what is in it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] std::io::Error),
    /// A blob that shrank or grew.
    #[error("the stored blob {digest} is damaged: it has {found} bytes, not {wanted}")]
    Size {
        /// Which.
        digest: Digest,
        /// How many it should have.
        wanted: u64,
        /// How many it has.
        found: u64,
    },
    /// A layer that cannot be unpacked.
    #[error("the stored layer {digest} cannot be decompressed")]
    Decompress {
        /// Its blob.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A directory with something in it.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(e) => e.kind(),
            Self::File(e) => e.kind(),
            Self::Write(e) => base::failure::kind_of_io(e),
            Self::Size { .. } | Self::Decompress { .. } => Kind::Corrupt,
            Self::NotEmpty(_) => Kind::Conflict,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Store(e) => e.hints(),
            Self::File(e) => e.hints(),
            Self::Size { .. } | Self::Decompress { .. } => {
                vec!["remove the image and pull or load it again".to_owned()]
            }
            Self::NotEmpty(_) => vec!["name a directory that does not exist yet".to_owned()],
            Self::Write(_) => Vec::new(),
        }
    }
}

/// Writes images. `advance` is told of every byte. Nothing of them is collected meanwhile.
pub fn write(
    store: &Store,
    images: &[Wanted],
    format: Format,
    target: Target<'_>,
    advance: &dyn Fn(u64),
) -> Result<()> {
    let ingest: Ingest = store.ingest()?;
    let plan = Plan::new(&ingest, images, format)?;
    match target {
        Target::Archive(file) => archive::write(store, &plan, file, advance),
        Target::Directory(path) => layout::write(store, &plan, path, advance),
    }
}
