//! Hooks: commands of the configuration that run at a container's turning points (config.md, "POSIX-platform
//! Hooks"). When which of them runs is the caller's business; here one is run and waited for.
//!
//! ```text
//!   we                         go-between                hook
//!    │ clone ──────────────────▶ │                         │   where it runs in the container's namespaces:
//!    │                           │ joins them              │
//!    │                           │ clones a sibling ──────▶ │  ours to wait for, and in the PID namespace, which only
//!    │ ◀───── Born(pid) + pidfd ─│ is gone                 │   children enter
//!    │ ── Go ────────────────────────────────────────────▶ │
//!    │ ◀─────────────────────────────────── end of stream ─│  the socket closed on exec
//!    │ ◀──────────────────────────── Failed{step, errno} ──│  or this
//!    │ output, its end, or its time is up                  │
//! ```
//!
//! Its state comes on standard input, as a file that is there as a whole: a hook that does not read it cannot make
//! us wait. What it says is kept, the end of it, for the error. It is waited for, and not for whom it leaves behind.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base::{Failure, Kind};
use oci::runtime::{Hook, Linux, Process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SeekFrom, openat};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions, kill_process_group, set_dumpable_behavior, setsid,
    waitid,
};
use sys::confine::CapabilityBits;
use sys::process::{Arguments, Cloned, clone, clone_sibling};

use crate::bundle::Manner;
use crate::cgroup::Group;
use crate::child::{self, During, Outcome, errno};
use crate::handshake::{Failed, Message, Step};
use crate::join::differing;
use crate::launch::{adopt, handshake_pair, kill_and_reap, receive};
use crate::plan::{Circumstances, PlanError, ProcessPlan, plan_process};

/// How much of what a hook says is kept for its error.
const MOST_OUTPUT: usize = 4 << 10;

/// Why a hook failed. What it means for the container depends on which one it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The configuration makes no sense.
    #[error("the hook {} is invalid: {why}", path.display())]
    Invalid {
        /// The command.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The container's namespaces cannot be entered.
    #[error("cannot run the hook {} in the container's namespaces", path.display())]
    Namespaces {
        /// The command.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It cannot be executed.
    #[error("cannot execute the hook {}", path.display())]
    Execute {
        /// The command.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("the hook {} {how}{}", path.display(), said(output))]
    Ended {
        /// The command.
        path: PathBuf,
        /// `exited with code 3`, `was killed by signal 11`.
        how: String,
        /// The end of what it said.
        output: String,
    },
    /// It took longer than it may, and was killed.
    #[error("the hook {} did not end within its timeout of {seconds} s{}", path.display(), said(output))]
    TimedOut {
        /// The command.
        path: PathBuf,
        /// Its `timeout`.
        seconds: i64,
        /// The end of what it said.
        output: String,
    },
}

impl Failure for HookError {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Invalid,
            Self::Namespaces { source, .. } | Self::Execute { source, .. } => {
                base::failure::kind_of_io(source)
            }
            Self::Ended { .. } | Self::TimedOut { .. } => Kind::Internal,
        }
    }
}

/// Who gets the listener of a hook's filter, with its process id.
pub type Listener<'a> = &'a dyn Fn(u32, OwnedFd) -> Result<(), Box<dyn Failure>>;

/// Where a hook of a container runs: in the namespaces, the root and the group of its process, with no capability that is
/// not in that process' bounding set. Before the root has changed its path is one of the host's, afterwards one of the
/// container's.
#[derive(Clone, Copy)]
pub struct Inside<'a> {
    /// The process' descriptor.
    pub process: BorrowedFd<'a>,
    /// The container's group, if it has one.
    pub group: Option<&'a Group>,
    /// For a program of the image: it runs as the container's command will.
    pub confinement: Option<&'a Confinement>,
    /// For a filter that hands calls on.
    pub listener: Option<Listener<'a>>,
}

impl std::fmt::Debug for Inside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside")
            .field("process", &self.process)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl<'a> Inside<'a> {
    /// There, and nothing else.
    pub fn of(process: BorrowedFd<'a>) -> Self {
        Self { process, group: None, confinement: None, listener: None }
    }
}

/// What a container's command is besides where it runs: its user and groups, capabilities, limits, umask and working
/// directory, `no_new_privs`, the filter, the labels.
#[derive(Debug)]
pub struct Confinement(ProcessPlan);

