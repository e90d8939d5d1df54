//! `dhow container prune`.

use base::Id;
use clap::Parser;

use crate::commands::{Run, confirm};
use crate::error::Result;
use crate::flags::filter::Filters;
use crate::flags::selection;
use crate::globals::Context;
use crate::{human, output};

/// Remove the containers that do not run.
#[derive(Debug, Parser)]
#[command(name = "container prune")]
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
        if !self.force && !confirm::ask("WARNING! This will remove all stopped containers.")? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_containers(&which)?;
        list(&pruned.ids)?;
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed, 4)))?;
        Ok(0)
    }
}

/// What has gone, as Docker lists it.
pub(super) fn list(ids: &[Id]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    output::line("Deleted Containers:")?;
    for id in ids {
        output::line(id.as_str())?;
    }
    output::line("")
}
