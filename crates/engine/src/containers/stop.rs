//! `stop`: a container is asked to end, and made to after a while.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use state::container::Status;

use crate::Engine;
use crate::containers::control::StateError;
use crate::containers::records::{self, Found};
use crate::containers::session::{Event, Session, Wish};
use crate::containers::signal;
use crate::error::Result;

/// How long after SIGKILL a container may take to end: longer, and the kernel holds a process.
pub(crate) const DYING: Duration = Duration::from_secs(10);

/// How often a container is told to end that was about to begin another run each time.
const TRIES: u32 = 5;

impl Engine {
    /// Stops a container; fine if it does not run. `timeout` in seconds and `signal` (`SIGTERM`, `15`) as the
    /// container says where they are none.
    pub fn stop(&self, name: &str, timeout: Option<u64>, signal: Option<&str>) -> Result<()> {
        let signal = signal.map(signal::parse).transpose()?;
        let found = self.find_started(name)?;
        if !found.status.is_up() {
            return Ok(());
        }
        let resolved = &found.record.resolved;
        let patience = Duration::from_secs(timeout.unwrap_or(resolved.stop_timeout));
        let signals = [(signal.unwrap_or(resolved.stop_signal), patience), (signal::KILL, DYING)];
        self.end(name, &found, &signals, Wish::Stopped)?;
        self.note_container("stop", &found.record, &[]);
        Ok(())
    }

    /// Sends one signal after the other until the container has ended and everything it held is released.
    /// No policy starts it again: `wish` says who wants that.
    pub(crate) fn end(
        &self,
        name: &str,
        found: &Found,
        signals: &[(i32, Duration)],
        wish: Wish,
    ) -> Result<()> {
        let id = &found.record.id;
        let mut found = found.clone();
        for _ in 0..TRIES {
            if found.status == Status::Paused {
                // Its monitor may wait for what is frozen.
                self.thaw(&found).ok();
            }
            if let Some(mut session) = self.connect(&found, false)? {
                session.want_end(wish).ok();
                self.urge(name, &mut session, &found, signals)?;
            }
            // A run may have ended by itself just then, and the wish been lost with it.
            match records::load(&self.instance, id)? {
                Some(now) if now.status.is_up() => found = now,
                _ => break,
            }
        }
        self.await_release(id)?;
        self.reconcile_one(id)
    }
}

impl Engine {
    /// Sends one signal after the other until the monitor says that the command has ended, or is gone.
    pub(crate) fn urge(
        &self,
        name: &str,
        session: &mut Session,
        found: &Found,
        signals: &[(i32, Duration)],
    ) -> Result<()> {
        // A monitor that is gone by now cannot take a signal; the waiting then ends at once.
        let ended = signals.iter().any(|(signal, patience)| {
            session.signal(*signal).ok();
            self.note_signal(&found.record, *signal);
            ends_within(session, *patience)
        });
        if ended { Ok(()) } else { Err(StateError::Undead(name.to_owned()).into()) }
    }
}

/// Whether the monitor says that the container has ended, or is gone, within so long.
pub(crate) fn ends_within(session: &mut Session, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        while let Some(event) = session.try_next() {
            if matches!(event, Event::Exited { .. } | Event::Lost) {
                return true;
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN)];
        // Interrupted or not: looked at again until the deadline.
        poll(&mut fds, Some(&timeout)).ok();
    }
}
