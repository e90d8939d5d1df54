//! What can go wrong with a container's network.

use base::{Failure, Kind, fs};

/// A failed network operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A state file or lock.
    #[error(transparent)]
    File(#[from] fs::Error),
}

/// The result of a network operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
        }
    }
}
