//! `dhow system start`, `stop`, `enable` and `disable`: the machine comes up and goes down.

use clap::Parser;
use engine::Done;

use crate::commands::{Run, each};
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::output;

/// Start the containers whose restart policy says so: for when the machine has come up.
#[derive(Debug, Parser)]
#[command(name = "system start")]
pub(crate) struct Start {}

/// Stop all containers; those with a restart policy come back with the machine.
#[derive(Debug, Parser)]
#[command(name = "system stop")]
pub(crate) struct Stop {}

/// Have systemd start the containers that come back, and stop all when the machine goes down.
#[derive(Debug, Parser)]
#[command(name = "system enable")]
pub(crate) struct Enable {
    /// Print the unit instead of installing it
    #[arg(long)]
    print: bool,
}

/// Take that back: the containers go on, and do not come back with the machine.
#[derive(Debug, Parser)]
#[command(name = "system disable")]
pub(crate) struct Disable {}

impl Run for Start {
    fn run(self, context: &Context) -> Result<u8> {
        say(context.engine()?.start_all()?)
    }
}

impl Run for Stop {
    fn run(self, context: &Context) -> Result<u8> {
        say(context.engine()?.stop_all()?)
    }
}

impl Run for Enable {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        if self.print {
            return output::text(&engine.unit()?).map(|()| 0);
        }
        output::line(&engine.enable_unit()?.display().to_string()).map(|()| 0)
    }
}

impl Run for Disable {
    fn run(self, context: &Context) -> Result<u8> {
        context.engine()?.disable_unit()?;
        Ok(0)
    }
}

/// The names of those that were, and what hindered the others.
fn say(done: Vec<Done>) -> Result<u8> {
    let mut code = 0;
    for (name, outcome) in done {
        match outcome {
            Ok(()) => output::line(&name)?,
            Err(error) => {
                each::complain(&Error::Engine(error));
                code = 1;
            }
        }
    }
    Ok(code)
}
