//! `dhow help`.

use clap::Parser;

use crate::commands::{Run, find, translations};
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::{help, output};

/// Show help on a command.
#[derive(Debug, Parser)]
#[command(name = "help")]
pub(crate) struct Arguments {
    /// The command
    command: Vec<String>,
}

impl Run for Arguments {
    fn run(self, _: &Context) -> Result<u8> {
        let text = match &self.command[..] {
            [] => Some(help::overview()),
            [noun] if translations(noun).is_some() => Some(help::noun(noun)),
            [name] => find(name).map(|verb| help::of(verb.name, (verb.tree)())),
            [noun, name, ..] => below(noun, name),
        };
        match text {
            Some(text) => output::text(&text).map(|()| 0),
            None => Err(Error::Usage {
                message: format!("unknown command: {}", self.command.join(" ")),
                hints: vec!["see `dhow --help`".to_owned()],
            }),
        }
    }
}

fn below(noun: &str, name: &str) -> Option<String> {
    let (_, meant) = translations(noun)?.iter().find(|(known, _)| *known == name)?;
    let verb = find(meant.first()?)?;
    Some(help::of(&format!("{noun} {name}"), (verb.tree)()))
}
