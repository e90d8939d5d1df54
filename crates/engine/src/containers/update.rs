//! `update`: other limits for containers that are there.
//!
//! Everything is checked first; then the limits of one that runs are changed in the kernel, at once; then the record is
//! replaced, from which later starts are made. What fails takes back what was done before it. A monitor that starts the
//! container again by itself finds the new limits in the live directory ([`file::RESOURCES`]).

use std::time::{Duration, Instant};

use base::fs::{self, Durability};
use oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources};
use runtime::cgroup::{Group, Hierarchy};
use state::container::{Record, Status, file};
use state::options::{ContainerOptions, RestartPolicy};
use state::protocol::CHANGES;

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::create::machine;
use crate::containers::ownership::Owner;
use crate::containers::reconcile::{Encode, read_request};
use crate::containers::records::{self, Found};
use crate::containers::spec::limits;
use crate::containers::start::swap_is_accounted;
use crate::error::{Error, Result};

/// How long a container may be held by whoever starts it.
const STARTING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// The limits that can be changed of a container; none: it stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitChanges {
    /// `--memory`, bytes.
    pub memory: Option<u64>,
    /// `--memory-swap`, bytes; -1 is unlimited.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: Option<u64>,
    /// `--kernel-memory`, which has no meaning any more.
    pub kernel_memory: Option<u64>,
    /// `--cpus`, in billionths of one processor.
    pub nano_cpus: Option<u64>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, microseconds; -1 is unlimited.
    pub cpu_quota: Option<i64>,
    /// `--cpu-rt-period`, microseconds.
    pub cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`, microseconds.
    pub cpu_rt_runtime: Option<u64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// `--blkio-weight`.
    pub blkio_weight: Option<u16>,
    /// `--bandwidth-in`, bytes per second; 0 is unlimited.
    pub bandwidth_in: Option<u64>,
    /// `--bandwidth-out`, bytes per second; 0 is unlimited.
    pub bandwidth_out: Option<u64>,
}

impl LimitChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts them into options.
    pub fn apply(&self, options: &mut ContainerOptions) {
        fn set<T: Clone>(to: &mut Option<T>, value: Option<&T>) {
            if let Some(value) = value {
                *to = Some(value.clone());
            }
        }
        set(&mut options.memory, self.memory.as_ref());
        set(&mut options.nano_cpus, self.nano_cpus.as_ref());
        set(&mut options.pids_limit, self.pids_limit.as_ref());
        let limits = &mut options.limits;
        set(&mut limits.memory_swap, self.memory_swap.as_ref());
        set(&mut limits.memory_reservation, self.memory_reservation.as_ref());
        set(&mut limits.kernel_memory, self.kernel_memory.as_ref());
        set(&mut limits.cpu_shares, self.cpu_shares.as_ref());
        set(&mut limits.cpu_period, self.cpu_period.as_ref());
        set(&mut limits.cpu_quota, self.cpu_quota.as_ref());
        set(&mut limits.cpu_rt_period, self.cpu_rt_period.as_ref());
        set(&mut limits.cpu_rt_runtime, self.cpu_rt_runtime.as_ref());
        set(&mut limits.cpuset_cpus, self.cpuset_cpus.as_ref());
        set(&mut limits.cpuset_mems, self.cpuset_mems.as_ref());
        set(&mut limits.blkio_weight, self.blkio_weight.as_ref());
        set(&mut limits.bandwidth_in, self.bandwidth_in.as_ref());
        set(&mut limits.bandwidth_out, self.bandwidth_out.as_ref());
        for rate in [&mut limits.bandwidth_in, &mut limits.bandwidth_out] {
            *rate = rate.filter(|rate| *rate > 0);
        }
    }

    /// What of a container's resources is written anew.
    fn resources(&self, all: &Resources) -> Resources {
        let memory = all.memory.as_ref().map(|memory| {
            // Swap follows memory, and is written with it.
            let both = self.memory.is_some() || self.memory_swap.is_some();
            Memory {
                limit: memory.limit.filter(|_| both),
                swap: memory.swap.filter(|_| both),
                reservation: memory.reservation.filter(|_| self.memory_reservation.is_some()),
                // A container is not killed by an update that leaves it less than it has.
                check_before_update: Some(true),
                ..Memory::default()
            }
        });
        let cpu = all.cpu.as_ref().map(|cpu| {
            let bandwidth = self.nano_cpus.is_some() || self.cpu_period.is_some() || self.cpu_quota.is_some();
            let realtime = self.cpu_rt_period.is_some() || self.cpu_rt_runtime.is_some();
            Cpu {
                shares: cpu.shares.filter(|_| self.cpu_shares.is_some()),
                quota: cpu.quota.filter(|_| bandwidth),
                period: cpu.period.filter(|_| bandwidth),
                realtime_period: cpu.realtime_period.filter(|_| realtime),
                realtime_runtime: cpu.realtime_runtime.filter(|_| realtime),
                cpus: cpu.cpus.clone().filter(|_| self.cpuset_cpus.is_some()),
                mems: cpu.mems.clone().filter(|_| self.cpuset_mems.is_some()),
                ..Cpu::default()
            }
        });
        let weight = self.blkio_weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() });
        Resources {
            memory,
            cpu,
            pids: self.pids_limit.map(|limit| Pids { limit }),
            block_io: weight,
            ..Resources::default()
        }
    }
}

impl Engine {
    /// Changes the limits of a container. Returns what is given otherwise than asked.
    pub fn update(&self, name: &str, changes: &LimitChanges) -> Result<Vec<String>> {
        let (found, _not_started) = self.up_or_held(name)?;
        let id = &found.record.id;
        let mut warnings = Vec::new();
        let mut done = None;
        let changed = records::change::<Error>(&self.instance, id, |record| {
            let had_warned = record.options.limits.kernel_memory.take();
            changes.apply(&mut record.options);
            warnings = limits::check(&record.options, &machine(&record.options))?;
            record.options.limits.kernel_memory = record.options.limits.kernel_memory.or(had_warned);
            // Looked at again under the lock: it may have ended meanwhile.
            if let Some(now) = records::load(&self.instance, id)?
                && now.status.is_up()
            {
                warnings.extend(forgetful(&now));
                done = Some(self.update_running(record, now.status, changes)?);
            }
            Ok(())
        });
        match changed {
            Ok(record) => {
                self.note_container("update", &record, &[]);
                Ok(warnings)
            }
            Err(error) => {
                if let Some(done) = done {
                    done.undo();
                }
                Err(error)
            }
        }
    }

    /// A container that runs; or one that does not, and is not started as long as it is held: a start reads the record
    /// before there is anything to be seen of it.
    pub(crate) fn up_or_held(&self, name: &str) -> Result<(Found, Option<Owner>)> {
        let until = Instant::now() + STARTING;
        loop {
            let found = self.find(name)?;
            if found.status.is_up() {
                return Ok((found, None));
            }
            if let Some(owner) = Owner::take(&self.instance, &found.record.id)? {
                return Ok((found, Some(owner)));
            }
            if Instant::now() >= until {
                return Err(StateError::Busy { name: name.to_owned(), state: "being started" }.into());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// In the kernel, and for a start by its monitor.
    pub(crate) fn update_running(
        &self,
        record: &Record,
        status: Status,
        changes: &LimitChanges,
    ) -> Result<Done> {
        let live = self.instance.live(&record.id);
        let path = live.join(file::RESOURCES);
        let before = fs::read_if_exists(&path)?;
        let started = || read_request(&live).and_then(|r| r.bundle.spec.linux?.resources).unwrap_or_default();
        let earlier = before.as_ref().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let mut resources: Resources = earlier.unwrap_or_else(started);
        let swap = record.options.memory.is_some() && swap_is_accounted();
        limits::replace(&mut resources, &record.options, self.config.pids_limit, swap);
        let group = Group::existing(&Hierarchy::detect()?, &self.location(record));
        // One that is about to be started again has no group.
        let written = match status {
            Status::Restarting => None,
            _ => Some(group.change(&changes.resources(&resources))?),
        };
        let done = Done { written, path, before };
        let bytes = serde_json::to_vec(&resources).map_err(Encode)?;
        // Its links last: they put themselves back if they fail.
        let rest =
            fs::write_atomic(&done.path, &bytes, Durability::Volatile).map_err(Error::from).and_then(|()| {
                let bandwidth = changes.bandwidth_in.is_some() || changes.bandwidth_out.is_some();
                if bandwidth { self.limit_bandwidth(record) } else { Ok(()) }
            });
        match rest {
            Ok(()) => Ok(done),
            Err(error) => {
                done.undo();
                Err(error)
            }
        }
    }
}

/// What is to be told of a monitor of the first version: it may not know that limits change, and so start the container
/// again with those that it began with.
pub(crate) fn forgetful(found: &Found) -> Option<String> {
    let old = found.live.as_ref().is_some_and(|live| live.protocol < CHANGES);
    let name = &found.record.name;
    (old && found.record.options.restart != RestartPolicy::No).then(|| {
        format!(
            "the monitor of {name} is of an earlier version: should it start {name} again by itself, that may have its old \
             limits; dhow restart {name} gives it a new one"
        )
    })
}

/// What was changed of a container that runs.
pub(crate) struct Done {
    written: Option<runtime::cgroup::Changed>,
    path: std::path::PathBuf,
    before: Option<Vec<u8>>,
}

impl Done {
    /// Puts it back, as far as it goes: the cause is being reported.
    pub(crate) fn undo(self) {
        if let Some(written) = self.written {
            written.undo();
        }
        match self.before {
            Some(bytes) => fs::write_atomic(&self.path, &bytes, Durability::Volatile).ok(),
            None => fs::remove_file(&self.path).map(|_| ()).ok(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ContainerOptions {
        let mut options = ContainerOptions { memory: Some(64 << 20), ..ContainerOptions::default() };
        options.limits.cpu_shares = Some(512);
        options.limits.memory_reservation = Some(32 << 20);
        options
    }

    fn written(changes: &LimitChanges) -> Resources {
        let mut options = options();
        changes.apply(&mut options);
        let mut all = Resources::default();
        limits::replace(&mut all, &options, 4096, true);
        changes.resources(&all)
    }

    #[test]
    fn only_what_is_changed_is_written() {
        let memory = written(&LimitChanges { memory: Some(100), ..LimitChanges::default() });
        let (got, cpu) = (memory.memory.unwrap(), memory.cpu.unwrap());
        assert_eq!((got.limit, got.swap, got.reservation), (Some(100), Some(200), None));
        assert_eq!((cpu, memory.pids, memory.block_io), (Cpu::default(), None, None));
        let swap = written(&LimitChanges { memory_swap: Some(-1), ..LimitChanges::default() });
        let got = swap.memory.unwrap();
        assert_eq!((got.limit, got.swap), (Some(64 << 20), Some(-1)));
        let cpus = written(&LimitChanges { nano_cpus: Some(500_000_000), ..LimitChanges::default() });
        let cpu = cpus.cpu.unwrap();
        assert_eq!((cpu.shares, cpu.quota, cpu.period), (None, Some(50_000), Some(100_000)));
        let pids = written(&LimitChanges { pids_limit: Some(-1), ..LimitChanges::default() });
        assert_eq!(pids.pids, Some(Pids { limit: -1 }));
    }

    #[test]
    fn what_is_not_said_stays() {
        let mut after = options();
        LimitChanges { cpu_quota: Some(50_000), ..LimitChanges::default() }.apply(&mut after);
        assert_eq!(
            (after.memory, after.limits.cpu_shares, after.limits.cpu_quota),
            (Some(64 << 20), Some(512), Some(50_000))
        );
        assert!(LimitChanges::default().is_empty());
    }
}
