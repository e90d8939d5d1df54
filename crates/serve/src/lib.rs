//! `dhow-serve`: the servers, a registry for a start. A door: it speaks HTTP and holds no logic of images; what a
//! registry does is in `engine::distribution`, each operation called from a thread that may block.
//!
//! ```text
//! listener ── a connection: TLS, time limits (patience) ──► handler ── login ── route ──► engine::distribution
//!                                                              │                              │
//!                                                    access log┴── reply ◄── body: blobs as they are read
//! ```
//!
//! HTTP/1.1 alone: several connections carry large blobs faster than one that they share, and every client speaks it.

mod access;
mod body;
mod handler;
mod listener;
mod login;
mod options;
mod patience;
pub mod range;
mod reply;
pub mod route;
mod run;
mod tls;

pub use run::run;
