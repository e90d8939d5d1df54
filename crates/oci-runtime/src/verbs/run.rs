//! `run`: create, start, and in the foreground wait and delete.

use crate::arguments::{Command, Parsed, switch};
use crate::armour;
use crate::begin::{self, Begun, Until};
use crate::error::Error;
use crate::globals::Globals;
use crate::relay::Streams;
use crate::verbs::delete;

pub(crate) const COMMAND: Command = Command {
    name: "run",
    about: "make a container from a bundle and run its command",
    usage: "[command options] <container-id>\n\n   Ends with the command's exit code, or 128 and the signal that ended it.",
    flags: &[
        begin::BUNDLE,
        begin::CONSOLE_SOCKET,
        begin::PIDFD_SOCKET,
        begin::DETACH,
        switch(&["keep"], "do not delete the container when its command has ended"),
        begin::PID_FILE,
        switch(&["no-subreaper"], "do not take care of what the command leaves behind"),
        begin::NO_PIVOT,
        begin::NO_NEW_KEYRING,
        begin::PRESERVE_FDS,
    ],
    arguments: (1, 1),
    in_order: false,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    run_in(globals, flags).map_err(|error| error.within("run failed", 1))
}

fn run_in(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    armour::put_on()?;
    let detach = flags.is_on("detach");
    if detach {
        let begun = begin::begin(globals, flags, Until::Detached)?;
        if let Some(notify) = &begun.notify {
            use std::os::fd::AsFd as _;
            notify.wait(begun.record.pid, begun.running.pidfd.as_fd(), &globals.report);
        }
        return Ok(0);
    }
    if !flags.is_on("no-subreaper") {
        begin::become_subreaper()?;
    }
    let Begun { container, record, running, notify, later, relay } =
        begin::begin(globals, flags, Until::Foreground)?;
    let Some(relay) = relay else { return Ok(0) };
    let streams = Streams { terminal: running.terminal, notify };
    let ended = relay.keep(record.pid, &running.pidfd, streams, &globals.report);
    // Taking the mounts down is nobody's wait but ours.
    drop(running.mounts);
    if !flags.is_on("keep") {
        let lock = container.lock();
        match lock {
            Ok(lock) => {
                let group = running.group.as_ref();
                delete::destroy(&container, lock, &record, &later.hooks, group, &globals.report)?;
            }
            // Somebody has deleted it already.
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    ended
}
