//! `dhow network inspect`.

use clap::Parser;

use crate::commands::Run;
use crate::commands::inspect::{self, Kind, What};
use crate::error::Result;
use crate::globals::Context;

/// Show all that is known of networks.
#[derive(Debug, Parser)]
#[command(name = "network inspect")]
pub(crate) struct Arguments {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Docker's, and all that there is: nothing more is known
    #[arg(short, long, hide = true)]
    verbose: bool,
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let what = What { kind: Some(Kind::Network), size: false };
        inspect::show(&context.engine()?, &self.names, what, self.format.as_deref())
    }
}
