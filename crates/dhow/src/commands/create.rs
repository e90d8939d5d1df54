//! `dhow create`, and what `run` has in common with it.

use clap::Parser;
use engine::{Created, Engine};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::container::ContainerFlags;
use crate::globals::Context;
use crate::{output, progress, terminal};

/// Create a container from an image, without starting it.
#[derive(Debug, Parser)]
#[command(
    name = "create",
    override_usage = "dhow create [FLAGS] IMAGE [COMMAND] [ARGUMENT…]",
    disable_help_flag = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let (engine, created) = create(self.flags, context)?;
        let id = created.id.to_string();
        engine.leave(created)?;
        output::line(&id).map(|()| 0)
    }
}

/// Creates the container that the flags ask for, and writes its id where they say.
pub(super) fn create(flags: ContainerFlags, context: &Context) -> Result<(Engine, Created)> {
    let (pull, quiet, cidfile) = (flags.pull(), flags.quiet, flags.cidfile.clone());
    if let Some(path) = &cidfile
        && path.exists()
    {
        return Err(Error::flag(format!("the file of --cidfile, {}, exists already", path.display())));
    }
    let options = flags.options()?;
    let engine = context.engine().map_err(starting)?;
    let created = engine.create(options, pull, &*progress::choose(quiet)).map_err(Error::Starting)?;
    context.trace("the container is created");
    warn(&created.warnings);
    if let Some(path) = cidfile {
        std::fs::write(&path, created.id.as_str()).map_err(|source| Error::File {
            action: "write",
            path: path.display().to_string(),
            source,
        })?;
    }
    Ok((engine, created))
}

/// A terminal for the container whose keys would come from something else: Docker refuses, and so do we.
pub(super) fn check_terminal(tty: bool, interactive: bool) -> Result<()> {
    if tty && interactive && !terminal::stdin_is_terminal() {
        return Err(Error::NoTerminal);
    }
    Ok(())
}

pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        output::talk(&format!("dhow: warning: {warning}"));
    }
}

/// What fails before the command runs has an exit code that commands do not use.
pub(super) fn starting(error: Error) -> Error {
    match error {
        Error::Engine(error) => Error::Starting(error),
        other => other,
    }
}
