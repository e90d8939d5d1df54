//! `dhow kill`.

use clap::Parser;

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Send a signal to running containers.
#[derive(Debug, Parser)]
#[command(name = "kill")]
pub(crate) struct Arguments {
    /// The signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        each::at_once(&self.containers, |name| engine.kill(name, &self.signal).map(|()| name.to_owned()))
    }
}
