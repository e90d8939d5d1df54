//! `config.toml`: the defaults of this machine.
//!
//! ```toml
//! no_new_privileges = false     # of containers that do not say
//! memory_reserve = "512m"       # what all containers together must leave of the host's memory
//! pids_limit = 4096             # of containers that do not say; -1: none
//! seccomp = "default"           # or "unconfined", or the path of a profile in Docker's form
//! apparmor = "default"          # or "unconfined", or the name of a loaded profile
//! published-ports = "obey-host-firewall"   # as ufw, firewalld or nftables let in to them; or "open"
//!
//! [log]
//! driver = "json-file"          # of containers that do not say; or another of --log-driver
//! options = {}                  # of that driver, as with --log-opt: { syslog-address = "tcp://logs:514" }
//! max_size = "20m"              # bytes at which a new file is begun
//! max_files = 5                 # how many are kept
//!
//! [images]
//! budget = "20g"                # beyond this, those go that were not used for the longest time; none: never
//! keep = ["debian", "team/*"]   # but never these
//!
//! [pull]
//! max_downloads = 6             # layers that are fetched at once
//! max_uploads = 4               # layers that are pushed at once
//!
//! [build]
//! keep = "20g"                  # of the build cache; beyond this, those steps go that were not used for the longest time
//!
//! [unpack]                      # what a layer of an image may cost; beyond it, it is refused
//! max_size = "512g"             # bytes, unpacked
//! max_entries = 16777216        # files, directories, links
//! max_ratio = 500               # times its compressed size, beyond the first …
//! ratio_free = "1g"             # … of these
//! max_path = 4095               # bytes of a name
//! max_metadata = "1m"           # bytes of one file's attributes and long names
//! max_window = "128m"           # memory that a zstd stream may want
//! ```
//!
//! An unknown key is an error that names it: a misspelt limit must not be a missing one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::fs;
use base::{Failure, Kind};
use rootfs::{LONGEST_PATH, Limits};
use serde::{Deserialize, Deserializer};
use state::options::LogDriver;

/// Where the file is, unless somebody says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/dhow/config.toml";

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether containers that do not say run with `no_new_privs`.
    pub no_new_privileges: bool,
    /// Bytes of the host's memory that all containers together must leave; none: the runtime's choice.
    #[serde(deserialize_with = "optional_size")]
    pub memory_reserve: Option<u64>,
    /// The limit of processes of containers that do not say; -1: none.
    pub pids_limit: i64,
    /// The system call filter of containers that do not say: `default`, `unconfined`, or a file.
    pub seccomp: Confinement,
    /// The AppArmor profile of containers that do not say: `default`, `unconfined`, or a name.
    pub apparmor: Confinement,
    /// What decides whether somebody outside reaches a published port. It counts from the first container on.
    #[serde(rename = "published-ports", alias = "published_ports")]
    pub published_ports: network::Firewall,
    /// Logs.
    pub log: Log,
    /// What images may take.
    pub images: Images,
    /// Pulls and pushes.
    pub pull: Pull,
    /// Builds.
    pub build: Build,
    /// What a layer may cost.
    pub unpack: Unpack,
}

/// What the build cache may take of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// Bytes that it may take before what was not used for the longest time goes.
    #[serde(deserialize_with = "size")]
    pub keep: u64,
}

impl Default for Build {
    fn default() -> Self {
        Self { keep: 20 << 30 }
    }
}

/// A default profile, none, or somebody's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Confinement {
    /// Ours.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This one: a path (seccomp) or a name (AppArmor).
    Profile(String),
}

/// How large logs may grow.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where it goes, unless a container says otherwise.
    pub driver: LogDriver,
    /// Its options.
    pub options: BTreeMap<String, String>,
    /// Bytes at which a new file is begun; none: never.
    #[serde(deserialize_with = "optional_size")]
    pub max_size: Option<u64>,
    /// How many files are kept, the current one included.
    pub max_files: u32,
}

/// How many transfers run at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pull {
    /// Layers that are fetched at once.
    pub max_downloads: u32,
    /// Layers that are pushed at once.
    pub max_uploads: u32,
}

