//! `dhow __complete`: what shells ask.

use std::ffi::OsString;

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::{self, Context, Start};
use crate::{completion, output};

/// Print what the last word may become, one a line.
#[derive(Debug, Parser)]
#[command(name = "__complete", hide = true, disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The words so far
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Run for Arguments {
    fn run(mut self, context: &Context) -> Result<u8> {
        let last = self.words.pop().unwrap_or_default();
        // The words on the line may choose another root.
        let words = self.words.iter().map(OsString::from).collect();
        let candidates = match globals::parse(words) {
            Ok(Start::Verb(chosen, rest)) => {
                let rest: Vec<String> = rest.iter().map(|w| w.to_string_lossy().into_owned()).collect();
                completion::arguments(&chosen, &rest, &last)
            }
            _ => completion::verbs(&last),
        };
        context.trace("the candidates are found");
        output::text(&candidates.iter().flat_map(|c| [c.as_str(), "\n"]).collect::<String>())?;
        Ok(0)
    }
}
