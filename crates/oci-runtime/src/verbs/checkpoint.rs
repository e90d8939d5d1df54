//! `checkpoint` and `restore`: what this runtime does not do, said clearly.

use crate::arguments::{Command, Flag, Parsed, switch, value};
use crate::error::Error;
use crate::globals::Globals;

/// Those that callers give: what they get to hear is why it does not work, and not that a flag is unknown.
const FLAGS: &[Flag] = &[
    value(&["image-path"], "ignored"),
    value(&["work-path"], "ignored"),
    value(&["parent-path"], "ignored"),
    value(&["bundle", "b"], "ignored"),
    value(&["console-socket"], "ignored"),
    value(&["pid-file"], "ignored"),
    value(&["page-server"], "ignored"),
    value(&["status-fd"], "ignored"),
    value(&["manage-cgroups-mode"], "ignored"),
    value(&["empty-ns"], "ignored"),
    value(&["lsm-profile"], "ignored"),
    value(&["lsm-mount-context"], "ignored"),
    switch(&["leave-running"], "ignored"),
    switch(&["tcp-established"], "ignored"),
    switch(&["tcp-skip-in-flight"], "ignored"),
    switch(&["link-remap"], "ignored"),
    switch(&["ext-unix-sk"], "ignored"),
    switch(&["shell-job"], "ignored"),
    switch(&["lazy-pages"], "ignored"),
    switch(&["file-locks"], "ignored"),
    switch(&["pre-dump"], "ignored"),
    switch(&["auto-dedup"], "ignored"),
    switch(&["detach", "d"], "ignored"),
    switch(&["no-subreaper"], "ignored"),
    switch(&["no-pivot"], "ignored"),
];

pub(crate) const CHECKPOINT: Command = Command {
    name: "checkpoint",
    about: "not supported",
    usage: "[command options] <container-id>",
    flags: FLAGS,
    arguments: (1, 1),
    in_order: false,
    run: refuse,
};

pub(crate) const RESTORE: Command = Command { name: "restore", ..CHECKPOINT };

fn refuse(_: &Globals, _: &Parsed) -> Result<u8, Error> {
    Err(refusal())
}

fn refusal() -> Error {
    Error::Unsupported("checkpoint and restore are not supported by dhow-runtime".to_owned())
}

/// What `--help` of a command fails with: for Podman a runtime can do it whose `checkpoint --help` succeeds.
pub(crate) fn no_help(command: &Command) -> Option<Error> {
    [CHECKPOINT.name, RESTORE.name].contains(&command.name).then(refusal)
}
