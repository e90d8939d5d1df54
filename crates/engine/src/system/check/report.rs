//! What a check found.

use serde::Serialize;

/// All that a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Checked {
    /// Names of images, and images without one.
    pub records: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Checked {
    /// Whether nothing is wrong any more.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| matches!(problem.outcome, Outcome::Repaired(_)))
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Problem {
    /// What kind of thing it is.
    pub kind: ProblemKind,
    /// Which one: a digest, a path, a name.
    pub object: String,
    /// What is wrong with it.
    pub detail: String,
    /// The images and containers that need it.
    pub needed_by: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, object: impl ToString, detail: impl ToString) -> Self {
        let (object, detail) = (object.to_string(), detail.to_string());
        Self { kind, object, detail, needed_by: Vec::new(), outcome: Outcome::Found }
    }

    pub(super) fn needed_by(self, needed_by: &[String]) -> Self {
        Self { needed_by: needed_by.to_vec(), ..self }
    }
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// The record of a name cannot be used.
    Record,
    /// The record of a container cannot be used.
    ContainerRecord,
    /// A blob is not what its name says.
    DamagedBlob,
    /// A blob that an image needs is not here.
    MissingBlob,
    /// `index.json` or `oci-layout` does not say what is here.
    Layout,
    /// An unpacked layer is not what its blob says.
    DamagedLayer,
    /// A layer that an image or container needs is not unpacked.
    MissingLayer,
    /// A blob or layer that nothing needs.
    Orphan,
    /// What somebody who died has left.
    Leftover,
    /// A name that is claimed for a container that there is not.
    Claim,
}

/// What became of a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "Result", content = "Reason", rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was tried.
    Found,
    /// It is mended: how.
    Repaired(String),
    /// It is not: why.
    NotRepaired(String),
}
