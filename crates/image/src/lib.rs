//! A name becomes verified blobs on disk: references, the content store, and the archives that fill it.
//!
//! ```text
//! ROOT/content/               an OCI image layout that skopeo and umoci can read
//!   oci-layout  index.json    index.json is written from the names, under a lock: for others, never read by us
//!   blobs/sha256/<hex>        verified content, whole or not there
//!   .ingest/<random>/         a running pull or load: what it writes, and what it protects (see `ingest`)
//!   .origins/<hex>            which repositories have a blob (see `origins`)
//!   .partial/<hex>            what has come of a blob, for this pull or the next try (see `partial`)
//! ROOT/names/images/<name>    a reference → manifest, with the configuration parsed: the truth; its time: last use
//! ROOT/names/pins/<name>      what eviction leaves alone
//! ```
//!
//! The way in is always the same: an [`Ingest`] receives blobs, and [`Ingest::commit`] gives them a name once
//! the manifest, its configuration and all layers are there. The way to a container is one small file:
//! [`Store::resolve`].

pub mod ingest;
pub mod load;
pub mod manifest;
mod origins;
pub mod partial;
pub mod platform;
pub mod reference;
pub mod resolved;
pub mod save;
pub mod store;
pub mod write;

pub use ingest::{Ingest, Receiver};
pub use manifest::{Document, DocumentError, artifact_type, classify};
pub use partial::{Opening, Partial, Verdict};
pub use platform::choose_platform;
pub use reference::Reference;
pub use resolved::{Layer, Resolved};
pub use store::{Error, Garbage, RecordFile, Result, Store, StoredBlob};
