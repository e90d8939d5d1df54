//! Blobs of a repository.

use std::fs::File;
use std::time::SystemTime;

use base::Digest;
use base::fs::{self, At};

use super::error::{Error, Result};
use super::name::Repository;
use super::{Registry, tree};

/// A blob to be read.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes.
    pub file: File,
    /// How many.
    pub size: u64,
}

impl Registry {
    /// Opens a blob.
    pub fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Blob> {
        let path = self.tree.own_blob(repository, digest);
        let file = match fs::open(&path) {
            Err(e) if e.is_not_found() => return Err(self.no_blob(repository, digest)),
            other => other?,
        };
        let size = file.metadata().at("examine", &path)?.len();
        // Whoever was told that it is here relies on it for a while.
        if tree::age(&path).is_some_and(|age| age > self.lifetime.as_secs() / 2) {
            file.set_modified(SystemTime::now()).ok();
        }
        Ok(Blob { file, size })
    }

    /// Removes a blob from a repository. What others have of it stays.
    pub fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let _held = self.tree.hold()?;
        // A manifest goes by its own way, with what points to it.
        if self.tree.manifest(repository, digest).exists()
            || !fs::remove_file(&self.tree.own_blob(repository, digest))?
        {
            return Err(self.no_blob(repository, digest));
        }
        Ok(())
    }

    /// Gives a repository a blob that another one has (any, where none is named). False if it has not.
    pub fn mount(&self, repository: &Repository, digest: &Digest, from: Option<&Repository>) -> Result<bool> {
        let _held = self.tree.hold()?;
        let there = match from {
            Some(from) => self.tree.own_blob(from, digest).exists() || self.lend_local(from, digest)?,
            None => true,
        };
        Ok(there && self.tree.link(repository, digest)?)
    }

    pub(super) fn no_blob(&self, repository: &Repository, digest: &Digest) -> Error {
        if self.exists(repository) {
            Error::Blob { repository: repository.clone(), digest: *digest }
        } else {
            Error::Repository(repository.clone())
        }
    }
}
