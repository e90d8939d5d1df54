//! `dhow container prune`.

use clap::Parser;
use engine::PruneContainers;

use crate::commands::{Run, confirm};
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::flags::time::When;
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
        let which = which(&Filters::parse(&self.filter, FILTERS)?)?;
        if !self.force && !confirm::ask("WARNING! This will remove all stopped containers.")? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_containers(&which)?;
        if !pruned.ids.is_empty() {
            output::line("Deleted Containers:")?;
            for id in &pruned.ids {
                output::line(id.as_str())?;
            }
            output::line("")?;
        }
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed, 4)))?;
        Ok(0)
    }
}

/// `label!=x` is the key `label!`.
pub(super) const FILTERS: &[&str] = &["until", "label", "label!"];

/// Which containers the filters want.
pub(super) fn which(filters: &Filters) -> Result<PruneContainers> {
    let mut which = PruneContainers::default();
    for text in filters.values("until") {
        let When(time) = text
            .parse()
            .map_err(|e| Error::flag(format!("invalid value 'until={text}' for '--filter': {e}")))?;
        which.until = Some(which.until.map_or(time, |earlier| earlier.min(time)));
    }
    let label = |text: &str| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    };
    which.labels.extend(filters.values("label").map(label));
    which.without_labels.extend(filters.values("label!").map(label));
    Ok(which)
}
