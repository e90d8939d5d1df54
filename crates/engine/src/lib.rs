//! The verbs: the only crate that sees every stage of a container's way, and hands each one's value to the
//! next. Doors (the command line, later the servers) translate requests into calls of [`Engine`] and hold no
//! logic; stages never see each other.
//!
//! Every verb stands in a file of its own. All of them work on the files that [`state`] describes, with no
//! process of ours running: what a verb finds half done by somebody who died, it puts right first
//! ([`Engine::reconcile`]).

mod attach;
mod budget;
mod builtin;
mod change;
mod check;
mod commit;
mod config;
mod containers;
mod control;
mod create;
pub mod distribution;
mod error;
mod exec;
mod export;
mod fetch;
mod garbage;
mod history;
mod holdings;
mod image_platforms;
mod image_tree;
mod images;
mod import;
mod info;
mod inspect;
mod inspect_image;
mod kill;
mod load;
mod login;
mod logs;
mod names;
mod ownership;
mod pattern;
mod pause;
mod prune;
mod pull;
mod push;
mod reconcile;
mod records;
mod remote;
mod remove;
mod remove_image;
mod remove_platform;
mod save;
mod search;
mod session;
mod signal;
mod sizes;
mod spec;
mod start;
mod stop;
mod tag;
mod undo;
mod unpack;
mod usage;
mod version;
mod wait;

use std::path::{Path, PathBuf};

use state::Instance;

pub use budget::{Evicted, Eviction, KeptBecause, KeptImage};
pub use check::{CheckOptions, Checked, Outcome, Problem, ProblemKind};
pub use commit::CommitOptions;
pub use config::{Config, Confinement, Images, Log, Pull, Unpack, parse_size};
pub use containers::ContainerSummary;
pub use create::{Created, PullPolicy};
pub use error::{Error, Result};
pub use exec::ExecOptions;
pub use export::ExportTarget;
pub use history::HistoryStep;
pub use image_platforms::{ImagePlatforms, PlatformHere};
pub use image_tree::{TreeLayer, TreeNode};
pub use images::ImageSummary;
pub use import::{ImportOptions, ImportSource};
pub use info::Info;
pub use load::{LoadSource, Loaded};
pub use login::{Kept as LoginKept, LoggedIn};
pub use logs::{LogLine, LogOptions, LogStream};
pub use pattern::{glob, matches_reference};
pub use prune::{PruneOptions, Pruned};
pub use pull::{PullOptions, PullStatus, Pulled};
pub use push::Pushed;
pub use remove_image::{RemoveImageOptions, Removed};
pub use save::{SaveFormat, SaveTarget};
pub use search::Found;
pub use session::{Event, Session, SessionSender};
pub use start::StartHow;
pub use usage::{ContainerUsage, ImageUsage, Usage};
pub use version::{Version, version};

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
