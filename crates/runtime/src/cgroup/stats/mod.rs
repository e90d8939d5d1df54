//! What a group has used: all that `events --stats` and a metrics endpoint tell. Bytes and nanoseconds, whatever the
//! version counts in.
//!
//! What a machine does not count is 0, empty or none; a file that is not there is no error, since controllers differ
//! from machine to machine and a group may go at any moment.

mod meter;
mod parse;
mod v1;
mod v2;

use std::collections::BTreeMap;

pub use self::meter::{Meter, Reading, is_spare};
use super::group::Group;

/// Everything that is counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes that may be used, as lists like `0-3,7`.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Processes.
    pub pids: Pids,
    /// Block devices.
    pub block_io: BlockIo,
    /// Huge pages, by the kernel's name of their size (`2MB`).
    pub hugepages: BTreeMap<String, HugePages>,
    /// RDMA devices.
    pub rdma: Rdma,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    /// All.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of it.
    pub user: u64,
    /// All by processor; v1.
    pub per_cpu: Vec<u64>,
    /// In the kernel by processor; v1.
    pub per_cpu_kernel: Vec<u64>,
    /// Outside of it by processor; v1.
    pub per_cpu_user: Vec<u64>,
    /// Periods in which there was something to run.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// How long it had to wait for that.
    pub throttled_time: u64,
    /// Bursts above the quota.
    pub bursts: u64,
    /// How long those were.
    pub burst_time: u64,
    /// Who waited for a processor; v2.
    pub pressure: Option<Pressure>,
}

/// What may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// Processors.
    pub cpus: String,
    /// Memory nodes.
    pub mems: String,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Of files, which can be dropped or written back.
    pub cache: u64,
    /// All.
    pub usage: Amount,
    /// With swap.
    pub with_swap: Amount,
    /// Swap alone; v2.
    pub swap: Amount,
    /// The kernel's for it; v1.
    pub kernel: Amount,
    /// The kernel's TCP buffers for it; v1.
    pub kernel_tcp: Amount,
    /// True where groups below it count; always on v2.
    pub hierarchical: bool,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// `memory.stat`, as it is.
    pub details: BTreeMap<String, u64>,
    /// Who waited for memory; v2.
    pub pressure: Option<Pressure>,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// In use.
    pub usage: u64,
    /// The most that was.
    pub maximum: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// The limit; none: unlimited.
    pub limit: Option<u64>,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be; none: unlimited.
    pub limit: Option<u64>,
}

/// Block devices, in v1's terms, with what groups below it did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BlockIo {
    /// Bytes.
    pub service_bytes: Vec<BlockEntry>,
    /// Operations.
    pub serviced: Vec<BlockEntry>,
    /// Waiting in the queue.
    pub queued: Vec<BlockEntry>,
    /// Nanoseconds being served.
    pub service_time: Vec<BlockEntry>,
    /// Nanoseconds waiting.
    pub wait_time: Vec<BlockEntry>,
    /// Operations merged into others.
    pub merged: Vec<BlockEntry>,
    /// Milliseconds of the device.
    pub time: Vec<BlockEntry>,
    /// Sectors.
    pub sectors: Vec<BlockEntry>,
    /// Who waited for devices; v2.
    pub pressure: Option<Pressure>,
}

/// One number of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`, or empty.
    pub operation: String,
    /// How many.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HugePages {
    /// In use.
    pub usage: u64,
    /// The most that was; v1.
    pub maximum: u64,
    /// How often the limit was hit.
    pub failures: u64,
}

/// RDMA devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rdma {
    /// In use.
    pub current: Vec<RdmaEntry>,
    /// The limits.
    pub limits: Vec<RdmaEntry>,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles; as a limit, none is unlimited.
    pub hca_handles: Option<u32>,
    /// Objects; likewise.
    pub hca_objects: Option<u32>,
}

/// How much time was lost to waiting (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// While at least one waited.
    pub some: PressureLine,
    /// While all did.
    pub full: PressureLine,
}

/// Percent of the last seconds, and microseconds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PressureLine {
    /// Of the last 10 seconds.
    pub avg10: f64,
    /// Of the last 60 seconds.
    pub avg60: f64,
    /// Of the last 300 seconds.
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

impl Group {
    /// What it has used.
    pub fn stats(&self) -> Stats {
        let mut stats = if self.directories.iter().any(|d| d.v2) { v2::read(self) } else { v1::read(self) };
        stats.memory.oom_kills = self.oom_kills();
        stats
    }
}
