//! At the start every mount gets the path on the host that it is of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::fs::{self, At};
use monitor::VolumeUse;
use runtime::Inside;
use state::container::Record;
use state::options::{ContainerOptions, ImageMount, VolumeMount};
use volume::Backing;

use super::Error;
use crate::Engine;
use crate::containers::undo::Undo;
use crate::error::Result;

/// What the mounts of volumes and images are of.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    /// By destination.
    pub found: BTreeMap<PathBuf, Found>,
    /// The volumes that had to be mounted on the host.
    pub mounted: Vec<String>,
}

/// What one mount is of.
#[derive(Debug)]
pub(crate) struct Found {
    /// A path of the host, or inside of `inside`.
    pub source: PathBuf,
    /// Where the source is resolved.
    pub inside: Option<Inside>,
    /// Whatever the mount says.
    pub read_only: bool,
    /// What is mounted below comes along.
    pub recursive: bool,
}

impl Storage {
    /// For the runtime: which sources are inside of what.
    pub(crate) fn inside(&self) -> BTreeMap<PathBuf, Inside> {
        let inside =
            |(destination, found): (&PathBuf, &Found)| Some((destination.clone(), found.inside.clone()?));
        self.found.iter().filter_map(inside).collect()
    }

    /// For the monitor: which volumes there are.
    pub(crate) fn uses(&self, options: &ContainerOptions) -> Vec<VolumeUse> {
        let volume = |mount: &VolumeMount| VolumeUse {
            name: mount.name.clone(),
            destination: mount.destination.clone(),
            read_only: mount.read_only,
            anonymous: mount.anonymous,
            mounted: self.mounted.contains(&mount.name),
        };
        options.volumes.iter().map(volume).collect()
    }
}

impl Engine {
    /// Finds them, and makes ready what has to be.
    pub(crate) fn find_storage<'a>(&'a self, record: &Record, undo: &mut Undo<'a>) -> Result<Storage> {
        let options = &record.options;
        let mut storage = Storage::default();
        for bind in &options.binds {
            // As Docker does: a source that is missing becomes a directory, but for --mount.
            if rustix::fs::access(&bind.source, rustix::fs::Access::EXISTS).is_err() {
                if bind.must_exist {
                    return Err(no_source(&bind.source, &bind.destination).into());
                }
                fs::create_dir_all(&bind.source, 0o755)?;
            }
        }
        for mount in &options.volumes {
            let found = self.find_volume(record, mount, &mut storage.mounted, undo)?;
            storage.found.insert(mount.destination.clone(), found);
        }
        for mount in &options.image_mounts {
            storage.found.insert(mount.destination.clone(), self.find_image_mount(record, mount)?);
        }
        Ok(storage)
    }

    fn find_volume<'a>(
        &'a self,
        record: &Record,
        mount: &VolumeMount,
        mounted: &mut Vec<String>,
        undo: &mut Undo<'a>,
    ) -> Result<Found> {
        let store = self.volume_store();
        let volume = store.find(&mount.name)?.ok_or_else(|| Error::VolumeGone(mount.name.clone()))?;
        let (mut root, mut read_only, mut recursive) = (volume.mountpoint.clone(), false, true);
        match volume.backing()? {
            Backing::Directory => {}
            Backing::Bind { device, recursive: deep, read_only: ro } => {
                if rustix::fs::access(&device, rustix::fs::Access::EXISTS).is_err() {
                    return Err(no_source(&device, &mount.destination).into());
                }
                // The host's own links are the host's to set.
                root = std::fs::canonicalize(&device).at("resolve", &device)?;
                (read_only, recursive) = (ro, deep);
            }
            Backing::Tmpfs(options) => {
                if !mounted.contains(&mount.name) {
                    store.mount(&mount.name, &options, &record.id)?;
                    mounted.push(mount.name.clone());
                    let (name, id) = (mount.name.clone(), record.id.clone());
                    undo.push(move || Ok(self.volume_store().release(&name, &id)?));
                }
            }
        }
        Ok(match &mount.subpath {
            None => Found { source: root, inside: None, read_only, recursive },
            Some(path) => {
                Found { source: path.clone(), inside: Some(Inside::Directory(root)), read_only, recursive }
            }
        })
    }

    fn find_image_mount(&self, record: &Record, mount: &ImageMount) -> Result<Found> {
        let gone = || Error::ImageGone {
            image: mount.image.clone(),
            destination: mount.destination.display().to_string(),
        };
        let dir = self.instance.container(&record.id);
        let lowers = match self.layer_store().overlay(&mount.layers, &dir) {
            Ok(overlay) => overlay.lowers,
            Err(rootfs::Error::Missing(_)) => return Err(gone().into()),
            Err(e) => return Err(e.into()),
        };
        Ok(Found {
            source: mount.subpath.clone().unwrap_or_else(|| PathBuf::from(".")),
            inside: Some(Inside::Layers(lowers)),
            read_only: true,
            recursive: false,
        })
    }
}

fn no_source(path: &Path, destination: &Path) -> Error {
    Error::NoSource { path: path.display().to_string(), destination: destination.display().to_string() }
}
