//! A further command in a container that runs: `exec`.
//!
//! The parent stays on the host, but for the PID namespace, which only children enter. The child joins the other
//! namespaces through the init's pidfd, all in one call (5.8), and goes the same last part of the way as a
//! container's first process. Before it joins it can no longer be traced (CVE-2016-9962: process 1 of the container
//! traced the newcomer, which still held the host's descriptors). Nothing of the container's `/proc` is used: there may
//! be none, or anything.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use base::Failure;
use oci::runtime::{Linux, NamespaceKind, Process};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, PidfdFlags, pidfd_open, set_dumpable_behavior};
use sys::process::{Cloned, clone};

use crate::bundle::Manner;
use crate::cgroup::Group;
use crate::child::{self, During, Outcome, Streams, begin_session, errno};
use crate::handshake::{Course, Progress, Step};
use crate::launch::{
    LaunchError, Running, Stdio, Turn, handshake_pair, kill_and_reap, no_process, shake_hands,
};
use crate::plan::{Circumstances, PlanError, ProcessPlan, open, plan_process, setgroups_denied};
use crate::words::describe_process;
use crate::{outside, seccomp};

/// How a further command relates to its container, and to whoever starts it. The default is what the monitor needs.
#[derive(Debug, Default)]
pub struct JoinOptions<'a> {
    /// How it relates to whoever starts it.
    pub manner: Manner,
    /// The container's part of Linux: its filter, personality and memory policy are the command's, too, and where it
    /// has no mount namespace of its own, its root. None: it is a container with one.
    pub linux: Option<&'a Linux>,
    /// A compiled system call filter ([`crate::seccomp::Program`]); it replaces the one of `linux`.
    pub compiled: Option<&'a Path>,
    /// The group that it joins, the container's or one below; none: the caller's.
    pub group: Option<Group>,
}

/// A further command, ready to be started.
#[derive(Debug)]
pub struct JoinPlan {
    process: ProcessPlan,
    container: OwnedFd,
    namespaces: u32,
    /// The container's root, where that is not the one of its mount namespace.
    root: Option<OwnedFd>,
    group: Option<Group>,
    /// The group's directory where it is one of v2, into which the command is born.
    directory: Option<OwnedFd>,
}

impl JoinPlan {
    /// What cannot be had and is no reason to refuse: lines for the user.
    pub fn warnings(&self) -> &[String] {
        &self.process.warnings
    }
}

const PID: u32 = libc::CLONE_NEWPID as u32;
const USER: u32 = libc::CLONE_NEWUSER as u32;

/// Plans `process` for the container whose init is `pid`.
///
/// The caller makes sure that `pid` still is that init *after* this call (its monitor lives, and so has not reaped
/// it, or its start time is still the same): the plan holds a descriptor of it from then on.
pub fn plan_join(process: &Process, pid: u32, options: JoinOptions<'_>) -> Result<JoinPlan, PlanError> {
    use base::fs::At;
    let raw = rustix::process::Pid::from_raw(pid as i32).ok_or(PlanError::Missing("process id to join"))?;
    let container = pidfd_open(raw, PidfdFlags::empty()).at("open", format!("the process {pid}"))?;
    let namespaces = differing(pid)?;
    let root = match options.linux {
        Some(linux) if !has_own_mounts(linux) => {
            Some(open(Path::new(&format!("/proc/{pid}/root")), OFlags::PATH | OFlags::DIRECTORY)?)
        }
        _ => None,
    };
    let circumstances = Circumstances {
        linux: options.linux,
        compiled: options.compiled,
        foreign_users: namespaces & USER != 0,
        own_proc: false,
        joining: true,
        manner: options.manner,
    };
    let mut plan = plan_process(process, circumstances)?;
    plan.groups_denied = setgroups_denied(pid);
    // None: it is a group of v1, which is joined.
    let group = options.group.as_ref().filter(|group| group.is_v2());
    let directory = group.map_or(Ok(None), Group::open_v2)?;
    Ok(JoinPlan { process: plan, container, namespaces, root, group: options.group, directory })
}

