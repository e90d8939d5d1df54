//! The protocol between front doors and a container's monitor, over its Unix stream socket.
//!
//! ```text
//!   front door                                monitor
//!       │ ── Hello {version, attach} ──────────▶ │   first of all; attach: streams wanted or not
//!       │ ◀───────────── Started {pid} | Failed ─│   at once if it runs already
//!       │ ── Input, InputEnd, Resize, Signal ──▶ │   any time after
//!       │ ── Hold … LetGo ─────────────────────▶ │   it is frozen between the two, or until the door hangs up
//!       │ ── Stop ─────────────────────────────▶ │   before the signal that is to end it for good
//!       │ ── Policy ───────────────────────────▶ │   what is done when it ends, from now on
//!       │ ── Change ───────────────────────────▶ │   of version 2: what of it is to be different
//!       │ ◀────────────────── Changed | Refused ─│   the answer
//!       │ ── Names ────────────────────────────▶ │   what it is called, from now on
//!       │ ◀──────────────────── Output, Errors ──│   any time after, if attached
//!       │ ◀───────────────────────── Exited ─────│   last of all
//! ```
//!
//! A frame is one byte of type, four bytes of length (little-endian) and the payload. Either side may hang up
//! at any time: a monitor goes on without the door, a door that loses its monitor reads the records. A new
//! `dhow` talks to monitors of the release before: types are only ever added, and an unknown one is skipped. What a
//! monitor understands is in its `live.json` ([`crate::container::Live::protocol`]): a door asks for nothing that would
//! never be answered.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::options::PortMapping;

/// The version of the protocol.
pub const VERSION: u32 = 2;
/// The first version that has [`Tag::Change`].
pub const CHANGES: u32 = 2;
/// The longest payload that is accepted. Streams are cut into less.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// A frame's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// Door: [`Hello`] as JSON.
    Hello = 1,
    /// Door: bytes for standard input.
    Input = 2,
    /// Door: standard input ends.
    InputEnd = 3,
    /// Door: rows and columns, two little-endian u16.
    Resize = 4,
    /// Door: a signal number, little-endian i32, for the container's init.
    Signal = 5,
    /// Door: nothing. It is about to freeze the container: should it hang up, the monitor is to thaw it.
    Hold = 6,
    /// Door: nothing. It has thawed the container itself.
    LetGo = 7,
    /// Door: nothing, or one byte. What ends the container from here on is wished: no policy starts it again. The byte: 1,
    /// the machine goes down; 2, it is to be started again at once.
    Stop = 8,
    /// Door: another [`crate::options::RestartPolicy`], as JSON.
    Policy = 9,
    /// Door: [`Change`] as JSON. It is answered, and takes effect as a whole or not at all.
    Change = 10,
    /// Door: another [`crate::netd::Registration`], as JSON: it is called otherwise now, or on other networks.
    Names = 11,
    /// Monitor: the pid, little-endian u32.
    Started = 16,
    /// Monitor: [`StartFailure`] as JSON; then it hangs up.
    Failed = 17,
    /// Monitor: bytes of standard output (or of the terminal).
    Output = 18,
    /// Monitor: bytes of standard error.
    Errors = 19,
    /// Monitor: [`Ended`] as JSON; then it hangs up.
    Exited = 20,
    /// Monitor: nothing. The change is in force.
    Changed = 21,
    /// Monitor: [`StartFailure`] as JSON. All is as it was.
    Refused = 22,
}

impl Tag {
    /// The type of this number, if it is known.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Input,
            3 => Self::InputEnd,
            4 => Self::Resize,
            5 => Self::Signal,
            6 => Self::Hold,
            7 => Self::LetGo,
            8 => Self::Stop,
            9 => Self::Policy,
            10 => Self::Change,
            11 => Self::Names,
            16 => Self::Started,
            17 => Self::Failed,
            18 => Self::Output,
            19 => Self::Errors,
            20 => Self::Exited,
            21 => Self::Changed,
            22 => Self::Refused,
            _ => return None,
        })
    }
}

/// A door's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the door.
    pub version: u32,
    /// Whether it wants the container's output.
    pub attach: bool,
}

