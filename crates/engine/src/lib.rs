//! The verbs: the only crate that sees every stage of a container's way, and hands each one's value to the
//! next. Doors (the command line, later the servers) translate requests into calls of [`Engine`] and hold no
//! logic; stages never see each other.
//!
//! Every verb stands in a file of its own, in the room of what it is about: `containers`, `images`, `registries`,
//! `networks`, `volumes`, `system`; `distribution` is what a registry of our own does. All of them work on the files that [`state`] describes,
//! with no process of ours running: what a verb finds half done by somebody who died, it puts right first
//! ([`Engine::reconcile`]).

mod build;
mod config;
mod containers;
pub mod distribution;
mod egress;
mod error;
mod images;
mod networks;
mod registries;
mod selection;
mod system;
mod volumes;

use std::path::{Path, PathBuf};

use state::Instance;

pub use build::options::{
    BuildForm, BuildOptions, BuildOutput, BuildWarning, Built, BuiltImage, SecretSource as BuildSecret,
};
pub use build::progress::{BuildEvent, BuildProgress, SilentBuild};
pub use build::prune::{BuildCacheEntry, BuildCacheKind, BuildPruneOptions, PrunedBuildCache};
pub use config::{Build, Config, Confinement, Images, Log, Pull, Unpack, parse_size};
pub use containers::copy::{Copied, CopyEnd, CopyOptions};
pub use containers::create::{Created, PullPolicy};
pub use containers::diff::{Change, ChangeKind};
pub use containers::exec::ExecOptions;
pub use containers::export::ExportTarget;
pub use containers::list::{ContainerSummary, JoinSummary, MountSummary};
pub use containers::logs::{JsonField, LogLine, LogOptions, LogSearch, LogStream, Logs};
pub use containers::prune::PrunedContainers;
pub use containers::remove::RemoveOptions;
pub use containers::session::{Event, Session, SessionSender};
pub use containers::set::{Changes, PortName, SetPlan, Way};
pub use containers::start::StartHow;
pub use containers::stats::{ContainerLoad, ContainerStats, Sampler};
pub use containers::top::Processes;
pub use containers::top::tree::{Branch, Process, TreeItem};
pub use containers::update::LimitChanges;
pub use egress::{Denied, DeniedOptions};
pub use error::{Error, Result};
pub use images::budget::{Evicted, Eviction, KeptBecause, KeptImage};
pub use images::commit::CommitOptions;
pub use images::history::HistoryStep;
pub use images::import::{ImportOptions, ImportSource};
pub use images::list::ImageSummary;
pub use images::load::{LoadSource, Loaded};
pub use images::pattern::{glob, matches_reference};
pub use images::platforms::{ImagePlatforms, PlatformHere};
pub use images::prune::{PruneOptions, Pruned};
pub use images::pull::{PullOptions, PullStatus, Pulled};
pub use images::push::Pushed;
pub use images::remove::{RemoveImageOptions, Removed};
pub use images::save::{SaveFormat, SaveTarget};
pub use images::tree::{TreeLayer, TreeNode};
pub use network::Reach;
pub use networks::capture::{CaptureForm, CaptureOptions, Captured, PacketCapture};
pub use networks::create::NetworkOptions;
pub use networks::exposed::ExposedPort;
pub use networks::list::NetworkSummary;
pub use networks::why::{WhyOutcome, WhyReport, WhyStep};
pub use registries::login::{Kept as LoginKept, LoggedIn};
pub use registries::search::Found;
pub use selection::{LabelFilter, Selection};
pub use system::boot::Done;
pub use system::check::{CheckOptions, Checked, Outcome, Problem, ProblemKind};
pub use system::events::{EventOptions, Events};
pub use system::info::Info;
pub use system::prune::{PrunedSystem, SystemPruneOptions};
pub use system::usage::{ContainerUsage, ImageUsage, Usage, VolumeUsage};
pub use system::version::{Version, version};
pub use volumes::create::VolumeOptions;
pub use volumes::list::VolumeSummary;
pub use volumes::prune::{PrunedVolumes, VolumePruneOptions};

/// Where an engine works.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What survives a reboot; none: `/var/lib/dhow`.
    pub root: Option<PathBuf>,
    /// What does not; none: `/run/dhow`, or `ROOT/run` where a root is given.
    pub run_root: Option<PathBuf>,
    /// The configuration file, which must exist then; none: `/etc/dhow/config.toml`, which need not. Beside it lies
    /// `registries.toml`.
    pub config: Option<PathBuf>,
    /// Ask nothing of any registry.
    pub offline: bool,
}

/// The engine: an instance and its configuration. Cheap to open: it reads one file and makes directories
/// that are missing.
#[derive(Debug)]
pub struct Engine {
    instance: Instance,
    config: Config,
    /// Where `registries.toml` and certificates are looked for, unless in the default place.
    config_directory: Option<PathBuf>,
    offline: bool,
}

impl Engine {
    /// Opens the engine of an instance.
    pub fn open(settings: &Settings) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(error::NeedsRoot.into());
        }
        let config = Config::load(settings.config.as_deref())?;
        let root = absolute(settings.root.as_deref().unwrap_or(Path::new(state::instance::DEFAULT_ROOT)))?;
        let run = match (&settings.run_root, &settings.root) {
            (Some(run), _) => absolute(run)?,
            (None, Some(_)) => root.join("run"),
            (None, None) => PathBuf::from(state::instance::DEFAULT_RUN_ROOT),
        };
        let instance = Instance::new(&root, &run);
        instance.create_dirs()?;
        let config_directory = settings.config.as_deref().map(absolute).transpose()?;
        let config_directory = config_directory.as_deref().and_then(Path::parent).map(Path::to_owned);
        Ok(Self { instance, config, config_directory, offline: settings.offline })
    }

    /// The directories that it works in.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }
}

fn absolute(path: &Path) -> base::fs::Result<PathBuf> {
    use base::fs::At;
    std::path::absolute(path).at("make absolute", path)
}

#[cfg(test)]
mod tests;
