//! Every `unsafe` block and raw system call of Dhow, each wrapped once.
#![expect(unsafe_code, reason = "this crate is where it lives")]

pub mod bpf;
pub mod confine;
pub mod datagrams;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod packet;
pub mod probe;
pub mod process;
pub mod schedule;
pub mod socket;
