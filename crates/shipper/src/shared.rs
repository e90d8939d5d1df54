//! What the hub and the thread of one spool tell each other.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long somebody who waits for a socket does not look whether it still should.
const LOOK: Duration = Duration::from_millis(250);

/// The state of one spool's thread.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// There may be more to send.
    woken: bool,
    /// The container runs: more will come.
    live: bool,
    /// The thread is to end, whatever it is at.
    cancelled: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No invariant spans two fields: what a thread that panicked has left is as good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    pub(crate) fn wake(&self) {
        self.change(|state| state.woken = true);
    }

    pub(crate) fn set_live(&self, live: bool) {
        self.change(|state| {
            state.live = live;
            state.woken = true;
        });
    }

    pub(crate) fn cancel(&self) {
        self.change(|state| state.cancelled = true);
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state().live
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Waits until there may be more to send, for so long at most.
    pub(crate) fn rest(&self, most: Duration) {
        self.wait(most, |state| state.woken);
        self.state().woken = false;
    }

    /// Waits for so long, whatever there is to send.
    pub(crate) fn pause(&self, time: Duration) {
        self.wait(time, |_| false);
    }

    fn wait(&self, most: Duration, enough: impl Fn(&State) -> bool) {
        let until = Instant::now() + most;
        let mut state = self.state();
        while !state.cancelled && !enough(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a socket is ready.
    ///
    /// # Errors
    /// `TimedOut` after the deadline, `Interrupted` where the thread is to end.
    pub(crate) fn await_socket<Fd: AsFd>(
        &self,
        socket: &Fd,
        flags: PollFlags,
        deadline: Instant,
    ) -> io::Result<()> {
        loop {
            if self.is_cancelled() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "its log is to be sent no more"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
            }
            let wait = left.min(LOOK);
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            match poll(&mut [PollFd::new(socket, flags)], Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_waits_for_a_socket_hears_that_it_should_not() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let shared = Arc::new(Shared::default());
        let soon = Instant::now() + Duration::from_millis(10);
        let late = shared.await_socket(&ours, PollFlags::IN, soon).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let other = shared.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.cancel();
        });
        let long = Instant::now() + Duration::from_mins(1);
        let ended = shared.await_socket(&ours, PollFlags::IN, long).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::Interrupted);
        thread.join().unwrap();
    }

    #[test]
    fn a_wake_before_the_rest_counts() {
        let shared = Shared::default();
        shared.wake();
        let began = Instant::now();
        shared.rest(Duration::from_mins(1));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
