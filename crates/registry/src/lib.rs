//! The network half of images: manifests and blobs from a registry (distribution specification 1.1).
//!
//! A blocking face over an async client: the runtime lives on the calling thread for the length of a call, and
//! each blob is handed to a sink on a thread of its own as a plain [`Read`](std::io::Read).
//!
//! HTTPS always, but for registries on the loopback interface, which are spoken to in plain HTTP. Names are
//! resolved without the C library, whose resolver would load the host's plugins into a static binary.

mod auth;
pub mod client;
pub mod credentials;
mod endpoint;
pub mod error;
mod http;
mod transfer;

pub use client::{BlobRequest, Client, Location, ManifestAnswer, Settings};
pub use credentials::Credentials;
pub use error::{Error, Result};
