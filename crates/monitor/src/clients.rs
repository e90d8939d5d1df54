//! The front doors that are connected: what they say, and what they are still to be told.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use state::netd::Registration;
use state::options::RestartPolicy;
use state::protocol::{Change, Frames, Hello, Tag, frame};

use crate::restart::Wanted;

/// Once this many bytes wait for a door, the container's output is left in its pipe until it has read some: the
/// container waits for who watches it, as it would for a terminal, and nothing is lost or kept without bound.
const MOST_PENDING: usize = 1 << 20;

/// A connected door.
pub(crate) struct Client {
    socket: OwnedFd,
    frames: Frames,
    pending: Vec<u8>,
    attached: bool,
    feeder: bool,
    greeted: bool,
    holds: bool,
    /// What it has asked to be different, as it was written.
    change: Option<Vec<u8>>,
    gone: bool,
}

/// What a door wants.
pub(crate) enum Wish {
    /// Bytes for standard input.
    Input(Vec<u8>),
    /// The end of standard input.
    InputEnd,
    /// A size for the terminal.
    Resize { rows: u16, columns: u16 },
    /// A signal for the command.
    Signal(i32),
    /// What ends it from here on is wished.
    Stop(Wanted),
    /// What is done when it ends, from now on.
    Policy(RestartPolicy),
    /// What it is called, from now on.
    Names(Box<Registration>),
    /// It has said hello: it is to be told that the command runs.
    Greeted,
}

impl Client {
    /// A door that has connected and will say hello.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let frames = Frames::default();
        Ok(Self {
            socket,
            frames,
            pending: Vec::new(),
            attached: false,
            feeder: false,
            greeted: false,
            holds: false,
            change: None,
            gone: false,
        })
    }

    /// The door that started us: its hello is part of the request.
    pub(crate) fn starter(socket: OwnedFd, attached: bool) -> io::Result<Self> {
        Ok(Self { attached, feeder: attached, greeted: true, ..Self::new(socket)? })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the command's input ends with it: it is the door that started the command and stayed attached.
    pub(crate) fn is_feeder(&self) -> bool {
        self.feeder
    }

    /// Whether the container is frozen on its behalf.
    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn is_lagging(&self) -> bool {
        self.pending.len() >= MOST_PENDING
    }

    /// Reads what has arrived, and takes the wishes out of it.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], wishes: &mut Vec<Wish>) {
        match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => self.gone = true,
            Ok((n, _)) => {
                self.frames.push(&buffer[..n]);
                loop {
                    match self.frames.take() {
                        Ok(Some((tag, payload))) => self.take(tag, payload, wishes),
                        Ok(None) => break,
                        Err(_) => {
                            self.gone = true;
                            break;
                        }
                    }
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.gone = true,
        }
    }

    fn take(&mut self, tag: Tag, payload: Vec<u8>, wishes: &mut Vec<Wish>) {
        if !self.greeted {
            match (tag, serde_json::from_slice::<Hello>(&payload)) {
                (Tag::Hello, Ok(hello)) => {
                    (self.greeted, self.attached) = (true, hello.attach);
                    wishes.push(Wish::Greeted);
                }
                _ => self.gone = true,
            }
            return;
        }
        match (tag, &payload[..]) {
            (Tag::Input, _) => wishes.push(Wish::Input(payload)),
            (Tag::InputEnd, _) => wishes.push(Wish::InputEnd),
            (Tag::Hold, _) => self.holds = true,
            (Tag::LetGo, _) => self.holds = false,
            (Tag::Change, _) => self.change = Some(payload),
            (Tag::Resize, &[a, b, c, d]) => wishes
                .push(Wish::Resize { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) }),
            (Tag::Signal, &[a, b, c, d]) => wishes.push(Wish::Signal(i32::from_le_bytes([a, b, c, d]))),
            (Tag::Stop, payload) => wishes.push(Wish::Stop(match payload {
                [] => Wanted::ByUser,
                [2] => Wanted::ForRestart,
                _ => Wanted::ByShutdown,
            })),
            (Tag::Policy, payload) => {
                // What cannot be read is of a later release: not for us.
                wishes.extend(serde_json::from_slice(payload).ok().map(Wish::Policy));
            }
            (Tag::Names, payload) => wishes.extend(serde_json::from_slice(payload).ok().map(Wish::Names)),
            // A tag of a later release, or nonsense: not for us.
            _ => {}
        }
    }

    /// What it wants to be different, once.
    pub(crate) fn take_change(&mut self) -> Option<Result<Change, serde_json::Error>> {
        self.change.take().map(|payload| serde_json::from_slice(&payload))
    }

    /// Tells the door something.
    pub(crate) fn tell(&mut self, tag: Tag, payload: &[u8]) {
        if self.gone || !self.greeted {
            return;
        }
        self.pending.extend_from_slice(&frame(tag, payload));
        self.flush();
    }

    /// Tells it of output, if it wants any.
    pub(crate) fn tell_output(&mut self, tag: Tag, bytes: &[u8]) {
        if self.attached {
            self.tell(tag, bytes);
        }
    }

    /// Sends what is pending, as far as the socket takes it.
    pub(crate) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.pending.len() {
            match send(&self.socket, &self.pending[sent..], SendFlags::NOSIGNAL) {
                Ok(n) => sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.gone = true;
                    sent = self.pending.len();
                }
            }
        }
        if sent == self.pending.len() {
            // Given back: an idle monitor keeps no buffer that a burst has made.
            self.pending = Vec::new();
        } else {
            self.pending.drain(..sent);
        }
    }
}
