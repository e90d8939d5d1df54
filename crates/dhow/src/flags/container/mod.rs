//! The flags of `run` and `create`: a group a file, each of which says what it asks of a container.

mod attach;
mod confinement;
mod files;
mod health;
mod life;
mod limits;
mod logging;
mod meaningless;
mod network;
mod process;
mod rare;
mod surroundings;

use std::path::PathBuf;

use clap::Args;
use engine::PullPolicy;
use state::options::{Attach, ContainerOptions};

use self::rare::Rare;
use crate::error::Result;

pub(crate) use self::rare::LeftOut;

/// All of them, and the words behind them.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct ContainerFlags {
    /// Keep standard input open
    #[arg(short, long, help_heading = "Running")]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long, help_heading = "Running")]
    pub(crate) tty: bool,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"], help_heading = "Running")]
    pull: String,
    /// Do not show the progress of a pull
    #[arg(short, long, help_heading = "Running")]
    pub(crate) quiet: bool,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub(crate) cidfile: Option<PathBuf>,
    #[command(flatten)]
    attach: Rare<attach::Flags>,
    /// Nobody is attached, whatever is asked.
    #[arg(skip)]
    pub(crate) detached: bool,
    #[command(flatten)]
    life: life::Flags,
    #[command(flatten)]
    health: Rare<health::Flags>,
    #[command(flatten)]
    process: process::Flags,
    #[command(flatten)]
    files: files::Flags,
    #[command(flatten)]
    network: network::Flags,
    #[command(flatten)]
    limits: Rare<limits::Flags>,
    #[command(flatten)]
    confinement: confinement::Flags,
    #[command(flatten)]
    surroundings: Rare<surroundings::Flags>,
    #[command(flatten)]
    logging: Rare<logging::Flags>,
    #[command(flatten)]
    meaningless: Rare<meaningless::Flags>,
    /// Use the image for this platform: linux/arm64
    #[arg(long, value_name = "PLATFORM", help_heading = "Running")]
    platform: Option<String>,

    /// Print this
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// The image, and the command with its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "IMAGE")]
    words: Vec<String>,
}

impl ContainerFlags {
    /// When to pull the image.
    pub(crate) fn pull(&self) -> PullPolicy {
        match self.pull.as_str() {
            "always" => PullPolicy::Always,
            "never" => PullPolicy::Never,
            _ => PullPolicy::Missing,
        }
    }

    /// Whether `-a` is among them.
    pub(crate) fn ask_to_attach(&self) -> bool {
        self.attach.0.as_ref().is_some_and(|flags| flags.asked().is_some())
    }

    /// The streams that whoever runs it is attached to: unless it is said, all that are open.
    pub(crate) fn streams(&self) -> Attach {
        if self.detached {
            return Attach::default();
        }
        let all = Attach { stdin: self.interactive, stdout: true, stderr: true };
        self.attach.0.as_ref().and_then(attach::Flags::asked).unwrap_or(all)
    }

    /// What they ask for.
    pub(crate) fn options(self) -> Result<ContainerOptions> {
        if let Some(flags) = &self.meaningless.0 {
            flags.check()?;
        }
        let attach = self.streams();
        let mut words = self.words.into_iter();
        let mut options = ContainerOptions {
            image: words.next().unwrap_or_default(),
            command: words.collect(),
            tty: self.tty,
            interactive: self.interactive,
            attach,
            platform: self.platform.filter(|platform| !platform.is_empty()),
            ..ContainerOptions::default()
        };
        self.life.apply(&mut options);
        if let Some(flags) = self.health.0 {
            flags.apply(&mut options);
        }
        self.process.apply(&mut options)?;
        self.files.apply(&mut options);
        self.network.apply(&mut options)?;
        if let Some(flags) = self.limits.0 {
            flags.apply(&mut options);
        }
        self.confinement.apply(&mut options)?;
        if let Some(flags) = self.surroundings.0 {
            flags.apply(&mut options)?;
        }
        if let Some(flags) = self.logging.0 {
            flags.apply(&mut options)?;
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests;
