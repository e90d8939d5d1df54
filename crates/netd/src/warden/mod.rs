//! The warden of an instance's published ports and firewall tables: a process of its own, which has other rights than the name
//! server, and reads only what the kernel says.
//!
//! Started by the monitor of the first container on any network, and ended with the last; killed, it is started again by one of
//! the monitors, all of whom hold a connection to it. What it does with packets and tables is told in [`network::warden`].
//! Nothing that it knows is lost with it: the tables are made from what monitors write down.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use network::warden::Warden;
use rustix::event::{Timespec, epoll};
use rustix::net::{SocketFlags, accept_with};
use state::Instance;

/// Without a container, it ends after so long. A little less than the monitors wait before they remove what all shared.
const IDLE: Duration = Duration::from_millis(1500);
/// When it is clear that it stays, what nobody should wait for is done.
const STAYED: Duration = Duration::from_millis(100);
/// Tables that somebody spoils without end are not mended more often than this.
const BREATH: Duration = Duration::from_millis(20);
/// How soon it is tried again where they could not be mended.
const AGAIN: Duration = Duration::from_millis(100);

const LISTENER: u64 = u64::MAX;
const ENTRY: u64 = u64::MAX - 1;
const CHANGES: u64 = u64::MAX - 2;

/// The warden at its post.
#[derive(Debug)]
pub struct Post {
    epoll: OwnedFd,
    listener: OwnedFd,
    warden: Warden,
    /// The monitors, by their descriptors' numbers.
    monitors: HashMap<u64, OwnedFd>,
    /// When the tables are to be mended.
    mend_at: Option<Instant>,
    mended: Instant,
}

impl Post {
    /// Opens all that is needed: see [`Warden::open`].
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn new(instance: &Instance, listener: OwnedFd) -> io::Result<Self> {
        let warden = Warden::open(instance).map_err(io::Error::other)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = |fd, what| epoll::add(&epoll, fd, epoll::EventData::new_u64(what), epoll::EventFlags::IN);
        watch(rustix::fd::AsFd::as_fd(&listener), LISTENER)?;
        watch(warden.entry(), ENTRY)?;
        watch(warden.changes(), CHANGES)?;
        let now = Instant::now();
        // Somebody may have done something while there was no warden.
        let mend_at = (!warden.stands().unwrap_or(false)).then_some(now);
        Ok(Self { epoll, listener, warden, monitors: HashMap::new(), mend_at, mended: now })
    }

    /// Keeps watch until no container has been there for a while. `stayed` is called once, soon after the start.
    ///
    /// # Errors
    /// Where a socket is of no use any more: the process must end then, and the next one begins anew.
    pub fn run(&mut self, stayed: impl FnOnce()) -> io::Result<()> {
        let mut stayed = Some((stayed, Instant::now() + STAYED));
        let mut idle = Some(Instant::now() + IDLE);
        let mut events = Vec::with_capacity(16);
        loop {
            let due =
                [stayed.as_ref().map(|(_, when)| *when), idle, self.mend_at].into_iter().flatten().min();
            self.wait(due, &mut events)?;
            let ready: Vec<u64> = events.iter().map(|event: &epoll::Event| { event.data }.u64()).collect();
            for what in ready {
                match what {
                    LISTENER => self.accept(),
                    ENTRY => {
                        let spoilt = self.warden.let_in()?;
                        self.mend_soon(spoilt);
                    }
                    CHANGES => {
                        let spoilt = self.warden.is_spoilt()?;
                        self.mend_soon(spoilt);
                    }
                    monitor => {
                        // They say nothing, so it has hung up.
                        self.monitors.remove(&monitor);
                    }
                }
            }
            let now = Instant::now();
            if self.mend_at.is_some_and(|when| when <= now) {
                self.mend_at = self.warden.mend().is_err().then(|| now + AGAIN);
                self.mended = Instant::now();
            }
            if stayed.as_ref().is_some_and(|(_, when)| *when <= now)
                && let Some((work, _)) = stayed.take()
            {
                work();
            }
            idle = if self.monitors.is_empty() { idle.or(Some(now + IDLE)) } else { None };
            if idle.is_some_and(|when| when <= now) {
                return Ok(());
            }
        }
    }

    fn wait(&self, due: Option<Instant>, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let timeout = due.map(|when| {
            // Rounded up: to wake too early would mean to turn round and round.
            let wait = when.saturating_duration_since(Instant::now()) + Duration::from_micros(100);
            Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) }
        });
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Others may have changed something.
    fn mend_soon(&mut self, spoilt: bool) {
        if spoilt {
            self.mend_at.get_or_insert((self.mended + BREATH).max(Instant::now()));
        }
    }

    fn accept(&mut self) {
        let Ok(monitor) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
            // No descriptor is free, perhaps: it stays ready, and would be asked for without a pause.
            return std::thread::sleep(Duration::from_millis(1));
        };
        let number = monitor.as_raw_fd() as u64;
        if epoll::add(&self.epoll, &monitor, epoll::EventData::new_u64(number), epoll::EventFlags::IN).is_ok()
        {
            self.monitors.insert(number, monitor);
        }
    }
}
