//! `pause` and `resume`: all processes of a container are frozen, and go on.

use oci::runtime::Status;

use crate::arguments::{Command, Parsed};
use crate::error::Error;
use crate::globals::Globals;
use crate::store::Store;

pub(crate) const PAUSE: Command = Command {
    name: "pause",
    about: "suspend all processes in a container",
    usage: "<container-id>",
    flags: &[],
    arguments: (1, 1),
    in_order: false,
    run: |globals, flags| change(globals, flags, true),
};

pub(crate) const RESUME: Command = Command {
    name: "resume",
    about: "let the processes of a suspended container go on",
    usage: "<container-id>",
    flags: &[],
    arguments: (1, 1),
    in_order: false,
    run: |globals, flags| change(globals, flags, false),
};

fn change(globals: &Globals, flags: &Parsed, freeze: bool) -> Result<u8, Error> {
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let _lock = container.lock()?;
    let record = container.record()?;
    let status = container.status(&record)?;
    let refuse = |why: &str| Err(Error::State(why.to_owned()));
    let Some(group) = record.group()? else {
        return refuse("the container has no cgroup that could be frozen");
    };
    match (freeze, status) {
        (true, Status::Running | Status::Created) => group.freeze()?,
        (true, _) => return refuse("container not running"),
        (false, Status::Paused) => group.thaw()?,
        (false, _) => return refuse("container not paused"),
    }
    Ok(0)
}
