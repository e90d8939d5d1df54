//! A start of the container: the first, and each that follows.

use std::os::fd::{AsFd, OwnedFd};

use base::fs::{Durability, write_atomic};
use base::{Failure, Kind, Timestamp};
use monitor::{REQUEST_VERSION, Request};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use state::container::{FORMAT, Live, file};
use state::netd::Registration;

use crate::command::{Command, plumb};
use crate::joined;
use crate::names::Names;

/// Why a container did not start, beyond what the stages say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
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

/// A failure of whichever stage.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Failure>>;

pub(crate) fn boxed<E: Failure + 'static>(error: E) -> Box<dyn Failure> {
    Box::new(error)
}

fn plumbing(errno: rustix::io::Errno) -> Box<dyn Failure> {
    boxed(StartError::Plumbing(errno))
}

/// A container that runs, and what its run holds.
pub(crate) struct Launched {
    pub(crate) command: Command,
    pub(crate) group: Option<runtime::cgroup::Group>,
    /// Its mounts go when this does, at the latest.
    pub(crate) mounts: Option<OwnedFd>,
    pub(crate) began: Timestamp,
    /// Its names, where it has some.
    pub(crate) names: Option<Names>,
}

/// Starts the container: for the first time, or again, after its policy has done so `restarts` times. `meanwhile` is done while its root is mounted.
pub(crate) fn launch(
    request: &Request,
    restarts: Option<u32>,
    called: Option<&Registration>,
    meanwhile: &mut dyn FnMut() -> Result<()>,
) -> Result<Launched> {
    let (mut bundle, joined) = joined::bundle(request, restarts.is_some())?;
    let network = joined::network(request, restarts.is_some(), &mut bundle)?;
    let plan = runtime::plan(&bundle).map_err(boxed)?;
    joined.check()?;
    let batch = network.child_messages();
    let plan = plan.with_netlink(batch.bytes, batch.messages);
    let terminal = bundle.spec.process.as_ref().is_some_and(|p| p.terminal);
    let (stdio, input, outputs) = plumb(terminal, request.interactive).map_err(plumbing)?;
    let mut began = Timestamp::now();
    let mut names = None;
    let mut steps = |pid| {
        network.attach(pid).map_err(boxed)?;
        names = called.map(|called| Names::open(&request.instance, called.clone(), pid)).transpose()?;
        meanwhile()?;
        began = Timestamp::now();
        write_live(request, &Live { restarts: restarts.unwrap_or(0), ..live(request, pid, began) })
    };
    let running = runtime::launch(plan, stdio, &mut steps).map_err(boxed)?;
    let command = Command::new(running.pid, running.pidfd, running.terminal, input, outputs);
    Ok(Launched {
        command: command.map_err(plumbing)?,
        group: running.group,
        mounts: running.mounts,
        began,
        names,
    })
}

/// That it runs, as records say it.
pub(crate) fn live(request: &Request, pid: u32, started: Timestamp) -> Live {
    Live {
        format: FORMAT,
        monitor_pid: std::process::id(),
        pid,
        started,
        address: request.network.address(),
        ports: request.network.ports().to_vec(),
        ports_on_ipv6: request.network.publishes_on_ipv6(),
        restarts: 0,
        restarting: false,
        protocol: state::protocol::VERSION,
    }
}

/// Writes `live.json`.
pub(crate) fn write_live(request: &Request, live: &Live) -> Result<()> {
    let path = request.instance.live(&request.id).join(file::LIVE);
    let bytes = serde_json::to_vec(live).unwrap_or_default();
    write_atomic(&path, &bytes, Durability::Volatile).map_err(boxed)
}

/// The socket on which doors find us.
pub(crate) fn listen_in(live: &OwnedFd) -> Result<OwnedFd> {
    let listener = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let address =
            monitor::client::short_address(live.as_fd()).map_err(|_| rustix::io::Errno::NAMETOOLONG)?;
        bind(&socket, &address)?;
        listen(&socket, 16)?;
        Ok(socket)
    };
    listener().map_err(plumbing)
}
