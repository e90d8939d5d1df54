//! `dhow save`.

use std::fs::File;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use engine::{SaveFormat, SaveTarget};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{output, progress, terminal};

/// Save images to an archive (docker-archive, oci-archive) or an OCI layout directory.
#[derive(Debug, Parser)]
#[command(name = "save")]
pub(crate) struct Arguments {
    /// Write to this file or directory instead of standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "docker-archive")]
    format: Format,
    /// Only images for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// The images; a repository means all its tags
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Docker's, which is an OCI archive too
    DockerArchive,
    /// An OCI layout in a tar archive
    OciArchive,
    /// An OCI layout as a directory
    OciDir,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let format = match self.format {
            Format::DockerArchive => SaveFormat::DockerArchive,
            Format::OciArchive => SaveFormat::OciArchive,
            Format::OciDir => SaveFormat::OciDirectory,
        };
        let to_file = self.output.is_some();
        let target = match self.output {
            Some(path) => SaveTarget::Path(path),
            None if format == SaveFormat::OciDirectory => {
                return Err(Error::Usage {
                    message: "save: a directory needs a name".to_owned(),
                    hints: vec!["name it with -o".to_owned()],
                });
            }
            None => SaveTarget::File(standard_output("save", "an archive")?),
        };
        // A log file need not know.
        let progress = progress::choose(!to_file || !terminal::stderr_is_terminal());
        context.engine()?.save(&self.images, format, self.platform.as_deref(), target, &*progress)?;
        Ok(0)
    }
}

/// Standard output as a file, unless it is a terminal.
pub(crate) fn standard_output(verb: &str, what: &str) -> Result<File> {
    let stdout = rustix::stdio::stdout();
    if rustix::termios::isatty(stdout) {
        return Err(Error::Usage {
            message: format!("{verb}: {what} is not written to a terminal"),
            hints: vec!["name a file with -o, or redirect the output".to_owned()],
        });
    }
    let own = stdout.try_clone_to_owned().map_err(Error::Output)?;
    output::blocking(&own);
    Ok(File::from(own))
}
