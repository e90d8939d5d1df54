//! The name server of an instance's networks: what `dhow-netd` does.
//!
//! One small process for all containers on networks of their own, started by the monitor of the first of them and ended
//! with the last. Containers ask at 127.0.0.11; the sockets there are made by their monitors and handed over with what the
//! containers are called (`state::netd`). Nothing is written down: all that the server knows are its connections.
//!
//! ```text
//!  container          monitor ── names, sockets ──▶ ┌──────── dhow-netd ────────┐
//!   127.0.0.11:53 ─────────────────────────────────▶│ wire: the question        │
//!                                                   │ names: is it a neighbour? │── yes ──▶ answered at once
//!                                                   │ cache: is it known?       │── yes ──▶ answered at once
//!                                                   │ outside: asked upstream,  │ in the container's own network
//!                                                   └───────────────────────────┘ namespace, so on its own route
//! ```
//!
//! - `wire`: messages.
//! - `names`: who is called what on which network; `verdict`: what becomes of a question.
//! - `cache`: what servers outside have said.
//! - `server`: one thread that polls, and all the sockets.
//!
//! The same program is a second process, with other rights: the `warden` of published ports and firewall tables.
//!
//! What it does not do: it decides no policy (the one place where that will be asked is `verdict`), keeps no zone, checks
//! no signature (DNSSEC's records and flags are passed on), and never tells a container anything of a network that it is not on.

pub mod cache;
pub mod names;
pub mod server;
pub mod slab;
pub mod verdict;
pub mod warden;
pub mod wire;
