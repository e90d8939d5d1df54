//! v1's files.

use std::path::Path;

use super::parse::{block_v1, limit_of, number, page_sizes, rdma, table, text};
use super::{Amount, BlockEntry, BlockIo, Cpu, Cpuset, HugePages, Memory, Pids, Rdma, Stats};
use crate::cgroup::group::Group;
use crate::cgroup::hierarchy::Controller;

/// v1 counts the time in the kernel and outside in ticks of a hundredth of a second (`USER_HZ`, which is the same on
/// every machine that we run on).
const TICK: u64 = 10_000_000;

pub(super) fn read(group: &Group) -> Stats {
    let mut stats = Stats::default();
    let place = |controller| group.place(controller).map(|directory| directory.path.as_path());
    if let Some(path) = place(Controller::Cpuacct) {
        stats.cpu = cpu_time(path);
    }
    if let Some(path) = place(Controller::Cpu) {
        throttling(path, &mut stats.cpu);
    }
    if let Some(path) = place(Controller::Cpuset) {
        stats.cpuset = Cpuset {
            cpus: text(path, "cpuset.cpus").trim().to_owned(),
            mems: text(path, "cpuset.mems").trim().to_owned(),
        };
    }
    if let Some(path) = place(Controller::Memory) {
        stats.memory = memory(path);
    }
    if let Some(path) = place(Controller::Pids) {
        stats.pids = Pids { current: number(path, "pids.current"), limit: limit_of(path, "pids.max") };
    }
    if let Some(path) = place(Controller::Io) {
        stats.block_io = block_io(path);
    }
    if let Some(path) = place(Controller::Hugetlb) {
        stats.hugepages = page_sizes(path, "usage_in_bytes")
            .into_iter()
            .map(|size| {
                let of = |file: &str| number(path, &format!("hugetlb.{size}.{file}"));
                let pages = HugePages {
                    usage: of("usage_in_bytes"),
                    maximum: of("max_usage_in_bytes"),
                    failures: of("failcnt"),
                };
                (size, pages)
            })
            .collect();
    }
    if let Some(path) = place(Controller::Rdma) {
        stats.rdma =
            Rdma { current: rdma(&text(path, "rdma.current")), limits: rdma(&text(path, "rdma.max")) };
    }
    stats
}

fn cpu_time(path: &Path) -> Cpu {
    let stat = table(&text(path, "cpuacct.stat"));
    let ticks = |key: &str| stat.get(key).copied().unwrap_or(0).saturating_mul(TICK);
    let per_cpu = |file: &str| -> Vec<u64> {
        text(path, file).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    Cpu {
        total: number(path, "cpuacct.usage"),
        kernel: ticks("system"),
        user: ticks("user"),
        per_cpu: per_cpu("cpuacct.usage_percpu"),
        per_cpu_kernel: per_cpu("cpuacct.usage_percpu_sys"),
        per_cpu_user: per_cpu("cpuacct.usage_percpu_user"),
        ..Cpu::default()
    }
}

fn throttling(path: &Path, cpu: &mut Cpu) {
    let stat = table(&text(path, "cpu.stat"));
    let count = |key: &str| stat.get(key).copied().unwrap_or(0);
    cpu.periods = count("nr_periods");
    cpu.throttled_periods = count("nr_throttled");
    cpu.throttled_time = count("throttled_time");
    cpu.bursts = count("nr_bursts");
    cpu.burst_time = count("burst_time");
}

fn memory(path: &Path) -> Memory {
    let details = table(&text(path, "memory.stat"));
    let amount = |name: &str| Amount {
        usage: number(path, &format!("{name}.usage_in_bytes")),
        maximum: number(path, &format!("{name}.max_usage_in_bytes")),
        failures: number(path, &format!("{name}.failcnt")),
        limit: limit_of(path, &format!("{name}.limit_in_bytes")),
    };
    Memory {
        cache: details.get("cache").copied().unwrap_or(0),
        usage: amount("memory"),
        with_swap: amount("memory.memsw"),
        kernel: amount("memory.kmem"),
        kernel_tcp: amount("memory.kmem.tcp"),
        hierarchical: number(path, "memory.use_hierarchy") == 1,
        details,
        ..Memory::default()
    }
}

/// Three schedulers have left three sets of files: that of BFQ has all, that of CFQ had (until Linux 5.0), and what
/// throttling counts is there with any.
fn block_io(path: &Path) -> BlockIo {
    let first = |names: &[String]| -> Vec<BlockEntry> {
        names.iter().map(|name| block_v1(&text(path, name))).find(|list| !list.is_empty()).unwrap_or_default()
    };
    let counted = |name: &str| {
        first(&[
            format!("blkio.bfq.{name}_recursive"),
            format!("blkio.{name}_recursive"),
            format!("blkio.throttle.{name}_recursive"),
            format!("blkio.throttle.{name}"),
        ])
    };
    let scheduled =
        |name: &str| first(&[format!("blkio.bfq.{name}_recursive"), format!("blkio.{name}_recursive")]);
    BlockIo {
        service_bytes: counted("io_service_bytes"),
        serviced: counted("io_serviced"),
        queued: scheduled("io_queued"),
        service_time: scheduled("io_service_time"),
        wait_time: scheduled("io_wait_time"),
        merged: scheduled("io_merged"),
        time: scheduled("time"),
        sectors: scheduled("sectors"),
        pressure: None,
    }
}
