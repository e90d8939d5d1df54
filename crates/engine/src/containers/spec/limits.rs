//! Limits: Docker's checks, and the specification's `linux.resources`.

use base::{Failure, Kind};
use oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources, Rlimit};
use state::options::{ContainerOptions, Ulimit};

use super::Context;
use super::host::OnHost;
use super::resolve::Machine;
use crate::networks;

/// Docker's.
const LEAST_MEMORY: u64 = 6 << 20;
/// The kernel's, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA: i64 = 1_000;
/// The kernel's.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;
const OOM_SCORES: std::ops::RangeInclusive<i32> = -1000..=1000;
/// The period of CPU quotas in microseconds, as Docker's.
pub(super) const CPU_PERIOD: u64 = 100_000;
/// Docker's `/dev/shm`.
pub(crate) const SHM_SIZE: u64 = 64 << 20;
/// More processors than any kernel counts.
const MOST_IN_SET: u32 = 1 << 16;

/// A limit that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{0} bytes of memory are too little: the least is 6m")]
    Memory(u64),
    #[error("{0} bytes of memory reservation are too little: the least is 6m")]
    Reservation(u64),
    #[error("the memory limit ({memory} bytes) is below the memory reservation ({reservation} bytes)")]
    ReservationAboveLimit { memory: u64, reservation: u64 },
    #[error(
        "the limit of memory and swap together ({swap} bytes) is below the memory limit ({memory} bytes)"
    )]
    Swap { swap: i64, memory: u64 },
    #[error("memory and swap together are limited, but memory is not")]
    SwapAlone,
    #[error("invalid limit of memory and swap {0}: want a size, or -1 for none")]
    SwapNegative(i64),
    #[error("invalid swappiness {0}: want 0 to 100")]
    Swappiness(u64),
    #[error("invalid OOM score {0}: want -1000 to 1000")]
    OomScore(i32),
    #[error("{asked} processors are not to be had: this machine has {have}")]
    Cpus { asked: String, have: u32 },
    #[error("--cpus and {0} both say how much CPU time there is: give one of them")]
    CpusTwice(&'static str),
    #[error("invalid CPU period {0}: want 1000 to 1000000 microseconds")]
    Period(u64),
    #[error("invalid CPU quota {0}: want at least 1000 microseconds, or -1 for none")]
    Quota(i64),
    #[error("the realtime CPU time ({runtime} microseconds) is more than its period ({period})")]
    Realtime { runtime: u64, period: u64 },
    #[error("invalid list of {what} `{list}`: want numbers and ranges, such as 0-3,7")]
    Set { what: &'static str, list: String },
    #[error("{what} {list} are not to be had: this machine has {have}")]
    NotThere { what: &'static str, list: String, have: String },
    #[error("invalid weight of block devices {0}: want 10 to 1000")]
    Weight(u64),
    #[error("invalid limit of processes {0}: want a positive number, or -1 for none")]
    Pids(i64),
    #[error("invalid limit {name}={soft}:{hard}: the soft limit is above the hard one")]
    Ulimit { name: String, soft: i64, hard: i64 },
    #[error("unknown limit `{0}`")]
    UlimitName(String),
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Swap { .. } => {
                "--memory-swap is the sum of both: give more than --memory, or -1 for no limit of swap"
            }
            Self::SwapAlone => "limit memory, too: --memory",
            Self::Cpus { .. } => "the smallest share is 0.01",
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}

/// Refuses what makes no sense, and says what will be given otherwise than asked.
pub(crate) fn check(options: &ContainerOptions, machine: &Machine) -> Result<Vec<String>, Invalid> {
    let limits = &options.limits;
    let mut warnings = Vec::new();
    check_memory(options, &mut warnings)?;
    check_cpu(options, machine, &mut warnings)?;
    if let Some(score) = limits.oom_score_adj.filter(|score| !OOM_SCORES.contains(score)) {
        return Err(Invalid::OomScore(score));
    }
    if let Some(weight) = limits.blkio_weight.filter(|weight| !WEIGHTS.contains(weight)) {
        return Err(Invalid::Weight(weight.into()));
    }
    let of_devices = limits.blkio_weight_device.iter().map(|device| device.value);
    if let Some(weight) = of_devices.into_iter().find(|w| *w != 0 && !(10..=1000).contains(w)) {
        return Err(Invalid::Weight(weight));
    }
    if let Some(limit) = options.pids_limit.filter(|limit| *limit < -1) {
        return Err(Invalid::Pids(limit));
    }
    if (limits.bandwidth_in.is_some() || limits.bandwidth_out.is_some()) && !networks::has_own(options) {
        warnings.push(
            "--bandwidth-in and --bandwidth-out are discarded: they are limits of networks of its own, and it has none"
                .to_owned(),
        );
    }
    for Ulimit { name, soft, hard } in &limits.ulimits {
        if !name.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(Invalid::UlimitName(name.chars().take(40).collect()));
        }
        if *soft < -1 || *hard < -1 || *hard != -1 && (*soft == -1 || soft > hard) {
            return Err(Invalid::Ulimit { name: name.clone(), soft: *soft, hard: *hard });
        }
    }
    Ok(warnings)
}

fn check_memory(options: &ContainerOptions, warnings: &mut Vec<String>) -> Result<(), Invalid> {
    let limits = &options.limits;
    if let Some(bytes) = options.memory.filter(|bytes| *bytes < LEAST_MEMORY) {
        return Err(Invalid::Memory(bytes));
    }
    match (options.memory, limits.memory_swap) {
        (_, Some(swap)) if swap < -1 || swap == 0 => return Err(Invalid::SwapNegative(swap)),
        (Some(memory), Some(swap)) if swap > 0 && swap.cast_unsigned() < memory => {
            return Err(Invalid::Swap { swap, memory });
        }
        (None, Some(1..)) => return Err(Invalid::SwapAlone),
        _ => {}
    }
    if let Some(reservation) = limits.memory_reservation {
        if reservation < LEAST_MEMORY {
            return Err(Invalid::Reservation(reservation));
        }
        if let Some(memory) = options.memory.filter(|memory| *memory < reservation) {
            return Err(Invalid::ReservationAboveLimit { memory, reservation });
        }
    }
    if let Some(percent) = limits.memory_swappiness.filter(|percent| *percent > 100) {
        return Err(Invalid::Swappiness(percent));
    }
    if limits.kernel_memory.is_some() {
        warnings.push(
            "--kernel-memory has no meaning any more: the kernel has no such limit, and --memory covers it"
                .to_owned(),
        );
    }
    if limits.oom_kill_disable && options.memory.is_none() {
        warnings.push(
            "without a memory limit, a container that is never killed can use up the machine's memory"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_cpu(
    options: &ContainerOptions,
    machine: &Machine,
    warnings: &mut Vec<String>,
) -> Result<(), Invalid> {
    let limits = &options.limits;
    if let Some(nano) = options.nano_cpus {
        // The kernel takes no quota below a millisecond; Docker's least is a hundredth of a processor.
        if nano < 10_000_000 || nano > u64::from(machine.cpus) * 1_000_000_000 {
            let asked = format!("{}", nano as f64 / 1e9);
            return Err(Invalid::Cpus { asked, have: machine.cpus });
        }
        if limits.cpu_period.is_some() {
            return Err(Invalid::CpusTwice("--cpu-period"));
        }
        if limits.cpu_quota.is_some() {
            return Err(Invalid::CpusTwice("--cpu-quota"));
        }
    }
    if let Some(period) = limits.cpu_period.filter(|period| !PERIODS.contains(period)) {
        return Err(Invalid::Period(period));
    }
    if let Some(quota) = limits.cpu_quota.filter(|quota| *quota != -1 && *quota < LEAST_QUOTA) {
        return Err(Invalid::Quota(quota));
    }
    if let (Some(runtime), Some(period)) = (limits.cpu_rt_runtime, limits.cpu_rt_period)
        && runtime > period
    {
        return Err(Invalid::Realtime { runtime, period });
    }
    if let Some(shares) = limits.cpu_shares.filter(|shares| !SHARES.contains(shares)) {
        let given = shares.clamp(*SHARES.start(), *SHARES.end());
        warnings.push(format!("there are no {shares} CPU shares: the container gets {given}"));
    }
    let sets = [
        ("processors", &limits.cpuset_cpus, &machine.processors),
        ("memory nodes", &limits.cpuset_mems, &machine.nodes),
    ];
    for (what, list, have) in sets {
        let Some(list) = list else { continue };
        let wrong = || Invalid::Set { what, list: list.chars().take(60).collect() };
        let wanted = numbers(list).ok_or_else(wrong)?;
        let there = have.as_deref().and_then(numbers);
        if let (Some(there), Some(have)) = (there, have)
            && !wanted.iter().all(|range| there.iter().any(|t| t.0 <= range.0 && range.1 <= t.1))
        {
            return Err(Invalid::NotThere { what, list: list.clone(), have: have.clone() });
        }
    }
    Ok(())
}

/// `0-3,7`, as ranges.
fn numbers(list: &str) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|n| digits && *n < MOST_IN_SET)
    };
    list.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last)
        })
        .collect()
}

