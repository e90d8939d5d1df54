//! `dhow wait`.

use clap::Parser;

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Wait until containers have ended, and print their exit codes.
#[derive(Debug, Parser)]
#[command(name = "wait")]
pub(crate) struct Arguments {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        each::at_once(&self.containers, |name| engine.wait(name).map(|code| code.to_string()))
    }
}
