//! Processor time, and the processors and memory nodes that may be used.

use oci::runtime::Cpu;

use super::{Write, only_v1, or_max, or_minus_one, write};
use crate::cgroup::Error;
use crate::cgroup::hierarchy::Controller;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) enum Setting {
    /// The group is scheduled as `SCHED_IDLE` (5.15).
    Idle(bool),
    /// 2 to 262144, 1024 is everybody's.
    Shares(u64),
    /// Microseconds per period; what is none stays as it is.
    Bandwidth { quota: Option<Quota>, period: Option<u64> },
    /// Microseconds that may be saved up for a burst (5.14).
    Burst(u64),
    /// Microseconds of realtime scheduling per realtime period. v1.
    Realtime { runtime: Option<i64>, period: Option<u64> },
    /// `0-3,7`.
    Cpus(String),
    /// Memory nodes.
    Nodes(String),
}

/// Microseconds in which a group may run in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cgroup) enum Quota {
    Unlimited,
    At(u64),
}

impl Quota {
    fn limit(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::At(microseconds) => Some(microseconds),
        }
    }
}

/// The kernel's.
pub(in crate::cgroup) const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn settings(cpu: &Cpu, list: &mut Vec<super::Setting>) -> Result<(), Error> {
    let mut push = |setting| list.push(super::Setting::Cpu(setting));
    let idle = match cpu.idle {
        None => false,
        Some(n @ (0 | 1)) => {
            push(Setting::Idle(n == 1));
            n == 1
        }
        Some(_) => return Err(Error::Invalid { reason: "cpu.idle is neither 0 nor 1" }),
    };
    match cpu.shares {
        None | Some(0 | 2..=262_144) => {}
        // v1's kernel would make 2 of it, and v2's has no such weight. In the words of runc, which reads v1's back.
        Some(1) => return Err(Error::Invalid { reason: "the minimum allowed cpu-shares is 2" }),
        Some(_) => return Err(Error::Invalid { reason: "the maximum allowed cpu-shares is 262144" }),
    }
    // An idle group's weight is fixed; the kernel refuses another.
    if let Some(shares) = cpu.shares.filter(|s| *s != 0 && !idle) {
        push(Setting::Shares(shares));
    }
    let quota = cpu.quota.filter(|q| *q != 0).map(|q| u64::try_from(q).map_or(Quota::Unlimited, Quota::At));
    let period = cpu.period.filter(|p| *p != 0);
    if quota.is_some() || period.is_some() {
        push(Setting::Bandwidth { quota, period });
    }
    if let Some(burst) = cpu.burst {
        if quota.and_then(Quota::limit).is_some_and(|quota| burst > quota) {
            return Err(Error::Invalid { reason: "the CPU burst is more than the quota" });
        }
        push(Setting::Burst(burst));
    }
    let (runtime, period) =
        (cpu.realtime_runtime.filter(|r| *r != 0), cpu.realtime_period.filter(|p| *p != 0));
    if runtime.is_some() || period.is_some() {
        push(Setting::Realtime { runtime, period });
    }
    for (set, make) in [(&cpu.cpus, Setting::Cpus as fn(_) -> _), (&cpu.mems, Setting::Nodes)] {
        if let Some(set) = set.as_ref().filter(|set| !set.is_empty()) {
            if !set.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b' ')) {
                return Err(Error::Invalid { reason: "a set of CPUs or memory nodes is no list of numbers" });
            }
            push(make(set.clone()));
        }
    }
    Ok(())
}

pub(super) fn v2(setting: &Setting, list: &mut Vec<Write>) -> Result<(), Error> {
    use Controller::{Cpu, Cpuset};
    list.push(match setting {
        Setting::Idle(idle) => write(Cpu, "cpu.idle", u8::from(*idle), "idle scheduling"),
        Setting::Shares(shares) => write(Cpu, "cpu.weight", weight(*shares), "CPU shares"),
        Setting::Bandwidth { quota, period } => {
            let quota = or_max(quota.and_then(Quota::limit));
            // A quota alone leaves the period as it is.
            let value = period.map_or_else(|| quota.clone(), |period| format!("{quota} {period}"));
            write(Cpu, "cpu.max", value, "CPU limit")
        }
        Setting::Burst(burst) => write(Cpu, "cpu.max.burst", burst, "CPU burst"),
        Setting::Realtime { .. } => return Err(only_v1("realtime limit", "cpu of version 1")),
        Setting::Cpus(cpus) => write(Cpuset, "cpuset.cpus", cpus, "set of CPUs"),
        Setting::Nodes(nodes) => write(Cpuset, "cpuset.mems", nodes, "set of memory nodes"),
    });
    Ok(())
}

pub(super) fn v1(setting: &Setting, list: &mut Vec<Write>) {
    use Controller::{Cpu, Cpuset};
    match setting {
        Setting::Idle(idle) => list.push(write(Cpu, "cpu.idle", u8::from(*idle), "idle scheduling")),
        Setting::Shares(shares) => list.push(write(Cpu, "cpu.shares", shares, "CPU shares")),
        Setting::Bandwidth { quota, period } => {
            if let Some(period) = period {
                list.push(write(Cpu, "cpu.cfs_period_us", period, "CPU limit"));
            }
            if let Some(quota) = quota {
                list.push(write(Cpu, "cpu.cfs_quota_us", or_minus_one(quota.limit()), "CPU limit"));
            }
        }
        Setting::Burst(burst) => list.push(write(Cpu, "cpu.cfs_burst_us", burst, "CPU burst")),
        Setting::Realtime { runtime, period } => {
            if let Some(period) = period {
                list.push(write(Cpu, "cpu.rt_period_us", period, "realtime period"));
            }
            if let Some(runtime) = runtime {
                list.push(write(Cpu, "cpu.rt_runtime_us", runtime, "realtime limit"));
            }
        }
        Setting::Cpus(cpus) => list.push(write(Cpuset, "cpuset.cpus", cpus, "set of CPUs")),
        Setting::Nodes(nodes) => list.push(write(Cpuset, "cpuset.mems", nodes, "set of memory nodes")),
    }
}

/// v1's shares (2 to 262144, 1024 ordinary) as v2's weight (1 to 10000, 100 ordinary): the curve through those
/// three points that runc and crun use since 2025, so that 1024 shares come out as 100.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_meet_the_three_fixed_points() {
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 100, 10_000));
    }

    proptest! {
        #[test]
        fn more_shares_never_weigh_less(a in 2..262_144_u64, b in 2..262_144_u64) {
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(weight(a) <= weight(b));
        }
    }
}
