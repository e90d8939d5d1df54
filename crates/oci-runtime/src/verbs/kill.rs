//! `kill`: sends a signal.

use std::os::fd::AsFd as _;

use crate::arguments::{Command, Parsed, switch};
use crate::error::{Doing as _, Error};
use crate::globals::Globals;
use crate::signals;
use crate::store::Store;

pub(crate) const COMMAND: Command = Command {
    name: "kill",
    about: "send a signal to a container's first process",
    usage: "[command options] <container-id> [signal]\n\n   The signal is a number or a name, with or without SIG (default: SIGTERM).",
    flags: &[switch(&["all", "a"], "send it to all processes in the container")],
    arguments: (1, 2),
    in_order: false,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let store = Store::new(&globals.root);
    let container = store.open(flags.argument(0)?)?;
    let signal = match flags.argument(1)? {
        "" => signals::TERM,
        text => signals::parse(text)?,
    };
    let record = container.essentials()?;
    let all = flags.is_on("all") || (!record.own_pids && signal == signals::KILL);
    if all && let Some(group) = record.group()? {
        // Also of a container whose first process has ended and others have not.
        if !flags.is_on("all") && !record.lives() && group.processes().is_empty() {
            return Err(not_running());
        }
        if signal == signals::KILL {
            group.kill()?;
        } else {
            group.signal_all(signal)?;
        }
        return Ok(0);
    }
    let Some(process) = record.open()? else { return Err(not_running()) };
    match sys::process::send_signal(process.as_fd(), signal) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Err(not_running());
        }
        other => other.doing(format!("send a signal to the process {}", record.pid))?,
    }
    if signal == signals::KILL
        && let Ok(Some(group)) = record.group()
    {
        // Frozen processes of v1 do not even die. The signal has been sent, whatever comes of this.
        group.thaw().ok();
    }
    Ok(0)
}

fn not_running() -> Error {
    Error::State("container not running".to_owned())
}
