//! `events`: what a container uses, now and then, and when it runs out of memory.
//!
//! A line of JSON each: `{"type":"stats","id":…,"data":…}` in the form that runc gave it, `{"type":"oom","id":…}`.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs::At as _;
use oci::runtime::Status;
use runtime::cgroup::Group;
use runtime::cgroup::stats::{Amount, BlockEntry, Pressure, PressureLine, Stats};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use crate::arguments::{Command, Parsed, switch, value};
use crate::error::{Doing as _, Error};
use crate::globals::Globals;
use crate::report::answer;
use crate::store::Store;

/// What v1 counts limits in, in bytes: almost everywhere.
const PAGE: u64 = 4096;

pub(crate) const COMMAND: Command = Command {
    name: "events",
    about: "show what a container uses, and when it runs out of memory",
    usage: "[command options] <container-id>\n\n   Goes on until the container has ended.",
    flags: &[
        value(&["interval"], "how often to show what it uses (default: 5s)"),
        switch(&["stats"], "show what it uses once, and end"),
    ],
    arguments: (1, 1),
    in_order: false,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let interval = flags.text("interval")?.map_or(Ok(Duration::from_secs(5)), duration)?;
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let record = container.record()?;
    if container.status(&record)? == Status::Stopped {
        return Err(Error::State(format!("container with id {} is not running", container.id)));
    }
    let none = || Error::State("the container has no cgroup of its own".to_owned());
    let group = record.group()?.ok_or_else(none)?;
    let id = &container.id;
    let show = |kind: &str, data: Option<Value>| {
        let mut event = json!({"type": kind, "id": id});
        if let Some(data) = data {
            event["data"] = data;
        }
        answer(&format!("{event}\n"))
    };
    let now = || {
        let mut stats = group.stats();
        fill_cpuset(&mut stats, record.pid);
        let mut data = data(&stats, unlimited(&group));
        tell_cpuset(&mut data["cpuset"], group.paths().get("cpuset").map(PathBuf::as_path));
        data
    };
    if flags.is_on("stats") {
        return show("stats", Some(now())).map(|()| 0);
    }
    let Some(process) = record.open()? else { return Ok(0) };
    let watch = Watch::new(&group)?;
    let mut kills = group.stats().memory.oom_kills;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        let mut sources = vec![PollFd::new(&process, PollFlags::IN)];
        if let Some(watch) = &watch {
            sources.push(PollFd::new(watch, watch.kind()));
        }
        match poll(&mut sources, Some(&left)) {
            Err(Errno::INTR) => continue,
            other => other.doing("wait for events")?,
        };
        let ready: Vec<bool> = sources.iter().map(|source| !source.revents().is_empty()).collect();
        drop(sources);
        let told = ready.get(1) == Some(&true);
        if let Some(watch) = &watch
            // v2 tells at most every 10 ms: the kill that ended it all may be yet to be told of.
            && (told || ready[0] && !watch.tells_of_oom_alone())
        {
            watch.acknowledge();
            let now = group.stats().memory.oom_kills;
            // On v1 whoever counts may lag behind whoever tells.
            if now > kills || watch.tells_of_oom_alone() {
                show("oom", None)?;
            }
            kills = now;
        }
        if ready[0] {
            return Ok(0);
        }
        if Instant::now() >= next {
            show("stats", Some(now()))?;
            next = Instant::now() + interval;
        }
    }
}

/// What tells that memory ran out.
enum Watch {
    /// v2: `memory.events`, which changes.
    Events(File),
    /// v1: an eventfd that was registered for `memory.oom_control`.
    Control(OwnedFd),
}

