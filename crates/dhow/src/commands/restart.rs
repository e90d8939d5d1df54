//! `dhow restart`.

use clap::Parser;

use crate::commands::stop::patience;
use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Stop containers and start them again.
#[derive(Debug, Parser)]
#[command(name = "restart")]
pub(crate) struct Arguments {
    /// Send this signal first
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before it is killed (-1: for ever)
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS")]
    timeout: Option<i64>,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let timeout = self.timeout.map(patience);
        each::at_once(&self.containers, |name| {
            engine.restart(name, timeout, self.signal.as_deref()).map(|()| name.to_owned())
        })
    }
}
