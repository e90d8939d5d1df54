//! What `create` and `run` have in common: from a bundle to a container.
//!
//! ```text
//!   claim the id ─ keep config.json ─ plan ─ clone ─┬─ the child mounts
//!                                                   ├─ record its pid
//!                                                   ├─ hooks: prestart, createRuntime, createContainer
//!                                                   └─ held (create), or its command runs (run)
//!   the terminal to its socket ─ pid file, after all else: who sees it sees a container that is there
//! ```
//!
//! What fails on the way undoes all of it. Killed on the way, it leaves a directory from which `delete --force` finds
//! the rest.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::Failure;
use base::fs::At as _;
use oci::runtime::{NamespaceKind, Seccomp, Spec, Status};
use runtime::cgroup::Location;
use runtime::rdt;
use runtime::{Bundle, Held, LaunchError, LaunchPlan, Manner, RootSource, Running, Steps};

use crate::arguments::{Flag, Parsed, switch, value};
use crate::config::{self, Config};
use crate::descriptors::{self, Preserved};
use crate::error::{Doing as _, Error};
use crate::globals::Globals;
use crate::handover::{self, Sockets};
use crate::later::{self, Later};
use crate::location::location;
use crate::notify::{self, Notify};
use crate::relay::{self, Relay};
use crate::release;
use crate::report::Report;
use crate::store::{self, Container, Lock, Record, Store};
use crate::time;

/// `--bundle`.
pub(crate) const BUNDLE: Flag =
    value(&["bundle", "b"], "the bundle's directory (default: the working directory)");
/// `--console-socket`.
pub(crate) const CONSOLE_SOCKET: Flag =
    value(&["console-socket"], "a Unix socket that the terminal's master is sent to");
/// `--pidfd-socket`.
pub(crate) const PIDFD_SOCKET: Flag =
    value(&["pidfd-socket"], "a Unix socket that a pidfd of the process is sent to");
/// `--pid-file`.
pub(crate) const PID_FILE: Flag = value(&["pid-file"], "a file that the process id is written to");
/// `--no-pivot`.
pub(crate) const NO_PIVOT: Flag =
    switch(&["no-pivot"], "do not use pivot_root: for a host whose root file system is a ramdisk");
/// `--no-new-keyring`.
pub(crate) const NO_NEW_KEYRING: Flag =
    switch(&["no-new-keyring"], "no session keyring of its own: it gets the caller's");
/// `--preserve-fds`.
pub(crate) const PRESERVE_FDS: Flag =
    value(&["preserve-fds"], "hand down N descriptors from 3 on, after those of LISTEN_FDS (default: 0)");
/// `--detach`.
pub(crate) const DETACH: Flag = switch(&["detach", "d"], "do not wait for the command");

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// It waits for `start`.
    Created,
    /// Its command runs, and we leave it.
    Detached,
    /// Its command runs, and we stay.
    Foreground,
}

/// A container that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Its directory.
    pub(crate) container: Container,
    /// What is known of it.
    pub(crate) record: Record,
    /// Its first process.
    pub(crate) running: Running,
    /// Where it says that it is ready.
    pub(crate) notify: Option<Notify>,
    /// What of its configuration matters later.
    pub(crate) later: Later,
    /// For a command in the foreground.
    pub(crate) relay: Option<Relay>,
}

/// Makes the container that the flags speak of.
pub(crate) fn begin(globals: &Globals, flags: &Parsed, until: Until) -> Result<Begun, Error> {
    let id = flags.argument(0)?;
    store::check_id(id)?;
    let config = Config::load(flags.path("bundle"))?;
    let sockets = Sockets::new(flags, until != Until::Foreground, config.terminal())?;
    let preserved = Preserved::new(flags)?;
    let store = Store::new(&globals.root);
    let container = store.claim(id)?;
    let lock = container.lock()?;
    // Between claiming and locking it, somebody may have deleted what we claimed, and another claimed it anew.
    match base::fs::create_new(&container.path(config::NAME), &config.bytes, 0o600) {
        Ok(()) => {}
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Exists(id.to_owned()));
        }
        Err(error) => {
            // The cause is being reported.
            container.remove().ok();
            return Err(Error::File(error));
        }
    }
    let beginning = Beginning { globals, flags, until, container: &container, lock: &lock, preserved };
    let begun = beginning.go(config, &sockets).inspect_err(|_| {
        // Under the lock, and not if somebody else has done it: another may have that name by now.
        if !container.is_deleted()
            && let Err(left) = container.remove()
        {
            globals.report.warning(&left.in_one_line());
        }
    });
    drop(lock);
    let (record, running, notify, later, relay) = begun?;
    Ok(Begun { container, record, running, notify, later, relay })
}