/// Whether the mount namespace is the container's alone, so that its root is the container's, too.
fn has_own_mounts(linux: &Linux) -> bool {
    linux.namespaces.iter().any(|n| n.kind == NamespaceKind::Mount && n.path.is_none())
}

/// Which namespaces of `pid` are not ours. Those that are the same could not all be joined: a user namespace not by who
/// is in it, and the host's, which a container may share, not by who has just left its user namespace.
pub(crate) fn differing(pid: u32) -> Result<u32, PlanError> {
    use base::fs::At;
    const KINDS: [(&str, i32); 8] = [
        ("user", libc::CLONE_NEWUSER),
        ("mnt", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("time", sys::process::namespaces::TIME as i32),
    ];
    let mut flags = 0;
    for (name, bit) in KINDS {
        let ours = match rustix::fs::stat(&*format!("/proc/self/ns/{name}")) {
            // The kernel is built without this kind.
            Err(Errno::NOENT) => continue,
            other => other.at("look at", "/proc/self/ns")?,
        };
        let theirs = format!("/proc/{pid}/ns/{name}");
        let theirs = rustix::fs::stat(&*theirs).at("look at", &theirs)?;
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino) {
            flags |= bit as u32;
        }
    }
    Ok(flags)
}

/// Starts the command. The calling process must have a single thread, and afterwards its further children would
/// be born in the container's PID namespace: it is a process made for this one command, or calls [`come_back`].
pub fn join(plan: JoinPlan, stdio: Stdio) -> Result<Running, LaunchError> {
    join_with_listener(plan, stdio, |_, _| Err(Box::new(seccomp::Error::Listener)))
}

/// Undoes what [`join`] leaves of itself in the calling process: its further children are born in its own PID namespace
/// again. (While they would be born in one whose init has ended, `clone` fails.)
pub fn come_back() -> io::Result<()> {
    let me = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
    sys::process::set_namespaces(me.as_fd(), PID)
}

/// Like [`join`]; `listener` gets the command's pid and the descriptor of its filter's listener, if it has one
/// ([`crate::seccomp::listener::send`] hands it on). The command is executed when it has returned.
pub fn join_with_listener(
    mut plan: JoinPlan,
    stdio: Stdio,
    mut listener: impl FnMut(u32, OwnedFd) -> Result<(), Box<dyn Failure>>,
) -> Result<Running, LaunchError> {
    let (ours, theirs) = handshake_pair()?;
    let words = |failed| describe_process(&plan.process, failed);
    if inherit_badness(&plan.process).map_err(words)? {
        plan.process.oom_score_adj = None;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| LaunchError::Clone(e.into()))?;
    enter_pid_namespace(&mut plan).map_err(LaunchError::Clone)?;
    if let Some(processors) = &plan.process.attributes.affinity.initial {
        let words = |failed| describe_process(&plan.process, failed);
        sys::schedule::set_affinity(processors).map_err(errno).during(Step::Affinity).map_err(words)?;
    }
    let directory = plan.directory.as_ref().map(AsFd::as_fd);
    let mut strange = None;
    let cloned = clone(0, directory).or_else(|error| {
        // Nobody without privileges may be born there who comes from outside of what is delegated to them.
        strange = plan.group.as_ref().filter(|group| group.is_users());
        if error.kind() == io::ErrorKind::PermissionDenied && strange.is_some() {
            clone(0, None)
        } else {
            Err(error)
        }
    });
    let (pid, pidfd) = match cloned.map_err(|e| no_process(e, plan.group.as_ref()))? {
        Cloned::Child => {
            // Or it would never see the end of the stream when we die, while it waits for us to say something.
            drop(ours);
            run(&mut plan, theirs.as_fd(), stdio.streams())
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, stdio));
    let words = |failed| describe_process(&plan.process, failed);
    let course = Course { terminal: plan.process.terminal, ..Course::default() };
    let turns = |turn| match turn {
        Turn::Mounted => Ok(()),
        Turn::Listener(descriptor) => listener(pid, descriptor),
    };
    let started = outside::help(&plan.process, pid)
        .map_err(words)
        .and_then(|()| strange.map_or(Ok(()), |group| group.attach(pid).map_err(LaunchError::from)))
        .and_then(|()| shake_hands(ours.as_fd(), Progress::begin(course), words, turns));
    match started {
        Ok(terminal) => Ok(Running { pid, pidfd, group: None, terminal, mounts: None, foreign: None }),
        Err(error) => {
            kill_and_reap(&pidfd);
            Err(error)
        }
    }
}

