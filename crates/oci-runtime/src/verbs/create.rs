//! `create`: a container whose command waits for `start`.

use crate::arguments::{Command, Parsed};
use crate::armour;
use crate::begin::{self, Until};
use crate::error::Error;
use crate::globals::Globals;

pub(crate) const COMMAND: Command = Command {
    name: "create",
    about: "make a container from a bundle",
    usage: "[command options] <container-id>\n\n   Its command is executed by `start`. The id must be unique below the root.",
    flags: &[
        begin::BUNDLE,
        begin::CONSOLE_SOCKET,
        begin::PIDFD_SOCKET,
        begin::PID_FILE,
        begin::NO_PIVOT,
        begin::NO_NEW_KEYRING,
        begin::PRESERVE_FDS,
    ],
    arguments: (1, 1),
    in_order: false,
    run,
};

fn run(globals: &Globals, flags: &Parsed) -> Result<u8, Error> {
    armour::put_on()
        .and_then(|()| begin::begin(globals, flags, Until::Created))
        .map_err(|error| error.within("create failed", 1))?;
    Ok(0)
}
