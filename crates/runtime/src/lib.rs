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
mod foreign;
mod handshake;
mod held;
pub mod hooks;
mod init;
mod join;
mod launch;
pub mod net_devices;
mod outside;
mod plan;
pub mod rdt;
pub mod seccomp;
pub mod selinux;
mod trees;
pub mod users;
mod words;

#[cfg(test)]
#[path = "../tests/common/skip.rs"]
mod skip;

pub use bundle::{Bundle, Inside, Manner, RootSource};
pub use foreign::ForeignRoot;
pub use held::Held;
pub use join::{JoinOptions, JoinPlan, come_back, join, join_with_listener, plan_join};
pub use launch::{LaunchError, Running, Stdio, Steps, launch};
pub use plan::{
    LaunchPlan, MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, PlanError, SCHEDULER_FLAGS, SCHEDULER_POLICIES,
    mount_options, plan,
};
