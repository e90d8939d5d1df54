//! Limits in force, read back.

use std::path::PathBuf;

use serde::Serialize;

use super::files::read_text;
use super::hierarchy::Controller;

/// Limits in force; none: unlimited or not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap: Option<u64>,
    /// Processes.
    pub pids: Option<u64>,
    /// Microseconds per period.
    pub cpu_quota: Option<u64>,
    /// The period in microseconds.
    pub cpu_period: Option<u64>,
}

impl Limits {
    pub(super) fn read(place: impl Fn(Controller) -> Option<PathBuf>, v2: bool) -> Self {
        let text = |controller, file: &str| read_text(&place(controller)?.join(file));
        let number = |controller, file: &str| limit(text(controller, file)?.trim());
        let pids = number(Controller::Pids, "pids.max");
        if v2 {
            let memory = number(Controller::Memory, "memory.max");
            let swap = number(Controller::Memory, "memory.swap.max");
            let cpu = text(Controller::Cpu, "cpu.max").unwrap_or_default();
            let mut cpu = cpu.split_ascii_whitespace();
            let (quota, period) = (cpu.next().and_then(limit), cpu.next().and_then(limit));
            let memory_and_swap = memory.zip(swap).and_then(|(m, s)| m.checked_add(s));
            return Self {
                memory,
                memory_and_swap,
                pids,
                cpu_quota: quota,
                cpu_period: period.filter(|_| quota.is_some()),
            };
        }
        let cpu_quota = number(Controller::Cpu, "cpu.cfs_quota_us");
        Self {
            memory: number(Controller::Memory, "memory.limit_in_bytes"),
            memory_and_swap: number(Controller::Memory, "memory.memsw.limit_in_bytes"),
            pids,
            cpu_quota,
            cpu_period: cpu_quota.and_then(|_| number(Controller::Cpu, "cpu.cfs_period_us")),
        }
    }
}

/// `max`, -1, and v1's "all pages that a number can count" are no limits.
pub(super) fn limit(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|n| *n < i64::MAX as u64 - 0xffff)
}
