//! `dhow image prune`.

use clap::Parser;
use engine::{PruneOptions, Removed};

use crate::commands::{Run, confirm};
use crate::error::Result;
use crate::flags::filter::Filters;
use crate::flags::selection;
use crate::globals::Context;
use crate::{human, output};

/// Remove images that nobody uses.
#[derive(Debug, Parser)]
#[command(name = "image prune")]
pub(crate) struct Arguments {
    /// Every image that no container was made of, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, &selection::KEYS)?;
        let options = PruneOptions { all: self.all, which: selection::of(&filters)? };
        let warning = if self.all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if !self.force && !confirm::ask(warning)? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_images(&options)?;
        list(&pruned.removed)?;
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed, 4)))?;
        Ok(0)
    }
}

/// What has gone, as Docker lists it.
pub(super) fn list(removed: &[Removed]) -> Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    output::line("Deleted Images:")?;
    for removed in removed {
        output::line(&match removed {
            Removed::Untagged(name) => format!("untagged: {name}"),
            Removed::Deleted(digest) => format!("deleted: {digest}"),
        })?;
    }
    output::line("")
}
