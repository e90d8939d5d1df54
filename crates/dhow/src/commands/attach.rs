//! `dhow attach`.

use clap::Parser;

use crate::attached::{self, How, Signals};
use crate::commands::Run;
use crate::detach_keys::DetachKeys;
use crate::error::{Error, Result};
use crate::globals::Context;
use crate::terminal;

/// Attach to the input and output of a running container.
#[derive(Debug, Parser)]
#[command(name = "attach")]
pub(crate) struct Arguments {
    /// Do not pass standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to it (where it has no terminal)
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// The keys that leave it running and return
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// The container
    container: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let signals = Signals::catch()?;
        let (session, tty) = engine.attach(&self.container)?;
        if tty && !self.no_stdin && !terminal::stdin_is_terminal() {
            return Err(Error::NoTerminal);
        }
        let how = How {
            tty,
            streams: attached::all_streams(!self.no_stdin),
            sig_proxy: self.sig_proxy,
            detach: tty.then(|| self.detach_keys.unwrap_or_default()),
        };
        attached::run(session, &signals, how)?.exit_code()
    }
}
