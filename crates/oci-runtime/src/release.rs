//! From a container that waits to one whose command runs: what `start` does, and `run` at the end of its way.
//!
//! ```text
//!   hooks: startContainer ─ say that we start it ─ Go, and who answers for its system calls ─ hooks: poststart
//! ```

use std::os::fd::AsFd as _;

use oci::runtime::Status;
use runtime::Held;
use runtime::hooks::Confinement;

use crate::config;
use crate::error::Error;
use crate::later::{self, Confined, Later};
use crate::store::{Container, Lock, Record};

/// Lets a held command go, after the hooks that run where it will ([`Container::claim_start`]).
pub(crate) fn release(
    container: &Container,
    lock: &Lock<'_>,
    record: &Record,
    later: &Later,
) -> Result<(), Error> {
    let socket = container.start_socket();
    let command = || container_command(container);
    let failed = |source| Error::Launch { command: command(), source };
    let mut held = Held::connect(&socket).map_err(failed)?;
    if !later.hooks.start_container.is_empty() {
        let process = record.open()?.ok_or_else(|| Error::State("container not running".to_owned()))?;
        let path = container.path(config::NAME);
        let saved: config::Saved =
            serde_json::from_slice(&base::fs::read(&path)?).map_err(|source| Error::Json { path, source })?;
        let by = &Confinement::plan(&saved.process, saved.linux.as_ref())?;
        let confined = Some(Confined { by, listener: later.listener.as_ref() });
        let (hooks, process) = (&later.hooks.start_container, process.as_fd());
        lock.without(|| {
            later::run_inside(hooks, "startContainer", record, Status::Created, process, confined)
        })?;
        if container.status(record)? != Status::Created {
            return Err(Error::State("the container has been stopped or paused meanwhile".to_owned()));
        }
    }
    // Until here we could be killed, and the container would still be a created one. From here on it would end as well,
    // instead of waiting where nobody finds it.
    held.announce().map_err(failed)?;
    base::fs::remove_file(&socket)?;
    let listener = |fd| match &later.listener {
        Some(listener) => listener.send(record.state(Status::Created), record.pid, fd),
        None => Ok(()),
    };
    held.go_with_listener(listener).map_err(failed)
}

/// Runs the hooks that come after the command has been executed.
pub(crate) fn poststart(lock: &Lock<'_>, record: &Record, later: &Later) -> Result<(), Error> {
    if later.hooks.poststart.is_empty() {
        return Ok(());
    }
    lock.without(|| later::run(&later.hooks.poststart, "poststart", record, Status::Running))
}

/// For errors: what would have been executed.
fn container_command(container: &Container) -> String {
    let bytes = base::fs::read(&container.path(config::NAME)).unwrap_or_default();
    let saved = serde_json::from_slice::<config::Saved>(&bytes).ok();
    saved.and_then(|saved| saved.process.args.into_iter().next()).unwrap_or_default()
}
