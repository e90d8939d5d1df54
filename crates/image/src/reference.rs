//! Image references in Docker's grammar.

use std::fmt;
use std::str::FromStr;

use base::Digest;

/// A parsed, normalised image reference.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not an image reference: {why}")]
pub struct ParseReferenceError {
    text: String,
    why: &'static str,
}

impl Reference {
    /// The registry's host, with its port if it has one: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }
    /// The repository within the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }
    /// The tag. `None` only where a digest is given instead.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    /// The digest, if the reference pins one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
    /// The whole name: `docker.io/library/debian:latest`. A digest replaces the tag.
    pub fn canonical(&self) -> String {
        todo!()
    }
    /// As [`Display`](fmt::Display), without tag and digest: `debian`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        todo!()
    }
    /// The same repository under a digest instead of the tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;
    fn from_str(_text: &str) -> Result<Self, ParseReferenceError> {
        todo!()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
