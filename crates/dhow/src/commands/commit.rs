//! `dhow commit`.

use clap::Parser;
use engine::CommitOptions;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{output, progress};

/// Make an image of what a container has changed.
#[derive(Debug, Parser)]
#[command(name = "commit")]
pub(crate) struct Arguments {
    /// Say who made it
    #[arg(short, long, value_name = "NAME", default_value = "")]
    author: String,
    /// Apply this instruction of a Dockerfile to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Say what for
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Let the container stand still meanwhile (it does; =false: it does not)
    #[arg(short, long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true")]
    pause: bool,
    /// The container
    container: String,
    /// The new image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let options = CommitOptions {
            reference: self.name,
            author: self.author,
            message: self.message,
            changes: self.change,
            pause: self.pause,
        };
        let id = context.engine()?.commit(&self.container, &options, &*progress::choose(true))?;
        output::line(&id.to_string())?;
        Ok(0)
    }
}
