//! `dhow completion`.

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{completion, output};

/// Print a script that makes a shell complete dhow's commands, flags and names.
#[derive(Debug, Parser)]
#[command(name = "completion")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

impl Run for Arguments {
    fn run(self, _: &Context) -> Result<u8> {
        output::text(match self.shell.as_str() {
            "zsh" => completion::ZSH,
            "fish" => completion::FISH,
            _ => completion::BASH,
        })?;
        Ok(0)
    }
}
