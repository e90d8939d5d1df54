//! `stop`: a container is asked to end, and made to after a while.

use crate::Engine;
use crate::error::{Result, unbuilt};

impl Engine {
    /// Stops a container; fine if it does not run. `timeout` in seconds and `signal` (`SIGTERM`, `15`) as the
    /// container says where they are none.
    pub fn stop(&self, _name: &str, _timeout: Option<u64>, _signal: Option<&str>) -> Result<()> {
        Err(unbuilt("stop"))
    }
}
