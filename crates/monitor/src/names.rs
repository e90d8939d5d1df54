//! What the container is called: told to the name server of its networks, for as long as it runs.
//!
//! The sockets at which the container asks are ours as well as the server's: while no server is there, questions wait in
//! them.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use network::Resolver;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, send, sendmsg};
use state::Instance;
use state::netd::{self, Allowed, Registration};

use crate::launch::{Result, boxed};
use crate::tie::Tie;

/// A container's names, and where they are told.
pub(crate) struct Names {
    tie: Tie,
    told: Told,
    /// Whom the container may speak to: as it is in force, once that is known, and as it is by now.
    allowed: (Option<Vec<Allowed>>, Vec<Allowed>),
}

/// What the server is told.
struct Told {
    registration: Registration,
    sockets: Resolver,
}

impl Names {
    /// Opens the sockets in the network namespace of the process `pid`, and tells the server. One that cannot be reached now
    /// is reached later; one that cannot be started is an error.
    pub(crate) fn open(instance: &Instance, registration: Registration, pid: u32) -> Result<Self> {
        let sockets = Resolver::open(pid).map_err(boxed)?;
        let mut tie = Tie::to_names(instance, &registration.program);
        let told = Told { registration, sockets };
        tie.connect(&|connection| told.tell(connection)).map_err(boxed)?;
        Ok(Self { tie, told, allowed: Default::default() })
    }

    /// What hangs up when the server ends.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.tie.descriptor()
    }

    /// When [`Names::look_after`] is to be called.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.tie.next()
    }

    /// The server has said something, or has hung up.
    pub(crate) fn hear(&mut self) {
        let Some(connection) = self.tie.connection() else { return };
        let mut buffer = vec![0; netd::MAX_MESSAGE];
        match recv(connection, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((length @ 1.., _)) => {
                // What cannot be read is of a version that says what we do not know.
                if let Ok(allowed) = serde_json::from_slice(&buffer[..length]) {
                    self.allowed.1 = allowed;
                }
            }
            _ => self.tie.lost(),
        }
    }

    /// All whom the container may speak to, where that has changed since this was asked last.
    pub(crate) fn allowed(&mut self) -> Option<Vec<Allowed>> {
        let (before, now) = &mut self.allowed;
        if before.as_ref() == Some(now) {
            return None;
        }
        *before = Some(now.clone());
        Some(now.clone())
    }

    /// Does what is due.
    pub(crate) fn look_after(&mut self) {
        self.tie.look_after(&|connection| self.told.tell(connection));
    }

    /// From now on it is called otherwise.
    pub(crate) fn replace(&mut self, registration: Registration) {
        self.told.registration = registration;
        let said = self.tie.connection().map(|it| send(it, &self.told.message(), SendFlags::NOSIGNAL));
        if matches!(said, Some(Err(_))) {
            // It is told with the next connection.
            self.tie.lost();
        }
    }
}

impl Told {
    fn message(&self) -> Vec<u8> {
        serde_json::to_vec(&self.registration).unwrap_or_default()
    }

    /// Says what the container is called, and hands over its sockets.
    fn tell(&self, connection: &OwnedFd) -> std::result::Result<(), Errno> {
        let descriptors =
            [self.sockets.datagrams.as_fd(), self.sockets.door.as_fd(), self.sockets.space.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let message = self.message();
        sendmsg(connection, &[IoSlice::new(&message)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
    }
}
