//! A `RUN`: a container of ours that lives as long as its command, and leaves a layer.
//!
//! It is started by us, without a monitor: nobody but the build asks for it. It dies with the thread that started it. What it
//! holds (its group, its address) is in the request in its live directory, as any container's is; a container without a record
//! is one that was never finished, so whoever finds that directory abandoned puts it right.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::build::graph::{Network, Run};
use base::fs;
use base::{Digest, Failure, Id, Timestamp};
use monitor::Request;
use oci::image::Execution;
use rootfs::{Overlay, Scratch};
use runtime::{Running, Stdio, Steps};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use state::container::{FORMAT, ImageUsed, Record, file};
use state::options::{ContainerOptions, LogDriver, LogOptions, NetworkMode};

use super::cancel::Cancel;
use super::error::{Error, failed};
use super::lines::Lines;
use super::mounts::Mounts;
use super::options::BuildOptions;
use super::stubs::Stubs;
use crate::Engine;
use crate::containers::ownership::Owner;
use crate::containers::spec::{PROVIDED, Resolution, resolve};
use crate::containers::start::StartHow;
use crate::containers::storage::Storage;
use crate::error::Result;

/// What containers of builds are called inside, as BuildKit's.
const HOSTNAME: &str = "buildkitsandbox";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes that are read of an output at a time.
const BUFFER: usize = 64 << 10;
/// How long a new directory may be held by somebody who takes it for a leftover.
const RECONCILING: Duration = Duration::from_secs(10);

/// Held by the thread that starts a command, or gives back what one had of the network. A new process has copies of all our
/// descriptors until it executes its command: were there a lock of the network among them, that another thread has just taken,
/// nobody could link the process to its network, for which it waits.
static STARTING: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who hears what a command says: on standard error, or output.
pub(super) type Listener<'l> = &'l (dyn Fn(bool, &[u8]) + Sync);

/// A `RUN` that is to be done.
pub(super) struct Job<'j> {
    pub(super) engine: &'j Engine,
    pub(super) options: &'j BuildOptions,
    pub(super) cancel: &'j Cancel,
    pub(super) run: &'j Run,
    /// What it runs in, lowest first.
    pub(super) base: &'j [Digest],
    pub(super) listener: Listener<'j>,
}