struct Beginning<'a> {
    globals: &'a Globals,
    flags: &'a Parsed,
    until: Until,
    container: &'a Container,
    lock: &'a Lock<'a>,
    preserved: Preserved,
}

type Parts = (Record, Running, Option<Notify>, Later, Option<Relay>);

impl Beginning<'_> {
    fn go(&self, config: Config, sockets: &Sockets) -> Result<Parts, Error> {
        let command = config.command();
        let Config { bytes, mut spec, bundle, rootfs } = config;
        drop(bytes);
        let notify = notify::prepare(self.container, &mut spec)?;
        // A command that runs at once finds it bound; one that waits will, since `start` binds it.
        let notify =
            if notify && self.until != Until::Created { Notify::bind(self.container)? } else { None };
        if let Some(process) = &mut spec.process {
            self.preserved.environment(&mut process.env);
            if process.terminal && self.until == Until::Foreground {
                process.console_size = relay::own_size().or(process.console_size);
            }
        }
        let later = Later::of(&mut spec)?;
        // A hook that runs inside, right before the command, needs somebody who lets the command go.
        let held = self.until == Until::Created || !later.hooks.start_container.is_empty();
        let location = location(self.globals, &self.container.id, &spec)?;
        let record = self.record(&spec, bundle, &rootfs, location.clone());
        let seccomp = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let seccomp = compiled_filter(&self.globals.root, seccomp);
        let bundle = Bundle {
            spec,
            root: RootSource::Directory(rootfs),
            cgroup: location.clone(),
            seccomp,
            init: false,
            inside: BTreeMap::new(),
            manner: Manner {
                tied: false,
                preserved_descriptors: self.preserved.count(),
                no_pivot: self.flags.is_on("no-pivot"),
                new_keyring: !self.flags.is_on("no-new-keyring"),
            },
        };
        let relay = (self.until == Until::Foreground).then(Relay::begin).transpose()?;
        let (mut running, mut record) = self.launch(&bundle, &later, record, held, &command)?;
        drop(bundle);
        record.foreign_root = running.foreign.take();
        if self.until != Until::Foreground
            && let Some(group) = &running.group
        {
            // We will not be there to take it down, and whoever will need not look for it then.
            record.group = Some(group.record());
        }
        self.globals.report.debug(|| format!("container {} is the process {}", record.id, record.pid));
        let finished = self.finish(&mut running, &mut record, &later, sockets, held);
        finished.inspect_err(|_| self.undo(&running, &record, &later))?;
        Ok((record, running, notify, later, relay))
    }

    /// What remains once the child is a container.
    fn finish(
        &self,
        running: &mut Running,
        record: &mut Record,
        later: &Later,
        sockets: &Sockets,
        held: bool,
    ) -> Result<(), Error> {
        sockets.hand_over(running)?;
        if record.group.is_some() || record.foreign_root.is_some() || record.creating {
            record.creating = false;
            self.container.write(record)?;
        }
        if self.until != Until::Created {
            if held {
                let _claim = self.container.claim_start(later)?;
                release::release(self.container, self.lock, record, later)?;
            }
            release::poststart(self.lock, record, later)?;
        }
        if let Some(path) = self.flags.path("pid-file") {
            handover::write_pid_file(path, running.pid)?;
        }
        Ok(())
    }

    /// Takes down what runs already.
    fn undo(&self, running: &Running, record: &Record, later: &Later) {
        let report = &self.globals.report;
        // Both can only fail where the process is gone already.
        sys::process::send_signal(running.pidfd.as_fd(), crate::signals::KILL).ok();
        let id = rustix::process::WaitId::PidFd(running.pidfd.as_fd());
        rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).ok();
        if self.container.is_deleted() {
            // With its group, in whose place another's may be now.
            return;
        }
        if let Some(group) = running.group.as_ref().filter(|group| record.owns(group))
            && let Err(error) = group.kill().and_then(|()| group.remove())
        {
            report.warning(&base::failure::causes(&error));
        }
        if let Some(root) = &record.foreign_root
            && let Err(error) = root.detach()
        {
            report.warning(&format!(
                "cannot take the root down in the mount namespace that was joined: {error}"
            ));
        }
        remove_class(record, report);
        later::run_regardless(&later.hooks.poststop, "poststop", record, report);
    }

    fn record(&self, spec: &Spec, bundle: PathBuf, rootfs: &Path, cgroup: Option<Location>) -> Record {
        let namespaces = spec.linux.as_ref().map(|linux| &linux.namespaces[..]).unwrap_or_default();
        Record {
            format: Record::FORMAT,
            oci_version: spec.oci_version.clone(),
            id: self.container.id.clone(),
            creating: false,
            pid: 0,
            start_time: 0,
            created: time::now(),
            bundle,
            rootfs: rootfs.to_owned(),
            cgroup,
            group: None,
            mark: None,
            own_pids: namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_none()),
            rootless: self.globals.rootless(),
            owner: rustix::process::geteuid().as_raw(),
            annotations: spec.annotations.clone(),
            resctrl: None,
            foreign_root: None,
        }
    }

    fn launch(
        &self,
        bundle: &Bundle,
        later: &Later,
        mut record: Record,
        held: bool,
        command: &str,
    ) -> Result<(Running, Record), Error> {
        let wanted = bundle.spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref());
        let resctrl = wanted.map(|wanted| rdt::Plan::new(wanted, &record.id)).transpose()?;
        let mut plan: LaunchPlan = runtime::plan(bundle)?;
        for warning in plan.warnings() {
            self.globals.report.warning(warning);
        }
        if held {
            let socket = self.container.start_socket();
            base::fs::remove_file(&socket)?;
            plan = plan.held(Held::listen(&socket).at("listen on", &socket)?);
        }
        plan = plan.with_notes(self.container.path(store::NOTES));
        record.mark = plan.mark_group().doing("get randomness for the mark of a cgroup")?;
        let hooks = &later.hooks;
        let early = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container];
        if early.iter().any(|stage| !stage.is_empty()) {
            plan = plan.with_mounted_step();
            record.creating = true;
        }
        let mut turns =
            Turns { container: self.container, lock: self.lock, record, later, resctrl, born: false };
        let launched = runtime::launch(plan, descriptors::stdio()?, &mut turns);
        let Turns { record, born, .. } = turns;
        match launched {
            Ok(running) => Ok((running, record)),
            Err(source) => {
                let report = &self.globals.report;
                if !self.container.is_deleted() {
                    remove_class(&record, report);
                }
                if born && !self.container.is_deleted() {
                    later::run_regardless(&hooks.poststop, "poststop", &record, report);
                }
                Err(match source {
                    LaunchError::Cgroup(error) => Error::Cgroup(error),
                    source => Error::Launch { command: command.to_owned(), source },
                })
            }
        }
    }
}