/// `linux.resources`.
pub(crate) fn resources(options: &ContainerOptions, context: &Context<'_>) -> Resources {
    let mut resources = Resources {
        devices: device_rules(options, &context.host),
        block_io: Some(context.host.block_io.clone()),
        ..Resources::default()
    };
    replace(&mut resources, options, context.pids_limit, context.swap);
    resources
}

/// Puts the limits into resources that were made before: all but those that name devices.
pub(crate) fn replace(resources: &mut Resources, options: &ContainerOptions, default_pids: i64, swap: bool) {
    let limit = options.pids_limit.unwrap_or(default_pids);
    resources.memory = memory(options, swap);
    resources.cpu = cpu(options);
    resources.pids = Some(Pids { limit: if limit <= 0 { -1 } else { limit } });
    let block =
        BlockIo { weight: options.limits.blkio_weight, ..resources.block_io.take().unwrap_or_default() };
    resources.block_io = (block != BlockIo::default()).then_some(block);
}

fn memory(options: &ContainerOptions, swap: bool) -> Option<Memory> {
    let limits = &options.limits;
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let limit = options.memory.map(signed);
    // Docker's default: as much swap as memory, so the sum is twice the limit.
    let doubled = limit.filter(|_| swap).map(|limit| limit.saturating_mul(2));
    let memory = Memory {
        limit,
        swap: limits.memory_swap.filter(|_| limit.is_some()).or(doubled),
        reservation: limits.memory_reservation.map(signed),
        swappiness: limits.memory_swappiness,
        disable_oom_killer: limits.oom_kill_disable.then_some(true),
        ..Memory::default()
    };
    (memory != Memory::default()).then_some(memory)
}

