//! Descriptors that go from hand to hand: those that the command inherits, and those sent to a caller's socket.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use base::fs::At as _;
use runtime::Stdio;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};

use crate::arguments::Parsed;
use crate::error::{Doing as _, Error};

/// How many descriptors the command inherits, from 3 on: those of socket activation, then `--preserve-fds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Preserved {
    /// Sockets that systemd handed to us (sd_listen_fds(3)).
    pub(crate) activated: u32,
    /// And others.
    pub(crate) others: u32,
}

impl Preserved {
    /// From the flags and the environment. All must be open.
    pub(crate) fn new(flags: &Parsed) -> Result<Self, Error> {
        let others = flags.number::<u32>("preserve-fds")?.unwrap_or(0);
        let preserved = Self { activated: activated(), others };
        for n in 3..3 + preserved.count() {
            // In a library that knows nothing of descriptors by number, this is how to ask for one.
            if rustix::fs::readlink(format!("/proc/self/fd/{n}"), Vec::new()).is_err() {
                return Err(Error::Usage(format!("unable to preserve the descriptor {n}: it is not open")));
            }
        }
        Ok(preserved)
    }

    /// All of them.
    pub(crate) fn count(self) -> u32 {
        self.activated.saturating_add(self.others).min(1 << 16)
    }

    /// What tells the command of activated sockets. Process 1 of its namespace it is, or is told it was.
    pub(crate) fn environment(self, environment: &mut Vec<String>) {
        if self.activated > 0 {
            environment
                .retain(|entry| !entry.starts_with("LISTEN_FDS=") && !entry.starts_with("LISTEN_PID="));
            environment.push(format!("LISTEN_FDS={}", self.activated));
            environment.push("LISTEN_PID=1".to_owned());
        }
    }
}

/// Sockets are ours only if they were meant for this process.
fn activated() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Our own standard streams, for the command.
pub(crate) fn stdio() -> Result<Stdio, Error> {
    // Above all that the command may inherit by its number.
    let copy = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, 3).doing("copy a standard stream");
    use rustix::stdio::{stderr, stdin, stdout};
    Ok(Stdio { input: copy(stdin())?, output: copy(stdout())?, errors: copy(stderr())? })
}

/// A connection to a caller's socket, made before there is anything to be sent: a wrong path is no reason to make
/// a container.
pub(crate) fn connect_to(path: &Path) -> Result<OwnedFd, Error> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .at("make a socket for", path)?;
    let address = SocketAddrUnix::new(path).at("connect to", path)?;
    connect(&socket, &address).at("connect to", path)?;
    Ok(socket)
}

/// Sends a descriptor and its name.
pub(crate) fn send(socket: &OwnedFd, descriptor: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(name)], &mut ancillary, SendFlags::NOSIGNAL)
        .doing("send a descriptor to the caller's socket")?;
    Ok(())
}

/// Sends the master of a terminal, as the callers' console sockets expect it.
pub(crate) fn send_terminal(socket: &OwnedFd, master: &OwnedFd) -> Result<(), Error> {
    send(socket, master.as_fd(), b"/dev/ptmx")
}
