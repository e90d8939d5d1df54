//! Handing a filter's listener to who answers for it (config-linux.md, "The Container Process State").
//!
//! One connection for one filter: the state as JSON, the descriptor beside its first bytes, and that is all.

use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Failure, Kind};
use oci::runtime::{ContainerProcessState, State};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// What the descriptor is called in `fds`.
const SECCOMP_FD: &str = "seccompFd";
/// How long somebody who does not read may hold up a start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listener cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot hand the container's system calls to the seccomp listener at {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        base::failure::kind_of_io(&self.source)
    }
}

/// The state that goes along with the listener of the process `pid` (as we see it).
pub fn state_of(pid: u32, metadata: Option<&str>, container: State) -> ContainerProcessState {
    ContainerProcessState {
        oci_version: container.oci_version.clone(),
        fds: vec![SECCOMP_FD.to_owned()],
        pid,
        metadata: metadata.unwrap_or_default().to_owned(),
        state: container,
    }
}

/// Sends a filter's listener to the socket at `path`, which is `listenerPath`.
pub fn send(path: &Path, state: &ContainerProcessState, listener: OwnedFd) -> Result<(), Error> {
    try_send(path, state, &listener).map_err(|source| Error { path: path.to_owned(), source })
}

fn try_send(path: &Path, state: &ContainerProcessState, listener: &OwnedFd) -> io::Result<()> {
    let text = serde_json::to_vec(state)?;
    let mut socket = UnixStream::connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    // The descriptor goes with the first call alone; what did not fit follows.
    let sent = sendmsg(&socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    socket.write_all(&text[sent..])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    use oci::runtime::Status;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    fn container(annotation: usize) -> State {
        State {
            oci_version: "1.3.0".to_owned(),
            id: "c".to_owned(),
            status: Status::Creating,
            pid: 7,
            bundle: "/b".into(),
            annotations: BTreeMap::from([("a".to_owned(), "x".repeat(annotation))]),
        }
    }

    #[test]
    fn the_state_comes_whole_and_the_descriptor_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listening = UnixListener::bind(&path).unwrap();
        let state = state_of(7, Some("data"), container(1 << 20));
        let (mut end, given) = std::io::pipe().unwrap();
        let expected = state.clone();
        let reader = std::thread::spawn(move || {
            let (mut socket, _) = listening.accept().unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut first = vec![0; 16];
            let mut parts = [io::IoSliceMut::new(&mut first)];
            let got = recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
            let descriptors: Vec<_> = ancillary
                .drain()
                .filter_map(|m| match m {
                    RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .collect();
            let mut text = first[..got].to_vec();
            socket.read_to_end(&mut text).unwrap();
            let read: ContainerProcessState = serde_json::from_slice(&text).unwrap();
            assert_eq!(read, expected);
            assert_eq!((descriptors.len(), &*read.fds), (1, &["seccompFd".to_owned()][..]));
            rustix::io::write(&descriptors[0], b"!").unwrap();
        });
        send(&path, &state, given.into()).unwrap();
        reader.join().unwrap();
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "!");
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_socket() {
        let (_, given) = std::io::pipe().unwrap();
        let error = send(Path::new("/nonexistent/agent"), &state_of(1, None, container(0)), given.into());
        assert!(error.unwrap_err().to_string().contains("/nonexistent/agent"));
    }
}
