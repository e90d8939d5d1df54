//! `dhow volume inspect`.

use clap::Parser;

use crate::commands::Run;
use crate::commands::inspect::{self, Kind, What};
use crate::error::Result;
use crate::globals::Context;

/// Show all that is known of volumes.
#[derive(Debug, Parser)]
#[command(name = "volume inspect")]
pub(crate) struct Arguments {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let what = What { kind: Some(Kind::Volume), size: false };
        inspect::show(&context.engine()?, &self.names, what, self.format.as_deref())
    }
}
