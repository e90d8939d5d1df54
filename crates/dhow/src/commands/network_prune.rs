//! `dhow network prune`.

use clap::Parser;

use crate::commands::{Run, confirm};
use crate::error::Result;
use crate::flags::filter::Filters;
use crate::flags::selection;
use crate::globals::Context;
use crate::output;

/// Remove networks that no running container is on.
#[derive(Debug, Parser)]
#[command(name = "network prune")]
pub(crate) struct Arguments {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let which = selection::of(&Filters::parse(&self.filter, &selection::KEYS)?)?;
        let warning = "WARNING! This will remove all custom networks not used by at least one container.";
        if !self.force && !confirm::ask(warning)? {
            return Ok(0);
        }
        list(&context.engine()?.prune_networks(&which)?)?;
        Ok(0)
    }
}

/// What has gone, as Docker lists it.
pub(super) fn list(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    output::line("Deleted Networks:")?;
    for name in names {
        output::line(name)?;
    }
    output::line("")
}
