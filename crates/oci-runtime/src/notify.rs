//! `NOTIFY_SOCKET`: a container that tells systemd when it is ready.
//!
//! ```text
//!   systemd ◀── READY=1, MAINPID=… ── start, run ◀── <root>/<id>/notify/notify.sock ◀── the command, as
//!                                                                                      /run/notify/notify.sock
//! ```
//!
//! The container gets a socket of ours, in a directory of its own that is mounted into it. What is passed on is that
//! it is ready and which process it is on the host; nothing else of its words reaches the host's service manager.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base::fs::At as _;
use oci::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, chmod, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, sendto,
    socket_with,
};

use crate::error::{Doing as _, Error};
use crate::report::Report;
use crate::store::Container;

const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
const INSIDE: &str = "/run/notify";

/// The socket in the container's directory, and where its words go.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: OwnedFd,
    host: OsString,
}

/// Adds directory and variable to a configuration. Returns whether there is somebody to tell.
pub(crate) fn prepare(container: &Container, spec: &mut Spec) -> Result<bool, Error> {
    if host().is_none() {
        return Ok(false);
    }
    let directory = container.path(DIRECTORY);
    base::fs::create_dir(&directory, 0o755)?;
    spec.mounts.push(Mount {
        destination: INSIDE.into(),
        kind: Some("bind".to_owned()),
        source: Some(directory),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).into(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.retain(|line| !line.starts_with("NOTIFY_SOCKET="));
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
    }
    Ok(true)
}

fn host() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

impl Notify {
    /// Binds the socket of a container that was made to have one. From then on nothing that it says is lost.
    pub(crate) fn bind(container: &Container) -> Result<Option<Self>, Error> {
        let directory = container.path(DIRECTORY);
        let Some(host) = host().filter(|_| directory.is_dir()) else { return Ok(None) };
        let path = directory.join(SOCKET);
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .at("make", &path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, &directory, flags, Mode::empty()).at("open", &directory)?;
        use std::os::fd::AsRawFd;
        // A root may lie deeper than a socket's address is long.
        let short = format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd());
        base::fs::remove_file(&path)?;
        bind(&socket, &SocketAddrUnix::new(&*short).at("bind", &path)?).at("bind", &path)?;
        // Whoever the command runs as may write to it.
        chmod(&path, Mode::from_raw_mode(0o777)).at("open to all", &path)?;
        Ok(Some(Self { socket, host }))
    }

    /// Waits until the container says that it is ready, or ends, and passes it on. Where that fails the container is no
    /// worse for it.
    pub(crate) fn wait(&self, pid: u32, process: BorrowedFd<'_>, report: &Report) {
        if let Err(error) = self.wait_and_tell(pid, process) {
            report.warning(&error.in_one_line());
        }
    }

    fn wait_and_tell(&self, pid: u32, process: BorrowedFd<'_>) -> Result<(), Error> {
        loop {
            let mut sources =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&process, PollFlags::IN)];
            match poll(&mut sources, None) {
                Err(Errno::INTR) => continue,
                other => other.doing("wait for the container to be ready")?,
            };
            let ended = !sources[1].revents().is_empty();
            if self.pass_on(pid)? || ended {
                return Ok(());
            }
        }
    }

    /// Passes on what has been said so far. True once the container is ready.
    pub(crate) fn pass_on(&self, pid: u32) -> Result<bool, Error> {
        let mut buffer = [0; 4096];
        let mut ready = false;
        loop {
            let length = match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((_, length)) => length.min(buffer.len()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(ready),
                Err(error) => return Err(error).doing("read from the container's notify socket"),
            };
            let is_ready = buffer[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1");
            if is_ready && !ready {
                ready = true;
                self.tell(pid)?;
            }
        }
    }

    fn tell(&self, pid: u32) -> Result<(), Error> {
        let host = Path::new(&self.host);
        let address = match self.host.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(host),
        };
        let address = address.at("find", host)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .at("make a socket for", host)?;
        let message = format!("READY=1\nMAINPID={pid}");
        sendto(&socket, message.as_bytes(), SendFlags::NOSIGNAL, &address).at("write to", host)?;
        Ok(())
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
