//! The parent's side of a launch: clone, groups and network while the child mounts, the handshake, the words for
//! what failed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base::{Failure, Kind};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recvmsg, send, socketpair,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sys::process::{Cloned, clone};

use crate::cgroup::{self, Group};
use crate::child::{self, Streams};
use crate::handshake::{Failed, Message, PACKET, Progress, Step};
use crate::plan::LaunchPlan;

/// The standard streams that the command gets. With a terminal they are not used.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub input: OwnedFd,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub errors: OwnedFd,
}

impl Stdio {
    pub(crate) fn streams(&self) -> Streams<'_> {
        Streams { input: self.input.as_fd(), output: self.output.as_fd(), errors: self.errors.as_fd() }
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    /// Its process id in our namespace.
    pub pid: u32,
    /// Its descriptor: readable when it has ended.
    pub pidfd: OwnedFd,
    /// Its group; none: the caller's.
    pub group: Option<Group>,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
    /// Holds its mount namespace, so that taking the mounts down at its end is not part of its dying, which
    /// somebody waits for, but happens where this is dropped.
    pub mounts: Option<OwnedFd>,
}

/// Why a command did not start. Whatever had been made is undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The kernel made no process.
    #[error("cannot make a process in new namespaces")]
    Clone(#[source] io::Error),
    /// The groups could not be made.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// What the caller did while the child mounted has failed.
    #[error("{}", base::failure::chain(.0.as_ref()))]
    Meanwhile(Box<dyn Failure>),
    /// The child could not do a step.
    #[error("{what}")]
    Child {
        /// In words.
        what: String,
        /// What it means.
        kind: Kind,
        /// What the kernel said, where it was the kernel that refused.
        source: Option<io::Error>,
    },
    /// The child broke off.
    #[error("the new process ended before it executed the command")]
    Handshake(#[source] io::Error),
}

impl Failure for LaunchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Clone(e) => base::failure::kind_of_io(e),
            Self::Cgroup(e) => e.kind(),
            Self::Meanwhile(e) => e.kind(),
            Self::Child { kind, .. } => *kind,
            Self::Handshake(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Cgroup(e) => e.hints(),
            Self::Meanwhile(e) => e.hints(),
            _ => Vec::new(),
        }
    }
}

/// Starts the planned command. `meanwhile` gets the child's pid once its namespaces exist: what it does there (the
/// network) happens while the child mounts.
pub fn launch(
    mut plan: LaunchPlan,
    stdio: Stdio,
    meanwhile: impl FnOnce(u32) -> Result<(), Box<dyn Failure>>,
) -> Result<Running, LaunchError> {
    let (ours, theirs) = handshake_pair()?;
    // On v2 the child is born in its group; on v1 it joins by itself, once it may go.
    let early = if plan.v2 { plan.group.as_ref().map(|g| g.make()).transpose()? } else { None };
    let directory = early.as_ref().and_then(Group::open_v2);
    let (pid, pidfd) = match clone(plan.namespaces, directory.as_ref().map(AsFd::as_fd)) {
        Ok(Cloned::Child) => child::run(&mut plan, theirs.as_fd(), stdio.streams()),
        Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
        Err(e) => {
            undo_group(early);
            return Err(LaunchError::Clone(e));
        }
    };
    drop((theirs, stdio));
    let mut group = early;
    let started = (|| {
        if let Some(planned) = &plan.group {
            if group.is_none() {
                group = Some(planned.make()?);
            }
            planned.restrict()?;
        }
        // What the child failed with comes first: without it there is nothing to be linked to, and that is what the
        // network would complain of.
        meanwhile(pid).map_err(|error| match receive(ours.as_fd(), RecvFlags::DONTWAIT) {
            Ok((Some(Message::Failed(failed)), _)) => describe(&plan, failed),
            _ => LaunchError::Meanwhile(error),
        })?;
        let mounts =
            openat(CWD, format!("/proc/{pid}/ns/mnt"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let words = |failed| describe(&plan, failed);
        let terminal = shake_hands(ours.as_fd(), plan.process.terminal, words)?;
        Ok((terminal, mounts))
    })();
    match started {
        Ok((terminal, mounts)) => Ok(Running { pid, pidfd, group, terminal, mounts }),
        Err(error) => {
            kill_and_reap(&pidfd);
            undo_group(group);
            Err(error)
        }
    }
}

fn undo_group(group: Option<Group>) {
    if let Some(group) = group {
        // The cause is being reported; what cannot be removed now is found by the reconciler.
        group.remove().ok();
    }
}

pub(crate) fn handshake_pair() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| LaunchError::Clone(e.into()))
}

