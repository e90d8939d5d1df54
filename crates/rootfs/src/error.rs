//! What can go wrong with layers.

use std::path::PathBuf;

use base::{Digest, Failure, Kind, fs};

use crate::unpack::UnpackError;

/// The result of a layer operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store's own files.
    #[error(transparent)]
    Files(#[from] fs::Error),
    /// A layer that an image needs is not unpacked.
    #[error("the layer {} is not in the store", .0.short())]
    Missing(Digest),
    /// A layer that cannot be walked.
    #[error(transparent)]
    Pack(#[from] crate::pack::Error),
    /// More layers than can be merged until the kernel stacks them.
    #[error("the image has {layers} layers, and at most {most} can be stacked")]
    TooDeep {
        /// How many the image has.
        layers: usize,
        /// How many can be stacked.
        most: usize,
    },
    /// A blob did not become a layer.
    #[error("cannot unpack the layer {}", layer.short())]
    Unpack {
        /// Its diff id.
        layer: Digest,
        /// Where it was to be.
        place: PathBuf,
        /// Why.
        source: Box<UnpackError>,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Files(e) => e.kind(),
            Self::Pack(e) => e.kind(),
            Self::Missing(_) => Kind::NotFound,
            Self::TooDeep { .. } => Kind::Unsupported,
            Self::Unpack { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Files(e) => e.hints(),
            Self::Pack(e) => e.hints(),
            Self::Missing(_) => vec!["pull or load the image again".to_owned()],
            Self::TooDeep { .. } => vec!["squash the image into fewer layers".to_owned()],
            Self::Unpack { source, place, .. } => match source.system() {
                Some(system) => base::space::hints(system, place),
                None => source.hints(),
            },
        }
    }
}
