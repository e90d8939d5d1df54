//! `stats`: what containers use, again and again.
//!
//! No thread and no monitor is asked. The list of live directories says which containers run; each has its files of the
//! cgroup open ([`runtime::cgroup::stats::Meter`]), which are read once a sample. The counters of its network are read
//! through its process: the file is not kept open, for that would keep the network alive. One whose group is gone has
//! ended, or has been started again: its records are read once more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use base::{Id, Timestamp};
use runtime::cgroup::stats::{Meter, Reading, is_spare};
use runtime::cgroup::{Group, Hierarchy};
use rustix::fs::{CWD, Mode, OFlags, openat, stat};
use rustix::process::{Resource, getrlimit, setrlimit};
use state::container::{Status, file};
use state::options::NetworkMode;

use crate::Engine;
use crate::containers::records::{self, Found};
use crate::error::Result;

/// A container in a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStats {
    /// The id.
    pub id: Id,
    /// The name.
    pub name: String,
    /// The word by which it was asked for, if it was.
    pub asked: Option<String>,
    /// What it uses; none where it does not run.
    pub usage: Option<ContainerLoad>,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ContainerLoad {
    /// Nanoseconds of processor time, in all.
    pub cpu: u64,
    /// Percent of one processor since the last sample; 0 in the first.
    pub cpu_percent: f64,
    /// Bytes of memory, but for files that were not used lately.
    pub memory: u64,
    /// The most it may have: its limit, or what the machine has.
    pub memory_limit: u64,
    /// Bytes that came in over the network.
    pub received: u64,
    /// Bytes that went out.
    pub sent: u64,
    /// Bytes read from disks.
    pub block_read: u64,
    /// Bytes written to them.
    pub block_written: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl ContainerLoad {
    /// Percent of the memory that it may have.
    pub fn memory_percent(&self) -> f64 {
        if self.memory_limit == 0 { 0.0 } else { self.memory as f64 / self.memory_limit as f64 * 100.0 }
    }
}

/// Takes samples.
#[derive(Debug)]
pub struct Sampler<'e> {
    engine: &'e Engine,
    hierarchy: Hierarchy,
    /// Those that were asked for, and by which word; none: all.
    wanted: Option<Vec<(String, Id)>>,
    /// Also those that do not run.
    all: bool,
    watched: BTreeMap<Id, Watched>,
    machine_memory: u64,
    buffer: Vec<u8>,
    table: Vec<u8>,
}

/// A container that is looked at.
#[derive(Debug)]
struct Watched {
    name: String,
    created: Timestamp,
    /// Which file its record was read from: a new one takes its place.
    record: u64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    meter: Meter,
    /// Its first process, where it has a network of its own.
    process: Option<Process>,
    last: Option<(Instant, ContainerLoad)>,
}

/// A process, by a directory of `/proc` that is never another one's; by its number where descriptors are short.
#[derive(Debug)]
struct Process {
    pid: u32,
    directory: Option<OwnedFd>,
}

impl Process {
    fn open(pid: u32) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty());
        Self { pid, directory: directory.ok().filter(is_spare) }
    }

    /// What came in and went out over all interfaces of its network but loopback.
    fn network(&self, buffer: &mut Vec<u8>) -> Option<(u64, u64)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match &self.directory {
            Some(directory) => openat(directory, "net/dev", flags, Mode::empty()),
            None => openat(CWD, format!("/proc/{}/net/dev", self.pid), flags, Mode::empty()),
        };
        buffer.clear();
        File::from(file.ok()?).take(1 << 20).read_to_end(buffer).ok()?;
        Some(counters(std::str::from_utf8(buffer).ok()?))
    }
}

