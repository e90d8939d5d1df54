//! `rm`: a container goes for good.

use crate::Engine;
use crate::error::{Result, unbuilt};

impl Engine {
    /// Removes a container; with `force`, a running one is killed first.
    pub fn remove(&self, _name: &str, _force: bool) -> Result<()> {
        Err(unbuilt("rm"))
    }
}
