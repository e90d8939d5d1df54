//! `diff`: what a container has changed in its root file system.

use std::os::fd::{AsFd, OwnedFd};

use base::fs::At;
use rootfs::pack;
use rustix::fs::{CWD, Mode, OFlags};
use state::container::file;

use crate::Engine;
use crate::containers::spec::PROVIDED;
use crate::error::Result;

pub use rootfs::pack::{Change, ChangeKind};

/// Where the kernel's file systems go. An image need not have these directories: then the runtime makes them.
const KERNELS: [&str; 3] = ["dev", "proc", "sys"];

impl Engine {
    /// What a container, running or not, has changed over its image, ordered by path. What is mounted into it is not part
    /// of that.
    pub fn diff(&self, container: &str) -> Result<Vec<Change>> {
        let found = self.find(container)?;
        let dir = self.instance.container(&found.record.id);
        let path = dir.join(file::UPPER);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper: OwnedFd = rustix::fs::openat(CWD, &path, flags, Mode::empty()).at("open", &path)?;
        let lowers = self.layer_store().overlay(&found.record.image.layers, &dir)?.lowers;
        // An image may have no layers.
        let lower = if lowers.is_empty() { None } else { Some(pack::merged(&lowers)?) };
        let provided = PROVIDED.iter().map(|(_, path)| path.trim_start_matches('/'));
        let scaffolding: Vec<&str> = KERNELS.into_iter().chain(provided).collect();
        Ok(pack::changes(upper.as_fd(), lower.as_ref().map(AsFd::as_fd), &scaffolding)?)
    }
}