impl Confinement {
    /// That of `process`, in a container whose part of Linux this is.
    ///
    /// # Errors
    /// The same as in planning the container.
    pub fn plan(process: &Process, linux: Option<&Linux>) -> Result<Self, PlanError> {
        // What is not confinement is the hook's own.
        let process = Process { oom_score_adj: None, ..process.clone() };
        let circumstances = Circumstances {
            linux,
            compiled: None,
            foreign_users: false,
            own_proc: false,
            joining: true,
            manner: Manner { tied: false, new_keyring: false, ..Manner::default() },
        };
        plan_process(&process, circumstances).map(Self)
    }
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(", and said: {output}") }
}

/// Runs a hook to its end, with `state` on its standard input, where we are or where `inside` says.
///
/// Without a timeout it is waited for as long as it takes.
///
/// # Errors
/// It cannot be executed, it fails, or its time is up.
pub fn run(hook: &Hook, state: &[u8], inside: Option<Inside<'_>>) -> Result<(), HookError> {
    let path = || hook.path.clone();
    let execute = |source: io::Error| HookError::Execute { path: path(), source };
    let deadline = deadline(hook)?;
    let mut program = Program::new(hook)?;
    let place =
        inside.map(Place::of).transpose().map_err(|source| HookError::Namespaces { path: path(), source })?;
    let input = input(state).map_err(execute)?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| execute(e.into()))?;
    let (ours, theirs) = handshake_pair().map_err(|e| execute(io::Error::other(e)))?;
    let streams = [input.as_fd(), write.as_fd(), write.as_fd()];
    // On v2 it is born in the group; on v1 it joins by itself.
    let directory = place.as_ref().and_then(|place| place.directory.as_ref());
    let (mut pid, mut pidfd) = match clone(0, directory.map(AsFd::as_fd)).map_err(execute)? {
        Cloned::Child => {
            drop(ours);
            be_born(&mut program, place.as_ref(), theirs.as_fd(), streams)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, write, input));
    let failed = |failed: Failed| {
        let source = failed.errno.into();
        match failed.step {
            Step::Exec => HookError::Execute { path: path(), source },
            _ => HookError::Namespaces { path: path(), source },
        }
    };
    if place.is_some() {
        (pid, pidfd) = adopt(ours.as_fd(), &pidfd).map_err(execute)?.map_err(failed)?;
        // One that is gone is found missing below.
        send(&ours, &Message::Go.encode(), SendFlags::NOSIGNAL).ok();
    }
    let mut told = receive(ours.as_fd(), RecvFlags::empty());
    if let Ok((Some(Message::Listener), Some(listener))) = told {
        let answers = inside.and_then(|inside| inside.listener);
        let handed = answers.map_or_else(
            || Err(Box::new(crate::seccomp::Error::Listener) as Box<dyn Failure>),
            |answers| answers(pid, listener),
        );
        told = handed.map_err(|e| io::Error::other(base::failure::chain(&*e))).and_then(|()| {
            // One that is gone is found missing below.
            send(&ours, &Message::Go.encode(), SendFlags::NOSIGNAL).ok();
            receive(ours.as_fd(), RecvFlags::empty())
        });
    }
    match told {
        Ok((None, _)) => {}
        told => {
            kill_and_reap(&pidfd);
            return Err(match told {
                Ok((Some(Message::Failed(what)), _)) => failed(what),
                Ok(_) => execute(io::ErrorKind::InvalidData.into()),
                Err(e) => execute(e),
            });
        }
    }
    let mut output = Vec::new();
    let end = wait(&pidfd, read, deadline, &mut output).map_err(|e| {
        kill_and_reap(&pidfd);
        execute(e)
    })?;
    let output = String::from_utf8_lossy(&output).trim_end().to_owned();
    let how = match end {
        End::Exited(0) => return Ok(()),
        End::Exited(code) => format!("exited with code {code}"),
        End::Killed(signal) => format!("was killed by signal {signal}"),
        End::TimedOut => {
            // Its group, which it leads: a shell's children too.
            if let Some(group) = Pid::from_raw(pid as i32) {
                kill_process_group(group, Signal::KILL).ok();
            }
            kill_and_reap(&pidfd);
            return Err(HookError::TimedOut { path: path(), seconds: hook.timeout.unwrap_or(0), output });
        }
    };
    Err(HookError::Ended { path: path(), how, output })
}

