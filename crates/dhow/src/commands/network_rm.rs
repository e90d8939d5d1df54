//! `dhow network rm`.

use base::Kind;
use clap::Parser;

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Remove networks.
#[derive(Debug, Parser)]
#[command(name = "network rm")]
pub(crate) struct Arguments {
    /// Do not mind those that are not there
    #[arg(short, long)]
    force: bool,
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        each::one_by_one(&self.names, |name| match engine.remove_network(name) {
            // As Docker: not a word, unlike `volume rm`.
            Err(e) if self.force && e.kind() == Kind::NotFound => Ok(String::new()),
            other => other.map(|_| name.to_owned()),
        })
    }
}
