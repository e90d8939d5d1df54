//! A specification becomes a confined process.
//!
//! **Plan, then act.** [`plan()`] does all that parses, allocates, looks up or may fail politely, and ends in a
//! [`LaunchPlan`]: C strings, opened descriptors, a compiled system call filter, resolved numbers. [`launch()`]
//! clones; after that the child (`child`) only walks the plan with system calls, and reports
//! `(step, errno, index)` over a socket; the parent turns that into words. The handshake between the two is a
//! value, drawn at the top of `handshake`.
//!
//! What is *not* here: images and layers (the root file system arrives as directories), networks (a batch of
//! netlink bytes arrives, to be sent inside), logs (pipes leave), restarts. And no async runtime, ever.

pub mod apparmor;
mod bundle;
pub mod capability;
pub mod cgroup;
mod child;
mod handshake;
mod init;
mod join;
mod launch;
mod plan;
pub mod seccomp;

pub use bundle::{Bundle, RootSource};
pub use join::{JoinPlan, join, plan_join};
pub use launch::{LaunchError, Running, Stdio, launch};
pub use plan::{LaunchPlan, PlanError, plan};
