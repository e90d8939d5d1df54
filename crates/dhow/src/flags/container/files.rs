//! Which files it sees besides its image's.

use clap::Args;
use state::options::{ContainerOptions, VolumeMount};

use crate::flags::mount::Mount;
use crate::flags::tmpfs::Tmpfs;
use crate::flags::volume::Volume;
use crate::flags::volumes_from::From;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Mount a directory or file of the host's, a volume, or a new volume
    #[arg(short, long, value_name = "[SOURCE:]CONTAINER[:OPTIONS]", help_heading = "Files")]
    volume: Vec<Volume>,
    /// Mount what another container mounts of volumes and of the host
    #[arg(long, value_name = "CONTAINER[:ro]", help_heading = "Files")]
    volumes_from: Vec<From>,
    /// The driver of new volumes (there is one: local)
    #[arg(long, value_name = "DRIVER", help_heading = "Files")]
    volume_driver: Option<String>,
    /// Mount, in the long form (type=bind, volume, tmpfs, image)
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = "Files")]
    mount: Vec<Mount>,
    /// Mount an empty directory in memory
    #[arg(long, value_name = "PATH[:OPTIONS]", help_heading = "Files")]
    tmpfs: Vec<Tmpfs>,
    /// Make its root file system read-only
    #[arg(long, help_heading = "Files")]
    read_only: bool,
}

impl Flags {
    pub(super) fn apply(self, options: &mut ContainerOptions) {
        options.read_only = self.read_only;
        options.volumes_from = self.volumes_from.into_iter().map(|From(from)| from).collect();
        for volume in self.volume {
            match volume {
                Volume::Bind(bind) => options.binds.push(bind),
                Volume::Volume(volume) => {
                    options.volumes.push(VolumeMount { driver: self.volume_driver.clone(), ..volume });
                }
            }
        }
        options.tmpfs = self.tmpfs.into_iter().map(|Tmpfs(mount)| mount).collect();
        for mount in self.mount {
            match mount {
                Mount::Bind(bind) => options.binds.push(bind),
                Mount::Volume(volume) => options.volumes.push(volume),
                Mount::Image(image) => options.image_mounts.push(image),
                Mount::Tmpfs(tmpfs) => options.tmpfs.push(tmpfs),
            }
        }
    }
}
