//! `dhow start`.

use base::Kind;
use clap::Parser;
use engine::StartHow;

use crate::attached::{self, End, How, Signals};
use crate::commands::create::{check_terminal, warn};
use crate::commands::{Run, each};
use crate::detach_keys::DetachKeys;
use crate::error::{Error, Result};
use crate::globals::Context;

/// Start containers that were created before, or have ended.
#[derive(Debug, Parser)]
#[command(name = "start")]
pub(crate) struct Arguments {
    /// Attach to its output and pass signals on to it
    #[arg(short, long)]
    attach: bool,
    /// Attach to its input, too
    #[arg(short, long)]
    interactive: bool,
    /// The keys that leave it running and return
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        if !self.attach && !self.interactive {
            let start = |name: &str| {
                if let Some(session) = engine.start_existing(name, StartHow::default())? {
                    warn(session.warnings());
                }
                Ok(name.to_owned())
            };
            let (free, joining) = engine.start_order(&self.containers);
            return Ok(each::at_once(&free, start)? | each::one_by_one(&joining, start)?);
        }
        let [name] = &self.containers[..] else {
            return Err(Error::flag("start can attach to one container only".to_owned()));
        };
        let signals = Signals::catch()?;
        let session = match engine.start_existing(name, StartHow { attach: true }) {
            Ok(Some(session)) => session,
            // It runs already: its streams are as good.
            Ok(None) => engine.attach(name)?.0,
            Err(error) if error.kind() == Kind::NotFound => return Err(Error::Engine(error)),
            Err(error) => return Err(Error::Starting(error)),
        };
        warn(session.warnings());
        let tty = session.has_terminal();
        check_terminal(tty, self.interactive)?;
        let how = How {
            tty,
            streams: attached::all_streams(self.interactive),
            sig_proxy: true,
            detach: tty.then(|| self.detach_keys.unwrap_or_default()),
        };
        match attached::run(session, &signals, how)? {
            End::Lost => Ok(engine.wait(name).map_err(|_| Error::Lost)? as u8),
            end => end.exit_code(),
        }
    }
}
