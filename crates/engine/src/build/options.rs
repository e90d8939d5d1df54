//! What is asked of a build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base::Digest;
use state::options::{HostEntry, Limits, NetworkMode};

use crate::PullPolicy;

/// What is asked of a build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// A directory, `-` (standard input), a Git repository, or the address of an archive.
    pub context: String,
    /// The Dockerfile: a path, `-`; none: `Dockerfile` in the context.
    pub file: Option<String>,
    /// The names of the image.
    pub tags: Vec<String>,
    /// The stage to build; none: the last.
    pub target: Option<String>,
    /// Values of `ARG`s.
    pub build_args: BTreeMap<String, String>,
    /// More contexts, by name.
    pub contexts: BTreeMap<String, String>,
    /// The platform of the image; none: this machine's.
    pub platform: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// Take nothing of these stages from the cache.
    pub no_cache_stages: Vec<String>,
    /// When bases are pulled.
    pub pull: PullPolicy,
    /// Where the result goes; none: it becomes an image.
    pub outputs: Vec<BuildOutput>,
    /// What `RUN --mount=type=secret` may ask for, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Agents for `RUN --mount=type=ssh`: an id, and the path of a socket.
    pub ssh: BTreeMap<String, PathBuf>,
    /// How `RUN`s are on the network.
    pub network: NetworkMode,
    /// Entries of `/etc/hosts`.
    pub hosts: Vec<HostEntry>,
    /// Limits of each `RUN`.
    pub limits: Limits,
    /// Bytes of memory of each `RUN`.
    pub memory: Option<u64>,
    /// Processors of each `RUN`, in billionths.
    pub nano_cpus: Option<u64>,
    /// The most processes of each `RUN`; -1: no limit.
    pub pids_limit: Option<i64>,
    /// Where the groups of `RUN`s are.
    pub cgroup_parent: Option<String>,
    /// `RUN --network=host` is allowed.
    pub allow_host_network: bool,
    /// `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// Say of each step that was not cached why.
    pub explain: bool,
}

/// Where a secret is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A variable of our own environment.
    Environment(String),
}

/// Where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutput {
    /// In which form.
    pub form: BuildForm,
    /// A file or directory; none: the image store, or standard output.
    pub destination: Option<PathBuf>,
    /// Of an image: other names than those of the build.
    pub names: Vec<String>,
    /// Of an image: push it as well.
    pub push: bool,
}

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildForm {
    /// An image of the local store.
    Image,
    /// An archive of an OCI layout.
    Oci,
    /// An archive for `docker load`.
    Docker,
    /// The files, in an archive.
    Tar,
    /// The files, in a directory.
    Local,
    /// Nowhere: what was done is in the cache.
    CacheOnly,
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image, where one was asked for.
    pub image: Option<BuiltImage>,
    /// What the checks say.
    pub warnings: Vec<BuildWarning>,
    /// How many steps there were, and how many of them were cached.
    pub steps: (usize, usize),
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its id: the digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The media type of its manifest.
    pub media_type: String,
    /// The length of its manifest in bytes.
    pub manifest_size: u64,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Its names, in full.
    pub names: Vec<String>,
}

/// What a check says of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildWarning {
    /// The rule.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// The first and the last line, from 1.
    pub lines: (usize, usize),
}
