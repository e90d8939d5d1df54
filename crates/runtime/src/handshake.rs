//! The start handshake between the parent and the child of a clone, over a pair of packet sockets.
//!
//! ```text
//!   parent                                   child
//!     │ clone3 ──────────────────────────────▶ │   or, where namespaces must be joined before others are made:
//!     │ ◀─────────────── Born(pid) + its pidfd ─│   a go-between joins, clones our child, tells, and is gone
//!     │ uid_map, gid_map                       │ waits
//!     │ ── Mapped ───────────────────────────▶ │ with a go-between, or a new user namespace, whose root it becomes
//!     │ ── Tree + its fd ────────────────────▶ │ … for each copy of the host's mounts, made in its mount namespace
//!     │ cgroups: make, set                     │ mounts: root, proc, dev, binds, masks
//!     │ network: veth into its namespace       │
//!     │ ◀───────────────────────────── Mounted ─│ if the caller wants to do something then: Steps::mounted
//!     │ ── Go ───────────────────────────────▶ │ only now: cgroups (v1), addresses, pivot, limits
//!     │ ◀────────────────── Terminal + its fd ─│ with a terminal
//!     │ ◀──────────────────────────────── Ready ─│ but for rights and exec all is done
//!     │ (held: the start ends here)            │ (held: waits for somebody else, who says Starting, and then Go;
//!     │                                        │ Ready once more. Whoever goes away before that was not the one)
//!     │ ◀─────────────────── Listener + its fd ─│ where its filter hands calls to a listener; it waits
//!     │ ── Go ───────────────────────────────▶ │ … until somebody has it who will answer
//!     │ ◀─────────────────────── end of stream ─│ the socket closed on exec: the command runs
//!     │ ◀──────────── Failed{step,errno,index}─│ or this, at any time
//! ```
//!
//! Each message is one packet. What may come when is [`Progress::advance`], a pure function.

use std::io;

use rustix::io::Errno;

