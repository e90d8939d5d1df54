//! A tie to a process that all containers of an instance share, and that lives as long as one of them needs it.
//!
//! It is a connection, to a socket in a directory whose lock is that process's life. When it hangs up, whoever gets the lock
//! starts the next one, and everybody connects again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs;
use monitor::Request;
use monitor::client::{SpawnError, address_in, netd_beside, spawn_egressd, spawn_netd, spawn_warden};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use state::Instance;
use state::egress::link;
use state::lock::Lock;
use state::netd;

/// How soon it is tried again to reach a server that somebody else starts, at first; each time it takes twice as long.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(250);
/// A server that has lived so short a time is not started again at once.
const SHORT: Duration = Duration::from_millis(500);
/// How long the process may take that leaves the server behind.
const LEAVING: Duration = Duration::from_millis(50);
/// A container that lives longer than this is one that stays.
const STAYS: Duration = Duration::from_millis(100);
/// So many monitors may connect at once.
const BACKLOG: i32 = 4096;

/// What is said first on a connection.
pub(crate) type Greeting<'a> = &'a dyn Fn(&OwnedFd) -> Result<(), Errno>;

/// How the other process is started: program, instance, lock, listening socket.
type Start = fn(&Path, &Instance, &Lock, &OwnedFd) -> Result<OwnedFd, SpawnError>;

/// The tie.
pub(crate) struct Tie {
    instance: Instance,
    dir: PathBuf,
    program: PathBuf,
    start: Start,
    connection: Option<OwnedFd>,
    connected: Instant,
    /// When something is to be done without being asked.
    due: Option<Instant>,
    delay: Duration,
    /// What leaves a server behind, until it has ended.
    leaving: Option<OwnedFd>,
}

impl Tie {
    /// To the name server, whose program is this. It is made with [`Tie::connect`].
    pub(crate) fn to_names(instance: &Instance, program: &Path) -> Self {
        Self::new(instance, netd::dir(instance), program.to_owned(), spawn_netd)
    }

    /// To what keeps containers within their limits, whose program is this. It is made with [`Tie::connect`].
    pub(crate) fn to_limits(instance: &Instance, program: &Path) -> Self {
        Self::new(instance, link::dir(instance), program.to_owned(), spawn_egressd)
    }

    /// To the warden, if the container is on a network. It is made when the container runs, and nobody waits for it; where it
    /// publishes nothing, only if it stays.
    pub(crate) fn to_warden(request: &Request, monitor: &Path) -> Option<Self> {
        // On a link of the host's nothing is published, and no rule is ours.
        request.network.endpoints().find(|endpoint| !endpoint.is_macvlan())?;
        let dir = netd::warden_dir(&request.instance);
        let mut tie = Self::new(&request.instance, dir, netd_beside(monitor), spawn_warden);
        let wait = if request.network.ports().is_empty() { STAYS } else { Duration::ZERO };
        tie.due = Some(Instant::now() + wait);
        Some(tie)
    }

    fn new(instance: &Instance, dir: PathBuf, program: PathBuf, start: Start) -> Self {
        Self {
            instance: instance.clone(),
            dir,
            program,
            start,
            connection: None,
            connected: Instant::now(),
            due: None,
            delay: SOON,
            leaving: None,
        }
    }

    /// What hangs up when the server ends.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// The connection, while there is one.
    pub(crate) fn connection(&self) -> Option<&OwnedFd> {
        self.connection.as_ref()
    }

    /// When [`Tie::look_after`] is to be called.
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
    pub(crate) fn look_after(&mut self, greeting: Greeting<'_>) {
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
        if self.connection.is_none() && self.connect(greeting).is_err() {
            // The program may be exchanged for another one just now.
            self.due = Some(Instant::now() + LATE);
        }
    }

    /// Reaches the server, or starts it, or tries again soon.
    pub(crate) fn connect(&mut self, greeting: Greeting<'_>) -> Result<(), SpawnError> {
        if self.greet(greeting).is_ok() {
            return Ok(());
        }
        let lock = match Lock::try_exclusive(&self.dir) {
            Err(error) if error.is_not_found() => {
                fs::create_dir_all(&self.dir, 0o700)?;
                Lock::try_exclusive(&self.dir)?
            }
            other => other?,
        };
        if let Some(lock) = lock {
            self.start(&lock)?;
        }
        // Who was first has started it, and is perhaps about to listen.
        if self.greet(greeting).is_err() {
            self.due = Some(Instant::now() + self.delay);
            self.delay = (self.delay * 2).min(LATE);
        }
        Ok(())
    }

    /// Starts a server. We listen in its place, so that whoever connects from now on need not wait for it.
    fn start(&mut self, lock: &Lock) -> Result<(), SpawnError> {
        let failed = |errno: Errno| SpawnError::Start { program: self.program.clone(), source: errno.into() };
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
        self.leaving = Some((self.start)(&self.program, &self.instance, lock, &listener)?);
        self.due = Some(Instant::now() + LEAVING);
        Ok(())
    }

    /// Connects, and says what is said first.
    fn greet(&mut self, greeting: Greeting<'_>) -> Result<(), Errno> {
        let dir = openat(CWD, &self.dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connection = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&connection, &address_in(dir.as_fd(), netd::SOCKET).map_err(|_| Errno::NAMETOOLONG)?)?;
        greeting(&connection)?;
        self.connection = Some(connection);
        self.connected = Instant::now();
        self.delay = SOON;
        Ok(())
    }
}
