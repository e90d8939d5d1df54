//! `volume rm`.

use crate::Engine;
use crate::error::Result;

impl Engine {
    /// Removes a volume that no container has.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        // What died may hold it: its record goes, or it is as it should be.
        self.reconcile()?;
        Ok(self.volume_store().remove(name)?)
    }
}
