//! How a container's root file system is stacked. Mounting it is the runtime's part.

use std::path::PathBuf;

/// How many lower directories Linux's overlay takes (`OVL_MAX_STACK` in fs/overlayfs/params.h).
pub const MAX_LOWERS: usize = 500;

/// The directories of an overlay mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The layers, topmost first, as the kernel wants them.
    pub lowers: Vec<PathBuf>,
    /// The container's writable layer.
    pub upper: PathBuf,
    /// Overlay's own scratch directory, on the same file system as `upper`.
    pub work: PathBuf,
}
