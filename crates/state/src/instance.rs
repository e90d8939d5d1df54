//! An instance of Dhow: two directories, and the names of everything global that is derived from them.
//!
//! ```text
//! ROOT (/var/lib/dhow)                what survives a reboot
//!   content/                          an OCI image layout: oci-layout, index.json, blobs/sha256/…
//!   names/images/…                    a reference → manifest, with the parsed configuration
//!   names/containers/<name>           → id
//!   layers/<diff id>/                 one unpacked layer each
//!   containers/<id>/                  record.json, exit.json, upper/, work/, log…
//!   volumes/<name>/                   record.json, data/
//!   networks/<name>.json              what it is
//!   removing/                         directories on their way out; anyone may finish the job
//!   cache/                            what can be made again: compiled seccomp programs, …
//! RUN (/run/dhow)                     what does not
//!   containers/<id>/                  request.json, live.json, socket, hosts, …; its flock: the monitor's life
//!   spare/                            an empty directory, which becomes one of those where there is no inode for one
//!   networks/<id>/                    the address claims of running containers (of the default one: bridge/)
//!   volumes/<name>/                   the claims of those who run with a volume that is mounted on the host
//! ```

use std::path::{Path, PathBuf};

use base::{Id, fs};
use serde::{Deserialize, Serialize};

/// Where the default instance keeps what survives a reboot.
pub const DEFAULT_ROOT: &str = "/var/lib/dhow";
/// Where the default instance keeps what does not.
pub const DEFAULT_RUN_ROOT: &str = "/run/dhow";

/// The two directories, and what is named after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    root: PathBuf,
    run: PathBuf,
    tag: String,
}

impl Instance {
    /// The instance at these directories (absolute). Its tag is empty for the default ones; else it is eight
    /// hexadecimal digits of the root's path, so that the bridges, tables, cgroups and sockets of two
    /// instances never meet.
    pub fn new(root: &Path, run: &Path) -> Self {
        let default = root == Path::new(DEFAULT_ROOT) && run == Path::new(DEFAULT_RUN_ROOT);
        let tag = if default {
            String::new()
        } else {
            let mut key = root.as_os_str().as_encoded_bytes().to_vec();
            key.push(0);
            key.extend_from_slice(run.as_os_str().as_encoded_bytes());
            base::Digest::of(&key).hex()[..8].to_owned()
        };
        Self { root: root.to_owned(), run: run.to_owned(), tag }
    }

    /// Makes the directories that are missing. `0711`/`0700`: local users may not look in
    /// (CVE-2021-41091, CVE-2024-25621).
    pub fn create_dirs(&self) -> fs::Result<()> {
        if self.containers().is_dir() && self.live_containers().is_dir() {
            return Ok(());
        }
        for dir in [&self.root, &self.run] {
            fs::create_dir_all(dir, 0o711)?;
        }
        let below =
            ["containers", "names/containers", "names/images", "layers", "removing", "cache", "content"];
        for dir in below {
            fs::create_dir_all(&self.root.join(dir), 0o700)?;
        }
        for dir in ["containers", "networks"] {
            fs::create_dir_all(&self.run.join(dir), 0o700)?;
        }
        fs::create_dir_all(&self.spare(), 0o700)
    }

    /// What survives a reboot.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What does not.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Empty for the default instance, else eight hexadecimal digits.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A global name for this instance: `dhow`, or `dhow-<tag>`.
    pub fn global_name(&self) -> String {
        if self.tag.is_empty() { "dhow".to_owned() } else { format!("dhow-{}", self.tag) }
    }

    /// The default bridge's interface name, at most 15 bytes: `dhow0`, or `dhow-<tag>`.
    pub fn bridge_name(&self) -> String {
        if self.tag.is_empty() { "dhow0".to_owned() } else { format!("dhow-{}", self.tag) }
    }

    /// All containers' directories.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// One container's directory: its record, exit, writable layer and log.
    pub fn container(&self, id: &Id) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// All live directories.
    pub fn live_containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// One container's live directory. Who holds its `flock` is the container's owner: first the command
    /// that makes it, then its monitor.
    pub fn live(&self, id: &Id) -> PathBuf {
        self.live_containers().join(id.as_str())
    }

    /// A directory that becomes the live directory of a container that is to be removed, where RUN has no room for one.
    pub fn spare(&self) -> PathBuf {
        self.run.join("spare")
    }

    /// Claims of containers' names: a file per name, its content the id.
    pub fn container_names(&self) -> PathBuf {
        self.root.join("names/containers")
    }

    /// Image references.
    pub fn image_names(&self) -> PathBuf {
        self.root.join("names/images")
    }

    /// The OCI image layout.
    pub fn content(&self) -> PathBuf {
        self.root.join("content")
    }

    /// Unpacked layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Volumes. The directory is made with the first of them.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Where the running containers claim a volume that has to be mounted on the host.
    pub fn volume_claims(&self, name: &str) -> PathBuf {
        self.run.join("volumes").join(name)
    }

    /// Directories on their way out.
    pub fn removing(&self) -> PathBuf {
        self.root.join("removing")
    }

    /// What can be made again at any time.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The networks that were made. The directory is made with the first of them.
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// A network's live directory.
    pub fn network(&self, name: &str) -> PathBuf {
        self.run.join("networks").join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_roots_have_a_tag_and_bridge_names_fit_the_kernel() {
        let default = Instance::new(Path::new(DEFAULT_ROOT), Path::new(DEFAULT_RUN_ROOT));
        assert_eq!((default.tag(), &*default.bridge_name(), &*default.global_name()), ("", "dhow0", "dhow"));
        let other = Instance::new(Path::new("/tmp/a"), Path::new("/tmp/b"));
        assert_eq!(other.tag().len(), 8);
        assert!(other.bridge_name().len() <= 15);
        assert_ne!(other.tag(), Instance::new(Path::new("/tmp/a/"), Path::new("/tmp/c")).tag());
    }
}