macro_rules! steps {
    ($($(#[$note:meta])* $name:ident,)+) => {
        /// What the child was doing when it failed. The parent knows which object the index means.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Step {
            $($(#[$note])* $name,)+
        }

        impl Step {
            const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

steps! {
    Clone,
    Users,
    Time,
    Session,
    Propagation,
    Root,
    MountTarget,
    Mount,
    MountParameter,
    MountOverProc,
    MountIds,
    CopyUp,
    Device,
    DeviceExists,
    Mask,
    ReadOnly,
    Hostname,
    DomainName,
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
    Hold,
    Scheduler,
    IoPriority,
    MemoryPolicy,
    Personality,
    Affinity,
    SeLinux,
    Listener,
}

impl Step {
    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
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
    /// Go-between: this is our child, whose descriptor comes with this packet.
    Born(u32),
    /// Parent: it knows of the child, and the ids of the new user namespace are mapped.
    Mapped,
    /// Parent: the copy of one of the host's trees comes with this packet.
    Tree,
    /// Child: all is mounted, and the root is not changed yet.
    Mounted,
    /// Parent: the groups and the network are ready. Whoever starts a held child: it may execute the command.
    Go,
    /// Whoever starts a held child: there is no way back. It need not wait for anybody else from now on.
    Starting,
    /// Child: the terminal's master comes with this packet.
    Terminal,
    /// Child: it gives up its rights and executes the command now. Without this a child that died on its way would
    /// look like one that runs: for both the stream ends.
    Ready,
    /// Child: the seccomp listener's descriptor comes with this packet.
    Listener,
    /// Child: it will exit.
    Failed(Failed),
}

/// The length of every packet.
pub(crate) const PACKET: usize = 8;

impl Message {
    pub(crate) fn encode(self) -> [u8; PACKET] {
        let mut bytes = [0; PACKET];
        match self {
            Self::Born(pid) => {
                bytes[0] = b'B';
                bytes[4..8].copy_from_slice(&pid.to_ne_bytes());
            }
            Self::Mapped => bytes[0] = b'M',
            Self::Tree => bytes[0] = b'C',
            Self::Mounted => bytes[0] = b'P',
            Self::Go => bytes[0] = b'G',
            Self::Starting => bytes[0] = b'S',
            Self::Terminal => bytes[0] = b'T',
            Self::Ready => bytes[0] = b'R',
            Self::Listener => bytes[0] = b'L',
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
        let last = [bytes[4], bytes[5], bytes[6], bytes[7]];
        match bytes[0] {
            b'B' => Some(Self::Born(u32::from_ne_bytes(last))),
            b'M' => Some(Self::Mapped),
            b'C' => Some(Self::Tree),
            b'P' => Some(Self::Mounted),
            b'G' => Some(Self::Go),
            b'S' => Some(Self::Starting),
            b'T' => Some(Self::Terminal),
            b'R' => Some(Self::Ready),
            b'L' => Some(Self::Listener),
            b'F' => Some(Self::Failed(Failed {
                step: Step::from_byte(bytes[1])?,
                index: u16::from_ne_bytes([bytes[2], bytes[3]]),
                errno: Errno::from_raw_os_error(i32::from_ne_bytes(last)),
            })),
            _ => None,
        }
    }
}

/// Which of the optional parts a start has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Course {
    /// Mounted is said.
    pub(crate) mounted: bool,
    /// A terminal is handed over.
    pub(crate) terminal: bool,
    /// It ends where the child is ready.
    pub(crate) held: bool,
}

/// How far a start is, as the parent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The child mounts, and says so when it is done.
    AwaitingMounted(Course),
    /// It is the parent's turn: it says Go when its own part is done.
    Going(Course),
    /// Go was sent; a terminal is still awaited.
    AwaitingTerminal(Course),
    /// The child is still at its preparations.
    AwaitingReady(Course),
    /// Nothing is awaited but the exec.
    AwaitingExec,
    /// The command runs.
    Running,
    /// The child waits for somebody else.
    Held,
    /// The child told what failed.
    Failed(Failed),
}

impl Progress {
    /// Where a start is once the parent has done what it does while the child mounts.
    pub(crate) fn begin(course: Course) -> Self {
        if course.mounted { Self::AwaitingMounted(course) } else { Self::Going(course) }
    }

    /// Where the start of a held child begins: Go was sent.
    pub(crate) fn released() -> Self {
        Self::AwaitingReady(Course::default())
    }

    /// The parent has said Go.
    pub(crate) fn go(self) -> Self {
        match self {
            Self::Going(course) if course.terminal => Self::AwaitingTerminal(course),
            Self::Going(course) => Self::AwaitingReady(course),
            other => other,
        }
    }

    /// The next state upon a packet, or upon the end of the stream (`None`).
    ///
    /// # Errors
    /// The child broke the protocol; that includes dying without a word.
    pub(crate) fn advance(self, message: Option<Message>) -> io::Result<Self> {
        match (self, message) {
            (Self::AwaitingMounted(course), Some(Message::Mounted)) => Ok(Self::Going(course)),
            (Self::AwaitingTerminal(course), Some(Message::Terminal)) => Ok(Self::AwaitingReady(course)),
            (Self::AwaitingReady(course), Some(Message::Ready)) => {
                Ok(if course.held { Self::Held } else { Self::AwaitingExec })
            }
            (Self::AwaitingExec, Some(Message::Listener)) => Ok(Self::AwaitingExec),
            (Self::AwaitingExec, None) => Ok(Self::Running),
            (
                Self::AwaitingMounted(_)
                | Self::AwaitingTerminal(_)
                | Self::AwaitingReady(_)
                | Self::AwaitingExec,
                Some(Message::Failed(failed)),
            ) => Ok(Self::Failed(failed)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the child broke the start handshake")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Course = Course { mounted: false, terminal: false, held: false };

    /// Follows a start: Go is said where it is the parent's turn.
    fn follow(course: Course, messages: &[Option<Message>]) -> io::Result<Progress> {
        messages.iter().try_fold(Progress::begin(course).go(), |at, message| Ok(at.advance(*message)?.go()))
    }

    #[test]
    fn only_the_drawn_order_is_legal() {
        use Message::{Listener, Mounted, Ready, Terminal};
        let all = Course { mounted: true, terminal: true, held: false };
        assert_eq!(follow(PLAIN, &[Some(Ready), None]).unwrap(), Progress::Running);
        assert_eq!(follow(PLAIN, &[Some(Ready), Some(Listener), None]).unwrap(), Progress::Running);
        assert_eq!(
            follow(all, &[Some(Mounted), Some(Terminal), Some(Ready), None]).unwrap(),
            Progress::Running
        );
        let held = Course { held: true, ..all };
        assert_eq!(
            follow(held, &[Some(Mounted), Some(Terminal), Some(Ready)]).unwrap(),
            Progress::Held,
            "nobody waits for its exec"
        );
        let released = Progress::released().advance(Some(Ready)).unwrap();
        assert_eq!(released.advance(None).unwrap(), Progress::Running);
        for (course, messages, why) in [
            (PLAIN, &[None][..], "died before it was ready"),
            (PLAIN, &[Some(Mounted)], "nobody asked for it"),
            (PLAIN, &[Some(Terminal)], "it has none"),
            (PLAIN, &[Some(Listener)], "no filter is installed yet"),
            (PLAIN, &[Some(Ready), Some(Ready)], "once is enough"),
            (PLAIN, &[Some(Message::Go)], "the child never says Go"),
            (PLAIN, &[Some(Message::Born(7))], "that is over"),
            (all, &[Some(Ready)], "ready without having mounted"),
            (all, &[Some(Mounted), None], "exec without handing the terminal over"),
            (held, &[Some(Mounted), Some(Terminal), None], "died before it was held"),
        ] {
            assert!(follow(course, messages).is_err(), "{why}");
        }
        assert!(Progress::released().advance(None).is_err(), "died while it was held");
        assert!(Progress::Running.advance(None).is_err());
    }

    #[test]
    fn a_failure_may_be_told_at_any_time() {
        let failed = Failed::new(Step::Exec, 3, Errno::NOENT);
        let told = Some(Message::Failed(failed));
        let all = Course { mounted: true, terminal: true, held: true };
        let said = [Some(Message::Mounted), Some(Message::Terminal)];
        for n in 0..=said.len() {
            let messages = [&said[..n], &[told]].concat();
            assert_eq!(follow(all, &messages).unwrap(), Progress::Failed(failed), "after {n}");
        }
        assert_eq!(follow(PLAIN, &[Some(Message::Ready), told]).unwrap(), Progress::Failed(failed));
    }

    #[test]
    fn packets_round_trip_and_nonsense_is_refused() {
        for message in [
            Message::Born(u32::MAX),
            Message::Mapped,
            Message::Mounted,
            Message::Go,
            Message::Terminal,
            Message::Ready,
            Message::Listener,
            Message::Failed(Failed::new(Step::Seccomp, 70000, Errno::PERM)),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for (n, step) in Step::ALL.iter().enumerate() {
            assert_eq!(Step::from_byte(n as u8), Some(*step));
        }
        assert_eq!(Message::decode(b"F\xff000000"), None);
        assert_eq!(Message::decode(b""), None);
    }
}
