//! The parent's side of a launch: clone, groups and network while the child mounts, the handshake.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use base::{Failure, Kind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recvmsg, send, socketpair,
};
use rustix::process::{
    DumpableBehavior, Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_dumpable_behavior, waitid,
};
use sys::process::{Cloned, clone};

use crate::cgroup::{self, Group, Part};
use crate::child::{self, Streams};
use crate::foreign::{self, ForeignRoot};
use crate::handshake::{Course, Failed, Message, PACKET, Progress};
use crate::net_devices;
use crate::plan::{Joining, LaunchPlan};
use crate::trees;
use crate::users;
use crate::words::describe;

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
    /// Its root in a mount namespace of others, to be detached when it has ended.
    pub foreign: Option<ForeignRoot>,
}

/// Why a command did not start. Whatever had been made is undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The kernel made no process.
    #[error("cannot make a process in new namespaces")]
    Clone(#[source] io::Error),
    /// The kernel made no process, since there are as many as there may be.
    #[error("cannot make one process more")]
    NoProcess {
        /// What the kernel said.
        source: io::Error,
        /// Which limit it is, as far as that can be seen.
        hints: Vec<String>,
    },
    /// The groups could not be made.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The ids of the new user namespace could not be mapped.
    #[error(transparent)]
    Users(#[from] users::Error),
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
        /// What to do.
        hints: Vec<String>,
    },
    /// There is no process that waits to be started.
    #[error("the container's process does not wait to be started")]
    NotHeld(#[source] io::Error),
    /// The child broke off.
    #[error("the new process ended before it executed the command")]
    Handshake(#[source] io::Error),
}

impl Failure for LaunchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Clone(e) => base::failure::kind_of_io(e),
            Self::NoProcess { .. } => Kind::Exhausted,
            Self::Cgroup(e) => e.kind(),
            Self::Users(e) => e.kind(),
            Self::Meanwhile(e) => e.kind(),
            Self::Child { kind, .. } => *kind,
            Self::NotHeld(_) => Kind::Conflict,
            Self::Handshake(_) => Kind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Cgroup(e) => e.hints(),
            Self::Meanwhile(e) => e.hints(),
            Self::Child { hints, .. } | Self::NoProcess { hints, .. } => hints.clone(),
            _ => Vec::new(),
        }
    }
}

/// A process that the kernel did not make. `group`: the container's, where it was to be born in it.
pub(crate) fn no_process(source: io::Error, group: Option<&Group>) -> LaunchError {
    if !base::processes::are_exhausted(&source) {
        return LaunchError::Clone(source);
    }
    let groups: Vec<_> = group.map(|group| group.paths().into_values().collect()).unwrap_or_default();
    let hints = base::processes::hints(&source, &groups);
    LaunchError::NoProcess { source, hints }
}

