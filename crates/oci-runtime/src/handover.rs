//! What the caller of `create`, `run` and `exec` asked to be given: the terminal, a pidfd, the process id in a file.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use runtime::Running;

use crate::arguments::Parsed;
use crate::descriptors;
use crate::error::Error;

/// The caller's sockets, connected before there is a container.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    console: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
}

impl Sockets {
    /// From the flags. `detached`: nobody stays to relay a terminal.
    pub(crate) fn new(flags: &Parsed, detached: bool, terminal: bool) -> Result<Self, Error> {
        let console = flags.path("console-socket");
        if detached && terminal && console.is_none() {
            let why = "cannot allocate tty if runc will detach without setting console socket";
            return Err(Error::Usage(why.to_owned()));
        }
        if console.is_some() && !(detached && terminal) {
            let why = "cannot use console socket if runc will not detach or allocate tty";
            return Err(Error::Usage(why.to_owned()));
        }
        let connect = |path: Option<&Path>| path.map(descriptors::connect_to).transpose();
        Ok(Self { console: connect(console)?, pidfd: connect(flags.path("pidfd-socket"))? })
    }

    /// Hands over what belongs to the caller.
    pub(crate) fn hand_over(&self, running: &mut Running) -> Result<(), Error> {
        if let Some(socket) = &self.console
            && let Some(master) = running.terminal.take()
        {
            descriptors::send_terminal(socket, &master)?;
        }
        if let Some(socket) = &self.pidfd {
            descriptors::send(socket, running.pidfd.as_fd(), b"pidfd")?;
        }
        Ok(())
    }
}

/// Writes a pid file: by rename, since whoever waits for it reads it at once. The file that is renamed is a new one: in a
/// directory that others write to, a symlink may lie in its place, and neither it nor one of the final name is followed.
pub(crate) fn write_pid_file(path: &Path, pid: u32) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default();
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(hidden);
    // One that somebody of our number left when they were killed. Where it may not be removed it cannot be made either.
    std::fs::remove_file(&temporary).ok();
    base::fs::create_new(&temporary, pid.to_string().as_bytes(), 0o644)?;
    let renamed = base::fs::rename(&temporary, path);
    if renamed.is_err() {
        // The cause is being reported.
        std::fs::remove_file(&temporary).ok();
    }
    Ok(renamed?)
}