/// What is to be different about a container while it runs; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// The ports that it publishes from now on, and no others. Those that stay are written as `live.json` has them; of a
    /// new one the host's may be 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortMapping>>,
    /// What its events say of it beside its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, String>>,
}

/// Why a container did not start, or was not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// The whole chain of causes, for people.
    pub message: String,
    /// What to do next.
    pub hints: Vec<String>,
    /// What it means.
    pub kind: FailureKind,
}

/// [`base::Kind`], as far as a start can fail with it, in a form that is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Exit code 127.
    CommandNotFound,
    /// Exit code 126.
    CommandNotExecutable,
    /// The request makes no sense.
    Invalid,
    /// A port is taken.
    Conflict,
    /// A right is missing.
    Permission,
    /// The kernel lacks something.
    Unsupported,
    /// Something is used up.
    Exhausted,
    /// Anything else.
    Internal,
}

impl From<base::Kind> for FailureKind {
    fn from(kind: base::Kind) -> Self {
        use base::Kind as K;
        match kind {
            K::CommandNotFound => Self::CommandNotFound,
            K::CommandNotExecutable => Self::CommandNotExecutable,
            K::Invalid => Self::Invalid,
            K::Conflict => Self::Conflict,
            K::Permission => Self::Permission,
            K::Unsupported => Self::Unsupported,
            K::Exhausted => Self::Exhausted,
            _ => Self::Internal,
        }
    }
}

impl From<FailureKind> for base::Kind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::CommandNotFound => Self::CommandNotFound,
            FailureKind::CommandNotExecutable => Self::CommandNotExecutable,
            FailureKind::Invalid => Self::Invalid,
            FailureKind::Conflict => Self::Conflict,
            FailureKind::Permission => Self::Permission,
            FailureKind::Unsupported => Self::Unsupported,
            FailureKind::Exhausted => Self::Exhausted,
            FailureKind::Internal => Self::Internal,
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The exit code as Docker counts.
    pub code: i32,
    /// The OOM killer struck.
    pub oom_killed: bool,
}

/// A whole frame as bytes.
pub fn frame(tag: Tag, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.push(tag as u8);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Writes a frame, blocking.
pub fn write_frame(to: &mut impl Write, tag: Tag, payload: &[u8]) -> io::Result<()> {
    to.write_all(&frame(tag, payload))
}

/// Reads the next frame of a known type, blocking; `None` at an orderly end.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<(Tag, Vec<u8>)>> {
    loop {
        let mut head = [0; 5];
        if from.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..])?;
        let length = payload_length(head)?;
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        if let Some(tag) = Tag::from_byte(head[0]) {
            return Ok(Some((tag, payload)));
        }
    }
}

fn payload_length(head: [u8; 5]) -> io::Result<usize> {
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame longer than the protocol allows"));
    }
    Ok(length)
}

/// Cuts frames out of bytes that arrive in pieces, for whoever must not block.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame of a known type, if one has arrived.
    ///
    /// # Errors
    /// `InvalidData` where the peer breaks the protocol: hang up.
    pub fn take(&mut self) -> io::Result<Option<(Tag, Vec<u8>)>> {
        while let Some(head) = self.buffer.first_chunk::<5>() {
            let length = payload_length(*head)?;
            if self.buffer.len() < 5 + length {
                return Ok(None);
            }
            let tag = Tag::from_byte(head[0]);
            let payload = self.buffer[5..5 + length].to_vec();
            self.buffer.drain(..5 + length);
            if let Some(tag) = tag {
                return Ok(Some((tag, payload)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cutting_and_unknown_types_are_skipped() {
        let mut bytes = frame(Tag::Input, b"one");
        bytes.extend_from_slice(&[200, 2, 0, 0, 0, 9, 9]);
        bytes.extend_from_slice(&frame(Tag::InputEnd, b""));
        for step in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                frames.push(piece);
                while let Some(frame) = frames.take().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, [(Tag::Input, b"one".to_vec()), (Tag::InputEnd, vec![])]);
        }
        assert_eq!(read_frame(&mut &bytes[..]).unwrap().unwrap().0, Tag::Input);
    }

    #[test]
    fn a_frame_without_bounds_is_refused() {
        let mut frames = Frames::default();
        frames.push(&[2, 255, 255, 255, 255]);
        assert!(frames.take().is_err());
    }
}
