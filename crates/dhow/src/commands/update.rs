//! `dhow update`.

use clap::Parser;

use crate::commands::create::warn;
use crate::commands::{Run, each};
use crate::error::{Error, Result};
use crate::flags::limits::LimitFlags;
use crate::flags::restart::Restart;
use crate::globals::Context;

/// Change the limits of containers, at once where they run.
#[derive(Debug, Parser)]
#[command(name = "update")]
pub(crate) struct Arguments {
    #[command(flatten)]
    limits: LimitFlags,
    /// What to do when they end: no, on-failure:MOST, always or unless-stopped
    #[arg(long, value_name = "POLICY", help_heading = "Running")]
    restart: Option<Restart>,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let asked = self.limits.any();
        let changes = self.limits.changes();
        // As with Docker, 0 asks for nothing, and that is no error.
        if !asked && self.restart.is_none() {
            return Err(Error::Flag {
                message: "update: nothing is to be changed".to_owned(),
                hints: vec!["give at least one flag: see `dhow update --help`".to_owned()],
            });
        }
        let engine = context.engine()?;
        each::one_by_one(&self.containers, |name| {
            if !changes.is_empty() {
                warn(&engine.update(name, &changes)?);
            }
            if let Some(Restart(policy)) = self.restart {
                engine.set_restart_policy(name, policy)?;
            }
            Ok(name.to_owned())
        })
    }
}
