//! The role `run`: start a container, keep it, start it again as long as its policy says so, release it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base::fs::{self, Durability};
use base::{Failure, Timestamp};
use monitor::{REQUEST_VERSION, Request};
use runtime::{Bundle, RootSource};
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::Signal;
use state::container::{Exit, FORMAT, Live, file};
use state::protocol::{Ended, Tag};

use crate::clients::Client;
use crate::keeper::Keeper;
use crate::launch::{self, Launched, StartError, boxed, launch, listen_in, write_live};
use crate::limits::Limits;
use crate::notes::{self, note};
use crate::restart::{Backoff, Wanted, again};
use crate::ship::Shipping;
use crate::tie::Tie;
use crate::{change, health, joined, read_json, release};

/// Signals that whoever manages this machine sends to a process that should end: the container gets them.
const SIGNALS: [i32; 4] =
    [Signal::TERM.as_raw(), Signal::INT.as_raw(), Signal::HUP.as_raw(), Signal::QUIT.as_raw()];
/// What is left of a run must be gone before the next: how long the kernel may take.
const CLEARING: Duration = Duration::from_secs(10);

/// The whole life of a monitor. `live` is the live directory, whose lock we hold as long as it is open; `program` is where the
/// monitor lies.
pub(crate) fn run(live: OwnedFd, door: OwnedFd, program: Option<PathBuf>) -> ExitCode {
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
    notes::volumes(&request, "mount");
    match start(&mut request, &live) {
        Ok(started) => {
            let pid = started.run.command.pid;
            door.tell(Tag::Started, &pid.to_le_bytes());
            // Only now: nobody waits for it.
            note(&request, "start", &[]);
            started.live(&mut request, live, door, program.as_deref())
        }
        Err(error) => {
            let exit = Exit {
                format: FORMAT,
                code: Exit::code_of_failed_start(error.kind()),
                oom_killed: false,
                started: None,
                finished: Timestamp::now(),
                error: Some(base::failure::chain(error.as_ref())),
                stopped: false,
                restarts: 0,
                health: None,
            };
            // What the door waits for is told last: when it hears it, the names are free again.
            release::quickly(&request, &request.name, &exit);
            tell_failure(&mut door, error.as_ref());
            release::slowly(&request, None, live);
            ExitCode::FAILURE
        }
    }
}

fn tell_failure(door: &mut Client, error: &dyn Failure) {
    door.tell(Tag::Failed, &change::words(error));
}

