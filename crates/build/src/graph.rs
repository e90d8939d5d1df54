//! What is to be done: steps that need each other's file systems.
//!
//! A step's output is a file system. Steps do not know stages, nor instructions: who runs them needs only this. Two steps that are
//! equal, with equal inputs, make the same; so a step's key is its own content and its inputs' keys, or their files.

use std::collections::BTreeMap;

use oci::image::{ImageConfig, Platform};

/// A step's number in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// Steps, each after those that it needs. Nothing is in it that the target does not need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The steps.
    pub steps: Vec<Step>,
}

/// A step, and what people see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// As progress shows it: `[builder 2/5] RUN make`.
    pub title: String,
    /// Where it stands in the Dockerfile: the first and the last line, from 1.
    pub lines: Option<(usize, usize)>,
    /// Not to be taken from the cache.
    pub no_cache: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing at all: the empty file system.
    Scratch,
    /// An image's file system, by digest.
    Image(Image),
    /// A context's files, less what its `.dockerignore` takes away: `None` is the main one.
    Context(Context),
    /// A Git repository's files.
    Git(Git),
    /// One file from a web server.
    Http(Http),
    /// Runs a command upon an input.
    Run(Box<Run>),
    /// Changes files upon an input.
    Files(Files),
}

impl Action {
    /// The steps whose file systems it needs, each as often as it is named.
    pub fn inputs(&self) -> Vec<StepId> {
        self.clone().inputs_mut().into_iter().map(|step| *step).collect()
    }

    /// The same, to be renumbered.
    pub fn inputs_mut(&mut self) -> Vec<&mut StepId> {
        match self {
            Self::Scratch | Self::Image(_) | Self::Context(_) | Self::Git(_) | Self::Http(_) => Vec::new(),
            Self::Run(run) => {
                let mounted = run.mounts.iter_mut().filter_map(|mount| match &mut mount.what {
                    Mounted::Bind { from, .. } => Some(from),
                    Mounted::Cache { from, .. } => from.as_mut(),
                    _ => None,
                });
                std::iter::once(&mut run.base).chain(mounted).collect()
            }
            Self::Files(files) => {
                let copied = files.changes.iter_mut().filter_map(|change| match change {
                    Change::Copy(copy) => Some(&mut copy.from),
                    _ => None,
                });
                std::iter::once(&mut files.base).chain(copied).collect()
            }
        }
    }
}

/// A base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As it was named.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
    /// Which platform's.
    pub platform: Platform,
}

/// A directory of the one who builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The name given by `--build-context`; `None` is the main one.
    pub name: Option<String>,
}

/// A repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    /// Where from, without its fragment.
    pub url: String,
    /// Branch, tag or commit; the default branch, if empty.
    pub reference: String,
    /// Which directory of it; all, if empty.
    pub subdirectory: String,
    /// Leave `.git` in it.
    pub keep_git_dir: bool,
    /// The commit that it must be.
    pub checksum: Option<String>,
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where from.
    pub url: String,
    /// What it is called in the step's output.
    pub name: String,
    /// `sha256:…`, if it must be that.
    pub checksum: Option<String>,
}

/// A `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What it runs in.
    pub base: StepId,
    /// The words.
    pub arguments: Vec<String>,
    /// `NAME=value`: the image's and the arguments' so far.
    pub env: Vec<String>,
    /// Names among `env` whose values change nothing of the step's key (proxies).
    pub unkeyed: Vec<String>,
    /// Where.
    pub directory: String,
    /// As whom: `name`, `uid:gid`, …
    pub user: String,
    /// What is mounted, in the order written.
    pub mounts: Vec<Mount>,
    /// On which network.
    pub network: Network,
    /// With all privileges, where the one who builds allows it.
    pub insecure: bool,
    /// Given as standard input to the first word (a here-document with an interpreter of its own), or files that are mounted
    /// for the command alone: name under `/dev/pipes` → content.
    pub pipes: BTreeMap<String, Vec<u8>>,
}

