//! The network half of images: manifests and blobs from a registry (distribution specification 1.1).
//!
//! A blocking face over an async client: the runtime lives on the calling thread for the length of a call, and
//! each blob goes into a [`Sink`] as it comes.
//!
//! HTTPS always, but for registries on the loopback interface and where `registries.toml` says so. Names are resolved
//! without the C library, whose resolver would load the host's plugins into a static binary.
//!
//! What is asked for goes to the endpoints of its repository in turn ([`Registries`]), each with the login of its own
//! host ([`Credentials`]): no credential is sent to another host than the one it is for, nor follows a redirect there.

mod auth;
pub mod client;
pub mod credentials;
pub mod download;
mod endpoint;
pub mod error;
mod http;
mod login;
pub mod registries;
mod request;
pub mod search;
mod tokens;
mod transfer;
mod upload;

pub use client::{BlobRequest, Client, Location, ManifestAnswer, Settings};
pub use credentials::{Credentials, Login};
pub use endpoint::{Endpoint, Scheme};
pub use error::{Error, Result};
pub use registries::{Access, Registries};
pub use transfer::{Finished, Open, Opened, Sink};
pub use upload::{Told, Upload};