/// Says Go and follows the child until it runs. Returns the terminal's master, if there is one.
pub(crate) fn shake_hands(
    socket: BorrowedFd<'_>,
    terminal: bool,
    words: impl Fn(Failed) -> LaunchError,
) -> Result<Option<OwnedFd>, LaunchError> {
    // A child that has failed already is not there to read it; what it said is read below.
    send(socket, &Message::Go.encode(), SendFlags::NOSIGNAL).ok();
    let mut progress = Progress::begin(terminal);
    let mut master = None;
    loop {
        let (message, descriptor) = receive(socket, RecvFlags::empty()).map_err(LaunchError::Handshake)?;
        if descriptor.is_some() {
            master = descriptor;
        }
        progress = progress.advance(message).map_err(LaunchError::Handshake)?;
        match progress {
            Progress::Running => return Ok(master),
            Progress::Failed(failed) => return Err(words(failed)),
            Progress::AwaitingTerminal | Progress::AwaitingReady | Progress::AwaitingExec => {}
        }
    }
}

fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<(Option<Message>, Option<OwnedFd>)> {
    let mut packet = [0; PACKET];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(&mut packet)];
    let received = loop {
        match recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC | flags) {
            // The child is gone with our Go unread. The kernel says so once, before it hands out what the child had
            // said.
            Err(Errno::CONNRESET | Errno::INTR) => {}
            other => break other?,
        }
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.bytes == 0 {
        return Ok((None, descriptor));
    }
    let message = Message::decode(&packet).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "an unknown packet in the start handshake")
    })?;
    Ok((Some(message), descriptor))
}

pub(crate) fn kill_and_reap(pidfd: &OwnedFd) {
    // Both can only fail where the process is gone already.
    pidfd_send_signal(pidfd, Signal::KILL).ok();
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).ok();
}

/// The words for a failed step of a container's start.
fn describe(plan: &LaunchPlan, failed: Failed) -> LaunchError {
    let n = usize::from(failed.index);
    let destination = || plan.mounts.get(n).map_or("?".into(), |m| m.destination.display().to_string());
    let listed = |list: &[std::path::PathBuf]| list.get(n).map_or("?".into(), |p| p.display().to_string());
    let what = match failed.step {
        Step::Session => "cannot begin a session".to_owned(),
        Step::Propagation => "cannot make the mount namespace private".to_owned(),
        Step::Root => {
            format!("cannot mount the root file system at {}", plan.root.mountpoint.to_string_lossy())
        }
        Step::MountTarget => format!("cannot find or make the mount point {}", destination()),
        Step::Mount => format!("cannot mount on {}", destination()),
        Step::MountOverProc => {
            format!("cannot mount on {}: nothing may be mounted inside /proc", destination())
        }
        Step::Device => format!("cannot make the device /dev/{}", child::device_name(n)),
        Step::Mask => format!("cannot mask {}", listed(&plan.masked)),
        Step::ReadOnly => format!("cannot make {} read-only", listed(&plan.readonly)),
        Step::Hostname => "cannot set the host name".to_owned(),
        Step::Join => "cannot join a namespace".to_owned(),
        Step::Go => "the monitor went away during the start".to_owned(),
        Step::Netlink => format!("cannot configure the network inside the container (request {n})"),
        Step::CgroupNamespace => "cannot make a cgroup namespace".to_owned(),
        Step::CgroupMount => "cannot mount /sys/fs/cgroup".to_owned(),
        Step::Sysctl => {
            let name =
                plan.sysctls.get(n).map_or("?".into(), |(path, _)| path.to_string_lossy().into_owned());
            format!("cannot set /proc/{name}")
        }
        Step::Pivot => "cannot change the root".to_owned(),
        _ => return describe_process(&plan.process, failed),
    };
    child_error(what, failed)
}

