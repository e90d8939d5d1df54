//! What of a configuration matters at a container's turning points: its hooks, and who answers for its system calls.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use base::Failure;
use oci::runtime::{Hook, Hooks, Seccomp, Spec, State, Status};
use runtime::hooks::{Confinement, Inside};
use serde::Deserialize;

use crate::config;
use crate::error::Error;
use crate::report::Report;
use crate::store::{Container, Record};

/// What matters later.
#[derive(Debug, Default)]
pub(crate) struct Later {
    /// The hooks of every stage.
    pub(crate) hooks: Hooks,
    /// Who gets the listener of the filter.
    pub(crate) listener: Option<Listener>,
}

impl Later {
    /// Of a configuration that is being started.
    pub(crate) fn of(spec: &mut Spec) -> Result<Self, Error> {
        let filter = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let listener = filter.and_then(Listener::of);
        let hooks = spec.hooks.take().unwrap_or_default();
        for (stage, hooks) in [
            ("prestart", &hooks.prestart),
            ("createRuntime", &hooks.create_runtime),
            ("createContainer", &hooks.create_container),
            ("startContainer", &hooks.start_container),
            ("poststart", &hooks.poststart),
            ("poststop", &hooks.poststop),
        ] {
            for (number, hook) in hooks.iter().enumerate() {
                runtime::hooks::check(hook).map_err(|source| Error::Hook { stage, number, source })?;
            }
        }
        Ok(Self { hooks, listener })
    }

    /// Of the configuration that a container was made with.
    pub(crate) fn saved(container: &Container) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Saved {
            #[serde(default)]
            hooks: Option<Hooks>,
            #[serde(default)]
            linux: Option<SavedLinux>,
        }
        #[derive(Deserialize)]
        struct SavedLinux {
            #[serde(default)]
            seccomp: Option<Seccomp>,
        }
        let path = container.path(config::NAME);
        let Some(bytes) = base::fs::read_if_exists(&path)? else { return Ok(Self::default()) };
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, source })?;
        let filter = saved.linux.and_then(|linux| linux.seccomp);
        Ok(Self { hooks: saved.hooks.unwrap_or_default(), listener: filter.as_ref().and_then(Listener::of) })
    }
}

/// Who answers for the system calls that a filter hands on.
#[derive(Debug)]
pub(crate) struct Listener {
    path: PathBuf,
    metadata: Option<String>,
}

impl Listener {
    /// Of a filter.
    pub(crate) fn of(filter: &Seccomp) -> Option<Self> {
        let path = filter.listener_path.clone()?;
        Some(Self { path, metadata: filter.listener_metadata.clone() })
    }

    /// Hands the listener of the process `pid` over.
    pub(crate) fn send(&self, container: State, pid: u32, listener: OwnedFd) -> Result<(), Box<dyn Failure>> {
        let state = runtime::seccomp::listener::state_of(pid, self.metadata.as_deref(), container);
        runtime::seccomp::listener::send(&self.path, &state, listener)
            .map_err(|error| Box::new(error) as Box<dyn Failure>)
    }
}

/// Runs all hooks of a stage, in order, until one fails: where we are.
pub(crate) fn run(hooks: &[Hook], stage: &'static str, record: &Record, status: Status) -> Result<(), Error> {
    if hooks.is_empty() {
        return Ok(());
    }
    run_each(hooks, stage, &record.state(status), None)
}

/// The same in the container, whose process this is. Those of a stage whose programs are the image's are `confined` as
/// its command will be.
pub(crate) fn run_inside(
    hooks: &[Hook],
    stage: &'static str,
    record: &Record,
    status: Status,
    process: BorrowedFd<'_>,
    confined: Option<Confined<'_>>,
) -> Result<(), Error> {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut told = record.state(status);
    // runtime.md, "State": there it is the id that the container knows.
    told.pid = crate::store::own_pid(record.pid).unwrap_or(record.pid);
    let group = record.group()?;
    let answers = |pid, listener| match confined.and_then(|confined| confined.listener) {
        Some(to) => to.send(record.state(status), pid, listener),
        None => Ok(()),
    };
    let inside = Inside {
        process,
        group: group.as_ref(),
        confinement: confined.map(|confined| confined.by),
        listener: Some(&answers),
    };
    run_each(hooks, stage, &told, Some(inside))
}

/// How the programs of an image are kept in check.
#[derive(Clone, Copy)]
pub(crate) struct Confined<'a> {
    pub(crate) by: &'a Confinement,
    /// Who answers for the system calls that the filter hands on.
    pub(crate) listener: Option<&'a Listener>,
}

fn run_each(
    hooks: &[Hook],
    stage: &'static str,
    told: &State,
    inside: Option<Inside<'_>>,
) -> Result<(), Error> {
    let state = bytes(told)?;
    for (number, hook) in hooks.iter().enumerate() {
        runtime::hooks::run(hook, &state, inside).map_err(|source| Error::Hook { stage, number, source })?;
    }
    Ok(())
}

/// Runs all hooks, whatever fails, and only says so: for what is over anyway.
pub(crate) fn run_regardless(hooks: &[Hook], stage: &'static str, record: &Record, report: &Report) {
    for (number, hook) in hooks.iter().enumerate() {
        let done = bytes(&record.state(Status::Stopped)).and_then(|state| {
            runtime::hooks::run(hook, &state, None).map_err(|source| Error::Hook { stage, number, source })
        });
        if let Err(error) = done {
            report.warning(&error.in_one_line());
        }
    }
}

fn bytes(state: &State) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(state).map_err(|source| Error::Json { path: "state".into(), source })
}
