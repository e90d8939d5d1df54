//! `dhow pull`.

use clap::Parser;
use engine::{PullOptions, PullStatus};

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{output, progress};

/// Fetch an image from a registry.
#[derive(Debug, Parser)]
#[command(name = "pull")]
pub(crate) struct Arguments {
    /// Print the image's name only
    #[arg(short, long)]
    quiet: bool,
    /// Fetch the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Fetch the images for all other platforms, too
    #[arg(long)]
    all_platforms: bool,
    /// Fetch all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The image
    image: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let options = PullOptions { platform: self.platform, all_platforms: self.all_platforms };
        let progress = progress::choose(self.quiet);
        let mut all = Vec::new();
        let done = if self.all_tags {
            engine.pull_all_tags(&self.image, &options, &*progress, |pulled| all.push(pulled.clone()))
        } else {
            engine.pull(&self.image, &options, &*progress).map(|pulled| all.push(pulled))
        };
        // Bars make room for what follows.
        drop(progress);
        for pulled in all {
            if !self.quiet {
                let status = match pulled.status {
                    PullStatus::UpToDate => "Image is up to date for",
                    PullStatus::Newer => "Downloaded newer image for",
                };
                output::line(&format!("Digest: {}\nStatus: {status} {}", pulled.digest, pulled.reference))?;
            }
            output::line(&pulled.reference)?;
        }
        done?;
        Ok(0)
    }
}
