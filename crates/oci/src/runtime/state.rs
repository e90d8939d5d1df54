//! What a runtime tells of a container (runtime.md, "State").

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::nullable;

/// The answer of `state`, and the standard input of hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// Its first process as the host sees it; 0 or none where there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pid: u32,
    /// The absolute path of its bundle.
    pub bundle: PathBuf,
    /// The configuration's.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(pid: &u32) -> bool {
    *pid == 0
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made: hooks see it.
    Creating,
    /// Made; its command has not been executed.
    Created,
    /// Its command runs.
    Running,
    /// Its command has ended.
    Stopped,
    /// Its processes are frozen (an extension that runc began and everybody has).
    Paused,
}

impl Status {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}
