//! Limits, from the specification's terms (which are v1's) to files and what is written to them.
//!
//! [`settings`] reads the specification once, into typed settings, a file a controller; v2's files are the model,
//! and v1's a second column beside them. Nothing here touches the machine.

mod block;
mod cpu;
mod memory;
mod others;
mod unified;

use std::borrow::Cow;

use oci::runtime::Resources;

use super::Error;
use super::hierarchy::Controller;

pub(super) use self::cpu::DEFAULT_PERIOD;

/// One limit, in terms of neither version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    Memory(memory::Setting),
    Cpu(cpu::Setting),
    Block(block::Setting),
    Other(others::Setting),
    Unified(unified::Setting),
}

/// What is written to which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: Controller,
    pub(super) file: Cow<'static, str>,
    pub(super) value: String,
    /// Another file, and its value, where there is no such file.
    pub(super) otherwise: Option<(&'static str, String)>,
    pub(super) need: Need,
    /// What the user calls it.
    pub(super) limit: Cow<'static, str>,
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

/// What a specification asks for.
#[derive(Debug, Default)]
pub(super) struct Requested {
    pub(super) settings: Vec<Setting>,
    /// What is obsolete and so has no effect: lines for the user.
    pub(super) ignored: Vec<String>,
}

/// The settings that a specification asks for.
pub(super) fn settings(resources: &Resources) -> Result<Requested, Error> {
    let mut requested = Requested::default();
    if let Some(memory) = &resources.memory {
        memory::settings(memory, &mut requested)?;
    }
    let list = &mut requested.settings;
    if let Some(cpu) = &resources.cpu {
        cpu::settings(cpu, list)?;
    }
    if let Some(block) = &resources.block_io {
        block::settings(block, list)?;
    }
    others::settings(resources, list)?;
    // Last: whoever names a file means it, whatever else was said.
    unified::settings(&resources.unified, list)?;
    Ok(requested)
}

/// Whether anything is limited, so that a container without groups would not be what was asked for. Device rules
/// do not count: their default is in every specification.
pub fn asks_for_limits(resources: &Resources) -> bool {
    settings(resources).map_or(true, |requested| {
        let unlimited = |s: &Setting| matches!(s, Setting::Other(others::Setting::Pids(None)));
        !requested.settings.iter().all(unlimited)
    })
}

/// Negative numbers are "unlimited": of sizes -1 alone.
fn amount(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

fn write(
    controller: Controller,
    file: impl Into<Cow<'static, str>>,
    value: impl ToString,
    limit: &'static str,
) -> Write {
    let (file, limit) = (file.into(), Cow::Borrowed(limit));
    Write { controller, file, value: value.to_string(), otherwise: None, need: Need::Asked, limit }
}

impl Write {
    fn need(self, need: Need) -> Self {
        Self { need, ..self }
    }
}

fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |v| v.to_string())
}

fn or_minus_one(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".to_owned(), |v| v.to_string())
}

/// What only v1 can do.
fn only_v1(limit: &'static str, controller: &'static str) -> Error {
    Error::Missing { limit: limit.into(), controller: controller.into() }
}

/// v2's files (Documentation/admin-guide/cgroup-v2.rst).
pub(super) fn v2(settings: &[Setting]) -> Result<Vec<Write>, Error> {
    let mut list = Vec::with_capacity(settings.len());
    for setting in settings {
        match setting {
            Setting::Memory(setting) => memory::v2(setting, &mut list)?,
            Setting::Cpu(setting) => cpu::v2(setting, &mut list)?,
            Setting::Block(setting) => block::v2(setting, &mut list)?,
            Setting::Other(setting) => others::v2(setting, &mut list)?,
            Setting::Unified(setting) => list.push(unified::v2(setting)),
        }
    }
    Ok(list)
}

/// v1's files. Their order matters little: what depends on another is tried again after it.
pub(super) fn v1(settings: &[Setting]) -> Result<Vec<Write>, Error> {
    let mut list = Vec::with_capacity(settings.len());
    for setting in settings {
        match setting {
            Setting::Memory(setting) => memory::v1(setting, &mut list),
            Setting::Cpu(setting) => cpu::v1(setting, &mut list),
            Setting::Block(setting) => block::v1(setting, &mut list),
            Setting::Other(setting) => others::v1(setting, &mut list),
            Setting::Unified(setting) => return Err(unified::v1(setting)),
        }
    }
    Ok(list)
}

