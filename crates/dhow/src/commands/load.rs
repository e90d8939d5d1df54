//! `dhow load`.

use std::path::PathBuf;

use clap::Parser;
use engine::LoadSource;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{output, progress, terminal};

/// Load images from an archive (docker save, OCI) or an OCI layout directory.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Arguments {
    /// Read this file or directory instead of standard input
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Load images for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Do not show progress
    #[arg(short, long)]
    quiet: bool,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let source = match self.input {
            Some(path) => LoadSource::Path(path),
            None if terminal::stdin_is_terminal() => {
                return Err(Error::Usage {
                    message: "load: standard input is a terminal, not an archive".to_owned(),
                    hints: vec!["name a file with -i, or pipe one in".to_owned()],
                });
            }
            None => LoadSource::Stdin,
        };
        let engine = context.engine()?;
        let progress = progress::choose(self.quiet);
        let loaded = engine.load(&source, self.platform.as_deref(), &*progress)?;
        drop(progress);
        for image in loaded {
            output::line(&match image.reference {
                Some(reference) => format!("Loaded image: {reference}"),
                None => format!("Loaded image ID: {}", image.id),
            })?;
        }
        Ok(0)
    }
}
