//! `volume ls`: the volumes that are here, and who uses them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::{Id, Timestamp};
use volume::Volume;

use crate::Engine;
use crate::error::Result;

/// A line of `volume ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSummary {
    /// Its name.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Where its content is, on the host.
    pub mountpoint: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// It was made for one container, without a name.
    pub anonymous: bool,
    /// The containers that have it, running or not.
    pub users: Vec<Id>,
}

impl Engine {
    /// All volumes, by name.
    pub fn volumes(&self) -> Result<Vec<VolumeSummary>> {
        self.reconcile()?;
        let mut users = volume::users_of(&self.instance)?;
        let volumes = self.volume_store().list()?;
        Ok(volumes
            .into_iter()
            .map(|volume| {
                let users = users.remove(&volume.record.name).unwrap_or_default();
                summary(volume, users)
            })
            .collect())
    }
}

pub(crate) fn summary(volume: Volume, users: Vec<Id>) -> VolumeSummary {
    let Volume { record, mountpoint } = volume;
    VolumeSummary {
        name: record.name,
        driver: record.driver,
        mountpoint,
        created: record.created,
        labels: record.labels,
        options: record.options,
        anonymous: record.anonymous,
        users,
    }
}
