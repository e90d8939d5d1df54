//! `build`: a Dockerfile's plan is carried out.
//!
//! ```text
//! context ─► plan ─► solve ──► step ──► cache       done before: its layer
//!                              │
//!                              ├─► files           COPY, ADD, WORKDIR  ┐  an upper directory,
//!                              └─► run             RUN                 ┘  which becomes the layer
//!            result   the blobs of the image's layers, its configuration, its manifest
//!            export   the store, an archive, a directory
//! ```
//!
//! What a step makes is a layer of the store, called by its diff id; what a step is made of, a key. The cache says which layer
//! came of which key. Both are files, each whole or not there, so that a build that is killed at any point spoils nothing: what
//! it had done is found again, and what it was at is swept.

mod bases;
pub(crate) mod cache;
mod cachemounts;
mod cancel;
mod carry;
mod copied;
mod error;
mod excerpt;
mod explain;
mod export;
pub(crate) mod files;
mod key;
mod lines;
mod mounts;
pub(crate) mod options;
pub(crate) mod progress;
pub(crate) mod prune;
mod pulling;
mod result;
mod run;
mod solve;
pub(crate) mod sources;
mod ssh;
mod step;
mod stubs;
mod verb;

#[cfg(test)]
mod tests;
