//! The volumes of a container that is being made: made, filled, and kept from being removed until its record is seen.

use base::fs::Durability;
use base::root::Root;
use rootfs::{Overlay, pack};
use state::container::Record;
use state::options::{Origin, VolumeMount};
use volume::{ANONYMOUS_LABEL, Backing, Held, New};

use crate::Engine;
use crate::containers::undo::Undo;
use crate::error::Result;

impl Engine {
    /// Makes them, and fills those that are new with what the image has there.
    pub(crate) fn make_volumes<'a>(
        &'a self,
        record: &Record,
        overlay: &Overlay,
        undo: &mut Undo<'a>,
    ) -> Result<Vec<Held>> {
        let mut mounts: Vec<&VolumeMount> = record.options.volumes.iter().collect();
        // Everybody takes locks in the order of the names, so that no two wait for each other.
        mounts.sort_by(|a, b| a.name.cmp(&b.name));
        mounts.dedup_by(|later, first| later.name == first.name);
        let mut image = None;
        let mut held = Vec::new();
        for mount in mounts {
            let durability = if mount.anonymous && record.options.auto_remove {
                Durability::Volatile
            } else {
                Durability::Synced
            };
            held.push(self.make_volume(mount, durability, overlay, &mut image, undo)?);
        }
        Ok(held)
    }

    fn make_volume<'a>(
        &'a self,
        mount: &VolumeMount,
        durability: Durability,
        overlay: &Overlay,
        image: &mut Option<Root>,
        undo: &mut Undo<'a>,
    ) -> Result<Held> {
        let store = self.volume_store();
        loop {
            let (volume, made) = store.create(&new(mount), durability)?;
            if made {
                let name = mount.name.clone();
                undo.push(move || Ok(self.volume_store().remove_with_container(&name)?));
            }
            let held = match store.hold(&mount.name) {
                // Somebody removed it at once: then it is made again.
                Err(volume::Error::NotFound(_)) => continue,
                other => other?,
            };
            let fills = !mount.no_copy && mount.subpath.is_none() && mount.origin != Origin::Inherited;
            if !fills || volume.backing()? != Backing::Directory || !held.wants_filling()? {
                return Ok(held);
            }
            let root = match image {
                Some(root) => root,
                // An image without layers is an empty directory.
                None if overlay.lowers.is_empty() => return Ok(held),
                None => image.insert(Root::from_fd(pack::merged(&overlay.lowers)?)),
            };
            if let Some(held) = held.fill(root, &mount.destination)? {
                return Ok(held);
            }
        }
    }
}

fn new(mount: &VolumeMount) -> New {
    let mut labels = mount.labels.clone();
    if mount.anonymous {
        labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    }
    New {
        name: Some(mount.name.clone()),
        driver: mount.driver.clone(),
        options: mount.driver_options.clone(),
        labels,
        anonymous: mount.anonymous,
    }
}