/// The networks of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// As `--network` of the build says.
    #[default]
    Default,
    /// None.
    None,
    /// The host's, where the one who builds allows it.
    Host,
}

/// A `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where, absolute.
    pub target: String,
    /// What.
    pub what: Mounted,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are named as in the Dockerfile reference")]
pub enum Mounted {
    /// Another step's files. What is written is thrown away afterwards.
    Bind { from: StepId, source: String, writable: bool },
    /// A directory that outlives the build.
    Cache {
        id: String,
        from: Option<StepId>,
        source: String,
        sharing: Sharing,
        mode: u32,
        uid: u32,
        gid: u32,
        read_only: bool,
    },
    /// Memory. At most so many bytes.
    Tmpfs { size: Option<u64> },
    /// A secret, as a file.
    Secret { id: String, required: bool, mode: u32, uid: u32, gid: u32 },
    /// A secret, as a variable of this name.
    SecretEnv { id: String, required: bool, name: String },
    /// The socket of an SSH agent.
    Ssh { id: String, required: bool, mode: u32, uid: u32, gid: u32 },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each has one of its own, if another is in use.
    Private,
    /// One after the other.
    Locked,
}

/// Changes of files, in order, one layer in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// What they are upon.
    pub base: StepId,
    /// The changes.
    pub changes: Vec<Change>,
    /// The layer depends on nothing below it (`--link`): it is made upon nothing, and laid upon the base.
    pub link: bool,
}

/// A change of files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are named as in the Dockerfile reference")]
pub enum Change {
    /// `COPY`, `ADD`.
    Copy(Copy),
    /// A here-document's file.
    Write { target: String, content: Vec<u8>, owner: Option<String>, mode: Option<Mode> },
    /// `WORKDIR`: with its parents, each of which is this user's if it has to be made.
    MakeDirectory { target: String, owner: Option<String> },
}

/// Files of one step to a place in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Whose files.
    pub from: StepId,
    /// Which: paths from its root, where `*`, `?`, `[…]` are patterns as Go's `filepath.Match` has them.
    pub sources: Vec<String>,
    /// Where to, absolute; a directory, if it ends with `/`, or if there are several sources.
    pub target: String,
    /// `--chown`, names of the base's own files or numbers; root, if none.
    pub owner: Option<String>,
    /// `--chmod`.
    pub mode: Option<Mode>,
    /// `--exclude`, as in a `.dockerignore`.
    pub exclude: Vec<String>,
    /// `--parents`: with the sources' directories (from `/./` on).
    pub parents: bool,
    /// Archives are unpacked (`ADD` of a local one; of a remote one with `--unpack`).
    pub unpack: bool,
    /// Not even one file may be missing (a `COPY` without patterns).
    pub required: bool,
}

/// A `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// `0644`.
    Octal(u32),
    /// `u=rwX,go=rX`.
    Symbolic(String),
}

/// What is to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub graph: Graph,
    /// The step whose file system is the result.
    pub output: StepId,
    /// The image's configuration: all but `rootfs`, and the times of its `history`, whose last entries are those of this build.
    pub config: ImageConfig,
    /// For each entry of the history that this build adds and that makes a layer, the step.
    pub layers: Vec<StepId>,
    /// The base of the last stage, as it was named, and its digest; none for `scratch`.
    pub base: Option<Image>,
    /// What the checks say.
    pub warnings: Vec<Warning>,
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule, by BuildKit's name: `StageNameCasing`.
    pub rule: &'static str,
    /// What is wrong, here.
    pub message: String,
    /// The lines, from 1.
    pub lines: (usize, usize),
}

/// Who knows images.
pub trait Bases {
    /// An image's digest and configuration; it is fetched, where it has to be. The error is for people.
    ///
    /// # Errors
    /// Where there is no such image, or it cannot be read.
    fn find(&self, reference: &str, platform: &Platform) -> Result<(Image, ImageConfig), String>;
}