/// The controllers that are asked for by v2's name.
pub(super) fn named(settings: &[Setting]) -> impl Iterator<Item = (&str, &str)> {
    settings.iter().filter_map(|setting| match setting {
        Setting::Unified(unified) => Some((unified.controller(), unified.file.as_str())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use oci::runtime::{
        BlockIo, Cpu, HugepageLimit, Memory, Network, Pids, Rdma, ThrottleDevice, WeightDevice,
    };
    use proptest::prelude::*;

    use super::*;

    fn all() -> Resources {
        Resources {
            memory: Some(Memory {
                limit: Some(64 << 20),
                reservation: Some(32 << 20),
                swap: Some(96 << 20),
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                shares: Some(512),
                quota: Some(150_000),
                period: None,
                cpus: Some("0-1".to_owned()),
                mems: Some("0".to_owned()),
                ..Cpu::default()
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
        let settings = settings(&all()).unwrap().settings;
        assert_eq!(
            lines(&v2(&settings).unwrap()),
            [
                "memory.max=67108864",
                "memory.swap.max=33554432",
                "memory.low=33554432",
                "cpu.weight=59",
                "cpu.max=150000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "pids.max=100",
            ]
        );
        assert_eq!(
            lines(&v1(&settings).unwrap()),
            [
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=100663296",
                "memory.soft_limit_in_bytes=33554432",
                "cpu.shares=512",
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
            let memory = Some(Memory {
                limit: Some(limit),
                swap: Some(swap),
                reservation: Some(0),
                ..Memory::default()
            });
            let resources = Resources { memory, pids: Some(Pids { limit: pids }), ..Resources::default() };
            lines(&v2(&settings(&resources).unwrap().settings).unwrap())
        };
        assert_eq!(of(-1, -1, -1), ["memory.max=max", "memory.swap.max=max", "pids.max=max"]);
        assert_eq!(of(0, 0, 0), ["pids.max=max"]);
        assert_eq!(of(1 << 20, 1 << 20, 5), ["memory.max=1048576", "memory.swap.max=0", "pids.max=5"]);
        assert_eq!(of(1 << 20, -1, 5)[1], "memory.swap.max=max");
    }

    fn of(resources: Resources) -> (Vec<String>, Vec<String>) {
        let settings = settings(&resources).unwrap().settings;
        (lines(&v1(&settings).unwrap()), lines(&v2(&settings).unwrap()))
    }

    #[test]
    fn a_period_alone_and_a_burst() {
        let cpu = Cpu { period: Some(50_000), burst: Some(0), ..Cpu::default() };
        let (v1, v2) = of(Resources { cpu: Some(cpu), ..Resources::default() });
        assert_eq!(v1, ["cpu.cfs_period_us=50000", "cpu.cfs_burst_us=0"]);
        assert_eq!(v2, ["cpu.max=max 50000", "cpu.max.burst=0"]);
    }

    #[test]
    fn an_idle_group_has_no_weight_of_its_own() {
        let of_idle = |idle| {
            let cpu = Cpu { idle: Some(idle), shares: Some(1024), ..Cpu::default() };
            of(Resources { cpu: Some(cpu), ..Resources::default() }).1
        };
        assert_eq!(of_idle(1), ["cpu.idle=1"]);
        assert_eq!(of_idle(0), ["cpu.idle=0", "cpu.weight=100"]);
    }

    #[test]
    fn unlimited_memory_needs_unlimited_swap() {
        let memory = Memory { limit: Some(-1), ..Memory::default() };
        let (v1, v2) = of(Resources { memory: Some(memory), ..Resources::default() });
        assert_eq!(v1, ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]);
        assert_eq!(v2, ["memory.max=max", "memory.swap.max=max"]);
    }

    #[test]
    fn what_only_v1_has_is_refused_on_v2() {
        let only_v1: [fn(&mut Resources); 6] = [
            |r| r.memory = Some(Memory { swappiness: Some(10), ..Memory::default() }),
            |r| r.memory = Some(Memory { disable_oom_killer: Some(true), ..Memory::default() }),
            |r| r.memory = Some(Memory { kernel_tcp: Some(1 << 20), ..Memory::default() }),
            |r| r.cpu = Some(Cpu { realtime_runtime: Some(1000), ..Cpu::default() }),
            |r| r.network = Some(Network { class_id: Some(7), ..Network::default() }),
            |r| r.block_io = Some(BlockIo { leaf_weight: Some(10), ..BlockIo::default() }),
        ];
        for set in only_v1 {
            let mut resources = Resources::default();
            set(&mut resources);
            let settings = settings(&resources).unwrap().settings;
            assert!(matches!(v2(&settings), Err(Error::Missing { .. })), "{resources:?}");
            assert_eq!(v1(&settings).unwrap().len(), 1);
        }
        // What is as v2 has it anyway is no request: Docker always says so.
        let memory = Memory {
            disable_oom_killer: Some(false),
            use_hierarchy: Some(true),
            swappiness: Some(u64::MAX),
            ..Memory::default()
        };
        assert!(of(Resources { memory: Some(memory), ..Resources::default() }).1.is_empty());
    }

    #[test]
    fn block_devices_and_the_rest() {
        let throttle = |rate| vec![ThrottleDevice { major: 8, minor: 16, rate }];
        let resources = Resources {
            block_io: Some(BlockIo {
                weight: Some(500),
                weight_device: vec![WeightDevice { major: 8, minor: 0, weight: Some(10), leaf_weight: None }],
                throttle_read_bps_device: throttle(1 << 20),
                throttle_write_iops_device: throttle(0),
                ..BlockIo::default()
            }),
            hugepage_limits: vec![HugepageLimit { page_size: "2048KB".to_owned(), limit: 4 << 20 }],
            rdma: [("mlx".to_owned(), Rdma { hca_handles: Some(3), hca_objects: None })].into(),
            ..Resources::default()
        };
        let (v1, v2) = of(resources.clone());
        assert_eq!(
            v2,
            [
                "io.bfq.weight=500",
                "io.bfq.weight=8:0 10",
                "io.max=8:16 rbps=1048576",
                "io.max=8:16 wiops=max",
                "hugetlb.2MB.max=4194304",
                "hugetlb.2MB.rsvd.max=4194304",
                "rdma.max=mlx hca_handle=3",
            ]
        );
        assert_eq!(
            v1,
            [
                "blkio.weight=500",
                "blkio.weight_device=8:0 10",
                "blkio.throttle.read_bps_device=8:16 1048576",
                "blkio.throttle.write_iops_device=8:16 0",
                "hugetlb.2MB.limit_in_bytes=4194304",
                "hugetlb.2MB.rsvd.limit_in_bytes=4194304",
                "rdma.max=mlx hca_handle=3",
            ]
        );
        let writes = super::v2(&settings(&resources).unwrap().settings).unwrap();
        let otherwise: Vec<_> = writes.iter().filter_map(|w| w.otherwise.clone()).collect();
        assert_eq!(otherwise, [("io.weight", "4950".to_owned()), ("io.weight", "8:0 1".to_owned())]);
    }

    #[test]
    fn names_in_unified_are_files_of_limits() {
        let of = |file: &str| {
            let unified = [(file.to_owned(), "1".to_owned())].into();
            settings(&Resources { unified, ..Resources::default() }).map(|r| r.settings)
        };
        for good in ["memory.high", "io.max", "hugetlb.1GB.max", "cgroup.max.depth", "new_one.some-thing"] {
            let settings = of(good).unwrap();
            assert_eq!(lines(&v2(&settings).unwrap()), [format!("{good}=1")]);
            assert!(v1(&settings).is_err());
        }
        for bad in
            ["", "memory", ".max", "memory.", "../x.y", "a/b.c", "cgroup.procs", "cgroup.kill", "a.b\0"]
        {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_obsolete_is_said() {
        let memory = Memory { kernel: Some(1 << 20), use_hierarchy: Some(false), ..Memory::default() };
        let requested = settings(&Resources { memory: Some(memory), ..Resources::default() }).unwrap();
        assert!(requested.settings.is_empty() && requested.ignored.len() == 2);
    }

    #[test]
    fn unlimited_is_not_asking_for_a_limit() {
        assert!(!asks_for_limits(&Resources::default()));
        assert!(!asks_for_limits(&Resources { pids: Some(Pids { limit: -1 }), ..Resources::default() }));
        assert!(asks_for_limits(&Resources { pids: Some(Pids { limit: 5 }), ..Resources::default() }));
    }

    #[test]
    fn contradictions_are_errors() {
        let cpu = |cpu| settings(&Resources { cpu: Some(cpu), ..Resources::default() });
        assert!(cpu(Cpu { quota: Some(1000), burst: Some(2000), ..Cpu::default() }).is_err());
        assert!(cpu(Cpu { idle: Some(2), ..Cpu::default() }).is_err());
        assert!(cpu(Cpu { cpus: Some("0;1".to_owned()), ..Cpu::default() }).is_err());
        let block = BlockIo { weight: Some(5), ..BlockIo::default() };
        assert!(settings(&Resources { block_io: Some(block), ..Resources::default() }).is_err());
        let rdma = [("mlx".to_owned(), Rdma::default())].into();
        assert!(settings(&Resources { rdma, ..Resources::default() }).is_err());
        let of = |limit, swap| {
            let memory = Some(Memory { limit, swap: Some(swap), ..Memory::default() });
            settings(&Resources { memory, ..Resources::default() })
        };
        assert!(of(Some(2 << 20), 1 << 20).is_err());
        assert!(of(None, 1 << 20).is_err());
        assert!(of(Some(-1), 1 << 20).is_err());
    }

    proptest! {
        #[test]
        fn any_numbers_are_taken_or_refused(
            limit in proptest::option::of(any::<i64>()), swap in proptest::option::of(any::<i64>()),
            quota in proptest::option::of(any::<i64>()), period in proptest::option::of(any::<u64>()),
            shares in proptest::option::of(any::<u64>()), pids in any::<i64>(),
        ) {
            let resources = Resources {
                memory: Some(Memory { limit, swap, reservation: limit, ..Memory::default() }),
                cpu: Some(Cpu { shares, quota, period, ..Cpu::default() }),
                pids: Some(Pids { limit: pids }),
                ..Resources::default()
            };
            if let Ok(requested) = settings(&resources) {
                prop_assert!(v1(&requested.settings).is_ok() && v2(&requested.settings).is_ok());
            }
        }
    }
}
