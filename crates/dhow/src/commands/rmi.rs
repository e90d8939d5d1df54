//! `dhow rmi`.

use clap::Parser;
use engine::{RemoveImageOptions, Removed};

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Remove images.
#[derive(Debug, Parser)]
#[command(name = "rmi")]
pub(crate) struct Arguments {
    /// Remove all names of an image that is given by its id, and do not mind those that are not there
    #[arg(short, long)]
    force: bool,
    /// Leave what nothing needs any more to `image prune`
    #[arg(long)]
    no_prune: bool,
    /// Only what is for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let options =
            RemoveImageOptions { force: self.force, no_prune: self.no_prune, platform: self.platform };
        // In turn: what the second name's removal frees may depend on the first's.
        each::one_by_one(&self.images, |name| {
            let line = |removed| match removed {
                Removed::Untagged(name) => format!("Untagged: {name}"),
                Removed::Deleted(digest) => format!("Deleted: {digest}"),
            };
            let removed = engine.remove_image(name, &options);
            let lines = removed.map(|all| all.into_iter().map(line).collect::<Vec<_>>().join("\n"));
            each::unless_gone(lines, options.force)
        })
    }
}
