//! `dhow system prune`.

use clap::Parser;
use engine::SystemPruneOptions;

use crate::commands::{Run, builder, confirm, container_prune, image_prune, network_prune, volume_prune};
use crate::error::Result;
use crate::flags::filter::Filters;
use crate::flags::selection;
use crate::globals::Context;
use crate::{human, output};

/// Remove all that nobody uses: stopped containers, networks, images without a name.
#[derive(Debug, Parser)]
#[command(name = "system prune")]
pub(crate) struct Arguments {
    /// Every image that no container was made of, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Anonymous volumes, too
    #[arg(long)]
    volumes: bool,
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
        if !self.force && !confirm::ask(&self.warning())? {
            return Ok(0);
        }
        let options = SystemPruneOptions { all: self.all, volumes: self.volumes, which };
        let pruned = context.engine()?.prune_system(&options)?;
        container_prune::list(&pruned.containers.ids)?;
        network_prune::list(&pruned.networks)?;
        volume_prune::list(&pruned.volumes.removed)?;
        image_prune::list(&pruned.images.removed)?;
        builder::list(&pruned.build_cache.removed)?;
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed(), 4)))?;
        Ok(0)
    }
}

impl Arguments {
    fn warning(&self) -> String {
        let mut lines = vec![
            "WARNING! This will remove:",
            "  - all stopped containers",
            "  - all networks not used by at least one container",
        ];
        if self.volumes {
            lines.push("  - all anonymous volumes not used by at least one container");
        }
        lines.push(if self.all {
            "  - all images without at least one container associated to them"
        } else {
            "  - all dangling images"
        });
        lines.push("  - unused build cache");
        lines.join("\n") + "\n"
    }
}
