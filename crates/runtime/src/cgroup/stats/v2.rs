//! v2's files.

use std::path::Path;

use super::parse::{device, limit_of, number, page_sizes, pressure, rdma, table, text};
use super::{Amount, BlockEntry, BlockIo, Cpu, Cpuset, HugePages, Memory, Pids, Rdma, Stats};
use crate::cgroup::group::Group;

/// v2 counts processor time in microseconds.
const MICRO: u64 = 1000;

pub(super) fn read(group: &Group) -> Stats {
    let Some(directory) = group.directories.iter().find(|d| d.v2) else { return Stats::default() };
    let path = &directory.path;
    Stats {
        cpu: cpu(path),
        cpuset: Cpuset {
            cpus: text(path, "cpuset.cpus.effective").trim().to_owned(),
            mems: text(path, "cpuset.mems.effective").trim().to_owned(),
        },
        memory: memory(path),
        pids: Pids { current: number(path, "pids.current"), limit: limit_of(path, "pids.max") },
        block_io: block_io(path),
        hugepages: page_sizes(path, "current")
            .into_iter()
            .map(|size| {
                let events = table(&text(path, &format!("hugetlb.{size}.events")));
                let pages = HugePages {
                    usage: number(path, &format!("hugetlb.{size}.current")),
                    maximum: 0,
                    failures: events.get("max").copied().unwrap_or(0),
                };
                (size, pages)
            })
            .collect(),
        rdma: Rdma { current: rdma(&text(path, "rdma.current")), limits: rdma(&text(path, "rdma.max")) },
    }
}

fn cpu(path: &Path) -> Cpu {
    let stat = table(&text(path, "cpu.stat"));
    let count = |key: &str| stat.get(key).copied().unwrap_or(0);
    let time = |key: &str| count(key).saturating_mul(MICRO);
    Cpu {
        total: time("usage_usec"),
        kernel: time("system_usec"),
        user: time("user_usec"),
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_time: time("throttled_usec"),
        bursts: count("nr_bursts"),
        burst_time: time("burst_usec"),
        pressure: pressure(&text(path, "cpu.pressure")),
        ..Cpu::default()
    }
}

fn memory(path: &Path) -> Memory {
    let details = table(&text(path, "memory.stat"));
    let amount = |name: &str| Amount {
        usage: number(path, &format!("{name}.current")),
        maximum: number(path, &format!("{name}.peak")),
        failures: table(&text(path, &format!("{name}.events"))).get("max").copied().unwrap_or(0),
        limit: limit_of(path, &format!("{name}.max")),
    };
    let (usage, swap) = (amount("memory"), amount("memory.swap"));
    Memory {
        cache: details.get("file").copied().unwrap_or(0),
        usage,
        swap,
        with_swap: Amount {
            usage: usage.usage.saturating_add(swap.usage),
            maximum: 0,
            failures: swap.failures,
            limit: usage.limit.zip(swap.limit).and_then(|(a, b)| a.checked_add(b)),
        },
        hierarchical: true,
        details,
        pressure: pressure(&text(path, "memory.pressure")),
        ..Memory::default()
    }
}

fn block_io(path: &Path) -> BlockIo {
    let mut block = BlockIo { pressure: pressure(&text(path, "io.pressure")), ..BlockIo::default() };
    block_lines(&text(path, "io.stat"), &mut block);
    block
}

/// `8:0 rbytes=90112 wbytes=0 rios=3 wios=0 dbytes=0 dios=0`
fn block_lines(text: &str, block: &mut BlockIo) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut block.service_bytes, "Read"),
                "wbytes" => (&mut block.service_bytes, "Write"),
                "dbytes" => (&mut block.service_bytes, "Discard"),
                "rios" => (&mut block.serviced, "Read"),
                "wios" => (&mut block.serviced, "Write"),
                "dios" => (&mut block.serviced, "Discard"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlockEntry { major, minor, operation: operation.to_owned(), value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for (name, text) in list {
            std::fs::write(place.path().join(name), text).unwrap();
        }
        place
    }

    #[test]
    fn processor_time_is_nanoseconds() {
        let place = files(&[("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_throttled 2\n")]);
        let read = cpu(place.path());
        assert_eq!((read.total, read.user, read.kernel, read.throttled_periods), (30_000, 20_000, 10_000, 2));
    }

    #[test]
    fn memory_and_swap_are_added_up() {
        let place = files(&[
            ("memory.current", "100\n"),
            ("memory.max", "1000\n"),
            ("memory.events", "low 0\nhigh 0\nmax 7\noom 0\n"),
            ("memory.stat", "anon 60\nfile 40\n"),
            ("memory.swap.current", "5\n"),
            ("memory.swap.max", "50\n"),
        ]);
        let read = memory(place.path());
        assert_eq!((read.cache, read.usage.limit, read.usage.failures), (40, Some(1000), 7));
        assert_eq!((read.with_swap.usage, read.with_swap.limit), (105, Some(1050)));
        std::fs::write(place.path().join("memory.swap.max"), "max\n").unwrap();
        assert_eq!(memory(place.path()).with_swap.limit, None);
    }

    #[test]
    fn block_devices_are_told_in_v1s_terms() {
        let mut block = BlockIo::default();
        block_lines(
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=1\nnonsense\n",
            &mut block,
        );
        let told = |list: &[BlockEntry]| -> Vec<(String, u64)> {
            list.iter().map(|e| (e.operation.clone(), e.value)).collect()
        };
        let three =
            |a, b, c| vec![("Read".to_owned(), a), ("Write".to_owned(), b), ("Discard".to_owned(), c)];
        assert_eq!(told(&block.service_bytes), three(1, 2, 5));
        assert_eq!(told(&block.serviced), three(3, 4, 6));
    }
}
