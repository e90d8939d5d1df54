//! The network half of images: manifests and blobs from a registry (distribution specification 1.1).
//!
//! A blocking face over an async client: the runtime lives on the calling thread for the length of a call,
//! and each blob is handed to a sink on a thread of its own as a plain [`Read`](std::io::Read).

pub mod client;
pub mod credentials;
pub mod error;

pub use client::{BlobRequest, Client, Location, ManifestAnswer, Settings};
pub use credentials::Credentials;
pub use error::{Error, Result};
