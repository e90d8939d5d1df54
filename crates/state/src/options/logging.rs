//! `--log-driver` and `--log-opt`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How what a container says is kept. What is not said is as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// `--log-driver`.
    pub driver: Option<LogDriver>,
    /// `--log-opt max-size`, bytes; 0 is without bound.
    pub max_size: Option<u64>,
    /// `--log-opt max-file`.
    pub max_files: Option<u32>,
    /// `--log-opt compress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<bool>,
    /// All other options, which the engine knows by the driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, String>,
}

impl LogOptions {
    /// Docker's words for them.
    pub fn words(&self) -> BTreeMap<&str, String> {
        let mut words: BTreeMap<&str, String> =
            self.more.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        words.extend(self.max_size.map(|size| ("max-size", size.to_string())));
        words.extend(self.max_files.map(|files| ("max-file", files.to_string())));
        words.extend(self.compress.map(|compress| ("compress", compress.to_string())));
        words
    }
}

/// Where it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Into files in Docker's format.
    #[default]
    JsonFile,
    /// Into files in our own format: compressed, with an index.
    Local,
    /// Nowhere.
    None,
    /// To a syslog server.
    Syslog,
    /// To systemd's journal.
    Journald,
    /// To Fluentd, or whatever speaks its protocol.
    Fluentd,
}

impl LogDriver {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::JsonFile, Self::Local, Self::Syslog, Self::Journald, Self::Fluentd, Self::None];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|driver| driver.name() == name)
    }

    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
            Self::Syslog => "syslog",
            Self::Journald => "journald",
            Self::Fluentd => "fluentd",
        }
    }

    /// Whether it goes to a collector.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::Syslog | Self::Journald | Self::Fluentd)
    }
}
