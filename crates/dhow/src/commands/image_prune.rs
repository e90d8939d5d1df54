//! `dhow image prune`.

use clap::Parser;
use engine::{PruneOptions, Removed};

use crate::commands::{Run, confirm};
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::flags::time::When;
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
        let options = self.options()?;
        let warning = if self.all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if !self.force && !confirm::ask(warning)? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_images(&options)?;
        if !pruned.removed.is_empty() {
            output::line("Deleted Images:")?;
            for removed in &pruned.removed {
                output::line(&match removed {
                    Removed::Untagged(name) => format!("untagged: {name}"),
                    Removed::Deleted(digest) => format!("deleted: {digest}"),
                })?;
            }
            output::line("")?;
        }
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed, 4)))?;
        Ok(0)
    }
}

impl Arguments {
    fn options(&self) -> Result<PruneOptions> {
        // `label!=x` is the key `label!`.
        let filters = Filters::parse(&self.filter, &["until", "label", "label!"])?;
        let mut options = PruneOptions { all: self.all, ..PruneOptions::default() };
        for text in filters.values("until") {
            let When(time) = text
                .parse()
                .map_err(|e| Error::flag(format!("invalid value 'until={text}' for '--filter': {e}")))?;
            options.until = Some(options.until.map_or(time, |earlier| earlier.min(time)));
        }
        let label = |text: &str| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        options.labels.extend(filters.values("label").map(label));
        options.without_labels.extend(filters.values("label!").map(label));
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_options() {
        let filter = ["until=100.0", "until=50.0", "label=a", "label!=b=c"].map(str::to_owned).to_vec();
        let options = Arguments { all: true, force: true, filter }.options().unwrap();
        assert_eq!(options.until.map(|t| t.0), Some(50_000_000_000));
        assert_eq!(options.labels, [("a".to_owned(), None)]);
        assert_eq!(options.without_labels, [("b".to_owned(), Some("c".to_owned()))]);
        let bad = Arguments { all: false, force: true, filter: vec!["until=x".to_owned()] };
        assert_eq!(bad.options().unwrap_err().exit_code(), 125);
    }
}
