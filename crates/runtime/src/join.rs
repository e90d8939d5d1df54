//! A further command in a container that runs: `exec`.
//!
//! The parent stays on the host, but for the PID namespace, which only children enter. The child joins the other
//! namespaces through the init's pidfd, all in one call (5.8), and goes the same last part of the way as a
//! container's first process. Before it joins it can no longer be traced (CVE-2016-9962: process 1 of the container
//! traced the newcomer, which still held the host's descriptors).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::Process;
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{DumpableBehavior, PidfdFlags, pidfd_open, set_dumpable_behavior};
use sys::process::{Cloned, clone};

use crate::cgroup::{Group, Hierarchy, Placement};
use crate::child::{self, During, Outcome, Streams, begin_session, errno};
use crate::handshake::{Failed, Message, Step};
use crate::launch::{
    LaunchError, Running, Stdio, describe_process, handshake_pair, kill_and_reap, shake_hands,
};
use crate::plan::{PlanError, ProcessPlan, plan_joining};

/// A further command, ready to be started.
#[derive(Debug)]
pub struct JoinPlan {
    process: ProcessPlan,
    container: OwnedFd,
    namespaces: u32,
    group: Option<(Group, bool)>,
}

const PID: u32 = libc::CLONE_NEWPID as u32;

/// Plans `process` for the container whose init is `pid`.
///
/// The caller makes sure that `pid` still is that init *after* this call (its monitor lives, and so has not reaped
/// it): the plan holds a descriptor of it from then on.
pub fn plan_join(
    process: &Process,
    pid: u32,
    compiled: Option<&Path>,
    cgroup: Option<&Placement>,
) -> Result<JoinPlan, PlanError> {
    use base::fs::At;
    let raw = rustix::process::Pid::from_raw(pid as i32).ok_or(PlanError::Missing("process id to join"))?;
    let container = pidfd_open(raw, PidfdFlags::empty()).at("open", format!("the process {pid}"))?;
    let group = match cgroup {
        Some(placement) => {
            let hierarchy = Hierarchy::detect()?;
            Some((Group::existing(&hierarchy, placement), hierarchy.is_v2()))
        }
        None => None,
    };
    Ok(JoinPlan { process: plan_joining(process, compiled)?, container, namespaces: differing(pid)?, group })
}

/// Which namespaces of `pid` are not ours.
fn differing(pid: u32) -> Result<u32, PlanError> {
    use base::fs::At;
    const KINDS: [(&str, i32); 6] = [
        ("mnt", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ];
    let mut flags = 0;
    for (name, bit) in KINDS {
        let theirs = format!("/proc/{pid}/ns/{name}");
        let (a, b) = (
            rustix::fs::stat(&*theirs).at("look at", &theirs)?,
            rustix::fs::stat(&*format!("/proc/self/ns/{name}")).at("look at", "/proc/self/ns")?,
        );
        if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) {
            flags |= bit as u32;
        }
    }
    Ok(flags)
}

/// Starts the command. The calling process must have a single thread, and afterwards its further children would
/// be born in the container's PID namespace: it is a process made for this one command.
pub fn join(mut plan: JoinPlan, stdio: Stdio) -> Result<Running, LaunchError> {
    let (ours, theirs) = handshake_pair()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| LaunchError::Clone(e.into()))?;
    if plan.namespaces & PID != 0 {
        sys::process::set_namespaces(plan.container.as_fd(), PID).map_err(LaunchError::Clone)?;
    }
    let directory = match &plan.group {
        // A command that cannot be put under the container's limits is not run beside them.
        Some((group, true)) => Some(group.open_v2().ok_or_else(|| LaunchError::Clone(Errno::NOENT.into()))?),
        _ => None,
    };
    let (pid, pidfd) = match clone(0, directory.as_ref().map(AsFd::as_fd)).map_err(LaunchError::Clone)? {
        Cloned::Child => run(&mut plan, theirs.as_fd(), stdio.streams()),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, stdio));
    let started =
        shake_hands(ours.as_fd(), plan.process.terminal, |failed| describe_process(&plan.process, failed));
    match started {
        Ok(terminal) => Ok(Running { pid, pidfd, group: None, terminal, mounts: None }),
        Err(error) => {
            kill_and_reap(&pidfd);
            Err(error)
        }
    }
}

fn run(plan: &mut JoinPlan, socket: BorrowedFd<'_>, streams: Streams<'_>) -> ! {
    let Err(failed) = walk(plan, socket, streams);
    send(socket, &Message::Failed(failed).encode(), SendFlags::NOSIGNAL).ok();
    sys::process::exit_now(1)
}

fn walk(
    plan: &mut JoinPlan,
    socket: BorrowedFd<'_>,
    streams: Streams<'_>,
) -> Outcome<std::convert::Infallible> {
    begin_session()?;
    // The groups first: they are named in the host's view.
    child::await_go(socket)?;
    if let Some((group, false)) = &plan.group {
        group.join_self().during(Step::Cgroup)?;
    }
    sys::process::set_namespaces(plan.container.as_fd(), plan.namespaces & !PID)
        .map_err(errno)
        .during(Step::Join)?;
    // What lies at these paths may be anything that the container put there: only the real thing is used.
    let proc = verified(c"/proc", 0x9fa0)?;
    let devpts = verified(c"/dev/pts", 0x1cd1)?;
    let handles = child::joined_handles(proc.as_ref(), devpts.as_ref());
    child::become_command(&mut plan.process, socket, streams, &handles, false)
}

/// The directory at `path` if it is of the file system with this magic number.
fn verified(path: &std::ffi::CStr, magic: i64) -> Outcome<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(fd) => {
            let kind = fstatfs(&fd).during(Step::Join)?.f_type as i64;
            Ok((kind == magic).then_some(fd))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(Failed::new(Step::Join, 0, e)),
    }
}
