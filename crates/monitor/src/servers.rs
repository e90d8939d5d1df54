//! Processes that serve all containers of an instance: started by the first monitor that needs one and gets the lock of its
//! directory.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use base::fs;
use monitor::client::{SpawnError, address_in, spawn_server};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use state::Instance;
use state::lock::Lock;

/// So many monitors may connect at once.
const BACKLOG: i32 = 4096;

/// Such a process.
pub(crate) struct Server<'a> {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Whoever holds the lock of this directory is it, or is starting it.
    pub(crate) dir: &'a Path,
    /// Where it listens, in the directory.
    pub(crate) socket: &'static str,
    pub(crate) program: &'a Path,
}

impl Server<'_> {
    /// Starts it, unless somebody else does. We listen in its place, so that whoever connects from now on need not wait for
    /// it. The process that is returned ends at once, and leaves the server behind.
    pub(crate) fn start(&self, instance: &Instance) -> Result<Option<OwnedFd>, SpawnError> {
        let lock = match Lock::try_exclusive(self.dir) {
            Err(error) if error.is_not_found() => {
                fs::create_dir_all(self.dir, 0o700)?;
                Lock::try_exclusive(self.dir)?
            }
            other => other?,
        };
        let Some(lock) = lock else { return Ok(None) };
        let failed =
            |errno: Errno| SpawnError::Start { program: self.program.to_owned(), source: errno.into() };
        // What the server before has left.
        match unlinkat(&lock, self.socket, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let listen_in = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            let address = address_in(lock.as_fd(), self.socket).map_err(|_| Errno::NAMETOOLONG)?;
            bind(&listener, &address)?;
            listen(&listener, BACKLOG)?;
            Ok(listener)
        };
        let listener = listen_in().map_err(failed)?;
        spawn_server(self.program, self.name, instance, &lock, &listener).map(Some)
    }
}
