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
}

impl LogOptions {
    /// Docker's words for them.
    pub fn words(&self) -> BTreeMap<&'static str, String> {
        let mut words = BTreeMap::new();
        words.extend(self.max_size.map(|size| ("max-size", size.to_string())));
        words.extend(self.max_files.map(|files| ("max-file", files.to_string())));
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
    /// Nowhere.
    None,
}

impl LogDriver {
    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::None => "none",
        }
    }
}
