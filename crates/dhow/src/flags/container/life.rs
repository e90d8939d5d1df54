//! How it is called, how it ends, and what becomes of it.

use clap::Args;
use state::options::ContainerOptions;

use crate::flags::restart::Restart;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Remove it when it ends
    #[arg(long, help_heading = "Running")]
    rm: bool,
    /// Name it
    #[arg(long, help_heading = "Running")]
    name: Option<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long, help_heading = "Running")]
    init: bool,
    /// What to do when it ends: no, on-failure:MOST, always or unless-stopped
    #[arg(long, value_name = "POLICY", help_heading = "Running")]
    restart: Option<Restart>,
    /// The signal that asks it to stop
    #[arg(long, value_name = "SIGNAL", help_heading = "Running")]
    stop_signal: Option<String>,
    /// Seconds it has to stop
    #[arg(long, value_name = "SECONDS", help_heading = "Running")]
    stop_timeout: Option<u64>,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) {
        options.auto_remove = self.rm;
        options.name = self.name;
        options.init = self.init;
        options.restart = self.restart.map(|Restart(policy)| policy).unwrap_or_default();
        options.stop_signal = self.stop_signal;
        options.stop_timeout = self.stop_timeout;
    }
}