/// The words for what a container's start and a further command have in common.
pub(crate) fn describe_process(process: &crate::plan::ProcessPlan, failed: Failed) -> LaunchError {
    let n = usize::from(failed.index);
    let command =
        || process.arguments.strings().first().map_or("?".into(), |a| a.to_string_lossy().into_owned());
    if failed.step == Step::Exec && failed.errno == Errno::NOENT && !command().contains('/') {
        // Found out by looking along the path: of no single file has the kernel said that it is missing.
        let what = format!("cannot execute `{}`: no such command along the container's PATH", command());
        return LaunchError::Child { what, kind: Kind::CommandNotFound, source: None };
    }
    let what = match failed.step {
        Step::WorkingDir if failed.errno == Errno::XDEV => {
            format!("the working directory {} lies outside of the container", process.working_dir.display())
        }
        Step::WorkingDir => format!("cannot enter the working directory {}", process.working_dir.display()),
        Step::Accounts if failed.errno == Errno::FBIG => {
            format!("the image's {} is larger than 1 MiB", ["/etc/passwd", "/etc/group"][n.min(1)])
        }
        Step::Accounts => format!("cannot read the image's {}", ["/etc/passwd", "/etc/group"][n.min(1)]),
        Step::UnknownUser => "cannot find the user in the image's /etc/passwd".to_owned(),
        Step::UnknownGroup => "cannot find the group in the image's /etc/group".to_owned(),
        Step::Terminal => "cannot make a terminal".to_owned(),
        Step::Stdio => "cannot set the standard streams".to_owned(),
        Step::OomScore => "cannot set oom_score_adj".to_owned(),
        Step::Rlimit => {
            let (name, limit) = process.rlimits.get(n).map_or(("?", None), |(_, l, name)| (name, Some(l)));
            format!("cannot set {name} to {:?}", limit.map(|l| (l.current, l.maximum)))
        }
        Step::Keyring => "cannot make a session keyring".to_owned(),
        Step::AppArmor => "cannot set the AppArmor profile".to_owned(),
        Step::Bounding | Step::Capabilities | Step::Ambient => "cannot set the capabilities".to_owned(),
        Step::NoNewPrivileges => "cannot set no_new_privs".to_owned(),
        Step::Seccomp => "cannot install the system call filter".to_owned(),
        Step::Groups => "cannot set the groups".to_owned(),
        Step::User => "cannot become the user".to_owned(),
        Step::Init => "cannot start the init process".to_owned(),
        Step::Cgroup => "cannot join the container's cgroup".to_owned(),
        Step::Join => "cannot join the container's namespaces".to_owned(),
        Step::Go => "the monitor went away during the start".to_owned(),
        Step::Exec => format!("cannot execute `{}` in the container", command()),
        other => format!("cannot start the command (step {other:?})"),
    };
    child_error(what, failed)
}

fn child_error(what: String, failed: Failed) -> LaunchError {
    let source = io::Error::from(failed.errno);
    let kind = match (failed.step, failed.errno) {
        (Step::Exec, Errno::NOENT | Errno::NOTDIR) => Kind::CommandNotFound,
        // Docker says 126 for all that is there and cannot be executed: a directory, a wrong format, no permission.
        (Step::Exec, Errno::NOMEM | Errno::AGAIN) => Kind::Exhausted,
        (Step::Exec, _) => Kind::CommandNotExecutable,
        (Step::WorkingDir, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::XDEV | Errno::LOOP)
        | (Step::UnknownUser | Step::UnknownGroup | Step::Accounts | Step::MountOverProc, _) => Kind::Invalid,
        _ => base::failure::kind_of_io(&source),
    };
    // A name that is not in a file is nothing that the kernel has said.
    let source = (!matches!(failed.step, Step::UnknownUser | Step::UnknownGroup)).then_some(source);
    LaunchError::Child { what, kind, source }
}
