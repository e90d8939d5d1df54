//! The commands, a file each: its flags, its words, what it does.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsStr;

use crate::arguments::Command;
pub(crate) use checkpoint::no_help;

/// All of them, by name.
pub(crate) const ALL: &[&Command] = &[
    &checkpoint::CHECKPOINT,
    &create::COMMAND,
    &delete::COMMAND,
    &events::COMMAND,
    &exec::COMMAND,
    &features::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &pause::PAUSE,
    &ps::COMMAND,
    &checkpoint::RESTORE,
    &pause::RESUME,
    &run::COMMAND,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
];

/// The command of that name.
pub(crate) fn find(name: &OsStr) -> Option<&'static Command> {
    ALL.iter().copied().find(|command| OsStr::new(command.name) == name)
}
