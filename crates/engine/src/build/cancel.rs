//! How a build ends before its time: a signal to us, or a step that failed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::error::Error;

/// Signals that end a build.
const SIGNALS: [i32; 3] = [Signal::INT.as_raw(), Signal::TERM.as_raw(), Signal::HUP.as_raw()];
/// How long a build may take to end when it was told to. Then it is killed, and what it leaves is swept by the next command.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the build goes on, and the commands that run.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    stopped: AtomicBool,
    interrupted: AtomicBool,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, OwnedFd>>,
}

impl Cancel {
    /// An error, if the build shall end.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.stopped.load(Ordering::Acquire) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Whether somebody outside wants it to end.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Ends it, and kills what runs.
    pub(crate) fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Release);
        for process in running.values() {
            // One that has ended already is what was wanted.
            pidfd_send_signal(process, Signal::KILL).ok();
        }
    }

    /// The same, because somebody outside wants it.
    pub(crate) fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.stop();
    }

    /// Has a command killed when the build ends, while what is returned lives.
    pub(crate) fn watch(&self, process: &OwnedFd) -> io::Result<Watched<'_>> {
        let process = process.try_clone()?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.load(Ordering::Acquire) {
            pidfd_send_signal(&process, Signal::KILL).ok();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        running.insert(number, process);
        Ok(Watched { cancel: self, number })
    }
}

/// A command that is killed when the build ends.
#[derive(Debug)]
pub(crate) struct Watched<'c> {
    cancel: &'c Cancel,
    number: u64,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.cancel.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// Ends this process, whatever its threads wait for, and says so: by no way on which one of them may stand.
fn give_up() {
    let text: &[u8] =
        b"dhow: the build did not end in time, so it was killed: the next command sweeps what it has left\n";
    rustix::io::write(rustix::stdio::stderr(), text).ok();
    rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).ok();
}

/// Does `work`, and interrupts it when a signal comes.
pub(crate) fn with_signals<T>(cancel: &Cancel, work: impl FnOnce() -> T) -> io::Result<T> {
    // Blocked before there is any other thread, so that all of them leave signals to this one.
    let signals = sys::process::signal_fd(&SIGNALS)?;
    let (until, done) = io::pipe()?;
    std::thread::scope(|scope| {
        let watch = move || {
            let mut patience = None;
            loop {
                let timeout = patience.map(|()| rustix::event::Timespec {
                    tv_sec: PATIENCE.as_secs().cast_signed(),
                    tv_nsec: 0,
                });
                let mut ready = [
                    PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(until.as_fd(), PollFlags::IN),
                ];
                match poll(&mut ready, timeout.as_ref()) {
                    Ok(0) => give_up(),
                    Ok(_) => {}
                    Err(_) => continue,
                }
                if !ready[1].revents().is_empty() {
                    return;
                }
                let mut buffer = [0; 128];
                while rustix::io::read(&signals, &mut buffer).is_ok_and(|n| n > 0) {}
                if patience.replace(()).is_some() {
                    // Asked for twice: what is left is swept by the next command.
                    give_up();
                }
                cancel.interrupt();
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn_scoped(scope, watch)?;
        let result = work();
        drop(done);
        Ok(result)
    })
}
