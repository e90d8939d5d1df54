//! A Dockerfile and what comes with it → a graph of steps, and the image that they make.
//!
//! ```text
//! text ──► dockerfile ──► plan ──────────────────────────────► graph::Plan
//!          instructions,  stages, expand (variables), source
//!          where each     (addresses), check (what is not good),
//!          stands         graph::Bases (images, by who asks)
//! ```
//!
//! Nothing here touches a disk or a network: text comes in, and a [`graph::Plan`] goes out, which the engine carries out. What is
//! to be known of base images on the way is asked through [`graph::Bases`].

mod check;
#[cfg(test)]
mod conformance;
mod dockerfile;
mod error;
mod expand;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod go;
pub mod graph;
pub mod ignore;
mod logins;
pub mod plan;
pub mod source;
mod suggest;

pub use error::Error;
pub use logins::without_logins;
pub use plan::{NamedContext, NoCache, Options, check, plan};
