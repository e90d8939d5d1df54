//! `policy.toml`: what holds on this machine, whatever the options of a container say. It lies beside `config.toml`.
//!
//! ```toml
//! [egress]
//! default = ["deny"]                                  # of containers that none of the following is about
//!
//! [egress.networks]                                   # by a network that they are on
//! build = ["*.debian.org", "pypi.org", "files.pythonhosted.org"]
//!
//! [egress.labels]                                     # by a label, KEY or KEY=VALUE
//! "tier=back" = ["10.0.0.0/8:5432"]
//!
//! [egress.containers]                                 # by a name, with * and ?
//! "mail-*" = ["smtp.example.org:587"]
//! ```
//!
//! What is more particular counts instead of what is less: names before labels, labels before networks, those before the
//! default; of several on one level all together. Later features add tables of their own. An unknown key is an error that names
//! it: a misspelt limit must not be a missing one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::{Failure, Kind, fs};
use serde::Deserialize;
use state::container::Record;
use state::egress::{Egress, NotLimits};

use crate::config::describe;
use crate::images::pattern::glob;

/// Where it is, unless the configuration is elsewhere.
const DEFAULT_PATH: &str = "/etc/dhow/policy.toml";
const NAME: &str = "policy.toml";

/// The policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    egress: ForEgress,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ForEgress {
    default: Egress,
    networks: BTreeMap<String, Egress>,
    labels: BTreeMap<String, Egress>,
    containers: BTreeMap<String, Egress>,
}

/// A policy that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] fs::Error),
    #[error("the policy {} is not valid: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Invalid { .. } => Kind::Invalid,
        }
    }
}

impl Policy {
    /// Reads the one in this directory, or that of the machine; there need not be one.
    pub(crate) fn load(directory: Option<&Path>) -> Result<Self, Error> {
        let path = directory.map_or_else(|| PathBuf::from(DEFAULT_PATH), |directory| directory.join(NAME));
        let Some(content) = fs::read_if_exists(&path)? else { return Ok(Self::default()) };
        let invalid = |reason: String| Error::Invalid { path: path.clone(), reason };
        let text = std::str::from_utf8(&content).map_err(|e| invalid(e.to_string()))?;
        toml::from_str(text).map_err(|e| invalid(describe(&e, text)))
    }

    /// What it says of a container on these networks.
    pub(crate) fn egress(&self, record: &Record, networks: &[&str]) -> Result<Egress, NotLimits> {
        let ForEgress { default, networks: by_network, labels, containers } = &self.egress;
        let labelled = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => record.options.labels.get(key).is_some_and(|has| has == value),
            None => record.options.labels.contains_key(wanted),
        };
        let levels: [Vec<&Egress>; 3] = [
            containers
                .iter()
                .filter(|(name, _)| glob(name, &record.name))
                .map(|(_, limits)| limits)
                .collect(),
            labels.iter().filter(|(label, _)| labelled(label)).map(|(_, limits)| limits).collect(),
            networks.iter().filter_map(|network| by_network.get(*network)).collect(),
        ];
        match levels.iter().find(|level| !level.is_empty()) {
            Some(level) => level.iter().try_fold(Egress::Allow, |all, one| all.and(one)),
            None => Ok(default.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy, String> {
        toml::from_str(text).map_err(|e| describe(&e, text))
    }

    #[test]
    fn a_policy_is_read_and_what_is_misspelt_is_said() {
        let read =
            policy("[egress]\ndefault = [\"deny\"]\n[egress.networks]\nbuild = [\"*.debian.org\"]").unwrap();
        assert_eq!(read.egress.default, Egress::Only(Vec::new()));
        assert_eq!(read.egress.networks["build"].words(), ["*.debian.org"]);
        assert!(policy("[egress]\ndefualt = []").unwrap_err().contains("defualt"));
        assert!(policy("[egress]\ndefault = [\"a b\"]").unwrap_err().contains("`a b` is no name of a host"));
    }
}
