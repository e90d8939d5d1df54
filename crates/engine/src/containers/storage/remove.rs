//! A container's anonymous volumes go with it, where that is asked for.
//!
//! A container that is removed lies in `removing/` first, where it is nobody's user any more; its volumes go then, and its
//! record at last. So whoever finds it there, because its remover was killed, knows what is still to be done.

use std::path::Path;

use base::Id;
use base::fs::{self, At};
use state::container::{Record, file};

use crate::Engine;
use crate::error::Result;

/// Beside a container's record: its volumes go with it (`rm -v`).
const WITH_VOLUMES: &str = "remove-volumes";

impl Engine {
    /// Its anonymous volumes shall go with it.
    pub(crate) fn mark_for_removal_with_volumes(&self, id: &Id) -> Result<()> {
        let dir = self.instance.container(id);
        let mark = dir.join(WITH_VOLUMES);
        // One more name of a file that is there: that needs no inode, and whoever removes may have none left.
        match std::fs::hard_link(dir.join(file::RECORD), &mark) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            // In a tmpfs it does. What is of no use without the rest is there, and goes with it.
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                Ok(fs::rename(&dir.join(file::WORK), &mark)?)
            }
            other => Ok(other.at("make", &mark)?),
        }
    }

    /// Removes what lies in `removing/`, with what goes with it.
    pub(crate) fn finish_removal(&self, dir: &Path) -> Result<()> {
        // Layers, and volumes, have other names: what an image calls record.json is nobody's record.
        let is_container = dir.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.parse::<Id>().is_ok());
        let volumes = if is_container { self.remove_volumes_of(dir) } else { Ok(()) };
        fs::remove_dir_all(dir)?;
        volumes
    }

    fn remove_volumes_of(&self, dir: &Path) -> Result<()> {
        let Some(record) = read(dir) else { return Ok(()) };
        if record.options.auto_remove || dir.join(WITH_VOLUMES).exists() {
            return self.remove_anonymous_volumes(&record);
        }
        Ok(())
    }

    /// Of a container that was never seen: all that were made for it.
    pub(crate) fn remove_volumes_of_half_made(&self, hidden: &Path) -> Result<()> {
        read(hidden).map_or(Ok(()), |record| self.remove_anonymous_volumes(&record))
    }

    fn remove_anonymous_volumes(&self, record: &Record) -> Result<()> {
        let store = self.volume_store();
        let mut first = Ok(());
        for volume in record.options.volumes.iter().filter(|volume| volume.anonymous) {
            first = first.and(store.remove_with_container(&volume.name));
        }
        Ok(first?)
    }
}

/// A record that cannot be read names no volumes: they stay, and `volume prune` finds them.
fn read(dir: &Path) -> Option<Record> {
    let bytes = fs::read_if_exists(&dir.join(file::RECORD)).ok()??;
    serde_json::from_slice(&bytes).ok()
}
