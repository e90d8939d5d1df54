//! `dhow network learned`.

use clap::{Parser, ValueEnum};

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::output;

/// Show what a container needed that was started with `--egress learn`.
#[derive(Debug, Parser)]
#[command(name = "network learned")]
pub(crate) struct Arguments {
    /// How: a rule on each line, flags for a command line, or a list for policy.toml
    #[arg(long, value_name = "FORM", default_value = "rules")]
    format: Form,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    container: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Rules,
    Flags,
    Toml,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let learned = context.engine()?.learned(&self.container)?;
        // Who needed nothing needs no more than that.
        let mut rules: Vec<String> = learned.rules.iter().map(ToString::to_string).collect();
        if rules.is_empty() {
            rules.push("deny".to_owned());
        }
        let text = match self.format {
            Form::Rules => rules.join("\n"),
            Form::Flags => {
                rules.iter().map(|rule| format!("--egress '{rule}'")).collect::<Vec<_>>().join(" ")
            }
            Form::Toml => {
                let quoted: Vec<String> = rules.iter().map(|rule| format!("\"{rule}\"")).collect();
                format!("\"{}\" = [{}]", self.container, quoted.join(", "))
            }
        };
        output::line(&text).map(|()| 0)
    }
}