impl Watch {
    /// None where there is no memory controller.
    fn new(group: &Group) -> Result<Option<Self>, Error> {
        let paths = group.paths();
        let watch = match (paths.get(""), paths.get("memory")) {
            (Some(place), _) => {
                let path = place.join("memory.events");
                if !path.exists() {
                    return Ok(None);
                }
                let watch = Self::Events(File::open(&path).at("open", &path)?);
                // The first reading arms it.
                watch.acknowledge();
                watch
            }
            (None, Some(place)) => {
                let control =
                    File::open(place.join("memory.oom_control")).at("open the oom_control of", place)?;
                let event = eventfd(0, EventfdFlags::CLOEXEC).doing("make an eventfd")?;
                let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
                let path = place.join("cgroup.event_control");
                std::fs::write(&path, line).at("write", &path)?;
                Self::Control(event)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(watch))
    }

    fn kind(&self) -> PollFlags {
        match self {
            Self::Events(_) => PollFlags::PRI,
            Self::Control(_) => PollFlags::IN,
        }
    }

    fn acknowledge(&self) {
        use std::os::unix::fs::FileExt as _;
        let mut buffer = [0; 256];
        // What matters is that it was read.
        match self {
            Self::Events(file) => drop(file.read_at(&mut buffer, 0)),
            Self::Control(event) => drop(rustix::io::read(event, &mut buffer[..8])),
        }
    }

    fn tells_of_oom_alone(&self) -> bool {
        matches!(self, Self::Control(_))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        match self {
            Self::Events(file) => file.as_fd(),
            Self::Control(event) => event.as_fd(),
        }
    }
}

/// `5s`, `500ms`, `1m30s`, as Go's flags have durations.
fn duration(text: &str) -> Result<Duration, Error> {
    let wrong = || Error::Usage(format!("invalid value {text:?} for flag -interval: parse error"));
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if total > 0.0 && total < 1e9 {
        Ok(Duration::from_secs_f64(total))
    } else {
        Err(Error::Usage("duration interval must be greater than 0".to_owned()))
    }
}

/// What a limit that is not there is told as: v1's own number of pages, v2's `max`.
fn unlimited(group: &Group) -> u64 {
    if group.paths().contains_key("memory") { i64::MAX.cast_unsigned() / PAGE * PAGE } else { u64::MAX }
}

/// In a group without a set of its own, what is above it counts, which is what the process may use.
fn fill_cpuset(stats: &mut Stats, pid: u32) {
    if !stats.cpuset.cpus.is_empty() && !stats.cpuset.mems.is_empty() {
        return;
    }
    // It may have ended; then it uses none.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    for (list, name) in
        [(&mut stats.cpuset.cpus, "Cpus_allowed_list:"), (&mut stats.cpuset.mems, "Mems_allowed_list:")]
    {
        if list.is_empty() {
            field(name).clone_into(list);
        }
    }
}

/// v1's flags of a set; where there are none (a group without a set, and v2), they are 0, as runc has them there.
fn tell_cpuset(told: &mut Value, directory: Option<&Path>) {
    for name in [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ] {
        let file = directory.map(|directory| directory.join(format!("cpuset.{name}")));
        let text = file.and_then(|file| std::fs::read_to_string(file).ok());
        told[name] = text.and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0).into();
    }
}

/// In the form of runc's: what is zero or not known is left out where runc leaves it out.
fn data(stats: &Stats, unlimited: u64) -> Value {
    let amount = |of| amount(of, unlimited);
    let (cpu, memory, io) = (&stats.cpu, &stats.memory, &stats.block_io);
    // v1's `swap` is memory and swap together, and so is what its readers expect.
    let swap = if memory.with_swap == Amount::default() { memory.swap } else { memory.with_swap };
    let mut data = json!({
        "cpu": {
            "usage": {"kernel": cpu.kernel, "user": cpu.user},
            "throttling": sparse(&[
                ("periods", cpu.periods),
                ("throttledPeriods", cpu.throttled_periods),
                ("throttledTime", cpu.throttled_time),
            ]),
        },
        "cpuset": {"cpus": numbers(&stats.cpuset.cpus), "mems": numbers(&stats.cpuset.mems)},
        "memory": {
            "usage": amount(memory.usage),
            "swap": amount(swap),
            "kernel": amount(memory.kernel),
            "kernelTCP": amount(memory.kernel_tcp),
            "raw": memory.details,
        },
        "pids": sparse(&[("current", stats.pids.current), ("limit", stats.pids.limit.unwrap_or(0))]),
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    });
    set(&mut data["cpu"]["usage"], "total", cpu.total);
    set(&mut data["memory"], "cache", memory.cache);
    for (name, list) in
        [("percpu", &cpu.per_cpu), ("percpu_kernel", &cpu.per_cpu_kernel), ("percpu_user", &cpu.per_cpu_user)]
    {
        if !list.is_empty() {
            data["cpu"]["usage"][name] = json!(list);
        }
    }
    for (name, list) in [
        ("ioServiceBytesRecursive", &io.service_bytes),
        ("ioServicedRecursive", &io.serviced),
        ("ioQueueRecursive", &io.queued),
        ("ioServiceTimeRecursive", &io.service_time),
        ("ioWaitTimeRecursive", &io.wait_time),
        ("ioMergedRecursive", &io.merged),
        ("ioTimeRecursive", &io.time),
        ("sectorsRecursive", &io.sectors),
    ] {
        if !list.is_empty() {
            data["blkio"][name] = list.iter().map(block).collect();
        }
    }
    for (size, pages) in &stats.hugepages {
        let mut entry = json!({"failcnt": pages.failures});
        set(&mut entry, "usage", pages.usage);
        set(&mut entry, "max", pages.maximum);
        data["hugetlb"][size] = entry;
    }
    for (place, pressure) in [("cpu", cpu.pressure), ("memory", memory.pressure), ("blkio", io.pressure)] {
        if let Some(pressure) = pressure {
            data[place]["psi"] = psi(pressure);
        }
    }
    data
}

