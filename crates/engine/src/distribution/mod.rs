//! A registry of our own: the operations of the distribution specification 1.1, on disk. The door that speaks HTTP
//! (`dhow-serve`) calls these, each from a thread that may block.
//!
//! A registry stands over a directory ([`Registry::in_directory`]), over the local images ([`Registry::of_images`]), or
//! before another registry ([`Registry::mirror_of`]). Several processes may serve one at once: what they share is on
//! disk, as `tree` draws it, and every step of theirs leaves the old state or the new.

mod blobs;
mod document;
mod error;
mod lists;
mod local;
mod manifests;
mod mirror;
mod name;
mod sweep;
mod transfer;
mod tree;
mod uploads;

use std::path::Path;
use std::time::Duration;

pub use blobs::Blob;
pub use document::{Described, MAX_MANIFEST};
pub use error::{Code, Error, Result};
pub use lists::Page;
pub use manifests::{Manifest, Put};
pub use mirror::Upstream;
pub use name::{Name, ParseNameError, Repository, Tag, UploadId};
pub use transfer::Transfer;

use crate::Engine;
use local::Local;
use mirror::Mirror;
use tree::Tree;
use uploads::Uploads;

/// How long what nobody needs is kept, if nobody says otherwise.
pub const LIFETIME: Duration = Duration::from_hours(24);

/// A registry.
pub struct Registry {
    tree: Tree,
    uploads: Uploads,
    local: Option<Local>,
    mirror: Option<Mirror>,
    /// How long an upload lives without a new byte, and a blob without a manifest that needs it.
    lifetime: Duration,
}

/// Where a blob's bytes are.
#[derive(Debug)]
pub enum Content {
    /// Here.
    Whole(Blob),
    /// On their way from the registry that is mirrored.
    Coming(std::sync::Arc<Transfer>),
}

impl Registry {
    /// The registry in a directory, which is made if it is not there.
    pub fn in_directory(dir: &Path, lifetime: Duration) -> Result<Self> {
        let tree = Tree::open(dir)?;
        Ok(Self { tree, uploads: Uploads::default(), local: None, mirror: None, lifetime })
    }

    /// The registry of an engine's images.
    pub fn of_images(engine: &Engine, lifetime: Duration) -> crate::Result<Self> {
        let mut registry = Self::in_directory(&engine.registry_directory(), lifetime)?;
        registry.local = Some(Local { store: engine.image_store()?, layers: engine.layer_store() });
        Ok(registry)
    }

    /// A mirror of another registry, which keeps in a directory what it has fetched, for so long after somebody asked for
    /// it last. The engine knows where names lead (`registries.toml`); without one, they lead where they say.
    pub fn mirror_of(
        upstream: &Upstream,
        dir: &Path,
        lifetime: Duration,
        keep: Duration,
        engine: Option<&Engine>,
    ) -> crate::Result<Self> {
        let mut registry = Self::in_directory(dir, lifetime)?;
        registry.mirror = Some(Mirror::new(upstream, keep, engine)?);
        Ok(registry)
    }

    /// Whether it is a mirror, which takes nothing from clients.
    pub fn is_mirror(&self) -> bool {
        self.mirror.is_some()
    }

    /// The directory that it keeps things in.
    pub fn directory(&self) -> &Path {
        self.tree.dir()
    }
}

impl Engine {
    /// Where the registry of local images keeps what is not theirs alone.
    fn registry_directory(&self) -> std::path::PathBuf {
        self.instance.root().join("registry")
    }

    /// Where a mirror of another registry keeps things, if nobody says otherwise.
    pub fn mirror_directory(&self, upstream: &Upstream) -> std::path::PathBuf {
        self.instance.root().join("mirrors").join(upstream.file_name())
    }
}
