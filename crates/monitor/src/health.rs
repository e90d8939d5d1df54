//! The health of a container: a command of its own is run in it now and then, and its exit code counts.
//!
//! The rules are Docker's: a success makes it healthy; so many failures in a row make it unhealthy; in the start period
//! failures do not count until the first success.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base::Timestamp;
use base::fs::{self, Durability};
use monitor::HealthRequest;
use runtime::cgroup::{Group, Hierarchy, Location};
use runtime::{JoinOptions, Stdio};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitIdOptions;
use state::container::{Health, HealthStatus, Probe};

use crate::command::{null, reap};

/// How many probes are remembered.
const KEPT: usize = 5;
/// How much of what a probe says is kept, in bytes.
const MOST_OUTPUT: usize = 4096;
/// The exit code of a probe that took too long or could not be started, as Docker has it.
const NO_ANSWER: i32 = -1;

/// A container's health, and the probe that runs.
pub(crate) struct Watch {
    request: HealthRequest,
    cgroup: Option<Location>,
    /// `health.json`.
    file: PathBuf,
    began: Instant,
    due: Instant,
    health: Health,
    running: Option<RunningProbe>,
}

struct RunningProbe {
    pidfd: OwnedFd,
    output: Option<OwnedFd>,
    said: Vec<u8>,
    start: Timestamp,
    deadline: Instant,
    late: bool,
}

impl Watch {
    /// Begins to watch a container that has just been started.
    pub(crate) fn new(request: HealthRequest, cgroup: Option<Location>, file: PathBuf) -> Self {
        let now = Instant::now();
        let mut watch =
            Self { request, cgroup, file, began: now, due: now, health: Health::default(), running: None };
        watch.plan_next(now);
        watch.write();
        watch
    }

    /// What was found, in the end.
    pub(crate) fn into_health(mut self) -> Health {
        std::mem::take(&mut self.health)
    }

    /// When something has to be done next: see [`Watch::tick`].
    pub(crate) fn next(&self) -> Option<Instant> {
        match &self.running {
            Some(probe) => (!probe.late).then_some(probe.deadline),
            None => Some(self.due),
        }
    }

    /// The end of the probe that runs, and its output: to be polled.
    pub(crate) fn descriptors(&self) -> (Option<BorrowedFd<'_>>, Option<BorrowedFd<'_>>) {
        let probe = self.running.as_ref();
        (probe.map(|p| p.pidfd.as_fd()), probe.and_then(|p| p.output.as_ref()).map(AsFd::as_fd))
    }

    /// Starts a probe that is due, ends one that is late. The new status, where it has changed.
    pub(crate) fn tick(&mut self, now: Instant, container: u32, paused: bool) -> Option<HealthStatus> {
        if let Some(probe) = &mut self.running {
            if now >= probe.deadline && !probe.late {
                probe.late = true;
                // It is reaped when its end shows.
                sys::process::send_signal(probe.pidfd.as_fd(), KILL).ok();
            }
            return None;
        }
        if now < self.due {
            return None;
        }
        if paused {
            // What stands still cannot answer, and that is no illness.
            self.plan_next(now);
            return None;
        }
        let start = Timestamp::now();
        match self.start(container) {
            Ok((pidfd, output)) => {
                self.running = Some(RunningProbe {
                    pidfd,
                    output: Some(output),
                    said: Vec::new(),
                    start,
                    deadline: now + Duration::from_nanos(self.request.check.timeout),
                    late: false,
                });
                None
            }
            Err(reason) => self.count(NO_ANSWER, start, reason),
        }
    }

