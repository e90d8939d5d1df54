//! Which repositories have a blob, as far as we have seen: `content/.origins/<hex>`, a line `host repository` for
//! each, the last seen first. A registry takes a blob over from one of its repositories into another without being
//! sent it. What is lost here, or no longer true, costs an upload and nothing else.

use std::path::PathBuf;

use base::Digest;
use base::fs::{self, Durability};

use crate::store::{Result, Store};

/// Where they are, below `content`.
const DIR: &str = ".origins";
/// How many repositories are remembered of one blob.
const MOST: usize = 8;

impl Store {
    /// Remembers that a repository has these blobs, and forgets blobs that are gone.
    pub fn remember_origin(
        &self,
        host: &str,
        repository: &str,
        blobs: impl IntoIterator<Item = Digest>,
    ) -> Result<()> {
        let dir = self.origins_dir();
        fs::create_dir_all(&dir, 0o700)?;
        let line = format!("{host} {repository}");
        for digest in blobs {
            let path = dir.join(digest.hex());
            let before = fs::read_if_exists(&path)?.unwrap_or_default();
            let before = String::from_utf8_lossy(&before);
            if before.lines().next() == Some(&line) {
                continue;
            }
            let lines = std::iter::once(&*line).chain(before.lines().filter(|other| *other != line));
            let text: String = lines.take(MOST).flat_map(|line| [line, "\n"]).collect();
            fs::write_atomic(&path, text.as_bytes(), Durability::Volatile)?;
        }
        for name in fs::names(&dir)? {
            let gone = Digest::from_hex(&name).map_or(true, |digest| !self.blob_path(&digest).exists());
            if gone {
                fs::remove_file(&dir.join(name))?;
            }
        }
        Ok(())
    }

    /// The registries and repositories that had the blob when we last heard of it, the last seen first.
    pub fn origins(&self, digest: &Digest) -> Result<Vec<(String, String)>> {
        let bytes = fs::read_if_exists(&self.origins_dir().join(digest.hex()))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.map(|(host, repository)| (host.to_owned(), repository.to_owned())).collect())
    }

    /// A repository of this registry, other than `repository`, that had the blob when we last heard of it.
    pub fn origin(&self, digest: &Digest, host: &str, repository: &str) -> Result<Option<String>> {
        let mut origins = self.origins(digest)?.into_iter();
        Ok(origins.find(|(at, other)| at == host && other != repository).map(|(_, other)| other))
    }

    fn origins_dir(&self) -> PathBuf {
        self.content().join(DIR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::Instance;

    #[test]
    fn the_last_repositories_are_remembered_while_the_blob_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        instance.create_dirs().unwrap();
        let store = Store::open(&instance).unwrap();
        let digest = Digest::of(b"x");
        let origin = |host: &str, but: &str| store.origin(&digest, host, but).unwrap();
        assert_eq!(origin("h", "a"), None);
        fs::create_dir_all(&store.blobs_dir(), 0o700).unwrap();
        std::fs::write(store.blob_path(&digest), "x").unwrap();
        for repository in ["a", "b", "a", "c"] {
            store.remember_origin("h", repository, [digest]).unwrap();
        }
        store.remember_origin("other", "z", [digest]).unwrap();
        assert_eq!(origin("h", "c").as_deref(), Some("a"));
        assert_eq!(origin("h", "x").as_deref(), Some("c"));
        assert_eq!(origin("other", "z"), None);
        for number in 0..20 {
            store.remember_origin("h", &format!("r{number}"), [digest]).unwrap();
        }
        let text = std::fs::read_to_string(store.origins_dir().join(digest.hex())).unwrap();
        assert_eq!(text.lines().count(), MOST);
        std::fs::remove_file(store.blob_path(&digest)).unwrap();
        store.remember_origin("h", "a", []).unwrap();
        assert_eq!(origin("h", "x"), None);
    }
}
