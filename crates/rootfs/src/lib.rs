//! Blobs become a mounted tree: layers are unpacked once each, and a root file system is an overlay of them.
//!
//! ```text
//! blob ──► compression ──► archive ──► apply ──► tree ──► layers/<diff id>/
//!          what it is      entries     what      files,   whole or not
//!          packed with     of a tar    they      beneath  there (store)
//!                                      mean      a root
//! ```
//!
//! [`pack`] is the way back: what a container wrote becomes a layer, always of the same bytes. [`copy`] is what goes into
//! and out of a container, whose files [`view`] shows.
//!
//! A layer comes from strangers. Its names are allegations (`name`), every size is bounded (`limits`),
//! and nothing in it becomes policy of the host. Layers are unpacked independently of one another, so that
//! all of an image's can be unpacked at once, and are shared by all images.

mod apply;
mod archive;
mod attributes;
mod compression;
pub mod copy;
mod derived;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod kernels;
mod limits;
mod mark;
mod name;
mod overlay;
pub mod pack;
mod placement;
mod scratch;
mod settle;
mod stack;
mod store;
mod tree;
mod unpack;
mod verify;
pub mod view;

pub use apply::{ApplyError, EntryError};
pub use archive::ArchiveError;
pub use compression::{Compression, Unsupported, sniff};
pub use error::{Error, Result};
pub use limits::{Exceeded, Limits, PATH as LONGEST_PATH};
pub use name::BadName;
pub use overlay::{MAX_LOWERS, Overlay};
pub use scratch::{Kept, Scratch, Sealed};
pub use store::{LayerStore, remove_tree, sweep_removing};
pub use unpack::UnpackError;
pub use verify::{Damage, Difference, Verified};
