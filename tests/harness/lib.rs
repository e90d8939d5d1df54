//! The harness of the end-to-end tests: everything is real (binaries, kernel, terminals, registries), and
//! every test has an instance of its own, so that all may run at once.
//!
//! - [`Dhow`]: an instance with its directories on a real file system. When it is dropped, everything of it must
//!   go within seconds: containers, processes, mounts, interfaces, firewall tables, cgroups, claims.
//! - [`Invocation`], [`Process`], [`Terminal`]: a command line that is run, left running, or typed at. None of
//!   them can hang: each has a deadline, after which it is killed and the test fails.
//! - [`image`], [`tar`]: images made on the spot from the host's static busybox.
//! - [`world`]: network namespaces with a neighbour in them. [`registry`]: registries on loopback.
//!
//! The programs are found beside the test program's target directory, or in `DHOW_BIN_DIR`.

#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails the test")]

pub mod image;
mod instance;
mod invocation;
mod leaks;
pub mod registry;
pub mod store;
pub mod tar;
mod terminal;
mod wait;
pub mod world;

pub use instance::{Dhow, bin_dir, real_directory};
pub use invocation::{Invocation, Output, Process};
pub use terminal::Terminal;
pub use wait::{eventually, patience, random, soak};
