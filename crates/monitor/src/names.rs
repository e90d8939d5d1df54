//! What the container is called: told to the name server of its networks, for as long as it runs.
//!
//! The sockets at which the container asks are ours as well as the server's: while no server is there, questions wait in
//! them. When it hangs up, whoever gets the lock of its directory starts the next one, and everybody tells it again.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use base::fs;
use monitor::client::{SpawnError, address_in, spawn_netd};
use network::Resolver;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    bind, connect, listen, recv, send, sendmsg, socket_with,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use state::Instance;
use state::lock::Lock;
use state::netd::{self, Allowed, Registration};

use crate::launch::{Result, boxed};

/// How soon it is tried again to reach a server that somebody else starts, at first; each time it takes twice as long.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(250);
/// A server that has lived so short a time is not started again at once.
const SHORT: Duration = Duration::from_millis(500);
/// How long the process may take that leaves the server behind.
const LEAVING: Duration = Duration::from_millis(50);
/// So many monitors may connect at once.
const BACKLOG: i32 = 4096;

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
    /// Whom the container may speak to: as it is in force, and as it is by now.
    allowed: (Vec<Allowed>, Vec<Allowed>),
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
            allowed: Default::default(),
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

    /// The server has said something, or has hung up.
    pub(crate) fn hear(&mut self) {
        let Some(connection) = &self.connection else { return };
        let mut buffer = vec![0; netd::MAX_MESSAGE];
        match recv(connection, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((length @ 1.., _)) => match serde_json::from_slice(&buffer[..length]) {
                Ok(allowed) => self.allowed.1 = allowed,
                // It is of a version that says what we do not know.
                Err(_) => {}
            },
            _ => self.lost(),
        }
    }

    /// Whom the container may speak to beside those that it may already, and to whom no longer; as if it were done then.
    pub(crate) fn allowed(&mut self) -> Option<(Vec<Allowed>, Vec<Allowed>)> {
        let (before, now) = &mut self.allowed;
        if before == now {
            return None;
        }
        let more = now.iter().filter(|allowed| !before.contains(allowed)).cloned().collect();
        let less = before.iter().filter(|allowed| !now.contains(allowed)).cloned().collect();
        before.clone_from(now);
        Some((more, less))
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
        let lock = match Lock::try_exclusive(&dir) {
            Err(error) if error.is_not_found() => {
                fs::create_dir_all(&dir, 0o700)?;
                Lock::try_exclusive(&dir)?
            }
            other => other?,
        };
        if let Some(lock) = lock {
            self.start(&lock)?;
        }
        // Who was first has started it, and is perhaps about to listen.
        if self.register(&dir).is_err() {
            self.due = Some(Instant::now() + self.delay);
            self.delay = (self.delay * 2).min(LATE);
        }
        Ok(())
    }

    /// Starts a server. We listen in its place, so that whoever connects from now on need not wait for it.
    fn start(&mut self, lock: &Lock) -> std::result::Result<(), SpawnError> {
        let failed = |errno: Errno| SpawnError::Start {
            program: self.registration.program.clone(),
            source: errno.into(),
        };
        // What the server before has left.
        match unlinkat(lock, netd::SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let listen_in = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            let address = address_in(lock.as_fd(), netd::SOCKET).map_err(|_| Errno::NAMETOOLONG)?;
            bind(&listener, &address)?;
            listen(&listener, BACKLOG)?;
            Ok(listener)
        };
        let listener = listen_in().map_err(failed)?;
        self.leaving = Some(spawn_netd(&self.registration.program, &self.instance, lock, &listener)?);
        self.due = Some(Instant::now() + LEAVING);
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
