//! `dhow help`.

use clap::Parser;

use crate::commands::{Run, find};
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{help, output};

/// Show help on a command.
#[derive(Debug, Parser)]
#[command(name = "help")]
pub(crate) struct Arguments {
    /// The command
    command: Option<String>,
}

impl Run for Arguments {
    fn run(self, _: &Context) -> Result<u8> {
        let text = match &self.command {
            None => help::overview(),
            Some(name) => match find(name) {
                Some(verb) => help::of(verb.name, (verb.tree)()),
                None => {
                    return Err(Error::Usage {
                        message: format!("unknown command: {name}"),
                        hints: vec!["see `dhow --help`".to_owned()],
                    });
                }
            },
        };
        output::text(&text).map(|()| 0)
    }
}
