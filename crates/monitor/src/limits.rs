//! Where the container may go: told to `dhow-egressd`, for as long as it is there.
//!
//! It is told before the container has a link, and nothing is started before it has answered that the limits are in force. When
//! it hangs up, whoever gets the lock of its directory starts the next one; the kernel's rules hold meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use base::{Failure, Kind};
use monitor::client::{SpawnError, address_in};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use state::Instance;
use state::egress::link::{self, Answer, Registration, Told};

use crate::launch::{Result, boxed};
use crate::servers::Server;

/// How soon it is tried again to reach a server that somebody else starts, at first; each time it takes twice as long.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(250);
/// A server that has lived so short a time is not started again at once.
const SHORT: Duration = Duration::from_millis(500);
/// How long the process may take that leaves the server behind.
const LEAVING: Duration = Duration::from_millis(50);
/// How long the limits may take to be in force.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to take them away.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a container does not start.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot limit where the container may go: {0}")]
    Refused(String),
    #[error("cannot limit where the container may go: {} does not answer", link::PROGRAM)]
    Silence,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Internal
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "check that the kernel has nftables with nat, redirect, log, limit, reject and fib (modules nft_redir, nft_log, \
             nft_limit, nft_reject_inet, nfnetlink_log)"
                .to_owned(),
        ]
    }
}

/// A container's limits, and where they are told.
pub(crate) struct Limits {
    instance: Instance,
    registration: Registration,
    connection: Option<OwnedFd>,
    connected: Instant,
    due: Option<Instant>,
    delay: Duration,
    leaving: Option<OwnedFd>,
}

impl Limits {
    /// Tells the limits, and waits until they are in force.
    pub(crate) fn open(instance: &Instance, registration: Registration) -> Result<Self> {
        let mut limits = Self {
            instance: instance.clone(),
            registration,
            connection: None,
            connected: Instant::now(),
            due: None,
            delay: SOON,
            leaving: None,
        };
        let until = Instant::now() + PATIENCE;
        let mut delay = SOON;
        while Instant::now() < until {
            if limits.connection.is_none() {
                limits.connect().map_err(boxed)?;
            }
            let Some(connection) = &limits.connection else {
                std::thread::sleep(limits.delay);
                continue;
            };
            match answer(connection, until) {
                Ok(Some(Answer { failed: Some(why), .. })) => return Err(boxed(Error::Refused(why))),
                Ok(Some(_)) => return Ok(limits),
                Ok(None) => break,
                // It was about to end, or was killed: there will be another one. Or it cannot work here.
                Err(_) => {
                    limits.connection = None;
                    std::thread::sleep(delay);
                    delay = (delay * 2).min(LATE);
                }
            }
        }
        Err(boxed(Error::Silence))
    }

    /// What is ready when the server says something, or ends.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// When [`Limits::look_after`] is to be called.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due
    }

    /// The server has said something, or has ended.
    pub(crate) fn hear(&mut self) {
        let Some(connection) = &self.connection else { return };
        match receive(connection) {
            // What was in force before is in force again, or else the rules of then hold.
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(_) => {
                self.connection = None;
                self.delay = SOON;
                let wait = if self.connected.elapsed() < SHORT { LATE } else { Duration::ZERO };
                self.due = Some(Instant::now() + wait);
            }
        }
    }

    /// Does what is due.
    pub(crate) fn look_after(&mut self) {
        if self.due.is_none_or(|when| when > Instant::now()) {
            return;
        }
        self.due = None;
        if let Some(process) = &self.leaving {
            let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(process.as_fd()), how) {
                Ok(None) => self.due = Some(Instant::now() + LEAVING),
                Ok(Some(_)) | Err(_) => self.leaving = None,
            }
        }
        if self.connection.is_none() && self.connect().is_err() {
            // The program may be exchanged for another one just now.
            self.due = Some(Instant::now() + LATE);
        }
    }

    /// The container is gone: whoever has its addresses next has other limits.
    pub(crate) fn end(self) {
        let Some(connection) = &self.connection else { return };
        let told = serde_json::to_vec(&Told::Gone).unwrap_or_default();
        if send(connection, &told, SendFlags::NOSIGNAL).is_ok() {
            // The server finds out by itself where it does not answer.
            answer(connection, Instant::now() + FAREWELL).ok();
        }
    }

    /// Reaches the server, or starts it, or tries again soon.
    fn connect(&mut self) -> std::result::Result<(), SpawnError> {
        let dir = link::dir(&self.instance);
        if self.register(&dir).is_ok() {
            return Ok(());
        }
        let server = Server {
            name: link::PROGRAM,
            dir: &dir,
            socket: link::SOCKET,
            program: &self.registration.program,
        };
        if let Some(process) = server.start(&self.instance)? {
            self.leaving = Some(process);
            self.due = Some(Instant::now() + LEAVING);
        }
        // Who was first has started it, and is perhaps about to listen.
        if self.register(&dir).is_err() {
            self.due = Some(Instant::now() + self.delay);
            self.delay = (self.delay * 2).min(LATE);
        }
        Ok(())
    }

    fn register(&mut self, dir: &Path) -> std::result::Result<(), Errno> {
        let dir = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&connection, &address_in(dir.as_fd(), link::SOCKET).map_err(|_| Errno::NAMETOOLONG)?)?;
        let told = Told::Registration(Box::new(self.registration.clone()));
        send(&connection, &serde_json::to_vec(&told).unwrap_or_default(), SendFlags::NOSIGNAL)?;
        self.connection = Some(connection);
        self.connected = Instant::now();
        self.delay = SOON;
        Ok(())
    }
}

/// Waits for an answer until then; none if none comes.
fn answer(connection: &OwnedFd, until: Instant) -> std::result::Result<Option<Answer>, Errno> {
    loop {
        match receive(connection) {
            Err(Errno::AGAIN) => {}
            other => return other.map(Some),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(connection, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive(connection: &OwnedFd) -> std::result::Result<Answer, Errno> {
    let mut bytes = vec![0; 4096];
    match recv(connection, &mut *bytes, RecvFlags::DONTWAIT)? {
        (_, 0) => Err(Errno::PIPE),
        (_, length) => serde_json::from_slice(&bytes[..length.min(4096)]).map_err(|_| Errno::BADMSG),
    }
}
