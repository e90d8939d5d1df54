//! The role `run`: start a container, keep it, release it.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use base::fs::{Durability, write_atomic};
use base::{Failure, Kind, Timestamp};
use monitor::{REQUEST_VERSION, Request};
use runtime::Stdio;
use rustix::fs::{Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::pipe::{PipeFlags, pipe_with};
use state::container::{Exit, FORMAT, Live, file};
use state::protocol::{Ended, StartFailure, Tag};

use crate::clients::Client;
use crate::keeper::Keeper;
use crate::{read_json, release};

/// Why a container did not start, beyond what the stages say.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot read the request")]
    Request(#[source] std::io::Error),
    #[error("the request has version {0}, this monitor understands {REQUEST_VERSION}")]
    Version(u32),
    #[error("cannot make the container's pipes and sockets")]
    Plumbing(#[source] rustix::io::Errno),
}

impl Failure for StartError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Version(_) => vec!["install all of Dhow's programs from one release".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// The whole life of a monitor. `live` is the live directory, whose lock we hold as long as it is open.
pub(crate) fn run(live: OwnedFd, door: OwnedFd) -> ExitCode {
    let request = match read_request(&live) {
        Ok(request) => request,
        Err(error) => {
            if let Ok(mut door) = Client::starter(door, false) {
                tell_failure(&mut door, &error);
            }
            return ExitCode::FAILURE;
        }
    };
    let Ok(mut door) = Client::starter(door, request.attach) else { return ExitCode::FAILURE };
    let mut request = request;
    match start(&mut request, &live) {
        Ok(started) => {
            let pid = started.keeper.pid;
            door.tell(Tag::Started, &pid.to_le_bytes());
            started.run_to_end(request, live, door)
        }
        Err(error) => {
            let text = base::failure::chain(error.as_ref());
            let code = match error.kind() {
                Kind::CommandNotFound => 127,
                Kind::CommandNotExecutable => 126,
                _ => 128,
            };
            let exit = Exit {
                format: FORMAT,
                code,
                oom_killed: false,
                started: None,
                finished: Timestamp::now(),
                error: Some(text),
            };
            // What the door waits for is told last: when it hears it, the names are free again.
            release::quickly(&request, &exit);
            tell_failure(&mut door, error.as_ref());
            release::slowly(&request, None, live);
            ExitCode::FAILURE
        }
    }
}

fn tell_failure(door: &mut Client, error: &dyn Failure) {
    let failure = StartFailure {
        message: base::failure::chain(error),
        hints: error.hints(),
        kind: error.kind().into(),
    };
    door.tell(Tag::Failed, &serde_json::to_vec(&failure).unwrap_or_default());
}

fn read_request(live: &OwnedFd) -> Result<Request, StartError> {
    let read = || {
        let file = openat(live, file::REQUEST, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        read_json::<Request>(&file)
    };
    let request = read().map_err(StartError::Request)?;
    if request.version == REQUEST_VERSION { Ok(request) } else { Err(StartError::Version(request.version)) }
}

/// A container that runs.
struct Started {
    keeper: Keeper,
    group: Option<runtime::cgroup::Group>,
    mounts: Option<OwnedFd>,
    ports: network::PortReservations,
    began: Timestamp,
}

fn start(request: &mut Request, live: &OwnedFd) -> Result<Started, Box<dyn Failure>> {
    let boxed = |e: StartError| -> Box<dyn Failure> { Box::new(e) };
    let plumbing = |e: rustix::io::Errno| boxed(StartError::Plumbing(e));
    // Blocked before anything is started, so that a signal to us is never lost between.
    let signals =
        sys::process::signal_fd(&[libc_signal::TERM, libc_signal::INT, libc_signal::HUP, libc_signal::QUIT])
            .map_err(|e| boxed(StartError::Request(e)))?;
    for (name, value) in request.network.sysctls() {
        let linux = request.bundle.spec.linux.get_or_insert_default();
        linux.sysctl.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
    }
    let plan = runtime::plan(&request.bundle).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    let ports = request.network.reserve_ports().map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    let batch = request.network.child_messages();
    let plan = plan.with_netlink(batch.bytes, batch.messages);
    let terminal = request.bundle.spec.process.as_ref().is_some_and(|p| p.terminal);
    let (stdio, input, outputs) = plumb(terminal, request.interactive).map_err(plumbing)?;

    let mut listener = None;
    let mut began = Timestamp::now();
    let mut meanwhile = |pid| {
        request.network.attach(pid).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
        listener = Some(listen_in(live).map_err(plumbing)?);
        began = Timestamp::now();
        let record = Live {
            format: FORMAT,
            monitor_pid: std::process::id(),
            pid,
            started: began,
            address: request.network.address(),
            ports: request.network.ports().to_vec(),
        };
        let path = request.instance.live(&request.id).join(file::LIVE);
        let bytes = serde_json::to_vec(&record).unwrap_or_default();
        write_atomic(&path, &bytes, Durability::Volatile).map_err(|e| Box::new(e) as Box<dyn Failure>)
    };
    let running =
        runtime::launch(plan, stdio, &mut meanwhile).map_err(|e| Box::new(e) as Box<dyn Failure>)?;

    let outputs = match &running.terminal {
        Some(master) => {
            rustix::io::ioctl_fionbio(master, true).map_err(plumbing)?;
            [Some(rustix::io::fcntl_dupfd_cloexec(master, 3).map_err(plumbing)?), None]
        }
        None => outputs,
    };
    let keeper = Keeper {
        pid: running.pid,
        pidfd: running.pidfd,
        input,
        outputs,
        terminal: running.terminal,
        log: Some(logging::Writer::open(request.log.clone())),
        listener,
        signals,
        clients: Vec::new(),
        waiting_input: Vec::new(),
        input_ended: false,
        cgroup: request.bundle.cgroup.clone(),
    };
    Ok(Started { keeper, group: running.group, mounts: running.mounts, ports, began })
}

impl Started {
    fn run_to_end(mut self, request: Request, live: OwnedFd, door: Client) -> ExitCode {
        self.keeper.clients.push(door);
        let parent = request.instance.global_name();
        let code = self.keeper.keep(|| {
            // On v1 we are still in the caller's groups, which may be ended with the shell or service that started
            // us. Where it cannot be had, we stay.
            if let Ok(hierarchy) = runtime::cgroup::Hierarchy::detect() {
                runtime::cgroup::join_monitors(&hierarchy, &parent).ok();
            }
        });
        let oom_killed = code != 0 && self.group.as_ref().is_some_and(runtime::cgroup::Group::oom_killed);
        let exit = Exit {
            format: FORMAT,
            code,
            oom_killed,
            started: Some(self.began),
            finished: Timestamp::now(),
            error: None,
        };
        drop(self.ports);
        self.keeper.listener = None;
        release::quickly(&request, &exit);
        self.keeper.farewell(&Ended { code, oom_killed });
        drop(self.keeper);
        // Taking the mounts down is what this descriptor was kept for: nobody waits for it now.
        drop(self.mounts);
        release::slowly(&request, self.group, live);
        ExitCode::SUCCESS
    }
}

type Outputs = [Option<OwnedFd>; 2];

/// The command's standard streams and our ends of them.
pub(crate) fn plumb(
    terminal: bool,
    interactive: bool,
) -> Result<(Stdio, Option<OwnedFd>, Outputs), rustix::io::Errno> {
    let null = || {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(rustix::fs::CWD, "/dev/null", flags, Mode::empty())
    };
    if terminal {
        return Ok((Stdio { input: null()?, output: null()?, errors: null()? }, None, [None, None]));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (input, our_input) = if interactive {
        let (theirs, ours) = pipe()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        (theirs, Some(ours))
    } else {
        (null()?, None)
    };
    let (our_output, output) = pipe()?;
    let (our_errors, errors) = pipe()?;
    for ours in [&our_output, &our_errors] {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    Ok((Stdio { input, output, errors }, our_input, [Some(our_output), Some(our_errors)]))
}

fn listen_in(live: &OwnedFd) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = monitor::client::short_address(live.as_fd()).map_err(|_| rustix::io::Errno::NAMETOOLONG)?;
    bind(&socket, &address)?;
    listen(&socket, 16)?;
    Ok(socket)
}

/// Signals that whoever manages this machine sends to a process that should end: the container gets them.
mod libc_signal {
    use rustix::process::Signal;
    pub(super) const TERM: i32 = Signal::TERM.as_raw();
    pub(super) const INT: i32 = Signal::INT.as_raw();
    pub(super) const HUP: i32 = Signal::HUP.as_raw();
    pub(super) const QUIT: i32 = Signal::QUIT.as_raw();
}
