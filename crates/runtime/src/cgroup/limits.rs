//! Limits, from the specification's terms (which are v1's) to files and what is written to them.
//!
//! [`settings`] reads the specification once, into typed settings; v2's files are the model, and v1's a second
//! column beside them. Nothing here touches the machine.

use oci::runtime::Resources;

use super::Error;
use super::hierarchy::Controller;

/// One limit, in terms of neither version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Bytes; none: unlimited.
    Memory(Option<u64>),
    /// Bytes of swap above the memory limit, and both together.
    Swap { above: Option<u64>, total: Option<u64> },
    /// Bytes that are not reclaimed while others have more.
    Reservation(u64),
    /// 2 to 262144, 1024 is everybody's.
    CpuShares(u64),
    /// Microseconds per period; none: unlimited.
    CpuBandwidth { quota: Option<u64>, period: u64 },
    /// Processes; none: unlimited.
    Pids(Option<u64>),
    /// `0-3,7`.
    Cpus(String),
    /// Memory nodes.
    Nodes(String),
}

/// What is written to which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) value: String,
    pub(super) need: Need,
    /// What the user calls it.
    pub(super) limit: &'static str,
}

/// What follows where a file is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// An error: the user asked for it.
    Asked,
    /// A warning.
    Default,
    /// Nothing: what it would set is not there at all, such as swap.
    Moot,
}

const DEFAULT_PERIOD: u64 = 100_000;

/// The settings that a specification asks for.
pub(super) fn settings(resources: &Resources) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
    if let Some(memory) = &resources.memory {
        let limit = memory.limit.filter(|l| *l != 0).map(amount);
        if let Some(limit) = limit {
            list.push(Setting::Memory(limit));
        }
        match (memory.swap.filter(|s| *s != 0).map(amount), limit.flatten()) {
            (None, _) => {}
            (Some(None), _) => list.push(Setting::Swap { above: None, total: None }),
            (Some(Some(total)), Some(memory)) if total >= memory => {
                list.push(Setting::Swap { above: Some(total - memory), total: Some(total) });
            }
            (Some(Some(_)), Some(_)) => {
                return Err(Error::Invalid {
                    reason: "memory and swap together are less than the memory limit",
                });
            }
            (Some(Some(_)), None) => {
                return Err(Error::Invalid { reason: "swap is limited, but memory is not" });
            }
        }
        if let Some(Some(reservation)) = memory.reservation.filter(|r| *r != 0).map(amount) {
            list.push(Setting::Reservation(reservation));
        }
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
            list.push(Setting::CpuShares(shares));
        }
        if cpu.quota.is_some_and(|q| q != 0) || cpu.period.is_some_and(|p| p != 0) {
            let quota = cpu.quota.filter(|q| *q > 0).map(|q| q as u64);
            let period = cpu.period.filter(|p| *p != 0).unwrap_or(DEFAULT_PERIOD);
            list.push(Setting::CpuBandwidth { quota, period });
        }
        if let Some(cpus) = cpu.cpus.as_ref().filter(|c| !c.is_empty()) {
            list.push(Setting::Cpus(cpus.clone()));
        }
        if let Some(mems) = cpu.mems.as_ref().filter(|m| !m.is_empty()) {
            list.push(Setting::Nodes(mems.clone()));
        }
    }
    if let Some(pids) = &resources.pids {
        list.push(Setting::Pids(u64::try_from(pids.limit).ok().filter(|l| *l > 0)));
    }
    Ok(list)
}

/// Negative numbers are "unlimited".
fn amount(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

fn write(controller: Controller, file: &'static str, value: impl ToString, limit: &'static str) -> Write {
    Write { controller, file, value: value.to_string(), need: Need::Asked, limit }
}

fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |v| v.to_string())
}

/// v2's files (Documentation/admin-guide/cgroup-v2.rst).
pub(super) fn v2(settings: &[Setting]) -> Vec<Write> {
    use Controller::{Cpu, Cpuset, Memory, Pids};
    settings
        .iter()
        .map(|setting| match setting {
            Setting::Memory(limit) => write(Memory, "memory.max", or_max(*limit), "memory limit"),
            Setting::Swap { above, .. } => {
                // v2 limits swap alone. Without swap in the kernel there is no file, and nothing to limit.
                let need = Need::Moot;
                Write { need, ..write(Memory, "memory.swap.max", or_max(*above), "swap limit") }
            }
            Setting::Reservation(bytes) => write(Memory, "memory.low", bytes, "memory reservation"),
            Setting::CpuShares(shares) => write(Cpu, "cpu.weight", weight(*shares), "CPU shares"),
            Setting::CpuBandwidth { quota, period } => {
                write(Cpu, "cpu.max", format!("{} {period}", or_max(*quota)), "CPU limit")
            }
            Setting::Pids(limit) => {
                Write { need: Need::Default, ..write(Pids, "pids.max", or_max(*limit), "limit of processes") }
            }
            Setting::Cpus(list) => write(Cpuset, "cpuset.cpus", list, "set of CPUs"),
            Setting::Nodes(list) => write(Cpuset, "cpuset.mems", list, "set of memory nodes"),
        })
        .collect()
}

