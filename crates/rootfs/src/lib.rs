//! Blobs become a mounted tree: layers are unpacked once each, and a root file system is an overlay of them.

mod error;
mod overlay;
mod store;

pub use error::{Error, Result};
pub use overlay::{MAX_LOWERS, Overlay};
pub use store::{LayerStore, remove_tree};
