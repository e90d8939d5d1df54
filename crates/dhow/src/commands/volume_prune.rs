//! `dhow volume prune`.

use clap::Parser;
use engine::VolumePruneOptions;

use crate::commands::{Run, confirm};
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::flags::selection;
use crate::globals::Context;
use crate::{human, output};

/// Remove volumes that no container has.
#[derive(Debug, Parser)]
#[command(name = "volume prune")]
pub(crate) struct Arguments {
    /// Those with a name, too, not only anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those: label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let keys = [&["all"][..], &selection::KEYS].concat();
        let filters = Filters::parse(&self.filter, &keys)?;
        let options = VolumePruneOptions {
            all: self.all || filters.values("all").any(|v| matches!(v, "1" | "true")),
            which: selection::of(&filters)?,
        };
        let warning = if options.all {
            "WARNING! This will remove all local volumes not used by at least one container."
        } else {
            "WARNING! This will remove anonymous local volumes not used by at least one container."
        };
        if !self.force && !confirm::ask(warning)? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_volumes(&options).map_err(Error::Engine)?;
        list(&pruned.removed)?;
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed, 4)))?;
        Ok(0)
    }
}

/// What has gone, as Docker lists it.
pub(super) fn list(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    output::line("Deleted Volumes:")?;
    for name in names {
        output::line(name)?;
    }
    output::line("")
}