impl Default for Pull {
    fn default() -> Self {
        Self { max_downloads: 6, max_uploads: 4 }
    }
}

/// What all images together may take of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// Bytes of blobs and unpacked layers; none: no bound.
    #[serde(deserialize_with = "optional_size")]
    pub budget: Option<u64>,
    /// Patterns of references that stay whatever they take.
    pub keep: Vec<String>,
}

/// What a layer may cost: the bounds of [`rootfs::Limits`], under the same names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unpack {
    /// Bytes, unpacked.
    #[serde(deserialize_with = "size")]
    pub max_size: u64,
    /// Files, directories, links.
    pub max_entries: u64,
    /// Times the compressed size.
    pub max_ratio: u64,
    /// Bytes before `max_ratio` counts.
    #[serde(deserialize_with = "size")]
    pub ratio_free: u64,
    /// Bytes of a name.
    pub max_path: u32,
    /// Bytes of an entry's extended headers.
    #[serde(deserialize_with = "size")]
    pub max_metadata: u64,
    /// Bytes of memory for a zstd window.
    #[serde(deserialize_with = "size")]
    pub max_window: u64,
}

impl Default for Unpack {
    fn default() -> Self {
        let Limits { max_size, max_entries, max_ratio, ratio_free, max_path, max_metadata, max_window } =
            Limits::default();
        let max_metadata = max_metadata.into();
        Self { max_size, max_entries, max_ratio, ratio_free, max_path, max_metadata, max_window }
    }
}

impl Unpack {
    /// The same for who unpacks.
    pub(crate) fn limits(&self) -> Limits {
        let Self { max_size, max_entries, max_ratio, ratio_free, max_path, max_metadata, max_window } = *self;
        let max_metadata = u32::try_from(max_metadata).unwrap_or(u32::MAX);
        Limits { max_size, max_entries, max_ratio, ratio_free, max_path, max_metadata, max_window }
    }

    fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("max_size", self.max_size),
            ("max_entries", self.max_entries),
            ("max_ratio", self.max_ratio),
            ("max_path", self.max_path.into()),
            ("max_metadata", self.max_metadata),
        ] {
            if value == 0 {
                return Err(format!("unpack.{name} is 0: want at least 1"));
            }
        }
        if self.max_path > LONGEST_PATH {
            return Err(format!(
                "unpack.max_path is more than {LONGEST_PATH}, which is all that Linux takes"
            ));
        }
        if self.max_metadata > 64 << 20 {
            return Err("unpack.max_metadata is more than 64m".to_owned());
        }
        if !(1 << 10..=1 << 31).contains(&self.max_window) {
            return Err("unpack.max_window is not between 1k and 2g".to_owned());
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            no_new_privileges: false,
            memory_reserve: None,
            pids_limit: 4096,
            seccomp: Confinement::Default,
            apparmor: Confinement::Default,
            published_ports: network::Firewall::default(),
            log: Log::default(),
            images: Images::default(),
            pull: Pull::default(),
            build: Build::default(),
            unpack: Unpack::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { driver: LogDriver::JsonFile, options: BTreeMap::new(), max_size: Some(20 << 20), max_files: 5 }
    }
}

impl Config {
    /// Reads the file at `path`, which must exist then, or the default one, which need not.
    pub fn load(path: Option<&Path>) -> Result<Self, Error> {
        let (path, content) = match path {
            Some(path) => (path, Some(fs::read(path)?)),
            None => (Path::new(DEFAULT_PATH), fs::read_if_exists(Path::new(DEFAULT_PATH))?),
        };
        let Some(content) = content else { return Ok(Self::default()) };
        let invalid = |reason: String| Error::Invalid { path: path.to_owned(), reason };
        let text = std::str::from_utf8(&content).map_err(|e| invalid(e.to_string()))?;
        let config: Self = toml::from_str(text).map_err(|e| invalid(describe(&e, text)))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.pids_limit == 0 || self.pids_limit < -1 {
            return Err(format!("pids_limit is {}: want a positive number, or -1 for none", self.pids_limit));
        }
        if self.log.max_files == 0 {
            return Err("log.max_files is 0: want at least 1".to_owned());
        }
        if self.log.max_size.is_some_and(|size| size < 4096) {
            return Err("log.max_size is less than 4k".to_owned());
        }
        for (name, number) in
            [("max_downloads", self.pull.max_downloads), ("max_uploads", self.pull.max_uploads)]
        {
            if !(1..=100).contains(&number) {
                return Err(format!("pull.{name} is {number}: want 1 to 100"));
            }
        }
        self.unpack.check()
    }
}

