//! The start handshake between the parent and the child of a clone, over a pair of packet sockets.
//!
//! ```text
//!   parent                                   child
//!     │ clone3 ──────────────────────────────▶ │
//!     │ cgroups: make, set                     │ mounts: root, proc, dev, binds, masks
//!     │ network: veth into its namespace       │
//!     │ ── Go ───────────────────────────────▶ │ only now: cgroups (v1), addresses, pivot, rights
//!     │ ◀────────────────── Terminal + its fd ─│ with a terminal
//!     │ ◀──────────────────────────────── Ready ─│ but for rights and exec all is done
//!     │ ◀─────────────────────── end of stream ─│ the socket closed on exec: the command runs
//!     │ ◀──────────── Failed{step,errno,index}─│ or this, at any time
//! ```
//!
//! Each message is one packet. What may come when is [`Progress::advance`], a pure function.

use std::io;

use rustix::io::Errno;

/// What the child was doing when it failed. The parent knows which object the index means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Session = 1,
    Propagation,
    Root,
    MountTarget,
    Mount,
    MountOverProc,
    Device,
    Mask,
    ReadOnly,
    Hostname,
    Join,
    Go,
    Cgroup,
    Netlink,
    CgroupNamespace,
    CgroupMount,
    Sysctl,
    Pivot,
    WorkingDir,
    Accounts,
    UnknownUser,
    UnknownGroup,
    Terminal,
    Stdio,
    OomScore,
    Rlimit,
    Keyring,
    AppArmor,
    Bounding,
    NoNewPrivileges,
    Seccomp,
    Groups,
    User,
    Capabilities,
    Ambient,
    Init,
    Exec,
}

impl Step {
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Step; 37] = {
            use Step as S;
            [
                S::Session,
                S::Propagation,
                S::Root,
                S::MountTarget,
                S::Mount,
                S::MountOverProc,
                S::Device,
                S::Mask,
                S::ReadOnly,
                S::Hostname,
                S::Join,
                S::Go,
                S::Cgroup,
                S::Netlink,
                S::CgroupNamespace,
                S::CgroupMount,
                S::Sysctl,
                S::Pivot,
                S::WorkingDir,
                S::Accounts,
                S::UnknownUser,
                S::UnknownGroup,
                S::Terminal,
                S::Stdio,
                S::OomScore,
                S::Rlimit,
                S::Keyring,
                S::AppArmor,
                S::Bounding,
                S::NoNewPrivileges,
                S::Seccomp,
                S::Groups,
                S::User,
                S::Capabilities,
                S::Ambient,
                S::Init,
                S::Exec,
            ]
        };
        ALL.into_iter().find(|step| *step as u8 == byte)
    }
}

/// A failed step of the child: which, on which of the plan's objects, with what errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) step: Step,
    pub(crate) index: u16,
    pub(crate) errno: Errno,
}

impl Failed {
    pub(crate) fn new(step: Step, index: usize, error: impl Into<Errno>) -> Self {
        Self { step, index: index.min(usize::from(u16::MAX)) as u16, errno: error.into() }
    }
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// Parent: the groups and the network are ready.
    Go,
    /// Child: the terminal's master comes with this packet.
    Terminal,
    /// Child: it gives up its rights and executes the command now. Without this a child that died on its way would
    /// look like one that runs: for both the stream ends.
    Ready,
    /// Child: it will exit.
    Failed(Failed),
}

/// The length of every packet.
pub(crate) const PACKET: usize = 8;

impl Message {
    pub(crate) fn encode(self) -> [u8; PACKET] {
        let mut bytes = [0; PACKET];
        match self {
            Self::Go => bytes[0] = b'G',
            Self::Terminal => bytes[0] = b'T',
            Self::Ready => bytes[0] = b'R',
            Self::Failed(failed) => {
                bytes[0] = b'F';
                bytes[1] = failed.step as u8;
                bytes[2..4].copy_from_slice(&failed.index.to_ne_bytes());
                bytes[4..8].copy_from_slice(&failed.errno.raw_os_error().to_ne_bytes());
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PACKET] = bytes.try_into().ok()?;
        match bytes[0] {
            b'G' => Some(Self::Go),
            b'T' => Some(Self::Terminal),
            b'R' => Some(Self::Ready),
            b'F' => Some(Self::Failed(Failed {
                step: Step::from_byte(bytes[1])?,
                index: u16::from_ne_bytes([bytes[2], bytes[3]]),
                errno: Errno::from_raw_os_error(i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])),
            })),
            _ => None,
        }
    }
}

/// How far a start is, as the parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Go was sent; a terminal is still awaited.
    AwaitingTerminal,
    /// The child is still at its preparations.
    AwaitingReady,
    /// Nothing is awaited but the exec.
    AwaitingExec,
    /// The command runs.
    Running,
    /// The child told what failed.
    Failed(Failed),
}

impl Progress {
    /// Where a start begins.
    pub(crate) fn begin(terminal: bool) -> Self {
        if terminal { Self::AwaitingTerminal } else { Self::AwaitingReady }
    }

    /// The next state upon a packet, or upon the end of the stream (`None`).
    ///
    /// # Errors
    /// The child broke the protocol; that includes dying without a word.
    pub(crate) fn advance(self, message: Option<Message>) -> io::Result<Self> {
        match (self, message) {
            (Self::AwaitingTerminal, Some(Message::Terminal)) => Ok(Self::AwaitingReady),
            (Self::AwaitingReady, Some(Message::Ready)) => Ok(Self::AwaitingExec),
            (Self::AwaitingExec, None) => Ok(Self::Running),
            (
                Self::AwaitingTerminal | Self::AwaitingReady | Self::AwaitingExec,
                Some(Message::Failed(failed)),
            ) => Ok(Self::Failed(failed)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the child broke the start handshake")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drawn_order_is_legal() {
        let failed = Failed::new(Step::Exec, 3, Errno::NOENT);
        let begin = Progress::begin(true);
        assert_eq!(begin.advance(Some(Message::Terminal)).unwrap(), Progress::AwaitingReady);
        assert_eq!(begin.advance(Some(Message::Failed(failed))).unwrap(), Progress::Failed(failed));
        assert!(begin.advance(None).is_err(), "exec without handing the terminal over");
        assert!(Progress::begin(false).advance(None).is_err(), "died before it was ready");
        let exec = Progress::begin(false).advance(Some(Message::Ready)).unwrap();
        assert_eq!(exec.advance(None).unwrap(), Progress::Running);
        assert!(exec.advance(Some(Message::Terminal)).is_err());
        assert!(exec.advance(Some(Message::Go)).is_err(), "the child never says Go");
        assert!(Progress::Running.advance(None).is_err());
    }

    #[test]
    fn packets_round_trip_and_nonsense_is_refused() {
        for message in
            [Message::Go, Message::Terminal, Message::Failed(Failed::new(Step::Seccomp, 70000, Errno::PERM))]
        {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for step in 1..=36 {
            assert_eq!(Step::from_byte(step).map(|s| s as u8), Some(step));
        }
        assert_eq!(Message::decode(b"F\xff000000"), None);
        assert_eq!(Message::decode(b""), None);
    }
}
