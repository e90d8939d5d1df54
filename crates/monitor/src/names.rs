//! What the container is called: told to the name server of its networks, for as long as it runs.
//!
//! The sockets at which the container asks are ours as well as the server's: while no server is there, questions wait in
//! them. When it hangs up, whoever gets the lock of its directory starts the next one, and everybody tells it again.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use monitor::client::{SpawnError, address_in};
use network::Resolver;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, connect,
    send, sendmsg, socket_with,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use state::Instance;
use state::netd::{self, Registration};

use crate::launch::{Result, boxed};
use crate::servers::Server;

/// How soon it is tried again to reach a server that somebody else starts, at first; each time it takes twice as long.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(250);
/// A server that has lived so short a time is not started again at once.
const SHORT: Duration = Duration::from_millis(500);
/// How long the process may take that leaves the server behind.
const LEAVING: Duration = Duration::from_millis(50);

/// A container's names, and where they are told.
pub(crate) struct Names {
    instance: Instance,
    registration: Registration,
    sockets: Resolver,
    connection: Option<OwnedFd>,
    connected: Instant,
    /// When something is to be done without being asked.
    due: Option<Instant>,
    delay: Duration,
    /// What leaves a server behind, until it has ended.
    leaving: Option<OwnedFd>,
}

impl Names {
    /// Opens the sockets in the network namespace of the process `pid`, and tells the server. One that cannot be reached now
    /// is reached later; one that cannot be started is an error.
    pub(crate) fn open(instance: &Instance, registration: Registration, pid: u32) -> Result<Self> {
        let sockets = Resolver::open(pid).map_err(boxed)?;
        let mut names = Self {
            instance: instance.clone(),
            registration,
            sockets,
            connection: None,
            connected: Instant::now(),
            due: None,
            delay: SOON,
            leaving: None,
        };
        names.connect().map_err(boxed)?;
        Ok(names)
    }

    /// What hangs up when the server ends.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// When [`Names::look_after`] is to be called.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due
    }

    /// The server has hung up.
    pub(crate) fn lost(&mut self) {
        self.connection = None;
        self.delay = SOON;
        // One that ends as soon as it has heard us would be started without end.
        let wait = if self.connected.elapsed() < SHORT { LATE } else { Duration::ZERO };
        self.due = Some(Instant::now() + wait);
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

    /// From now on it is called otherwise.
    pub(crate) fn replace(&mut self, registration: Registration) {
        self.registration = registration;
        if let Some(connection) = &self.connection
            && send(connection, &self.message(), SendFlags::NOSIGNAL).is_err()
        {
            // It is told with the next connection.
            self.lost();
        }
    }

    fn message(&self) -> Vec<u8> {
        serde_json::to_vec(&self.registration).unwrap_or_default()
    }

    /// Reaches the server, or starts it, or tries again soon.
    fn connect(&mut self) -> std::result::Result<(), SpawnError> {
        let dir = netd::dir(&self.instance);
        if self.register(&dir).is_ok() {
            return Ok(());
        }
        let server = Server {
            name: netd::PROGRAM,
            dir: &dir,
            socket: netd::SOCKET,
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

    /// Connects, and says what the container is called.
    fn register(&mut self, dir: &Path) -> std::result::Result<(), Errno> {
        let dir = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&connection, &address_in(dir.as_fd(), netd::SOCKET).map_err(|_| Errno::NAMETOOLONG)?)?;
        let descriptors =
            [self.sockets.datagrams.as_fd(), self.sockets.door.as_fd(), self.sockets.space.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let message = self.message();
        sendmsg(&connection, &[IoSlice::new(&message)], &mut ancillary, SendFlags::NOSIGNAL)?;
        self.connection = Some(connection);
        self.connected = Instant::now();
        self.delay = SOON;
        Ok(())
    }
}
