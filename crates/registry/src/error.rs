//! What can go wrong between us and a registry.

use base::{Failure, Kind};

/// The result of a registry's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Placeholder.
    #[error("no")]
    No,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}
