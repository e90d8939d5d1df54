//! `dhow rm`.

use clap::Parser;
use engine::RemoveOptions;

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Remove containers.
#[derive(Debug, Parser)]
#[command(name = "rm")]
pub(crate) struct Arguments {
    /// Kill those that run, and do not mind those that are not there
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let options = RemoveOptions { force: self.force, volumes: self.volumes };
        each::at_once(&self.containers, |name| {
            let removed = engine.remove_container(name, options).map(|()| name.to_owned());
            each::unless_gone(removed, self.force)
        })
    }
}
