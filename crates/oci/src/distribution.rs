//! The distribution specification 1.1: what a registry answers besides content.

use serde::{Deserialize, Serialize};

/// The body of an error answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// One or more errors.
    #[serde(default)]
    pub errors: Vec<ErrorInfo>,
}

/// One error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// `MANIFEST_UNKNOWN`, `UNAUTHORIZED`, …
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// The answer to `GET /v2/<name>/tags/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagList {
    /// The repository.
    #[serde(default)]
    pub name: String,
    /// Its tags; `null` where there are none.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
}

/// The answer to `GET /v2/_catalog` (distribution's own; the specification has none).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The repositories, in the order of their names.
    #[serde(default)]
    pub repositories: Option<Vec<String>>,
}
