//! What every other crate stands on: identifiers, digests, errors for people, file access whose errors
//! name the path, the resolver of paths inside a root, and the traits through which stages meet.
//!
//! Nothing here knows what a container is.

pub mod digest;
pub mod dir;
pub mod failure;
pub mod fs;
pub mod id;
pub mod pipe;
pub mod processes;
pub mod progress;
pub mod remove;
pub mod root;
pub mod space;
pub mod time;

pub use digest::{Digest, Hasher, Sha256Reader, Verifier};
pub use failure::{Failure, Kind};
pub use id::Id;
pub use root::Root;
pub use time::Timestamp;