impl Engine {
    /// Begins to look at the containers of these names; without names at all that run, or, with `all`, at all.
    pub fn stats(&self, names: &[String], all: bool) -> Result<Sampler<'_>> {
        self.reconcile()?;
        let wanted = names.iter().map(|name| Ok((name.clone(), records::find(&self.instance, name)?)));
        let wanted = wanted.collect::<Result<Vec<_>>>()?;
        raise_descriptors();
        Ok(Sampler {
            engine: self,
            hierarchy: Hierarchy::detect()?,
            all: all || !wanted.is_empty(),
            wanted: (!wanted.is_empty()).then_some(wanted),
            watched: BTreeMap::new(),
            machine_memory: machine_memory(),
            buffer: Vec::new(),
            table: Vec::new(),
        })
    }
}

impl Sampler<'_> {
    /// What the containers use now: as they were asked for, or the newest first.
    pub fn sample(&mut self) -> Result<Vec<ContainerStats>> {
        let ids: Vec<Id> = match &self.wanted {
            Some(wanted) => wanted.iter().map(|(_, id)| id.clone()).collect(),
            None => self.ids()?,
        };
        let there: BTreeSet<&Id> = ids.iter().collect();
        self.watched.retain(|id, _| there.contains(id));
        let mut found = Vec::with_capacity(ids.len());
        for id in &ids {
            if let Some(stats) = self.one(id)? {
                found.push(stats);
            }
        }
        if let Some(wanted) = &self.wanted {
            let place = |id: &Id| wanted.iter().position(|(_, wanted)| wanted == id);
            found.sort_by_key(|stats| place(&stats.id));
            for stats in &mut found {
                stats.asked = place(&stats.id).and_then(|at| wanted.get(at)).map(|(word, _)| word.clone());
            }
        } else {
            let created = |id: &Id| self.watched.get(id).map(|w| w.created);
            found.sort_by(|a, b| (created(&b.id), &b.id).cmp(&(created(&a.id), &a.id)));
        }
        Ok(found)
    }

    fn ids(&self) -> Result<Vec<Id>> {
        let instance = &self.engine.instance;
        if self.all {
            return Ok(records::all(instance)?);
        }
        let live = base::fs::names(&instance.live_containers())?;
        Ok(live.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// None where it is gone, or does not run and need not be shown.
    fn one(&mut self, id: &Id) -> Result<Option<ContainerStats>> {
        let record = record_file(self.engine, id);
        let known = self.watched.get(id).is_some_and(|w| Some(w.record) == record);
        if !known && !self.look(id, record)? {
            return Ok(None);
        }
        let mut usage = self.read(id);
        if usage.is_none() && known {
            // Its group is gone, or it had none: it may have been started since.
            let kept = self.all || self.engine.instance.live(id).exists();
            if !kept || !self.look(id, record)? {
                return Ok(None);
            }
            usage = self.read(id);
        }
        if usage.is_none() && !self.all {
            return Ok(None);
        }
        let name = self.watched.get(id).map(|w| w.name.clone()).unwrap_or_default();
        Ok(Some(ContainerStats { id: id.clone(), name, asked: None, usage }))
    }

    /// Reads its records. False where there are none.
    fn look(&mut self, id: &Id, record: Option<u64>) -> Result<bool> {
        let found = records::load(&self.engine.instance, id)?;
        let (Some(found), Some(record)) = (found, record) else {
            self.watched.remove(id);
            return Ok(false);
        };
        // One that was renamed goes on; one that was started again begins anew.
        let running = match self.watched.remove(id).and_then(|w| w.running) {
            Some(running) if running.meter.read(&mut self.buffer).is_some() => Some(running),
            _ => self.running(&found),
        };
        let Found { record: read, .. } = found;
        self.watched.insert(id.clone(), Watched { name: read.name, created: read.created, record, running });
        Ok(true)
    }

    fn running(&self, found: &Found) -> Option<Running> {
        let live =
            found.live.as_ref().filter(|_| matches!(found.status, Status::Running | Status::Paused))?;
        let group = Group::existing(&self.hierarchy, &self.engine.location(&found.record));
        let own_network = matches!(found.record.options.network, NetworkMode::Bridge | NetworkMode::Networks);
        let process = || Process::open(live.pid);
        Some(Running { meter: group.meter(), process: own_network.then(process), last: None })
    }

    fn read(&mut self, id: &Id) -> Option<ContainerLoad> {
        let running = self.watched.get_mut(id)?.running.as_mut()?;
        let reading = running.meter.read(&mut self.buffer)?;
        let now = Instant::now();
        let network = running.process.as_ref().and_then(|p| p.network(&mut self.table)).unwrap_or_default();
        let usage = usage(reading, network, self.machine_memory, now, running.last.as_ref());
        running.last = Some((now, usage));
        Some(usage)
    }
}

/// As Docker's client computes it.
fn usage(
    reading: Reading,
    (received, sent): (u64, u64),
    machine_memory: u64,
    now: Instant,
    last: Option<&(Instant, ContainerLoad)>,
) -> ContainerLoad {
    let before = last.map_or(ContainerLoad::default(), |(_, usage)| *usage);
    let elapsed = last.map_or(0.0, |(then, _)| now.duration_since(*then).as_nanos() as f64);
    let cpu_percent =
        if elapsed > 0.0 { reading.cpu.saturating_sub(before.cpu) as f64 / elapsed * 100.0 } else { 0.0 };
    ContainerLoad {
        cpu: reading.cpu,
        cpu_percent,
        memory: reading.memory.saturating_sub(reading.inactive_file),
        memory_limit: reading.memory_limit.map_or(machine_memory, |limit| limit.min(machine_memory)),
        received,
        sent,
        // Where processes are asked, those that have ended may be missing.
        block_read: reading.block_read.max(before.block_read),
        block_written: reading.block_written.max(before.block_written),
        pids: reading.pids,
    }
}

/// The number of the record's file.
fn record_file(engine: &Engine, id: &Id) -> Option<u64> {
    stat(engine.instance.container(id).join(file::RECORD)).ok().map(|stat| stat.st_ino)
}

/// `  eth0: RECEIVED … (eight numbers) SENT …`, below two lines of headings.
fn counters(text: &str) -> (u64, u64) {
    let mut sums = (0_u64, 0_u64);
    for line in text.lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let mut numbers = numbers.split_ascii_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
        sums.0 = sums.0.saturating_add(numbers.next().unwrap_or(0));
        sums.1 = sums.1.saturating_add(numbers.nth(7).unwrap_or(0));
    }
    sums
}

