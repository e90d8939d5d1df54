//! `delete`: what a stopped container has goes, and its id is free again.

use std::os::fd::AsFd as _;
use std::time::Duration;

use oci::runtime::{Hooks, Spec, Status};
use runtime::cgroup::{self, Group, Hierarchy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::arguments::{Command, Parsed, switch};
use crate::error::{Doing as _, Error};
use crate::globals::Globals;
use crate::later::Later;
use crate::location::location;
use crate::report::Report;
use crate::store::{self, Container, Lock, Record, Store};
use crate::{config, later, signals};

pub(crate) const COMMAND: Command = Command {
    name: "delete",
    about: "delete what a stopped container has left",
    usage: "[command options] <container-id>",
    flags: &[switch(&["force", "f"], "kill it first if it runs; fine if there is no such container")],
    arguments: (1, 1),
    in_order: false,
    run,
};

/// How long a killed process may take to end.
const DYING: Duration = Duration::from_secs(10);

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let force = flags.is_on("force");
    match delete(globals, flags.argument(0)?, force) {
        Err(Error::NotFound) if force => Ok(0),
        other => other.map(|()| 0),
    }
}

fn delete(globals: &Globals, id: &str, force: bool) -> Result<(), Error> {
    let store = Store::new(&globals.root);
    let container = store.open(id)?;
    let lock = container.lock()?;
    let read = if force { container.essentials() } else { container.record() };
    let record = match read {
        Err(Error::NotFound) if force => return sweep(globals, &container, None),
        Err(error @ Error::Json { .. }) if force => return sweep(globals, &container, Some(error)),
        other => other?,
    };
    let status = container.status(&record)?;
    match status {
        Status::Stopped => {}
        // Nothing of it has run yet: as runc does.
        Status::Created => stop(&record)?,
        _ if force => stop(&record)?,
        other => {
            return Err(Error::State(format!(
                "cannot delete container {id} that is not stopped: {}",
                other.as_str()
            )));
        }
    }
    // What a newer version would tell them is not known.
    let hooks =
        if record.format > Record::FORMAT { Hooks::default() } else { Later::saved(&container)?.hooks };
    let mut group = record.group()?;
    if status == Status::Stopped
        && record.own_pids
        && let Some(left) = group.take_if(|group| !group.processes().is_empty())
        && !store::remove_empty(&left)?
    {
        // All that it had has ended with its first process. These have come since, with a container of another runtime,
        // which may take over an empty group and leave the mark on it.
        globals.report.warning(&format!("the cgroup of container {id} is used by others, and stays"));
    }
    destroy(&container, lock, &record, &hooks, group.as_ref(), &globals.report)
}

/// Kills all of a container and waits until it is gone.
pub(crate) fn stop(record: &Record) -> Result<(), Error> {
    if let Some(group) = record.group()? {
        if group.frozen() {
            // Frozen processes of v1 do not even die. What cannot be thawed is killed all the same.
            group.thaw().ok();
        }
        if !record.own_pids {
            group.kill()?;
        }
    }
    let Some(process) = record.open()? else { return Ok(()) };
    match sys::process::send_signal(process.as_fd(), signals::KILL) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(()),
        other => other.doing(format!("kill the process {}", record.pid))?,
    }
    let limit = Timespec { tv_sec: DYING.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    if ended.doing(format!("wait for the process {}", record.pid))? == 0 {
        return Err(Error::State(format!("the process {} has been killed but does not end", record.pid)));
    }
    Ok(())
}

/// Removes a container whose first process has ended.
pub(crate) fn destroy(
    container: &Container,
    lock: Lock<'_>,
    record: &Record,
    hooks: &Hooks,
    group: Option<&Group>,
    report: &Report,
) -> Result<(), Error> {
    if let Some(group) = group.filter(|group| record.owns(group)) {
        // With the first process of a PID namespace all others have ended.
        if !record.own_pids || group.remove().is_err() {
            group.kill()?;
            group.remove()?;
        }
    }
    cgroup::remove_noted(&container.path(store::NOTES));
    if let Some(root) = &record.foreign_root {
        root.detach().doing("take the root down in the mount namespace that was joined")?;
    }
    if let Some(class) = &record.resctrl {
        class.remove()?;
    }
    container.remove()?;
    drop(lock);
    later::run_regardless(&hooks.poststop, "poststop", record, report);
    Ok(())
}

/// Removes what a `create` that was killed has left: no record, but a configuration that says where its cgroup is. That
/// it is this container's nothing says, so nobody in it is killed. `unreadable` is what is wrong with a record: then
/// the container may have run, and goes once nobody is in its cgroup.
fn sweep(globals: &Globals, container: &Container, unreadable: Option<Error>) -> Result<(), Error> {
    let bytes = base::fs::read_if_exists(&container.path(config::NAME))?.unwrap_or_default();
    if let Ok(spec) = serde_json::from_slice::<Spec>(&bytes)
        && let Ok(Some(location)) = location(globals, &container.id, &spec)
        && !store::remove_empty(&Group::existing(&Hierarchy::detect()?, &location))?
    {
        if let Some(error) = unreadable {
            return Err(error);
        }
        let id = &container.id;
        globals.report.warning(&format!("the cgroup that container {id} was to have is in use, and stays"));
    }
    cgroup::remove_noted(&container.path(store::NOTES));
    container.remove()
}
