//! What the runtime is given: a specification, and where its root file system and cgroup are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::cgroup;

/// Everything from which a [`crate::LaunchPlan`] is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// The specification. Its `root.path` is where the root file system is attached while it is built (any
    /// directory of ours; nothing of it is seen outside the new mount namespace).
    pub spec: Spec,
    /// What the root file system is made of.
    pub root: RootSource,
    /// The container's cgroup; none: the caller's.
    pub cgroup: Option<cgroup::Location>,
    /// A compiled system call filter ([`crate::seccomp::Program`]); it replaces `spec.linux.seccomp`.
    pub seccomp: Option<PathBuf>,
    /// Our own init stays as process 1, reaps orphans and forwards signals.
    pub init: bool,
    /// How its first process relates to whoever starts it.
    #[serde(default)]
    pub manner: Manner,
    /// Bind mounts, by their destination, whose source is a path inside of something.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inside: BTreeMap<PathBuf, Inside>,
}

/// What the source of a bind mount is inside of: its path is resolved there as if this were `/`, and never leads out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inside {
    /// A directory of the host, a plain one.
    Directory(PathBuf),
    /// Layers as overlay shows them, topmost first: read-only, but for one alone, which is as it is.
    Layers(Vec<PathBuf>),
}

/// How the first process relates to whoever starts it. The default is what the monitor needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manner {
    /// It dies with its parent. Otherwise it outlives it, once it has been started.
    pub tied: bool,
    /// How many descriptors, from 3 on, the command inherits. Those that close on exec are not handed down, even so.
    pub preserved_descriptors: u32,
    /// The root is changed by moving its mount and `chroot(2)`: for a host whose own root is a ramfs, which
    /// `pivot_root(2)` does not leave.
    pub no_pivot: bool,
    /// A session keyring of its own; otherwise the caller's, with the caller's keys.
    pub new_keyring: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { tied: true, preserved_descriptors: 0, no_pivot: false, new_keyring: true }
    }
}

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootSource {
    /// Read-only layers under a writable one.
    Overlay {
        /// The layers, topmost first.
        lowers: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlayfs' own directory, on the same file system.
        work: PathBuf,
        /// Never sync the writable layer: it is thrown away with the container (`--rm`). Unmounting an overlay
        /// otherwise syncs the whole file system below.
        volatile: bool,
    },
    /// A directory as it is.
    Directory(PathBuf),
}
