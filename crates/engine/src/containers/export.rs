//! `export`: a container's root file system as one archive.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rootfs::Compression;
use rootfs::pack::{self, Source};

use state::container::Status;

use crate::Engine;
use crate::containers::records::Found;
use crate::error::Result;
use crate::images::save::into_file;

/// Where an exported file system goes.
#[derive(Debug)]
pub enum ExportTarget {
    /// A file, which appears when it is whole.
    Path(PathBuf),
    /// An open file or pipe.
    File(File),
}

impl Engine {
    /// Writes the root file system of a container, running or not, as a tar archive. What is mounted into it (volumes,
    /// `/proc`) is not part of it.
    pub fn export(&self, container: &str, target: &ExportTarget) -> Result<()> {
        let found = self.find(container)?;
        let write = |file: &File| {
            let root = self.root_of(&found)?;
            let out = std::io::BufWriter::with_capacity(1 << 20, file);
            pack::pack(root.as_fd(), Source::Tree, Compression::None, 1, out)?;
            Ok(())
        };
        match target {
            ExportTarget::Path(path) => into_file(path, write)?,
            ExportTarget::File(file) => write(file)?,
        }
        self.note_container("export", &found.record, &[]);
        Ok(())
    }

    /// The root file system of a container, as a directory.
    fn root_of(&self, found: &Found) -> Result<std::os::fd::OwnedFd> {
        let id = &found.record.id;
        if let Some(live) = found.live.as_ref().filter(|_| found.status != Status::Restarting) {
            let root = pack::running(live.pid);
            // If it has ended by now, its process id may be somebody else's.
            let now = crate::containers::records::load(&self.instance, id)?.and_then(|now| now.live);
            if now.as_ref() == Some(live) {
                return Ok(root?);
            }
        }
        let dir = self.instance.container(id);
        let overlay = self.layer_store().overlay(&found.record.image.layers, &dir)?;
        let mut layers = vec![overlay.upper];
        layers.extend(overlay.lowers);
        Ok(pack::merged(&layers)?)
    }
}
