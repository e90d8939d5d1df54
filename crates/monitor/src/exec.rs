//! The role `exec`: run a further command in a container and speak about it to the door that asked.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use base::{Failure, Kind};
use monitor::{ExecRequest, REQUEST_VERSION};
use runtime::cgroup::{Group, Hierarchy};
use runtime::{JoinOptions, Stdio};
use state::lock::{Held, held};
use state::protocol::{Ended, StartFailure, Tag};

use crate::clients::Client;
use crate::command::{Command, null, plumb};
use crate::keeper::Keeper;
use crate::{notes, read_json};

#[derive(Debug, thiserror::Error)]
enum ExecError {
    #[error("cannot read the request")]
    Request(#[source] std::io::Error),
    #[error("the request has version {0}, this monitor understands {REQUEST_VERSION}")]
    Version(u32),
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("cannot make the command's pipes")]
    Plumbing(#[source] rustix::io::Errno),
}

impl Failure for ExecError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotRunning(_) => Kind::Conflict,
            _ => Kind::Internal,
        }
    }
}

/// The whole life of an exec.
pub(crate) fn run(request: OwnedFd, door: OwnedFd) -> ExitCode {
    let read = read_json::<ExecRequest>(&request).map_err(ExecError::Request);
    drop(request);
    let attached = read.as_ref().is_ok_and(|r| !r.detach);
    let Ok(mut door) = Client::starter(door, attached) else { return ExitCode::FAILURE };
    let end = read.as_ref().ok().and_then(|r| Some((r.instance.clone(), r.end.clone()?)));
    let started = read.map_err(|e| Box::new(e) as Box<dyn Failure>).and_then(|request| start(&request));
    match started {
        Ok((mut keeper, mut command)) => {
            door.tell(Tag::Started, &command.pid.to_le_bytes());
            keeper.clients.push(door);
            let code = keeper.keep(&mut command, None, || {});
            // Before anybody hears of it: who has, finds it in the journal.
            if let Some((instance, event)) = end {
                notes::exec_ended(&instance, event, code);
            }
            keeper.farewell(&Ended { code, oom_killed: false });
            ExitCode::SUCCESS
        }
        Err(error) => {
            let failure = StartFailure {
                message: base::failure::chain(error.as_ref()),
                hints: error.hints(),
                kind: error.kind().into(),
            };
            door.tell(Tag::Failed, &serde_json::to_vec(&failure).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn start(request: &ExecRequest) -> Result<(Keeper, Command), Box<dyn Failure>> {
    let boxed = |e: ExecError| -> Box<dyn Failure> { Box::new(e) };
    let plumbing = |e: rustix::io::Errno| boxed(ExecError::Plumbing(e));
    if request.version != REQUEST_VERSION {
        return Err(boxed(ExecError::Version(request.version)));
    }
    let failure = |e| Box::new(e) as Box<dyn Failure>;
    let group = match &request.cgroup {
        Some(placement) => {
            let hierarchy = Hierarchy::detect().map_err(|e| Box::new(e) as Box<dyn Failure>)?;
            Some(Group::existing(&hierarchy, placement))
        }
        None => None,
    };
    let options = JoinOptions { compiled: request.seccomp.as_deref(), group, ..JoinOptions::default() };
    let plan = runtime::plan_join(&request.process, request.pid, options).map_err(failure)?;
    // The plan holds a descriptor of the process. If the monitor still owns the container *now*, it has not reaped
    // that process, and so the number meant it, not a later process with the same number.
    let live = request.instance.live(&request.id);
    if !matches!(held(&live), Ok(Held::Owned)) {
        return Err(boxed(ExecError::NotRunning(request.id.short().to_owned())));
    }
    let signals = sys::process::signal_fd(&[]).map_err(|e| boxed(ExecError::Request(e)))?;
    let terminal = request.process.terminal;
    let (mut stdio, input, mut outputs) = plumb(terminal, request.interactive).map_err(plumbing)?;
    if request.detach && !terminal {
        (stdio, outputs) = (to_null().map_err(plumbing)?, [None, None]);
    }
    let running = runtime::join(plan, stdio).map_err(|e| Box::new(e) as Box<dyn Failure>)?;
    let command = Command::new(running.pid, running.pidfd, running.terminal, input, outputs);
    Ok((Keeper::new(signals), command.map_err(plumbing)?))
}

fn to_null() -> Result<Stdio, rustix::io::Errno> {
    Ok(Stdio { input: null()?, output: null()?, errors: null()? })
}
