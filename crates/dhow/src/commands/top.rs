//! `dhow top`.

use clap::Parser;

use crate::commands::Run;
use crate::error::Result;
use crate::globals::Context;
use crate::{output, table};

/// Show the processes of a container.
#[derive(Debug, Parser)]
#[command(name = "top")]
pub(crate) struct Arguments {
    /// The container
    container: String,
    /// Options for ps, which prints other columns then
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// What Docker pads every column to.
const WIDTH: usize = 20;

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let processes = context.engine()?.top(&self.container, &self.options)?;
        let rows = std::iter::once(&processes.titles).chain(&processes.rows);
        let lines: Vec<String> = rows.map(|row| row.join("\t")).collect();
        output::text(&table::align_wide(&lines, WIDTH))?;
        Ok(0)
    }
}