    /// Reads what the probe says, as far as it is here.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) {
        let Some(probe) = &mut self.running else { return };
        let Some(output) = &probe.output else { return };
        match rustix::io::read(output, &mut *buffer) {
            Ok(n) if n > 0 => {
                let room = MOST_OUTPUT.saturating_sub(probe.said.len());
                probe.said.extend_from_slice(&buffer[..n.min(room)]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => probe.output = None,
        }
    }

    /// Takes the end of the probe, if it has ended. The new status, where it has changed.
    pub(crate) fn finish(&mut self, buffer: &mut [u8]) -> Option<HealthStatus> {
        let code = reap(self.running.as_ref()?.pidfd.as_fd(), WaitIdOptions::NOHANG)?;
        // What it had written before it ended is in the pipe; who else holds that is not waited for.
        self.read(buffer);
        let probe = self.running.take()?;
        if probe.late {
            let timeout = Duration::from_nanos(self.request.check.timeout);
            let text = format!("Health check exceeded timeout ({timeout:?}): {}", text(&probe.said));
            return self.count(NO_ANSWER, probe.start, text);
        }
        self.count(code, probe.start, text(&probe.said))
    }

    fn count(&mut self, exit_code: i32, start: Timestamp, output: String) -> Option<HealthStatus> {
        let before = self.health.status;
        let starting = Duration::from_nanos(self.request.check.start_period);
        let excused = self.began.elapsed() < starting;
        record(&mut self.health, exit_code, excused, self.request.check.retries);
        if self.health.log.len() == KEPT {
            self.health.log.remove(0);
        }
        self.health.log.push(Probe { start, end: Timestamp::now(), exit_code, output });
        self.write();
        self.plan_next(Instant::now());
        (self.health.status != before).then_some(self.health.status)
    }

    fn plan_next(&mut self, now: Instant) {
        let check = &self.request.check;
        let in_start_period = self.health.status == HealthStatus::Starting
            && self.began.elapsed() < Duration::from_nanos(check.start_period);
        let pause = if in_start_period { check.start_interval.min(check.interval) } else { check.interval };
        self.due = now + Duration::from_nanos(pause);
    }

    fn write(&self) {
        // Nobody is there to be told; the next probe writes it again.
        if let Ok(bytes) = serde_json::to_vec(&self.health) {
            fs::write_atomic(&self.file, &bytes, Durability::Volatile).ok();
        }
    }

    fn start(&self, container: u32) -> Result<(OwnedFd, OwnedFd), String> {
        let group = match &self.cgroup {
            Some(location) => {
                let hierarchy = Hierarchy::detect().map_err(|e| base::failure::chain(&e))?;
                Some(Group::existing(&hierarchy, location))
            }
            None => None,
        };
        let compiled = self.request.seccomp.as_deref();
        let options = JoinOptions { compiled, group, ..JoinOptions::default() };
        let plan = runtime::plan_join(&self.request.process, container, options)
            .map_err(|e| base::failure::chain(&e))?;
        let streams = || -> Result<(Stdio, OwnedFd), Errno> {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            let errors = theirs.try_clone().map_err(|_| Errno::MFILE)?;
            Ok((Stdio { input: null()?, output: theirs, errors }, ours))
        };
        let (stdio, output) = streams().map_err(|e| e.to_string())?;
        let joined = runtime::join(plan, stdio);
        // Whether it could be started or not: the container's next run is our child, too.
        runtime::come_back().map_err(|e| e.to_string())?;
        let running = joined.map_err(|e| base::failure::chain(&e))?;
        Ok((running.pidfd, output))
    }
}

impl Drop for Watch {
    /// The container has ended, and the kernel has killed what ran in it: reaped, so that no zombie stays for as long as
    /// the monitor waits to start the container again.
    fn drop(&mut self) {
        if let Some(probe) = &self.running {
            sys::process::send_signal(probe.pidfd.as_fd(), KILL).ok();
            reap(probe.pidfd.as_fd(), WaitIdOptions::empty());
        }
    }
}

const KILL: i32 = rustix::process::Signal::KILL.as_raw();

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What one more probe makes of a container's health. `excused`: it is in its start period.
fn record(health: &mut Health, exit_code: i32, excused: bool, retries: u32) {
    if exit_code == 0 {
        health.failing_streak = 0;
        health.status = HealthStatus::Healthy;
    } else if !(excused && health.status == HealthStatus::Starting) {
        health.failing_streak = health.failing_streak.saturating_add(1);
        if health.failing_streak >= retries {
            health.status = HealthStatus::Unhealthy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthStatus::{Healthy, Starting, Unhealthy};

    #[test]
    fn failures_in_a_row_count_and_none_in_the_start_period() {
        let mut health = Health::default();
        let mut probe = |code, excused| {
            record(&mut health, code, excused, 2);
            (health.status, health.failing_streak)
        };
        assert_eq!(probe(1, true), (Starting, 0));
        assert_eq!(probe(1, false), (Starting, 1));
        assert_eq!(probe(0, false), (Healthy, 0));
        // Healthy once, it is not excused any more.
        assert_eq!(probe(1, true), (Healthy, 1));
        assert_eq!(probe(NO_ANSWER, true), (Unhealthy, 2));
        assert_eq!(probe(7, false), (Unhealthy, 3));
        assert_eq!(probe(0, false), (Healthy, 0));
    }
}
