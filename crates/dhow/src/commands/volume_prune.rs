//! `dhow volume prune`.

use clap::Parser;
use engine::VolumePruneOptions;

use crate::commands::{Run, confirm};
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
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
        let options = self.options()?;
        let warning = if options.all {
            "WARNING! This will remove all local volumes not used by at least one container."
        } else {
            "WARNING! This will remove anonymous local volumes not used by at least one container."
        };
        if !self.force && !confirm::ask(warning)? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_volumes(&options).map_err(Error::Engine)?;
        if !pruned.removed.is_empty() {
            output::line("Deleted Volumes:")?;
            for name in &pruned.removed {
                output::line(name)?;
            }
            output::line("")?;
        }
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed, 4)))?;
        Ok(0)
    }
}

impl Arguments {
    fn options(&self) -> Result<VolumePruneOptions> {
        // `label!=x` is the key `label!`.
        let filters = Filters::parse(&self.filter, &["all", "label", "label!"])?;
        let label = |text: &str| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        Ok(VolumePruneOptions {
            all: self.all || filters.values("all").any(|v| matches!(v, "1" | "true")),
            labels: filters.values("label").map(label).collect(),
            without_labels: filters.values("label!").map(label).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_options() {
        let filter = ["all=1", "label=a", "label!=b=c"].map(str::to_owned).to_vec();
        let options = Arguments { all: false, force: true, filter }.options().unwrap();
        assert!(options.all);
        assert_eq!(options.labels, [("a".to_owned(), None)]);
        assert_eq!(options.without_labels, [("b".to_owned(), Some("c".to_owned()))]);
        let bad = Arguments { all: false, force: true, filter: vec!["name=x".to_owned()] };
        assert_eq!(bad.options().unwrap_err().exit_code(), 125);
    }
}