/// Whether a hook can be one at all: for hooks whose time has not come.
///
/// # Errors
/// Its path is not absolute, or its timeout not greater than zero (config.md, "POSIX-platform Hooks").
pub fn check(hook: &Hook) -> Result<(), HookError> {
    deadline(hook).map(drop)
}

fn deadline(hook: &Hook) -> Result<Option<Instant>, HookError> {
    let invalid = |why: &str| HookError::Invalid { path: hook.path.clone(), why: why.to_owned() };
    if !hook.path.is_absolute() {
        return Err(invalid("its path is not absolute"));
    }
    let Some(seconds) = hook.timeout else { return Ok(None) };
    let seconds = u64::try_from(seconds).ok().filter(|s| *s > 0);
    let seconds = seconds.ok_or_else(|| invalid("its timeout is not greater than zero"))?;
    // Beyond what a clock can tell there is none.
    Ok(Instant::now().checked_add(Duration::from_secs(seconds)))
}

/// What is executed.
struct Program {
    path: CString,
    arguments: Arguments,
    environment: Arguments,
}

impl Program {
    fn new(hook: &Hook) -> Result<Self, HookError> {
        let string = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| HookError::Invalid {
                path: hook.path.clone(),
                why: "a string of it contains a null byte".to_owned(),
            })
        };
        let strings =
            |list: &[String]| list.iter().map(|s| string(s.as_bytes())).collect::<Result<Vec<_>, _>>();
        let path = string(hook.path.as_os_str().as_bytes())?;
        let mut arguments = strings(&hook.args)?;
        if arguments.is_empty() {
            arguments.push(path.clone());
        }
        let environment = Arguments::new(strings(&hook.env)?, 0);
        Ok(Self { path, arguments: Arguments::new(arguments, 0), environment })
    }
}

/// The state as a file.
fn input(state: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create(c"state", MemfdFlags::CLOEXEC)?);
    file.write_all(state)?;
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    Ok(file.into())
}

/// Where a hook runs that does not run where we are.
struct Place<'a> {
    process: BorrowedFd<'a>,
    /// Which namespaces are not ours, as `CLONE_NEW*` bits.
    namespaces: u32,
    /// Its root, which need not be that of its mount namespace.
    root: OwnedFd,
    /// The capabilities that are not in its bounding set.
    forbidden: u64,
    group: Option<&'a Group>,
    /// The group's directory where it is one of v2.
    directory: Option<OwnedFd>,
    confinement: Option<&'a ProcessPlan>,
}

impl<'a> Place<'a> {
    fn of(inside: Inside<'a>) -> io::Result<Self> {
        let Inside { process, group, confinement, .. } = inside;
        let pid = pid_of(process)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty())?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        let bounding = bounding.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        let bounding = bounding.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            process,
            namespaces: differing(pid).map_err(io::Error::other)?,
            root,
            forbidden: !bounding,
            group: group.filter(|group| !group.is_v2()),
            directory: match group.filter(|group| group.is_v2()) {
                Some(group) => group.open_v2().map_err(io::Error::other)?,
                None => None,
            },
            confinement: confinement.map(|confinement| &confinement.0),
        })
    }
}

/// The process id of a descriptor, in our `/proc`.
fn pid_of(process: BorrowedFd<'_>) -> io::Result<u32> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let pid = about.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    // -1 where it has ended, 0 where our /proc does not show it.
    pid.filter(|pid| *pid != 0).ok_or_else(|| Errno::SRCH.into())
}

