//! `volume create`.

use std::collections::BTreeMap;

use base::fs::Durability;
use volume::{ANONYMOUS_LABEL, New};

use crate::Engine;
use crate::error::Result;

/// A volume to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeOptions {
    /// Its name; none: an anonymous one.
    pub name: Option<String>,
    /// `local`, if it is said.
    pub driver: Option<String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a volume, unless it is there. Returns its name.
    pub fn create_volume(&self, options: &VolumeOptions) -> Result<String> {
        let anonymous = options.name.is_none();
        let mut labels = options.labels.clone();
        if anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let new = New {
            name: options.name.clone(),
            driver: options.driver.clone(),
            options: options.options.clone(),
            labels,
            anonymous,
        };
        let (volume, _) = self.volume_store().create(&new, Durability::Synced)?;
        Ok(volume.record.name)
    }
}
