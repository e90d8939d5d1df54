//! `dhow exec`.

use std::path::PathBuf;

use clap::Parser;
use engine::ExecOptions;

use crate::attached::{self, How, Signals};
use crate::commands::Run;
use crate::commands::create::starting;
use crate::detach_keys::DetachKeys;
use crate::error::{Error, Result};
use crate::flags::environment;
use crate::globals::Context;
use crate::terminal;

/// Run a command in a running container.
#[derive(Debug, Parser)]
#[command(name = "exec", override_usage = "dhow exec [FLAGS] CONTAINER COMMAND [ARGUMENT…]")]
pub(crate) struct Arguments {
    /// Leave it running in the background
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable, or pass yours on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the environment variables of a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Give it all capabilities and no system call filter
    #[arg(long)]
    privileged: bool,
    /// The keys that leave it running and return
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// The container, and the command with its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "CONTAINER")]
    words: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let mut words = self.words.into_iter();
        let container = words.next().unwrap_or_default();
        let command: Vec<String> = words.collect();
        if command.is_empty() {
            return Err(Error::Usage {
                message: "exec: missing COMMAND".to_owned(),
                hints: vec!["see `dhow exec --help`".to_owned()],
            });
        }
        if self.tty && self.interactive && !self.detach && !terminal::stdin_is_terminal() {
            return Err(Error::NoTerminal);
        }
        let options = ExecOptions {
            command,
            env: environment::resolve(&self.env_file, &self.env)?,
            user: self.user,
            working_dir: self.workdir,
            tty: self.tty,
            interactive: self.interactive && !self.detach,
            detach: self.detach,
            privileged: self.privileged,
        };
        let engine = context.engine().map_err(starting)?;
        let signals = Signals::catch()?;
        let session = engine.exec(&container, options).map_err(Error::Joining)?;
        context.trace("the command runs");
        if self.detach {
            return Ok(0);
        }
        let how = How {
            tty: self.tty,
            streams: attached::all_streams(self.interactive),
            sig_proxy: true,
            detach: self.tty.then(|| self.detach_keys.unwrap_or_default()),
        };
        attached::run(session, &signals, how)?.exit_code()
    }
}
