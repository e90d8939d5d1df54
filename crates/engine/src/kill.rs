//! `kill`: a signal for a container's init.

use crate::Engine;
use crate::error::{Result, unbuilt};

impl Engine {
    /// Sends `signal` (`KILL`, `SIGHUP`, `9`).
    pub fn kill(&self, _name: &str, _signal: &str) -> Result<()> {
        Err(unbuilt("kill"))
    }
}
