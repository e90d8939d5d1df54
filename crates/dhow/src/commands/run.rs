//! `dhow run`.

use clap::Parser;
use engine::StartHow;

use crate::attached::{self, End, How, Signals};
use crate::commands::Run;
use crate::commands::create::{check_terminal, create, warn};
use crate::detach_keys::DetachKeys;
use crate::error::{Error, Result};
use crate::flags::container::ContainerFlags;
use crate::globals::Context;
use crate::output;

/// Create and start a container from an image.
#[derive(Debug, Parser)]
#[command(
    name = "run",
    override_usage = "dhow run [FLAGS] IMAGE [COMMAND] [ARGUMENT…]",
    disable_help_flag = true
)]
pub(crate) struct Arguments {
    /// Leave it running in the background and print its id
    #[arg(short, long, help_heading = "Running")]
    detach: bool,
    /// The keys that leave it running and return
    #[arg(long, value_name = "KEYS", help_heading = "Running")]
    detach_keys: Option<DetachKeys>,
    /// Pass signals on to it (where it has no terminal)
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Running")]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let mut flags = self.flags;
        if self.detach && flags.ask_to_attach() {
            return Err(Error::Usage {
                message: "run: --attach and --detach exclude each other".to_owned(),
                hints: vec!["leave one of them out".to_owned()],
            });
        }
        flags.detached = self.detach;
        let tty = flags.tty;
        let mut streams = flags.streams();
        check_terminal(tty, streams.stdin)?;
        // What is not kept open takes nothing.
        streams.stdin &= flags.interactive;
        let how = How {
            tty,
            streams,
            sig_proxy: self.sig_proxy,
            detach: tty.then(|| self.detach_keys.unwrap_or_default()),
        };
        let (engine, created) = create(flags, context)?;
        let id = created.id.to_string();
        if streams.is_none() {
            let session = engine.start(created, StartHow { attach: false }).map_err(Error::Starting)?;
            warn(session.warnings());
            return output::line(&id).map(|()| 0);
        }
        // From here on a signal is the container's, not ours.
        let signals = Signals::catch()?;
        let session = engine.start(created, StartHow { attach: true }).map_err(Error::Starting)?;
        context.trace("the command runs");
        if !streams.stdout && !streams.stderr {
            // Only the input is given to it: what becomes of it is to be found by this.
            output::line(&id)?;
        }
        let end = attached::run(session, &signals, how)?;
        context.trace("the command has ended");
        if end == End::Lost {
            // The records know more: whoever reads them puts right what a dead monitor has left.
            let code = engine.wait(&id).map_err(|_| Error::Lost)?;
            output::talk("dhow: warning: the container's monitor has died, and the container with it");
            return Ok(code as u8);
        }
        end.exit_code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::arguments::parse;

    #[test]
    fn signals_are_passed_on_unless_told_otherwise() {
        let sig_proxy = |line: &str| {
            let words = line.split_whitespace().map(Into::into).collect();
            parse::<Arguments>("run", words).unwrap().unwrap().sig_proxy
        };
        assert!(
            sig_proxy("image") && sig_proxy("--sig-proxy image") && !sig_proxy("--sig-proxy=false image")
        );
    }
}