fn cpu(options: &ContainerOptions) -> Option<Cpu> {
    let limits = &options.limits;
    let (quota, period) = match options.nano_cpus {
        Some(nano) => (Some((nano / (1_000_000_000 / CPU_PERIOD)).cast_signed()), Some(CPU_PERIOD)),
        None => (limits.cpu_quota, limits.cpu_period),
    };
    let cpu = Cpu {
        shares: limits.cpu_shares.map(|shares| shares.clamp(*SHARES.start(), *SHARES.end())),
        quota,
        period,
        realtime_period: limits.cpu_rt_period,
        realtime_runtime: limits.cpu_rt_runtime.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
        cpus: limits.cpuset_cpus.clone(),
        mems: limits.cpuset_mems.clone(),
        ..Cpu::default()
    };
    (cpu != Cpu::default()).then_some(cpu)
}

fn device_rules(options: &ContainerOptions, host: &OnHost) -> Vec<oci::runtime::DeviceRule> {
    if options.privileged { super::devices::everything() } else { super::devices::rules(&host.rules) }
}

/// The limits of processes.
pub(crate) fn rlimits(options: &ContainerOptions) -> Vec<Rlimit> {
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let rlimit = |limit: &Ulimit| Rlimit {
        kind: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
        soft: value(limit.soft),
        hard: value(limit.hard),
    };
    options.limits.ulimits.iter().map(rlimit).collect()
}

#[cfg(test)]
mod tests {
    use state::options::Limits;

    use super::*;

    fn machine() -> Machine {
        Machine {
            cpus: 2,
            hostname: "host".to_owned(),
            processors: Some("0-1".to_owned()),
            nodes: Some("0".to_owned()),
        }
    }

    fn checked(memory: Option<u64>, change: impl FnOnce(&mut Limits)) -> Result<Vec<String>, String> {
        let mut options = ContainerOptions { memory, ..ContainerOptions::default() };
        change(&mut options.limits);
        check(&options, &machine()).map_err(|e| e.to_string())
    }

