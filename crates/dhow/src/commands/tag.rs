//! `dhow tag`.

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;

/// Give an image one more name.
#[derive(Debug, Parser)]
#[command(name = "tag")]
pub(crate) struct Arguments {
    /// The image
    source: String,
    /// The new name
    target: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        context.engine()?.tag(&self.source, &self.target)?;
        Ok(0)
    }
}
