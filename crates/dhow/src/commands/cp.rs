//! `dhow cp`.

use std::ffi::OsString;
use std::fs::File;

use clap::Parser;
use engine::CopyOptions;

use crate::commands::{Run, save};
use crate::error::{Error, Result};
use crate::flags::copy_end::{self, Written};
use crate::globals::Context;
use crate::{human, output, progress, terminal};

/// Copy files between a container and the host.
#[derive(Debug, Parser)]
#[command(name = "cp")]
pub(crate) struct Arguments {
    /// Keep user and group of what is copied
    #[arg(short, long)]
    archive: bool,
    /// Copy what a symbolic link at the source leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing of how far it is (so it is where standard output is no terminal)
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    quiet: Option<bool>,
    /// What is copied: CONTAINER:PATH, PATH, or - for an archive from standard input
    source: OsString,
    /// Where to: CONTAINER:PATH, PATH, or - for an archive to standard output
    destination: OsString,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let quiet = self.quiet.unwrap_or_else(|| !rustix::termios::isatty(rustix::stdio::stdout()));
        let (source, destination) = (copy_end::parse(&self.source), copy_end::parse(&self.destination));
        let tell = !quiet && destination != Written::Stream;
        let from = source.open(standard_input)?;
        let to = destination.open(standard_output)?;
        let options = CopyOptions { keep_owner: self.archive, follow: self.follow_link };
        let shown = progress::on_terminal(!tell);
        let copied = context.engine()?.copy(from, to, options, &*shown)?;
        drop(shown);
        if copied.devices > 0 {
            output::talk(&format!(
                "dhow: {} left out: devices of a container are not made on the host",
                if copied.devices == 1 {
                    "a device was".to_owned()
                } else {
                    format!("{} devices were", copied.devices)
                }
            ));
        }
        if tell {
            let size = human::size(copied.bytes, 3);
            output::talk(&format!("Successfully copied {size} to {}", self.destination.display()));
        }
        Ok(0)
    }
}

/// Standard output as a file, unless somebody would have to read the archive.
fn standard_output() -> Result<File> {
    save::standard_output("cp", "an archive").map_err(|error| match error {
        Error::Usage { message, .. } => {
            let hints = vec!["redirect the output, or name a path of the host instead of -".to_owned()];
            Error::Usage { message, hints }
        }
        other => other,
    })
}

/// Standard input as a file, unless somebody would have to type the archive.
fn standard_input() -> Result<File> {
    if terminal::stdin_is_terminal() {
        return Err(Error::Usage {
            message: "cp: standard input is a terminal, not an archive".to_owned(),
            hints: vec!["pipe an archive in: tar -c … | dhow cp - CONTAINER:PATH".to_owned()],
        });
    }
    let own = rustix::stdio::stdin().try_clone_to_owned();
    own.map(File::from).map_err(|source| Error::File { action: "read", path: "-".to_owned(), source })
}
