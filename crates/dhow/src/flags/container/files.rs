//! Which files it sees besides its image's.

use clap::Args;
use state::options::ContainerOptions;

use crate::flags::mount::Mount;
use crate::flags::tmpfs::Tmpfs;
use crate::flags::volume::Volume;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Mount a directory or file of the host's
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]", help_heading = "Files")]
    volume: Vec<Volume>,
    /// Mount, in the long form (type=bind, type=tmpfs)
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
        options.binds = self.volume.into_iter().map(|Volume(bind)| bind).collect();
        options.tmpfs = self.tmpfs.into_iter().map(|Tmpfs(mount)| mount).collect();
        for mount in self.mount {
            match mount {
                Mount::Bind(bind) => options.binds.push(bind),
                Mount::Tmpfs(tmpfs) => options.tmpfs.push(tmpfs),
            }
        }
    }
}
