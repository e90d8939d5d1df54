//! The small process that stays with a container: it launches, keeps, logs, reaps and releases it.
//!
//! This library holds what front doors need of it: the [`Request`] that a monitor is started with, and the
//! [`client`] that starts or finds one. The acting half is the binary `dhow-monitor`.
//!
//! There is one monitor per container and no other process of ours: what must outlive the command line lives in
//! it, and a monitor outlives every command line. It has one thread, no async runtime, and polls descriptors.

pub mod client;
mod request;
pub mod shipper;

pub use request::{ExecRequest, HealthRequest, JOINED, Join, REQUEST_VERSION, Request, VolumeUse};
