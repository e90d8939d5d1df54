//! `dhow top`: the processes of a container; without one, the screen of all ([`crate::top`]).

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{output, table, top};

/// Show the processes of a container, or all containers on a full screen.
#[derive(Debug, Parser)]
#[command(name = "top")]
pub(crate) struct Arguments {
    /// The container; without one all are shown, with their load, what they say and their processes, until q is pressed
    container: Option<String>,
    /// Options for ps, which prints other columns then
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// What Docker pads every column to.
const WIDTH: usize = 20;

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let Some(container) = &self.container else { return top::run(context) };
        let processes = context.engine()?.top(container, &self.options)?;
        let rows = std::iter::once(&processes.titles).chain(&processes.rows);
        let lines: Vec<String> = rows.map(|row| row.join("\t")).collect();
        output::text(&table::align_wide(&lines, WIDTH))?;
        Ok(0)
    }
}
