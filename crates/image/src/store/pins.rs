//! Pins: names and ids that eviction leaves alone. `names/pins/`, a file each, beside the names of images.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base::fs::{self, Durability};

use super::{Result, Store, file_name};

impl Store {
    /// Pins a canonical reference or an image's id. False if it was pinned.
    pub fn pin(&self, what: &str) -> Result<bool> {
        let path = self.pins_dir().join(file_name(what));
        if path.exists() {
            return Ok(false);
        }
        fs::create_dir_all(&self.pins_dir(), 0o700)?;
        fs::write_atomic(&path, what.as_bytes(), Durability::Synced)?;
        Ok(true)
    }

    /// Takes a pin away. False if there was none.
    pub fn unpin(&self, what: &str) -> Result<bool> {
        Ok(fs::remove_file(&self.pins_dir().join(file_name(what)))?)
    }

    /// All that is pinned.
    pub fn pins(&self) -> Result<BTreeSet<String>> {
        let mut pins = BTreeSet::new();
        for name in fs::names(&self.pins_dir())? {
            let content = fs::read_if_exists(&self.pins_dir().join(name))?;
            pins.extend(content.map(|text| String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(pins)
    }

    fn pins_dir(&self) -> PathBuf {
        self.names.with_file_name("pins")
    }
}
