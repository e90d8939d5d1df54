//! `dhow stop`.

use clap::Parser;

use crate::commands::{Run, each};
use crate::error::Result;
use crate::globals::Context;

/// Stop running containers.
#[derive(Debug, Parser)]
#[command(name = "stop")]
pub(crate) struct Arguments {
    /// Send this signal first
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before it is killed (-1: for ever)
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    time: Option<i64>,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Longer than anybody waits, and still far from overflowing any clock.
const FOR_EVER: u64 = u32::MAX as u64;

/// Seconds as they are given: a negative number is for ever.
pub(super) fn patience(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(FOR_EVER).min(FOR_EVER)
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let timeout = self.time.map(patience);
        each::at_once(&self.containers, |name| {
            engine.stop(name, timeout, self.signal.as_deref()).map(|()| name.to_owned())
        })
    }
}
