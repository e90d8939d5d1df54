//! `start`: executes the command of a created container.

use oci::runtime::Status;

use crate::arguments::{Command, Parsed};
use crate::error::Error;
use crate::globals::Globals;
use crate::later::Later;
use crate::notify::Notify;
use crate::release;
use crate::store::Store;
use crate::verbs::delete;

pub(crate) const COMMAND: Command = Command {
    name: "start",
    about: "execute the command of a created container",
    usage: "<container-id>",
    flags: &[],
    arguments: (1, 1),
    in_order: false,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let lock = container.lock()?;
    let record = container.record()?;
    match container.status(&record)? {
        Status::Created => {}
        Status::Creating => {
            return Err(Error::State("cannot start a container that is still being created".to_owned()));
        }
        Status::Paused => {
            return Err(Error::State("cannot start a container in the paused state".to_owned()));
        }
        Status::Stopped => return Err(Error::State("cannot start a container that has stopped".to_owned())),
        Status::Running => return Err(Error::State("cannot start an already running container".to_owned())),
    }
    let later = Later::saved(&container)?;
    let _claim = container.claim_start(&later)?;
    let notify = Notify::bind(&container)?;
    let started = release::release(&container, &lock, &record, &later)
        .and_then(|()| release::poststart(&lock, &record, &later));
    if let Err(error) = started {
        if container.is_deleted() {
            // With all that it had.
            return Err(error);
        }
        delete::stop(&record)?;
        if matches!(error, Error::Hook { .. }) {
            // runtime.md, "Lifecycle" 7 and 9: such a container is undone.
            let group = record.group()?;
            delete::destroy(&container, lock, &record, &later.hooks, group.as_ref(), &globals.report)?;
            return Err(error);
        }
        // What has failed to start otherwise is stopped, and stays to be deleted.
        base::fs::remove_file(&container.start_socket())?;
        return Err(error);
    }
    drop(lock);
    if let Some(notify) = notify
        && let Some(process) = record.open()?
    {
        use std::os::fd::AsFd as _;
        notify.wait(record.pid, process.as_fd(), &globals.report);
    }
    Ok(0)
}
