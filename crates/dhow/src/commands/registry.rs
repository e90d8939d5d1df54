//! `dhow registry`: becomes `dhow-serve`, the program with the servers, which stands beside this one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::globals::Context;

/// The program, beside the program that runs or in `../libexec/dhow`.
const PROGRAM: &str = "dhow-serve";

/// Serve images to others, as a registry: see `dhow registry serve --help`.
#[derive(Debug, Parser)]
#[command(name = "registry")]
pub(crate) struct Arguments {
    /// `serve`, and its flags
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "serve [FLAGS]"
    )]
    words: Vec<OsString>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let program = find()?;
        let mut command = Command::new(&program);
        command.args(context.words()).arg("registry").args(self.words);
        // Only a failure comes back.
        let source = command.exec();
        Err(Error::File { action: "start", path: program.display().to_string(), source })
    }
}

fn find() -> Result<PathBuf> {
    let failed = |source| Error::File { action: "find", path: PROGRAM.to_owned(), source };
    let me = std::env::current_exe().map_err(failed)?;
    let dir = me.parent().unwrap_or(Path::new("/"));
    let candidates = [dir.join(PROGRAM), dir.join("../libexec/dhow").join(PROGRAM)];
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| Error::Usage {
        message: format!("{PROGRAM} is neither beside {} nor in ../libexec/dhow", dir.display()),
        hints: vec!["install all of Dhow's programs together: cargo xtask install".to_owned()],
    })
}