fn read_request(live: &OwnedFd) -> Result<Request, StartError> {
    let read = || {
        let file = openat(live, file::REQUEST, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        read_json::<Request>(&file)
    };
    let request = read().map_err(StartError::Request)?;
    if request.version == REQUEST_VERSION { Ok(request) } else { Err(StartError::Version(request.version)) }
}

/// What of the network is set below `/proc/sys`, unless the specification sets it otherwise.
fn add_sysctls(bundle: &mut Bundle, network: &network::Plan) {
    for (name, value) in network.sysctls() {
        let linux = bundle.spec.linux.get_or_insert_default();
        linux.sysctl.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
    }
}

/// A container whose first run has begun.
struct Started {
    run: Launched,
    listener: Option<OwnedFd>,
    signals: OwnedFd,
    ports: network::PortReservations,
    limits: Option<Limits>,
}

fn start(request: &mut Request, live: &OwnedFd) -> launch::Result<Started> {
    // Blocked before anything is started, so that a signal to us is never lost between.
    let signals = sys::process::signal_fd(&SIGNALS).map_err(|e| boxed(StartError::Request(e)))?;
    add_sysctls(&mut request.bundle, &request.network);
    let ports = request.network.reserve_ports().map_err(boxed)?;
    // In force before there is a link to send by.
    let limits = request.limits.clone().map(|told| Limits::open(&request.instance, told)).transpose()?;
    let mut listener = None;
    let run = launch(request, None, request.names.as_ref(), &mut || {
        listener = Some(listen_in(live)?);
        Ok(())
    })?;
    Ok(Started { run, listener, signals, ports, limits })
}

impl Started {
    /// One run after the other, until no more follows; then everything is given back.
    fn live(self, request: &mut Request, live: OwnedFd, door: Client, program: Option<&Path>) -> ExitCode {
        let Self { mut run, listener, signals, ports, limits } = self;
        let mut keeper = Keeper::new(signals);
        keeper.listener = listener;
        keeper.log = request.log.clone().map(logging::Writer::open);
        keeper.shipping = Shipping::of(request);
        keeper.cgroup.clone_from(&request.bundle.cgroup);
        keeper.paused = Some(request.instance.live(&request.id).join(file::PAUSED));
        keeper.policy = request.restart;
        keeper.ports = ports;
        keeper.warden = program.and_then(|program| Tie::to_warden(request, program));
        keeper.limits = limits;
        keeper.called.clone_from(&request.names);
        keeper.clients.push(door);
        let mut backoff = Backoff::default();
        let mut restarts = 0;
        let (exit, group, mounts, ran) = loop {
            let began = Instant::now();
            let exit = keep(&mut keeper, request, &mut run, restarts);
            if !again(keeper.policy, keeper.wanted, exit.code, restarts) {
                break (exit, run.group, run.mounts, true);
            }
            let delay = if keeper.wanted.take().is_some() {
                Duration::ZERO
            } else {
                restarts += 1;
                backoff.after(began.elapsed())
            };
            match next_run(&mut keeper, request, run, exit, delay, &mut restarts) {
                Next::Runs(next) => run = *next,
                Next::Ends { exit, group } => break (exit, group, None, false),
            }
        };
        if joined::shares_processes(request)
            && let Some(group) = &group
        {
            // No namespace has ended that would have taken them along. What cannot be killed is found later.
            group.kill().ok();
        }
        // Those that listen hear of it when the names are free, and before what takes time.
        keeper.listener = None;
        drop(std::mem::take(&mut keeper.ports));
        let name = notes::name(request);
        release::quickly(request, &name, &exit);
        if let Some(limits) = keeper.limits.take() {
            limits.end();
        }
        // Before those who wait are told: what they do next comes after it.
        notes::ended(request, &name, &exit, ran, true);
        keeper.farewell(&Ended { code: exit.code, oom_killed: exit.oom_killed });
        let shipping = keeper.shipping.take();
        drop(keeper);
        if let Some(shipping) = shipping {
            shipping.finish();
        }
        // Taking the mounts down is what this descriptor was kept for: nobody waits for it now.
        drop(mounts);
        release::slowly(request, group, live);
        ExitCode::SUCCESS
    }
}

/// One run, to its end.
fn keep(keeper: &mut Keeper, request: &mut Request, run: &mut Launched, restarts: u32) -> Exit {
    let file = request.instance.live(&request.id).join(file::HEALTH);
    let group = request.bundle.cgroup.clone();
    keeper.health = request.health.clone().map(|health| health::Watch::new(health, group, file));
    keeper.names = run.names.take();
    let parent = request.instance.global_name();
    let code = keeper.keep(&mut run.command, Some(request), || {
        // On v1 we are still in the caller's groups, which may be ended with the shell or service that started
        // us. Where it cannot be had, we stay.
        if restarts == 0
            && let Ok(hierarchy) = runtime::cgroup::Hierarchy::detect()
        {
            runtime::cgroup::join_monitors(&hierarchy, &parent).ok();
        }
    });
    let health = keeper.health.take().map(health::Watch::into_health);
    // Nobody is called so any more. Its network namespace, which the sockets keep, goes as well.
    keeper.names = None;
    let oom_killed = run.group.as_ref().is_some_and(runtime::cgroup::Group::oom_killed);
    Exit {
        format: FORMAT,
        code,
        oom_killed,
        started: Some(run.began),
        finished: Timestamp::now(),
        error: None,
        stopped: keeper.wanted == Some(Wanted::ByUser),
        restarts,
        health,
    }
}

enum Next {
    Runs(Box<Launched>),
    /// Somebody wants it to stay ended.
    Ends {
        exit: Exit,
        group: Option<runtime::cgroup::Group>,
    },
}

/// Waits as long as it should, and starts the container again, as often as it takes.
fn next_run(
    keeper: &mut Keeper,
    request: &mut Request,
    ended: Launched,
    mut exit: Exit,
    mut delay: Duration,
    restarts: &mut u32,
) -> Next {
    let Launched { command, group, mounts, began, names: _ } = ended;
    drop(command);
    drop(mounts);
    let mut backoff = Backoff::default();
    loop {
        // In this order: who reads in between sees it come back, never gone.
        let waiting = Live { restarts: *restarts, restarting: true, ..launch::live(request, 0, began) };
        write_live(request, &waiting).ok();
        record(request, &exit);
        notes::ended(request, &notes::name(request), &exit, true, false);
        keeper.dismiss(&Ended { code: exit.code, oom_killed: exit.oom_killed });
        clear(group.as_ref());
        // Whoever froze it froze the run that has ended.
        fs::remove_file(&request.instance.live(&request.id).join(file::PAUSED)).ok();
        allow_mount(&request.bundle.root);
        keeper.rest(delay, request);
        // Whoever took its directory away has no use for another run, nor a way to tell us.
        if !request.instance.container(&request.id).is_dir() {
            return Next::Ends { exit, group };
        }
        match keeper.wanted {
            // It is to be started at once, instead of later.
            Some(Wanted::ForRestart) => keeper.wanted = None,
            Some(wanted) => {
                exit.stopped = wanted == Wanted::ByUser;
                return Next::Ends { exit, group };
            }
            None => {}
        }
        match launch(request, Some(*restarts), keeper.called.as_ref(), &mut || Ok(())) {
            Ok(run) => {
                // How the last run ended is not how this one does, should the power go.
                fs::remove_file(&request.instance.container(&request.id).join(file::EXIT)).ok();
                note(request, "start", &[]);
                return Next::Runs(Box::new(run));
            }
            // What hinders it may pass: a port that is taken, a limit that is reached.
            Err(error) => {
                let code = Exit::code_of_failed_start(error.kind());
                exit = Exit {
                    code,
                    oom_killed: false,
                    finished: Timestamp::now(),
                    error: Some(base::failure::chain(error.as_ref())),
                    restarts: *restarts,
                    health: None,
                    ..exit
                };
                if !again(keeper.policy, None, code, *restarts) {
                    return Next::Ends { exit, group };
                }
                *restarts += 1;
                delay = backoff.after(Duration::ZERO).max(delay);
            }
        }
    }
}

/// Writes how a run ended, while the container goes on.
fn record(request: &Request, exit: &Exit) {
    let path = request.instance.container(&request.id).join(file::EXIT);
    // A full disk is no reason to end: the next end is written again.
    if let Ok(bytes) = serde_json::to_vec(exit) {
        fs::write_atomic(&path, &bytes, Durability::Volatile).ok();
    }
}

/// What was mounted `volatile` the kernel mounts again only when this is removed (overlayfs.rst, "Volatile mount"): it
/// cannot know that the machine has not crashed since.
fn allow_mount(root: &RootSource) {
    if let RootSource::Overlay { work, volatile: true, .. } = root {
        fs::remove_dir_all(&work.join("work/incompat")).ok();
    }
}

/// Ends what a run has left in its group, and the group: each run is accounted for by itself.
fn clear(group: Option<&runtime::cgroup::Group>) {
    let Some(group) = group else { return };
    let until = Instant::now() + CLEARING;
    group.kill().ok();
    while group.remove().is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}
