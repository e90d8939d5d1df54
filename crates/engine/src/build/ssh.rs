//! `RUN --mount=type=ssh`: a socket of ours that leads to the agent of the one who builds, with the owner and mode that the
//! command needs. It lives as long as the command.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use base::fs::At;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};

use super::error::{Error, failed};
use crate::error::Result;

/// More at once are hung up on.
const MOST: usize = 64;

/// Whether somebody listens there.
pub(super) fn reach(id: &str, socket: &Path) -> Result<()> {
    UnixStream::connect(socket).map(drop).map_err(|source| {
        let path = socket.display().to_string();
        Error::Agent { id: id.to_owned(), path, source }.into()
    })
}

/// A socket that leads to an agent. Gone when dropped, with all its connections.
#[derive(Debug)]
pub(super) struct Agent {
    /// Its other end is the thread's sign to end.
    life: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens at `place` for who wants the agent at `socket`.
    pub(super) fn start(place: &Path, socket: &Path, (mode, uid, gid): (u32, u32, u32)) -> Result<Self> {
        let listener = bind(place).at("listen at", place)?;
        std::os::unix::fs::chown(place, Some(uid), Some(gid)).at("set the owner of", place)?;
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode))
            .at("set the mode of", place)?;
        listener.set_nonblocking(true).at("listen at", place)?;
        let (end, life) = io::pipe().map_err(failed("make a pipe"))?;
        let socket = socket.to_owned();
        let serve = move || serve(&listener, &socket, &end.into());
        let thread = std::thread::Builder::new().name("agent".to_owned()).spawn(serve);
        Ok(Self { life: Some(life), thread: Some(thread.map_err(failed("start a thread"))?) })
    }
}

/// A socket's address has room for 107 bytes: the directory is called by the number of its descriptor.
fn bind(place: &Path) -> io::Result<UnixListener> {
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.life = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Bytes one way or the other, until either end hangs up.
struct Pair {
    ends: [UnixStream; 2],
}

impl Pair {
    fn connect(inside: UnixStream, socket: &PathBuf) -> io::Result<Self> {
        let outside = UnixStream::connect(socket)?;
        inside.set_nonblocking(false)?;
        Ok(Self { ends: [inside, outside] })
    }

    /// Passes on what came from one end. False when it is over.
    fn pass(&self, from: usize) -> bool {
        let mut buffer = [0; 16 << 10];
        let (from, to) = (&self.ends[from], &self.ends[1 - from]);
        match rustix::io::read(from, &mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                use io::Write;
                let mut to = to;
                to.write_all(&buffer[..n]).is_ok()
            }
        }
    }
}

fn serve(listener: &UnixListener, socket: &PathBuf, end: &OwnedFd) {
    let mut pairs: Vec<Pair> = Vec::new();
    loop {
        let mut polled = vec![
            PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        for pair in &pairs {
            polled.extend(pair.ends.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        }
        if poll(&mut polled, None).is_err() {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
        drop(polled);
        if ready[0] {
            return;
        }
        let mut index = 0;
        pairs.retain(|pair| {
            let at = 2 + 2 * index;
            index += 1;
            (0..2).all(|side| !ready[at + side] || pair.pass(side))
        });
        if ready[1]
            && let Ok((inside, _)) = listener.accept()
            && pairs.len() < MOST
            && let Ok(pair) = Pair::connect(inside, socket)
        {
            pairs.push(pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_asked_inside_is_answered_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (real, ours) = (dir.path().join("real"), dir.path().join("ours"));
        let listener = UnixListener::bind(&real).unwrap();
        reach("default", &real).unwrap();
        drop(listener.accept().unwrap());
        let agent = Agent::start(&ours, &real, (0o600, 0, 0)).unwrap();
        let mut inside = UnixStream::connect(&ours).unwrap();
        let (mut outside, _) = listener.accept().unwrap();
        inside.write_all(b"keys?").unwrap();
        let mut asked = [0; 5];
        outside.read_exact(&mut asked).unwrap();
        outside.write_all(b"none").unwrap();
        let mut answer = [0; 4];
        inside.read_exact(&mut answer).unwrap();
        assert_eq!((&asked, &answer), (b"keys?", b"none"));
        drop(agent);
        assert_eq!(inside.read(&mut answer).unwrap(), 0);
        assert!(reach("default", &dir.path().join("nobody")).is_err());
    }
}
