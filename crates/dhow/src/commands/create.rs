//! `dhow create`, and what `run` has in common with it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use base::Kind;
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
        // As in Docker, a name that is taken is no bad flag.
        let (engine, created) = create(self.flags, context).map_err(|error| match error {
            Error::Starting(error) if error.kind() == Kind::Conflict => Error::Engine(error),
            other => other,
        })?;
        let id = created.id.to_string();
        engine.leave(created)?;
        output::line(&id).map(|()| 0)
    }
}

/// Creates the container that the flags ask for, and writes its id where they say.
pub(super) fn create(flags: ContainerFlags, context: &Context) -> Result<(Engine, Created)> {
    let (pull, quiet, cidfile) = (flags.pull(), flags.quiet, flags.cidfile.clone());
    let options = flags.options()?;
    let engine = context.engine().map_err(starting)?;
    // Before anything is made: what could not be told of need not be there.
    let id_file = cidfile.map(IdFile::create).transpose()?;
    let created = engine.create(options, pull, &*progress::choose(quiet)).map_err(Error::Starting)?;
    context.trace("the container is created");
    warn(&created.warnings);
    if let Some(file) = id_file {
        file.fill(created.id.as_str())?;
    }
    Ok((engine, created))
}

/// The file of `--cidfile`, which nobody had before; it is removed again unless it is filled.
#[derive(Debug)]
struct IdFile {
    path: PathBuf,
    file: File,
    filled: bool,
}

impl IdFile {
    fn create(path: PathBuf) -> Result<Self> {
        match File::create_new(&path) {
            Ok(file) => Ok(Self { path, file, filled: false }),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(Error::flag(format!("the file of --cidfile, {}, exists already", path.display())))
            }
            Err(source) => Err(file_error("create", &path, source)),
        }
    }

    fn fill(mut self, id: &str) -> Result<()> {
        self.file.write_all(id.as_bytes()).map_err(|source| file_error("write", &self.path, source))?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.filled {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { action, path: path.display().to_string(), source }
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
