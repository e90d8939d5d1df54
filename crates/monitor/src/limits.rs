//! Where the container may go: told to `dhow-egressd`, for as long as it is there.
//!
//! It is told before the container has a link, and nothing is started before it has answered that the limits are in force. When
//! it hangs up, whoever gets the lock of its directory starts the next one; the kernel's rules hold meanwhile.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use base::{Failure, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use state::Instance;
use state::egress::link::{self, Answer, Registration, Told};

use crate::launch::{Result, boxed};
use crate::tie::Tie;

/// How soon it is tried again to reach a server that somebody else starts, at first; each time it takes twice as long.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(250);
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
    tie: Tie,
    registration: Registration,
}

impl Limits {
    /// Tells the limits, and waits until they are in force.
    pub(crate) fn open(instance: &Instance, registration: Registration) -> Result<Self> {
        let mut tie = Tie::to_limits(instance, &registration.program);
        let until = Instant::now() + PATIENCE;
        let mut delay = SOON;
        while Instant::now() < until {
            if tie.connection().is_none() {
                tie.connect(&|connection| tell(connection, &registration)).map_err(boxed)?;
            }
            let Some(connection) = tie.connection() else {
                std::thread::sleep(SOON);
                continue;
            };
            match answer(connection, until) {
                Ok(Some(Answer { failed: Some(why), .. })) => return Err(boxed(Error::Refused(why))),
                Ok(Some(_)) => return Ok(Self { tie, registration }),
                Ok(None) => break,
                // It was about to end, or was killed: there will be another one. Or it cannot work here.
                Err(_) => {
                    tie.lost();
                    std::thread::sleep(delay);
                    delay = (delay * 2).min(LATE);
                }
            }
        }
        Err(boxed(Error::Silence))
    }

    /// What is ready when the server says something, or ends.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.tie.descriptor()
    }

    /// When [`Limits::look_after`] is to be called.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.tie.next()
    }

    /// The server has said something, or has ended.
    pub(crate) fn hear(&mut self) {
        match self.tie.connection().map(receive) {
            // What was in force before is in force again, or else the rules of then hold.
            None | Some(Ok(_) | Err(Errno::AGAIN)) => {}
            Some(Err(_)) => self.tie.lost(),
        }
    }

    /// Does what is due.
    pub(crate) fn look_after(&mut self) {
        self.tie.look_after(&|connection| tell(connection, &self.registration));
    }

    /// The container is gone: whoever has its addresses next has other limits.
    pub(crate) fn end(self) {
        let Some(connection) = self.tie.connection() else { return };
        let told = serde_json::to_vec(&Told::Gone).unwrap_or_default();
        if send(connection, &told, SendFlags::NOSIGNAL).is_ok() {
            // The server finds out by itself where it does not answer.
            answer(connection, Instant::now() + FAREWELL).ok();
        }
    }
}

fn tell(connection: &OwnedFd, registration: &Registration) -> std::result::Result<(), Errno> {
    let told = Told::Registration(Box::new(registration.clone()));
    let message = serde_json::to_vec(&told).unwrap_or_default();
    send(connection, &message, SendFlags::NOSIGNAL).map(drop)
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
