//! `dhow pause` and `dhow unpause`.

use clap::Parser;

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Make containers stand still.
#[derive(Debug, Parser)]
#[command(name = "pause")]
pub(crate) struct Pause {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Let paused containers go on.
#[derive(Debug, Parser)]
#[command(name = "unpause")]
pub(crate) struct Unpause {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Pause {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        each::at_once(&self.containers, |name| engine.pause(name).map(|()| name.to_owned()))
    }
}

impl Run for Unpause {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        each::at_once(&self.containers, |name| engine.unpause(name).map(|()| name.to_owned()))
    }
}