/// A filter's program in the cache below the root. None where there is no filter, or one that cannot be kept: what is
/// wrong with it shows when it is compiled for this container alone.
pub(crate) fn compiled_filter(root: &Path, filter: Option<&Seccomp>) -> Option<PathBuf> {
    runtime::seccomp::cached_spec(&root.join(store::CACHE), filter?).ok()
}

/// What happens while the child makes itself a container.
struct Turns<'a> {
    container: &'a Container,
    lock: &'a Lock<'a>,
    record: Record,
    later: &'a Later,
    resctrl: Option<rdt::Plan>,
    born: bool,
}

impl Steps for Turns<'_> {
    fn born(&mut self, pid: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        self.born = true;
        self.record.pid = pid;
        // Nobody has reaped it yet, so it has a birth even if it has ended.
        self.record.start_time = store::birth(pid).unwrap_or_default();
        if let Some(class) = self.resctrl.take() {
            // Written down even if this fails half-way: then somebody has to take it back.
            let applied = class.apply(pid);
            self.record.resctrl = Some(class);
            applied.map_err(|error| Box::new(error) as Box<dyn Failure>)?;
        }
        self.container.write(&self.record).map_err(|error| Box::new(error) as Box<dyn Failure>)
    }

    fn listener(&mut self, pid: u32, listener: OwnedFd) -> Result<(), Box<dyn Failure>> {
        match &self.later.listener {
            Some(to) => to.send(self.record.state(Status::Creating), pid, listener),
            None => Ok(()),
        }
    }

    fn mounted(&mut self, _: u32, pidfd: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        // The step may be there for another reason than hooks.
        if !self.record.creating {
            return Ok(());
        }
        let (hooks, record) = (&self.later.hooks, &self.record);
        let status = Status::Creating;
        let run = || {
            later::run(&hooks.prestart, "prestart", record, status)?;
            later::run(&hooks.create_runtime, "createRuntime", record, status)?;
            later::run_inside(&hooks.create_container, "createContainer", record, status, pidfd, None)
        };
        self.lock.without(run).map_err(|error| Box::new(error) as Box<dyn Failure>)
    }
}

fn remove_class(record: &Record, report: &Report) {
    if let Some(class) = &record.resctrl
        && let Err(error) = class.remove()
    {
        report.warning(&base::failure::causes(&error));
    }
}

/// Asked to be the next of kin of all that the command leaves behind.
pub(crate) fn become_subreaper() -> Result<(), Error> {
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).doing("become a subreaper")
}