    #[test]
    fn memory_is_checked_as_docker_does() {
        const M: u64 = 1 << 20;
        let fine = |memory, change: fn(&mut Limits)| assert_eq!(checked(memory, change), Ok(vec![]));
        fine(Some(64 * M), |l| l.memory_swap = Some(64 << 20));
        fine(Some(64 * M), |l| l.memory_swap = Some(-1));
        fine(None, |l| l.memory_swap = Some(-1));
        fine(Some(64 * M), |l| l.memory_reservation = Some(64 << 20));
        fine(None, |l| l.memory_reservation = Some(6 << 20));
        fine(None, |l| l.memory_swappiness = Some(100));
        let bad = |memory, part: &str, change: fn(&mut Limits)| {
            let error = checked(memory, change).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        bad(Some(5 * M), "least is 6m", |_| {});
        bad(Some(64 * M), "below the memory limit", |l| l.memory_swap = Some(63 << 20));
        bad(None, "memory is not", |l| l.memory_swap = Some(64 << 20));
        bad(Some(64 * M), "-2", |l| l.memory_swap = Some(-2));
        bad(None, "least is 6m", |l| l.memory_reservation = Some(1));
        bad(Some(64 * M), "below the memory reservation", |l| l.memory_reservation = Some(65 << 20));
        bad(None, "101", |l| l.memory_swappiness = Some(101));
        assert_eq!(checked(None, |l| l.kernel_memory = Some(1)).unwrap().len(), 1);
        assert_eq!(checked(None, |l| l.oom_kill_disable = true).unwrap().len(), 1);
        assert_eq!(checked(Some(64 * M), |l| l.oom_kill_disable = true).unwrap().len(), 0);
    }

    #[test]
    fn processors_are_checked_as_docker_does() {
        let fine = |change: fn(&mut Limits)| assert_eq!(checked(None, change), Ok(vec![]));
        fine(|l| (l.cpu_period, l.cpu_quota) = (Some(1000), Some(1000)));
        fine(|l| l.cpu_quota = Some(-1));
        fine(|l| l.cpuset_cpus = Some("0,1".to_owned()));
        fine(|l| l.cpuset_cpus = Some("0-1".to_owned()));
        fine(|l| l.cpuset_mems = Some("0".to_owned()));
        for change in [
            (|l| l.cpu_period = Some(999)) as fn(&mut Limits),
            |l| l.cpu_period = Some(1_000_001),
            |l| l.cpu_quota = Some(999),
            |l| l.cpu_quota = Some(-2),
            |l| (l.cpu_rt_runtime, l.cpu_rt_period) = (Some(2000), Some(1000)),
            |l| l.cpuset_cpus = Some("2".to_owned()),
            |l| l.cpuset_cpus = Some("0-2".to_owned()),
            |l| l.cpuset_cpus = Some("1-0".to_owned()),
            |l| l.cpuset_cpus = Some("x".to_owned()),
            |l| l.cpuset_cpus = Some("0,".to_owned()),
            |l| l.cpuset_cpus = Some("+1".to_owned()),
            |l| l.cpuset_mems = Some("1".to_owned()),
            |l| l.blkio_weight = Some(9),
            |l| l.blkio_weight = Some(1001),
            |l| l.oom_score_adj = Some(1001),
            |l| l.oom_score_adj = Some(-1001),
            |l| l.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 2, hard: 1 }],
            |l| l.ulimits = vec![Ulimit { name: "NO/FILE".to_owned(), soft: 1, hard: 1 }],
        ] {
            checked(None, change).unwrap_err();
        }
        assert!(checked(None, |l| l.cpu_shares = Some(1)).unwrap()[0].contains("gets 2"));
        let cpus = |change: fn(&mut Limits)| {
            let mut options =
                ContainerOptions { nano_cpus: Some(1_000_000_000), ..ContainerOptions::default() };
            change(&mut options.limits);
            check(&options, &machine()).is_ok()
        };
        assert!(cpus(|_| {}) && cpus(|l| l.cpu_shares = Some(5)));
        assert!(!cpus(|l| l.cpu_period = Some(1000)) && !cpus(|l| l.cpu_quota = Some(1000)));
    }

    #[test]
    fn swap_is_twice_the_memory_unless_something_else_is_said() {
        let of = |memory: Option<u64>, swap: Option<i64>, accounted| {
            let mut options = ContainerOptions { memory, ..ContainerOptions::default() };
            options.limits.memory_swap = swap;
            super::memory(&options, accounted).and_then(|m| m.swap)
        };
        assert_eq!(of(Some(100), None, true), Some(200));
        assert_eq!(of(Some(100), None, false), None);
        assert_eq!(of(Some(100), Some(150), true), Some(150));
        assert_eq!(of(Some(100), Some(-1), true), Some(-1));
        assert_eq!(of(None, Some(-1), true), None);
    }

    proptest::proptest! {
        #[test]
        fn any_list_is_read_or_refused(text in "[0-9,-]{0,20}") {
            for (first, last) in numbers(&text).unwrap_or_default() {
                proptest::prop_assert!(first <= last);
            }
        }
    }
}