fn set(object: &mut Value, name: &str, number: u64) {
    if number != 0 {
        object[name] = number.into();
    }
}

fn sparse(fields: &[(&str, u64)]) -> Value {
    let fields = fields.iter().filter(|(_, number)| *number != 0);
    Value::Object(fields.map(|(name, number)| ((*name).to_owned(), (*number).into())).collect::<Map<_, _>>())
}

fn amount(amount: Amount, unlimited: u64) -> Value {
    let mut entry = json!({"limit": amount.limit.unwrap_or(unlimited), "failcnt": amount.failures});
    set(&mut entry, "usage", amount.usage);
    set(&mut entry, "max", amount.maximum);
    entry
}

fn block(entry: &BlockEntry) -> Value {
    let mut value = sparse(&[("major", entry.major), ("minor", entry.minor), ("value", entry.value)]);
    if !entry.operation.is_empty() {
        value["op"] = entry.operation.clone().into();
    }
    value
}

fn psi(pressure: Pressure) -> Value {
    let line = |line: PressureLine| json!({"avg10": line.avg10, "avg60": line.avg60, "avg300": line.avg300, "total": line.total});
    json!({"some": line(pressure.some), "full": line(pressure.full)})
}

/// `0-3,7` as numbers. A list that the kernel wrote has no more than the machine has.
fn numbers(list: &str) -> Vec<u16> {
    let mut found = BTreeSet::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            found.extend(first..=last);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("0.5s", 500)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "0s", "5", "s", "-1s", "1x", "9999999999h", "1.2.3s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn statistics_have_the_form_of_runc() {
        let mut stats = Stats::default();
        stats.cpu.total = 7;
        stats.cpuset.cpus = "0-2,5".to_owned();
        stats.memory.usage = Amount { usage: 1, maximum: 2, failures: 3, limit: Some(4) };
        stats.memory.details.insert("rss".to_owned(), 9);
        stats.pids.current = 1;
        let entry = BlockEntry { major: 8, minor: 0, operation: "Read".to_owned(), value: 5 };
        stats.block_io.service_bytes.push(entry);
        stats.memory.pressure = Some(Pressure::default());
        let data = data(&stats, u64::MAX);
        assert_eq!(data["cpu"]["usage"], json!({"total": 7, "kernel": 0, "user": 0}));
        assert_eq!(data["cpu"]["throttling"], json!({}));
        assert_eq!(data["cpuset"]["cpus"], json!([0, 1, 2, 5]));
        assert_eq!(data["memory"]["usage"], json!({"limit": 4, "usage": 1, "max": 2, "failcnt": 3}));
        assert_eq!(data["memory"]["swap"]["limit"], json!(u64::MAX));
        assert_eq!(data["memory"]["raw"], json!({"rss": 9}));
        assert_eq!(data["pids"], json!({"current": 1}));
        assert_eq!(data["blkio"]["ioServiceBytesRecursive"], json!([{"major": 8, "op": "Read", "value": 5}]));
        assert_eq!(data["memory"]["psi"]["some"]["total"], json!(0));
    }
}
