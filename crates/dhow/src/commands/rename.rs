//! `dhow rename`.

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;

/// Give a container another name.
#[derive(Debug, Parser)]
#[command(name = "rename")]
pub(crate) struct Arguments {
    /// The container
    container: String,
    /// Its new name
    new_name: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        context.engine()?.rename(&self.container, &self.new_name)?;
        Ok(0)
    }
}