/// v1's files. Their order matters: memory before memory and swap, the period before the quota.
pub(super) fn v1(settings: &[Setting]) -> Vec<Write> {
    use Controller::{Cpu, Cpuset, Memory, Pids};
    let or_minus_one = |value: &Option<u64>| value.map_or_else(|| "-1".to_owned(), |v| v.to_string());
    let mut list = Vec::new();
    for setting in settings {
        match setting {
            Setting::Memory(limit) => {
                list.push(write(Memory, "memory.limit_in_bytes", or_minus_one(limit), "memory limit"));
            }
            Setting::Swap { total, .. } => {
                let value = or_minus_one(total);
                let asked = write(Memory, "memory.memsw.limit_in_bytes", value, "swap limit");
                // The file is there only where swap is accounted for (swapaccount=1). A container that may
                // swap without limit still has its memory limit, so this is worth a warning only.
                list.push(Write { need: Need::Default, ..asked });
            }
            Setting::Reservation(bytes) => {
                list.push(write(Memory, "memory.soft_limit_in_bytes", bytes, "memory reservation"));
            }
            Setting::CpuShares(shares) => list.push(write(Cpu, "cpu.shares", shares, "CPU shares")),
            Setting::CpuBandwidth { quota, period } => {
                list.push(write(Cpu, "cpu.cfs_period_us", period, "CPU limit"));
                list.push(write(Cpu, "cpu.cfs_quota_us", or_minus_one(quota), "CPU limit"));
            }
            Setting::Pids(limit) => {
                let asked = write(Pids, "pids.max", or_max(*limit), "limit of processes");
                list.push(Write { need: Need::Default, ..asked });
            }
            Setting::Cpus(cpus) => list.push(write(Cpuset, "cpuset.cpus", cpus, "set of CPUs")),
            Setting::Nodes(nodes) => list.push(write(Cpuset, "cpuset.mems", nodes, "set of memory nodes")),
        }
    }
    list
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
    use oci::runtime::{Cpu, Memory, Pids};
    use proptest::prelude::*;

    use super::*;

    fn all() -> Resources {
        Resources {
            memory: Some(Memory { limit: Some(64 << 20), reservation: Some(32 << 20), swap: Some(96 << 20) }),
            cpu: Some(Cpu {
                shares: Some(512),
                quota: Some(150_000),
                period: None,
                cpus: Some("0-1".to_owned()),
                mems: Some("0".to_owned()),
            }),
            pids: Some(Pids { limit: 100 }),
            ..Resources::default()
        }
    }

    fn lines(writes: &[Write]) -> Vec<String> {
        writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect()
    }

    #[test]
    fn the_same_limits_in_both_versions_words() {
        let settings = settings(&all()).unwrap();
        assert_eq!(
            lines(&v2(&settings)),
            [
                "memory.max=67108864",
                "memory.swap.max=33554432",
                "memory.low=33554432",
                "cpu.weight=59",
                "cpu.max=150000 100000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "pids.max=100",
            ]
        );
        assert_eq!(
            lines(&v1(&settings)),
            [
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=100663296",
                "memory.soft_limit_in_bytes=33554432",
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "pids.max=100",
            ]
        );
    }

    #[test]
    fn minus_one_is_unlimited_and_zero_is_not_asked_for() {
        let of = |limit, swap, pids| {
            let memory = Some(Memory { limit: Some(limit), swap: Some(swap), reservation: Some(0) });
            let resources = Resources { memory, pids: Some(Pids { limit: pids }), ..Resources::default() };
            lines(&v2(&settings(&resources).unwrap()))
        };
        assert_eq!(of(-1, -1, -1), ["memory.max=max", "memory.swap.max=max", "pids.max=max"]);
        assert_eq!(of(0, 0, 0), ["pids.max=max"]);
        assert_eq!(of(1 << 20, 1 << 20, 5), ["memory.max=1048576", "memory.swap.max=0", "pids.max=5"]);
        assert_eq!(of(1 << 20, -1, 5)[1], "memory.swap.max=max");
    }

    #[test]
    fn contradictions_are_errors() {
        let of = |limit, swap| {
            let memory = Some(Memory { limit, swap: Some(swap), reservation: None });
            settings(&Resources { memory, ..Resources::default() })
        };
        assert!(of(Some(2 << 20), 1 << 20).is_err());
        assert!(of(None, 1 << 20).is_err());
        assert!(of(Some(-1), 1 << 20).is_err());
    }

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

        #[test]
        fn any_numbers_are_taken_or_refused(
            limit in proptest::option::of(any::<i64>()), swap in proptest::option::of(any::<i64>()),
            quota in proptest::option::of(any::<i64>()), period in proptest::option::of(any::<u64>()),
            shares in proptest::option::of(any::<u64>()), pids in any::<i64>(),
        ) {
            let resources = Resources {
                memory: Some(Memory { limit, swap, reservation: limit }),
                cpu: Some(Cpu { shares, quota, period, ..Cpu::default() }),
                pids: Some(Pids { limit: pids }),
                ..Resources::default()
            };
            if let Ok(settings) = settings(&resources) {
                v1(&settings);
                v2(&settings);
            }
        }
    }
}