/// Bytes; 0 where the kernel does not say.
fn machine_memory() -> u64 {
    let text = base::fs::read(Path::new("/proc/meminfo")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

/// Some files for each of many containers. With fewer it works as well, only slower.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn shares_follow_from_what_was_used_in_between() {
        let then = Instant::now();
        let now = then + Duration::from_secs(2);
        let reading = Reading {
            cpu: 3_000_000_000,
            memory: 100,
            inactive_file: 30,
            memory_limit: Some(140),
            ..Reading::default()
        };
        let before = ContainerLoad { cpu: 1_000_000_000, block_read: 50, ..ContainerLoad::default() };
        let got = usage(reading, (1, 2), 1000, now, Some(&(then, before)));
        assert_eq!((got.cpu_percent, got.memory, got.memory_percent()), (100.0, 70, 50.0));
        assert_eq!((got.received, got.sent, got.block_read), (1, 2, 50));
        let first = usage(Reading { memory_limit: None, ..reading }, (0, 0), 1000, now, None);
        assert_eq!((first.cpu_percent, first.memory_limit), (0.0, 1000));
        assert!(ContainerLoad::default().memory_percent().abs() < 1e-9, "nothing is divided by nothing");
        let more_file_than_all = Reading { inactive_file: 500, ..reading };
        assert_eq!(usage(more_file_than_all, (0, 0), 1000, now, None).memory, 0);
    }

    #[test]
    fn counters_are_those_of_all_interfaces_but_loopback() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
                    eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\neth1:5 1 0 0 0 0 0 0 6 2 0 0 0 0 0 0\n";
        assert_eq!(counters(text), (105, 206));
        assert_eq!(counters(""), (0, 0));
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_read(text in "(.{0,20}:? ?[0-9]{0,25} ?\n){0,6}") {
            counters(&text);
        }
    }
}