/// The parser's reason on one line, with the line it is about.
pub(crate) fn describe(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

impl<'de> Deserialize<'de> for Confinement {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(from)?.as_str() {
            "default" => Self::Default,
            "unconfined" => Self::Unconfined,
            "" => return Err(serde::de::Error::custom("want `default`, `unconfined` or a profile")),
            other => Self::Profile(other.to_owned()),
        })
    }
}

fn optional_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    size(from).map(Some)
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    parse_size(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is not a size: want a number and k, m or g"))
    })
}

/// Bytes, as Docker writes them: `64m`, `1.5g`, `4096`, `2kb`, `1GiB`; units are powers of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let value = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    // 2^63 is exact as a float; whatever is beyond no machine has.
    (value >= 0.0 && value < (1u64 << 63) as f64).then_some(value as u64)
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The file says something that makes no sense.
    #[error("the configuration {} is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::Invalid { .. } => Kind::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path))
    }

    #[test]
    fn everything_has_a_default() {
        assert_eq!(load("").unwrap(), Config::default());
        assert_eq!(Config::default().pids_limit, 4096);
    }

    #[test]
    fn everything_can_be_said() {
        let text = "no_new_privileges = true\nmemory_reserve = \"1g\"\npids_limit = -1\nseccomp = \"unconfined\"\n\
                    apparmor = \"mine\"\n[log]\ndriver = \"local\"\nmax_size = \"10m\"\nmax_files = 3\n\
                    [images]\nbudget = \"20g\"\nkeep = [\"debian\"]\n\
                    [unpack]\nmax_size = \"2g\"\nmax_entries = 1000\nmax_path = 255\nmax_window = \"8m\"\n[pull]\nmax_downloads = 2\n";
        let config = load(text).unwrap();
        assert!(config.no_new_privileges);
        assert_eq!(config.memory_reserve, Some(1 << 30));
        assert_eq!(config.apparmor, Confinement::Profile("mine".to_owned()));
        let log = Log { driver: LogDriver::Local, max_size: Some(10 << 20), max_files: 3, ..Log::default() };
        assert_eq!(config.log, log);
        assert_eq!(config.images, Images { budget: Some(20 << 30), keep: vec!["debian".to_owned()] });
        assert_eq!(config.pull, Pull { max_downloads: 2, max_uploads: 4 });
        let limits = config.unpack.limits();
        assert_eq!((limits.max_size, limits.max_entries), (2 << 30, 1000));
        assert_eq!((limits.max_path, limits.max_window), (255, 8 << 20));
        assert_eq!(limits.max_ratio, Limits::default().max_ratio);
        assert_eq!(Unpack::default().limits(), Limits::default());
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load("pids_limit = 5\npid_limits = 1\n").unwrap_err().to_string();
        assert!(error.contains("pid_limits") && error.contains("line 2"), "{error}");
        let error = load("[log]\nmax_file = 1\n").unwrap_err().to_string();
        assert!(error.contains("max_file"), "{error}");
        for bad in [
            "pids_limit = 0",
            "[log]\nmax_files = 0",
            "[pull]\nmax_uploads = 0",
            "memory_reserve = \"x\"",
            "=",
            "[images]\nbudget = \"much\"",
            "[unpack]\nmax_size = \"0\"",
            "[unpack]\nmax_path = 4096",
            "[unpack]\nmax_window = \"4g\"",
            "[unpack]\nmax_sice = \"1g\"",
        ] {
            assert!(load(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        let cases =
            [("64m", 64 << 20), ("1.5g", 3 << 29), ("10", 10), ("2KB", 2048), ("1GiB", 1 << 30), ("0", 0)];
        for (text, size) in cases {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1e3", "99999999999999999999g"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
