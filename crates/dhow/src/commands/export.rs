//! `dhow export`.

use std::path::PathBuf;

use clap::Parser;
use engine::ExportTarget;

use crate::commands::{Run, save};
use crate::error::Result;
use crate::globals::Context;

/// Write a container's file system as a tar archive.
#[derive(Debug, Parser)]
#[command(name = "export")]
pub(crate) struct Arguments {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    container: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let target = match self.output {
            Some(path) => ExportTarget::Path(path),
            None => ExportTarget::File(save::standard_output("export", "an archive")?),
        };
        context.engine()?.export(&self.container, &target)?;
        Ok(0)
    }
}