/// Takes on the badness that the command is to inherit, where nobody could give it to it: somebody without privileges may
/// write that of their own processes alone, and what cannot be traced is nobody's own. True where that was so.
fn inherit_badness(process: &ProcessPlan) -> Outcome<bool> {
    let needed = process.foreign_users && !rustix::process::geteuid().is_root();
    match &process.oom_score_adj {
        Some(value) if needed => {
            let path = c"self/oom_score_adj";
            child::write_proc(process.proc.as_ref(), path, value, Step::OomScore, 0).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// Enters the PID namespace for the child to be born in. Who may not do so yet is somebody without privileges, whose
/// container has a user namespace of its own: there he may.
fn enter_pid_namespace(plan: &mut JoinPlan) -> io::Result<()> {
    if plan.namespaces & PID == 0 {
        return Ok(());
    }
    let container = plan.container.as_fd();
    match sys::process::set_namespaces(container, PID) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) && plan.namespaces & USER != 0 => {
            sys::process::set_namespaces(container, PID | USER)?;
            plan.namespaces &= !USER;
            Ok(())
        }
        other => other,
    }
}

fn run(plan: &mut JoinPlan, socket: BorrowedFd<'_>, streams: Streams<'_>) -> ! {
    let Err(failed) = walk(plan, socket, streams);
    child::give_up(socket, failed)
}

fn walk(
    plan: &mut JoinPlan,
    socket: BorrowedFd<'_>,
    streams: Streams<'_>,
) -> Outcome<std::convert::Infallible> {
    begin_session()?;
    // The groups first: they are named in the host's view.
    child::await_go(socket)?;
    // On v2 we were born there.
    if plan.directory.is_none()
        && let Some(group) = &plan.group
    {
        group.join_self().during(Step::Cgroup)?;
    }
    // Before another user namespace makes our own files in /proc those of a stranger.
    child::write_labels(&plan.process, plan.process.proc.as_ref())?;
    sys::process::set_namespaces(plan.container.as_fd(), plan.namespaces & !PID)
        .map_err(errno)
        .during(Step::Join)?;
    // A namespace's root is the host's, or another container's, where the container did not make the namespace.
    if let Some(root) = &plan.root {
        child::change_root(root)?;
    }
    if plan.process.foreign_users {
        become_root_of_namespace()?;
    }
    child::become_command(&mut plan.process, socket, streams, &child::JOINED, false)
}

/// Whoever joins a user namespace is nobody of it at first, and what he makes there would belong to nobody. Where it
/// has no root he stays that.
fn become_root_of_namespace() -> Outcome<()> {
    use rustix::fs::{Gid, Uid};
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    let possible = |result: rustix::io::Result<()>, step| match result {
        Err(Errno::INVAL) => Ok(()),
        other => other.during(step),
    };
    possible(set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT), Step::Groups)?;
    possible(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT), Step::User)?;
    // The change has cleared it.
    child::die_with_parent(true)
}

#[cfg(test)]
mod tests {
    use super::differing;

    #[test]
    fn nobody_differs_from_himself() {
        assert_eq!(differing(std::process::id()).unwrap(), 0);
    }
}
