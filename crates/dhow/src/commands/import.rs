//! `dhow import`.

use clap::Parser;
use engine::{ImportOptions, ImportSource};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{output, progress, terminal};

/// Make an image of a tar archive of a file system.
#[derive(Debug, Parser)]
#[command(name = "import")]
pub(crate) struct Arguments {
    /// Apply this instruction of a Dockerfile to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Say what for
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The platform that it is for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// The archive: a file, an address on the web, or - for standard input
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// The new image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let source = match &*self.source {
            "-" if terminal::stdin_is_terminal() => {
                return Err(Error::Usage {
                    message: "import: standard input is a terminal, not an archive".to_owned(),
                    hints: vec!["name a file, or pipe one in".to_owned()],
                });
            }
            "-" => ImportSource::Stdin,
            url if url.starts_with("http://") || url.starts_with("https://") => {
                ImportSource::Url(url.to_owned())
            }
            path => ImportSource::Path(path.into()),
        };
        let options = ImportOptions {
            reference: self.name,
            message: self.message,
            changes: self.change,
            platform: self.platform,
        };
        let id = context.engine()?.import(&source, &options, &*progress::choose(true))?;
        output::line(&id.to_string())?;
        Ok(0)
    }
}
