//! The second half of a start in two: `create` leaves a process that is held just before it takes its rights and
//! executes its command; `start` tells it to go on.
//!
//! The two meet at a packet socket in the container's directory. Only the held process keeps the listening end, so
//! that a connection is refused once it is gone, or has been told already. Who connects and goes away without a word,
//! killed while it ran hooks, has changed nothing; from [`Held::announce`] on the two ends live and die together.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base::Failure;
use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, send,
    socket_with,
};

use crate::handshake::{Message, Progress};
use crate::launch::{LaunchError, Turn, shake_hands};
use crate::words::describe_held;

/// A connection to a held process.
#[derive(Debug)]
pub struct Held {
    socket: OwnedFd,
    announced: bool,
}

impl Held {
    /// Makes the socket that [`crate::LaunchPlan::held`] takes, at a path that does not exist. The caller's user and root
    /// alone may connect, whoever can reach the path.
    pub fn listen(path: &Path) -> io::Result<OwnedFd> {
        let socket = new_socket()?;
        // The file that is bound takes its mode from the socket: there is no moment at which it has another.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        with_address(path, |address| bind(&socket, address))?;
        listen(&socket, 1)?;
        Ok(socket)
    }

    /// Connects to the process that is held at this socket.
    ///
    /// # Errors
    /// [`LaunchError::NotHeld`] where none waits there.
    pub fn connect(path: &Path) -> Result<Self, LaunchError> {
        let connected = new_socket().and_then(|socket| {
            with_address(path, |address| connect(&socket, address))?;
            Ok(socket)
        });
        Ok(Self { socket: connected.map_err(LaunchError::NotHeld)?, announced: false })
    }

    /// Says that there is no way back: what is held ends with this connection now, if it is not told to go. To be
    /// called before the socket's path is removed, or nobody could start what was left behind; [`go`](Self::go) does it
    /// where that has not been done.
    pub fn announce(&mut self) -> Result<(), LaunchError> {
        if !self.announced {
            self.send(Message::Starting)?;
            self.announced = true;
        }
        Ok(())
    }

    fn send(&self, message: Message) -> Result<(), LaunchError> {
        send(&self.socket, &message.encode(), SendFlags::NOSIGNAL)
            .map_err(|e| LaunchError::NotHeld(e.into()))?;
        Ok(())
    }

    /// Lets the process take its rights and execute its command. Returns when the command runs.
    pub fn go(self) -> Result<(), LaunchError> {
        self.go_with_listener(|_| Err(Box::new(crate::seccomp::Error::Listener)))
    }

    /// Like [`go`](Self::go); `listener` gets the descriptor of the filter's listener, if it has one
    /// ([`crate::seccomp::listener::send`] hands it on). The command is executed when it has returned.
    pub fn go_with_listener(
        mut self,
        mut listener: impl FnMut(OwnedFd) -> Result<(), Box<dyn Failure>>,
    ) -> Result<(), LaunchError> {
        self.announce()?;
        self.send(Message::Go)?;
        let turns = |turn| match turn {
            Turn::Mounted => Ok(()),
            Turn::Listener(descriptor) => listener(descriptor),
        };
        shake_hands(self.socket.as_fd(), Progress::released(), describe_held, turns)?;
        Ok(())
    }
}

fn new_socket() -> Result<OwnedFd, io::Error> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The address of a path of any length: a socket's own has room for 107 bytes.
fn with_address(path: &Path, use_it: impl FnOnce(&SocketAddrUnix) -> Result<(), Errno>) -> io::Result<()> {
    if path.as_os_str().len() < 108 {
        return Ok(use_it(&SocketAddrUnix::new(path)?)?);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, parent, flags, Mode::empty())?;
    use std::os::fd::AsRawFd;
    let mut short = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    short.extend_from_slice(name.as_bytes());
    Ok(use_it(&SocketAddrUnix::new(short)?)?)
}