/// The whole of the child: like all that runs after a clone it neither allocates nor locks.
fn be_born(
    program: &mut Program,
    place: Option<&Place<'_>>,
    socket: BorrowedFd<'_>,
    streams: [BorrowedFd<'_>; 3],
) -> ! {
    if let Some(place) = place {
        let between = enter(place).and_then(|()| clone_sibling(0).map_err(errno).during(Step::Clone));
        match between {
            // The first word is the go-between's.
            Ok(Cloned::Child) => {
                if let Err(failed) = child::await_go(socket) {
                    child::give_up(socket, failed);
                }
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                // Where this fails we are not heard either, and the other one, whose socket is closed, ends by itself.
                child::send_descriptor(socket, Message::Born(pid), pidfd.as_fd()).ok();
                sys::process::exit_now(0)
            }
            Err(failed) => child::give_up(socket, failed),
        }
    }
    let failed = become_hook(program, place, socket, streams);
    child::give_up(socket, failed)
}

/// Joins the namespaces all at once, so that the kernel finds the order.
fn enter(place: &Place<'_>) -> Outcome<()> {
    // By the host's paths, and while we may still write to our own files in /proc; both go on to whom we clone.
    if let Some(group) = place.group {
        group.join_self().during(Step::Cgroup)?;
    }
    if let Some(plan) = place.confinement {
        child::write_labels(plan, plan.proc.as_ref())?;
    }
    // What runs inside already must not trace us (CVE-2016-9962).
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Step::Join)?;
    sys::process::set_namespaces(place.process, place.namespaces).map_err(errno).during(Step::Join)?;
    rustix::process::fchdir(&place.root).during(Step::Join)?;
    rustix::process::chroot(c".").during(Step::Join)?;
    if place.namespaces & libc::CLONE_NEWUSER as u32 != 0 {
        child::become_root()?;
    }
    Ok(())
}

fn become_hook(
    program: &mut Program,
    place: Option<&Place<'_>>,
    socket: BorrowedFd<'_>,
    streams: [BorrowedFd<'_>; 3],
) -> Failed {
    let prepared = (|| {
        setsid().during(Step::Session)?;
        for (n, stream) in streams.into_iter().enumerate() {
            sys::process::duplicate_to(stream, n as i32).map_err(errno).during(Step::Stdio)?;
        }
        // Inside, the program may be a symlink of the image, to one of these (CVE-2024-21626).
        sys::process::close_all_but(3, socket).map_err(errno).during(Step::Exec)?;
        sys::process::reset_signals();
        match place {
            None => Ok(()),
            Some(Place { confinement: Some(plan), .. }) => child::become_alike(plan, socket),
            Some(place) => forbid(place.forbidden),
        }
    })();
    if let Err(failed) = prepared {
        return failed;
    }
    let Program { path, arguments, environment } = program;
    Failed::new(Step::Exec, 0, errno(sys::process::exec(path, arguments, environment, None)))
}

/// Takes capabilities from all sets: what root gets on exec is what is left in the bounding one.
fn forbid(capabilities: u64) -> Outcome<()> {
    if capabilities == 0 {
        return Ok(());
    }
    for capability in (0..64).filter(|c| capabilities & 1 << c != 0) {
        if !sys::confine::drop_from_bounding_set(capability).map_err(errno).during(Step::Bounding)? {
            // The kernel knows no more.
            break;
        }
    }
    sys::confine::ambient(None).map_err(errno).during(Step::Ambient)?;
    sys::confine::set_capabilities(CapabilityBits::default()).map_err(errno).during(Step::Capabilities)
}

enum End {
    Exited(i32),
    Killed(i32),
    TimedOut,
}

/// Waits for the end of the hook, and reads what it says meanwhile.
fn wait(pidfd: &OwnedFd, read: OwnedFd, deadline: Option<Instant>, output: &mut Vec<u8>) -> io::Result<End> {
    rustix::io::ioctl_fionbio(&read, true)?;
    let mut open = true;
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(End::TimedOut);
        }
        let timeout = left.map(|d| Timespec { tv_sec: d.as_secs() as i64, tv_nsec: d.subsec_nanos().into() });
        let mut polled = [PollFd::new(pidfd, PollFlags::IN), PollFd::new(&read, PollFlags::IN)];
        let watched = if open { 2 } else { 1 };
        match poll(&mut polled[..watched], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ended = !polled[0].revents().is_empty();
        if open {
            open = read_tail(&read, output)?;
        }
        if ended {
            let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            let status = status.ok_or(io::ErrorKind::InvalidData)?;
            return Ok(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => End::Exited(code),
                (None, signal) => End::Killed(signal.unwrap_or(0)),
            });
        }
    }
}

/// Reads what is there, and keeps the end of it. False at the end of the stream.
fn read_tail(from: &OwnedFd, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; MOST_OUTPUT];
    // Bounded, so that one that never stops is still asked for its end, and for the time.
    for _ in 0..64 {
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                output.extend_from_slice(&buffer[..read]);
                let excess = output.len().saturating_sub(MOST_OUTPUT);
                output.drain(..excess);
            }
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}
