//! How much a container may send and be sent on its networks.

use network::Bandwidth;
use state::container::Record;
use state::options::ContainerOptions;

use super::has_own;
use crate::Engine;
use crate::error::Result;

/// What the options say.
pub(crate) fn of(options: &ContainerOptions) -> Bandwidth {
    Bandwidth { incoming: options.limits.bandwidth_in, outgoing: options.limits.bandwidth_out }
}

impl Engine {
    /// Brings the limits of a container that runs into force. Nothing where it has no networks of its own.
    pub(crate) fn limit_bandwidth(&self, record: &Record) -> Result<()> {
        if !has_own(&record.options) {
            return Ok(());
        }
        let Some(run) = self.run_of(&record.id, &record.name)? else { return Ok(()) };
        let running = self.running(&record.id, run, &record.name)?;
        Ok(running.change().limit(of(&record.options))?)
    }
}