impl Job<'_> {
    /// Runs it, and returns what it wrote. In a thread of its own, whose mounts nobody else sees, where there are mounts to
    /// make; the command dies with that thread.
    pub(super) fn run(&self, mounts: Mounts<'_>) -> Result<Scratch> {
        if !mounts.need_a_namespace() {
            return self.here(mounts);
        }
        std::thread::scope(|scope| {
            let work = || {
                sys::process::unshare(sys::process::namespaces::MOUNT as u32)
                    .map_err(failed("make a mount namespace"))?;
                rustix::mount::mount_change(
                    c"/",
                    rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
                )
                .map_err(|e| failed("make mounts private")(e.into()))?;
                self.here(mounts)
            };
            let thread = std::thread::Builder::new().name("run".to_owned()).spawn_scoped(scope, work);
            let thread = thread.map_err(failed("start a thread"))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn here(&self, mounts: Mounts<'_>) -> Result<Scratch> {
        let engine = self.engine;
        let scratch = engine.layer_store().scratch()?;
        let overlay = scratch.overlay(self.base)?;
        let id = Id::random().map_err(failed("get randomness for an id"))?;
        let owner = Owner::wait(&engine.instance, &id, RECONCILING)?;
        let owner = owner.ok_or_else(|| failed("own a new container")(Errno::EXIST.into()))?;
        // Whatever happens, what is mounted in the live directory goes before that does.
        let mut mounts = mounts;
        mounts.make(owner.live())?;
        let stubs = Stubs::find(&overlay.lowers, &targets(&mounts))?;
        let alone = one_at_a_time();
        let record = self.record(&id, &mounts)?;
        let network = engine.prepare_network(&record)?;
        let ended = self.in_network(&record, overlay, (&network, alone), &mut mounts, &owner);
        let alone = one_at_a_time();
        let released = network.release(&engine.instance, &id);
        drop(alone);
        // Its files in the live directory go before what they were mounted on is looked at.
        drop(mounts);
        drop(owner);
        ended?;
        released?;
        stubs.remove(&scratch.upper())?;
        Ok(scratch)
    }

    fn in_network(
        &self,
        record: &Record,
        overlay: Overlay,
        (network, alone): (&network::Plan, MutexGuard<'static, ()>),
        mounts: &mut Mounts<'_>,
        owner: &Owner,
    ) -> Result<()> {
        let engine = self.engine;
        let confinement = (engine.apparmor(record)?, engine.seccomp(record)?);
        let (mut request, _) = engine.request(
            record,
            (overlay, Storage::default()),
            confinement,
            network.clone(),
            StartHow::default(),
            owner.live(),
        )?;
        for (name, value) in network.sysctls() {
            let linux = request.bundle.spec.linux.get_or_insert_default();
            linux.sysctl.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        mounts.add_to(&mut request.bundle);
        write_request(owner.live(), &request)?;
        let (running, outputs) = self.launch(&request, mounts.take_input())?;
        drop(alone);
        let watched = self.cancel.watch(&running.pidfd).map_err(failed("watch a command"))?;
        let code = self.follow(&running, outputs);
        drop(watched);
        let oom = running.group.as_ref().is_some_and(runtime::cgroup::Group::oom_killed);
        // Its mounts go now, and then its group.
        drop(running.mounts);
        if let Some(group) = running.group {
            group.kill()?;
            group.remove()?;
        }
        self.cancel.check()?;
        match code? {
            0 => Ok(()),
            code => Err(Error::Command { command: self.run.arguments.join(" "), code, oom }.into()),
        }
    }

    fn launch(&self, request: &Request, input: Option<OwnedFd>) -> Result<(Running, [OwnedFd; 2])> {
        self.cancel.check()?;
        let plan = runtime::plan(&request.bundle)?;
        let batch = request.network.child_messages();
        let plan = plan.with_netlink(batch.bytes, batch.messages);
        let plumb = || -> std::result::Result<_, Errno> {
            let null =
                || rustix::fs::openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            let (ours, output) = pipe_with(PipeFlags::CLOEXEC)?;
            let (our_errors, errors) = pipe_with(PipeFlags::CLOEXEC)?;
            for fd in [&ours, &our_errors] {
                rustix::io::ioctl_fionbio(fd, true)?;
            }
            let input = input.map_or_else(null, Ok)?;
            Ok((Stdio { input, output, errors }, [ours, our_errors]))
        };
        let (stdio, outputs) = plumb().map_err(|e| failed("make the command's pipes")(e.into()))?;
        let running = runtime::launch(plan, stdio, &mut Link(&request.network))?;
        Ok((running, outputs))
    }

    /// Passes on what it says, until it has ended. Returns its exit code.
    fn follow(&self, running: &Running, outputs: [OwnedFd; 2]) -> Result<i32> {
        let mut buffer = vec![0; BUFFER];
        let mut lines = [Lines::default(), Lines::default()];
        let mut open = outputs.map(Some);
        let say = |errors: usize, bytes: &[u8]| (self.listener)(errors == 1, bytes);
        loop {
            let mut polled = vec![PollFd::new(&running.pidfd, PollFlags::IN)];
            let indices: Vec<usize> = (0..2).filter(|&n| open[n].is_some()).collect();
            polled.extend(open.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(failed("wait for a command")(e.into()).into()),
            }
            let ended = !polled[0].revents().is_empty();
            let ready: Vec<usize> = indices
                .iter()
                .zip(&polled[1..])
                .filter(|(_, p)| !p.revents().is_empty())
                .map(|(n, _)| *n)
                .collect();
            drop(polled);
            // Nobody is left to write when the first process of a PID namespace has ended: what there is, is all.
            let which = if ended { indices } else { ready };
            for n in which {
                let Some(fd) = &open[n] else { continue };
                if !drain(fd.as_fd(), &mut buffer, ended, &mut |bytes| {
                    lines[n].feed(bytes, &mut |l| say(n, l));
                }) {
                    open[n] = None;
                }
            }
            if ended {
                break;
            }
        }
        for (n, rest) in lines.iter_mut().enumerate() {
            rest.end(&mut |line| say(n, line));
        }
        loop {
            match waitid(WaitId::PidFd(running.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    let code = status.exit_status();
                    return Ok(code.or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(255));
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(e) => return Err(failed("learn how a command ended")(e.into()).into()),
            }
        }
    }

    /// As if it were a container that somebody had made.
    fn record(&self, id: &Id, mounts: &Mounts<'_>) -> Result<Record> {
        let (asked, run) = (self.options, self.run);
        let network = match run.network {
            Network::Default => asked.network.clone(),
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        };
        check_consent(run, asked)?;
        let mut options = ContainerOptions {
            image: "build".to_owned(),
            command: run.arguments.clone(),
            hostname: Some(HOSTNAME.to_owned()),
            user: Some(run.user.clone()),
            working_dir: Some(PathBuf::from(if run.directory.is_empty() { "/" } else { &run.directory })),
            auto_remove: true,
            network,
            hosts: asked.hosts.clone(),
            limits: asked.limits.clone(),
            memory: asked.memory,
            nano_cpus: asked.nano_cpus,
            pids_limit: asked.pids_limit,
            cgroup_parent: asked.cgroup_parent.clone(),
            privileged: run.insecure,
            log: LogOptions { driver: Some(LogDriver::None), ..LogOptions::default() },
            ..ContainerOptions::default()
        };
        let _networks_stay = self.engine.resolve_networks(&mut options)?;
        let machine = self.engine.machine(&options)?;
        let execution = Execution::default();
        let Resolution { args, mut resolved, .. } =
            resolve(&options, &execution, &self.engine.config, &machine, id)?;
        resolved.env = environment(&run.env, mounts.variables());
        Ok(Record {
            format: FORMAT,
            id: id.clone(),
            name: format!("build-{}", id.short()),
            created: Timestamp::now(),
            image: ImageUsed { reference: String::new(), id: Digest::of(b""), layers: self.base.to_vec() },
            args,
            options,
            waits: false,
            resolved,
        })
    }
}

/// An error, if it wants what nobody has allowed it.
pub(super) fn check_consent(run: &Run, asked: &BuildOptions) -> Result<()> {
    let (what, flag) = if run.network == Network::Host && !asked.allow_host_network {
        ("RUN --network=host", "network.host")
    } else if run.insecure && !asked.allow_insecure {
        ("RUN --security=insecure", "security.insecure")
    } else {
        return Ok(());
    };
    Err(Error::NotAllowed { what, flag }.into())
}

/// Where something is mounted, in the container.
fn targets(mounts: &Mounts<'_>) -> Vec<PathBuf> {
    let own = PROVIDED.iter().map(|(_, path)| *path).chain(["/proc", "/sys", "/dev"]).map(PathBuf::from);
    own.chain(mounts.targets()).collect()
}

/// The variables, and ours where it has none of that name.
fn environment(own: &[String], more: &[(String, String)]) -> Vec<String> {
    let mut env = own.to_vec();
    let has = |env: &[String], name: &str| {
        env.iter().any(|entry| entry.split_once('=').is_some_and(|(own, _)| own == name))
    };
    if !has(&env, "PATH") {
        env.insert(0, PATH.to_owned());
    }
    for (name, value) in more {
        env.retain(|entry| entry.split_once('=').is_none_or(|(own, _)| own != name));
        env.push(format!("{name}={value}"));
    }
    env
}

/// What whoever finds us dead has to know. What the command is told stays between us: it may be a secret.
fn write_request(live: &Path, request: &Request) -> Result<()> {
    let mut told = request.clone();
    told.bundle.spec.process = None;
    told.bundle.spec.mounts = Vec::new();
    told.bundle.inside.clear();
    let bytes = serde_json::to_vec(&told).map_err(Error::Encode)?;
    Ok(fs::create_new(&live.join(file::REQUEST), &bytes, 0o600)?)
}

/// Links the container to its network while it mounts.
struct Link<'n>(&'n network::Plan);

impl Steps for Link<'_> {
    fn born(&mut self, pid: u32, _: BorrowedFd<'_>) -> std::result::Result<(), Box<dyn Failure>> {
        self.0.attach(pid).map_err(|e| Box::new(e) as Box<dyn Failure>)
    }
}

/// Reads what there is, once or to its end. False when no more will come.
fn drain(fd: BorrowedFd<'_>, buffer: &mut [u8], all: bool, sink: &mut dyn FnMut(&[u8])) -> bool {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => return false,
            Ok(n) => sink(&buffer[..n]),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
        if !all {
            return true;
        }
    }
}
