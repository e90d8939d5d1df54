//! `load`: images come from an archive or a directory.

use std::path::PathBuf;

use base::Digest;
use base::progress::Progress;

use crate::Engine;
use crate::error::{Result, unbuilt};

/// Where images are loaded from.
#[derive(Debug, Clone)]
pub enum LoadSource {
    /// A `docker save` archive, an OCI archive, or an OCI layout directory.
    Path(PathBuf),
    /// An archive on standard input.
    Stdin,
}

/// One loaded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its name in familiar form, if the archive gave it one.
    pub reference: Option<String>,
    /// Its id.
    pub id: Digest,
}

impl Engine {
    /// Loads every image of an archive.
    pub fn load(&self, _source: &LoadSource, _progress: &dyn Progress) -> Result<Vec<Loaded>> {
        Err(unbuilt("load"))
    }
}