/// What the caller does at the turning points of a start. A closure is [`Steps::born`] alone.
pub trait Steps {
    /// The namespaces exist, and the child mounts meanwhile: the network is linked to it here.
    fn born(&mut self, pid: u32, pidfd: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>>;

    /// All is mounted, and the root is not changed yet: where the `prestart`, `createRuntime` and `createContainer`
    /// hooks run. Called for a [`LaunchPlan::with_mounted_step`], and where the start has to stop there anyway.
    fn mounted(&mut self, _pid: u32, _pidfd: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        Ok(())
    }

    /// The filter is installed, and hands calls to this listener; the process waits until somebody has it who will
    /// answer ([`crate::seccomp::listener::send`]). Of a plan that is [`LaunchPlan::held`],
    /// [`crate::Held::go_with_listener`] has it.
    fn listener(&mut self, _pid: u32, _listener: OwnedFd) -> Result<(), Box<dyn Failure>> {
        Err(Box::new(crate::seccomp::Error::Listener))
    }
}

impl<F: FnMut(u32) -> Result<(), Box<dyn Failure>>> Steps for F {
    fn born(&mut self, pid: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        self(pid)
    }
}

/// Starts the planned command, or for a plan that is [`LaunchPlan::held`] all but the command.
///
/// Where root makes a user namespace, the calling process is from then on not to be traced (`PR_SET_DUMPABLE`).
///
/// The caller must not ignore `SIGCHLD` ([`sys::process::keep_ended_children`]), or nobody learns how the command, a
/// helper or a hook has ended.
pub fn launch(mut plan: LaunchPlan, stdio: Stdio, steps: &mut dyn Steps) -> Result<Running, LaunchError> {
    let (ours, theirs) = handshake_pair()?;
    let joining = plan.joining();
    let early = match &plan.group {
        Some(planned) if matches!(joining, Joining::Born | Joining::First) => Some(planned.make()?),
        _ => None,
    };
    let prepared = early.as_ref().map_or(Ok(None), |group| {
        if joining == Joining::First {
            restrict(&plan)?;
        }
        group.open_v2()
    });
    let directory = match prepared {
        Ok(directory) => directory,
        Err(error) => {
            undo_group(early);
            return Err(error.into());
        }
    };
    let had = foreign::Start::of(&plan).map(|start| start.before);
    if plan.namespaces.users.is_some()
        && !plan.namespaces.traceable
        && let Err(error) = untraceable()
    {
        undo_group(early);
        return Err(LaunchError::Clone(error.into()));
    }
    let made = if plan.namespaces.between { 0 } else { plan.namespaces.made };
    let cloned = match clone(made, directory.as_ref().map(AsFd::as_fd)) {
        Ok(Cloned::Child) => {
            // Or it would never see the end of the stream when we die, while it waits for us to say something.
            drop(ours);
            let begin = if plan.namespaces.between { child::go_between } else { child::run };
            begin(&mut plan, theirs.as_fd(), stdio.streams())
        }
        Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Err(e) => Err(no_process(e, early.as_ref())),
    };
    drop((theirs, stdio));
    let cloned = match cloned {
        Ok((_, between)) if plan.namespaces.between => match adopt(ours.as_fd(), &between) {
            Ok(told) => told.map_err(|failed| describe(&plan, failed)),
            Err(e) => Err(LaunchError::Handshake(e)),
        },
        other => other,
    };
    let (pid, pidfd) = match cloned {
        Ok(born) => born,
        Err(e) => {
            undo_group(early);
            return Err(e);
        }
    };
    let mut group = early;
    let mut devices = None;
    let started = (|| {
        if let Some(maps) = &plan.namespaces.users {
            maps.write(pid)?;
        }
        let told = plan.namespaces.is_told();
        let early = told && joining == Joining::Moved && plan.joins_early();
        if early {
            admit(&plan, joining, &mut group, pid)?;
        }
        if told {
            // Before the child changes anything of the mounts that it has come with.
            let copies = trees::copy(&plan, pid, pidfd.as_fd()).map_err(|failed| describe(&plan, failed))?;
            trees::hand_over(ours.as_fd(), &copies);
        }
        if !early {
            admit(&plan, joining, &mut group, pid)?;
        }
        crate::outside::help(&plan.process, pid).map_err(|failed| describe(&plan, failed))?;
        // What the child failed with comes first: without it there is nothing to be linked to, and that is what the
        // network would complain of.
        let told = |error| match receive(ours.as_fd(), RecvFlags::DONTWAIT) {
            Ok((Some(Message::Failed(failed)), _)) => describe(&plan, failed),
            _ => LaunchError::Meanwhile(error),
        };
        steps.born(pid, pidfd.as_fd()).map_err(told)?;
        devices = net_devices::move_all(&plan.net_devices, pid, plan.namespaces.joined_network())
            .map_err(|e| told(Box::new(e)))?;
        let mounts =
            openat(CWD, format!("/proc/{pid}/ns/mnt"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let words = |failed| describe(&plan, failed);
        let course = Course {
            mounted: plan.mounted_step,
            terminal: plan.process.terminal,
            held: plan.process.held.is_some(),
        };
        let turns = |turn| match turn {
            Turn::Mounted => {
                if let Some(planned) = plan.group.as_ref().filter(|group| group.restricts_last()) {
                    let done = planned.restrict_part(Part::Devices);
                    done.map_err(|e| Box::new(e) as Box<dyn Failure>)?;
                }
                steps.mounted(pid, pidfd.as_fd())
            }
            Turn::Listener(listener) => steps.listener(pid, listener),
        };
        let terminal = shake_hands(ours.as_fd(), Progress::begin(course), words, turns)?;
        Ok((terminal, mounts))
    })();
    match started {
        Ok((terminal, mounts)) => {
            let foreign = had.and_then(|before| foreign::Start::again(&plan, before)?.built());
            Ok(Running { pid, pidfd, group, terminal, mounts, foreign })
        }
        Err(error) => {
            kill_and_reap(&pidfd);
            if let Some(start) = had.and_then(|before| foreign::Start::again(&plan, before)) {
                // The cause is being reported.
                start.undo().ok();
            }
            if let Some(devices) = devices {
                devices.give_back();
            }
            undo_group(group);
            Err(error)
        }
    }
}

/// Makes the group of a process that exists, where it is not made yet, restricts it, and moves the process in where that
/// does not do so itself.
fn admit(
    plan: &LaunchPlan,
    joining: Joining,
    group: &mut Option<Group>,
    pid: u32,
) -> Result<(), cgroup::Error> {
    let Some(planned) = &plan.group else { return Ok(()) };
    if group.is_none() {
        *group = Some(planned.make_for(pid)?);
    }
    if joining != Joining::First {
        restrict(plan)?;
    }
    match group {
        Some(group) if joining == Joining::Moved => group.join(pid),
        _ => Ok(()),
    }
}

/// Restricts the group, but for what would forbid the child in it to make its devices: that comes when all is mounted.
fn restrict(plan: &LaunchPlan) -> Result<(), cgroup::Error> {
    let Some(planned) = &plan.group else { return Ok(()) };
    let later = planned.restricts_last() && plan.mounted_step;
    planned.restrict_part(if later { Part::Limits } else { Part::All })
}

/// From now on nothing looks into this process, nor into what is cloned of it until that executes something, that may not
/// trace whatever it likes where this program was executed.
///
/// Before a clone into a new user namespace: over that, every process of our user has all rights from its first moment
/// on, be it without any in our own namespace. And the new process holds what we hold: descriptors of the host. The
/// calling process stays so: another thread may be about to clone too.
pub(crate) fn untraceable() -> Result<(), Errno> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Waits for a go-between to tell of the process that it has cloned, and for its end. That process waits in turn, for
/// the parent, so that the first word is the go-between's.
pub(crate) fn adopt(socket: BorrowedFd<'_>, between: &OwnedFd) -> io::Result<Result<(u32, OwnedFd), Failed>> {
    // One that is killed says nothing, and the stream has not ended, for the process that it may have cloned.
    let mut ready = [PollFd::new(&socket, PollFlags::IN), PollFd::new(between, PollFlags::IN)];
    while poll(&mut ready, None) == Err(Errno::INTR) {}
    let told = receive(socket, RecvFlags::DONTWAIT);
    // It does nothing after that, and what it could not do it has told.
    waitid(WaitId::PidFd(between.as_fd()), WaitIdOptions::EXITED).ok();
    match told? {
        (Some(Message::Born(pid)), Some(pidfd)) => Ok(Ok((pid, pidfd))),
        (Some(Message::Failed(failed)), _) => Ok(Err(failed)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the go-between broke the start handshake")),
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

/// When it is the caller's turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// All is mounted.
    Mounted,
    /// The filter's listener is to be handed on.
    Listener(OwnedFd),
}

/// Follows the child until it runs, or is held, and says Go in between. Returns the terminal's master, if there is one.
pub(crate) fn shake_hands(
    socket: BorrowedFd<'_>,
    begin: Progress,
    words: impl Fn(Failed) -> LaunchError,
    mut turns: impl FnMut(Turn) -> Result<(), Box<dyn Failure>>,
) -> Result<Option<OwnedFd>, LaunchError> {
    let mut progress = begin;
    let mut master = None;
    loop {
        match progress {
            Progress::Going(course) => {
                if course.mounted {
                    turns(Turn::Mounted).map_err(LaunchError::Meanwhile)?;
                }
                // A child that has failed already is not there to read it; what it said is read below.
                send(socket, &Message::Go.encode(), SendFlags::NOSIGNAL).ok();
                progress = progress.go();
            }
            Progress::Running | Progress::Held => return Ok(master),
            Progress::Failed(failed) => return Err(words(failed)),
            Progress::AwaitingMounted(_)
            | Progress::AwaitingTerminal(_)
            | Progress::AwaitingReady(_)
            | Progress::AwaitingExec => {
                let (message, descriptor) =
                    receive(socket, RecvFlags::empty()).map_err(LaunchError::Handshake)?;
                progress = progress.advance(message).map_err(LaunchError::Handshake)?;
                match (message, descriptor) {
                    (Some(Message::Terminal), descriptor) => master = descriptor,
                    (Some(Message::Listener), Some(listener)) => {
                        turns(Turn::Listener(listener)).map_err(LaunchError::Meanwhile)?;
                        send(socket, &Message::Go.encode(), SendFlags::NOSIGNAL).ok();
                    }
                    (Some(Message::Listener), None) => {
                        return Err(LaunchError::Handshake(Errno::BADF.into()));
                    }
                    _ => {}
                }
            }
        }
    }
}

pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<(Option<Message>, Option<OwnedFd>)> {
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
