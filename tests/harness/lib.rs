//! The harness of the end-to-end tests: everything is real (binaries, kernel, terminals, registries), and
//! every test has an instance of its own, so that all may run at once.
//!
//! - [`Dhow`]: an instance with its directories on a real file system. When it is dropped, everything of it must
//!   go within seconds: containers, processes, mounts, interfaces, firewall tables, cgroups, claims.
//! - [`Invocation`], [`Process`], [`Terminal`]: a command line that is run, left running, or typed at. None of
//!   them can hang: each has a deadline, after which it is killed and the test fails.
//! - [`image`], [`tar`], [`entry`]: images made on the spot from the host's static busybox, and what only attackers
//!   and oddities have in their archives. [`layout`]: an image as a directory. [`tree`]: what was unpacked.
//! - [`volume`]: what is asked of volumes again and again. [`upgrade`]: an earlier release. [`disk`]: small file systems to be filled. [`world`]: network namespaces with a neighbour in them. [`registry`]: registries on loopback, and [`proxy`]: what
//!   stands before them and breaks. [`strange`]: one that answers whatever a test wants it to, also with TLS. [`served`]: ours.
//! - [`oci`]: bundles, and the runtime by runc's command line. [`callers`], [`containerd`]: machines for who calls it. [`spec`]: what
//!   tests of the specification share. [`attack`]: what attackers bring along, and what they must not touch.
//!
//! - [`building`]: contexts for builds.
//! - [`collectors`]: where logs are sent, real ones. [`shipped`]: what must be true of all of them.
//!
//! The programs are found beside the test program's target directory, or in `DHOW_BIN_DIR`.

#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails the test")]

pub mod attack;
pub mod building;
pub mod callers;
pub mod collectors;
pub mod containerd;
pub mod disk;
pub mod entry;
pub mod firewalls;
pub mod image;
mod instance;
mod invocation;
pub mod layout;
mod leaks;
pub mod oci;
pub mod odd;
pub mod programs;
pub mod proxy;
pub mod published;
pub mod registry;
pub mod served;
pub mod shipped;
pub mod spec;
pub mod store;
pub mod strange;
pub mod tar;
mod terminal;
pub mod tree;
pub mod upgrade;
pub mod volume;
mod wait;
pub mod world;

pub use instance::{Dhow, bin_dir, real_directory};
pub use invocation::{Invocation, Output, Process};
pub use terminal::Terminal;
pub use wait::{eventually, patience, random, soak};
