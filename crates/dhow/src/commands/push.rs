//! `dhow push`.

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{output, progress};

/// Send an image to a registry.
#[derive(Debug, Parser)]
#[command(name = "push")]
pub(crate) struct Arguments {
    /// Push all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print the image's name only
    #[arg(short, long)]
    quiet: bool,
    /// The image, by the name that it has at the registry
    image: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let progress = progress::choose(self.quiet);
        let mut all = Vec::new();
        let done = if self.all_tags {
            engine.push_all_tags(&self.image, &*progress, |pushed| all.push(pushed.clone()))
        } else {
            engine.push(&self.image, &*progress).map(|pushed| all.push(pushed))
        };
        // Bars make room for what follows.
        drop(progress);
        for pushed in all {
            if self.quiet {
                output::line(&pushed.reference)?;
            } else {
                output::line(&format!("{}: digest: {} size: {}", pushed.tag, pushed.digest, pushed.size))?;
            }
        }
        done?;
        Ok(0)
    }
}
