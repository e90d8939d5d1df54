//! What goes by itself: uploads that nobody ends, blobs that no manifest came to need, tags whose local image has gone.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use base::{Digest, fs};

use super::document::understand;
use super::error::Result;
use super::manifests::{Record, needed};
use super::name::Repository;
use super::tree::{self, Tree};
use super::{LIFETIME, Registry};
use crate::Engine;

impl Registry {
    /// Sweeps once. Whoever serves the registry calls this now and then; others may be at work meanwhile.
    pub fn sweep(&self) -> Result<()> {
        self.sweep_uploads(self.lifetime)?;
        for repository in self.tree.list()? {
            // One after the other, so that nobody waits for all of them.
            let _alone = self.tree.hold_alone()?;
            self.sweep_followers(&repository)?;
            self.sweep_unasked(&repository)?;
            self.sweep_blobs(&repository)?;
        }
        let _alone = self.tree.hold_alone()?;
        self.sweep_unowned()
    }

    /// Sweeps what the names of local images have left, and nothing else.
    fn follow_names(&self) -> Result<()> {
        for repository in self.tree.list()? {
            let _alone = self.tree.hold_alone()?;
            self.sweep_followers(&repository)?;
        }
        let _alone = self.tree.hold_alone()?;
        self.sweep_unowned()
    }

    /// Blobs that no repository (and no store of images) has.
    fn sweep_unowned(&self) -> Result<()> {
        let dir = self.tree.blobs();
        for digest in Tree::digests(&dir)? {
            let path = self.tree.blob(&digest);
            if std::fs::metadata(&path).is_ok_and(|about| about.nlink() == 1) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Tags that followed a local image whose name has gone, and what nothing else needs of it.
    fn sweep_followers(&self, repository: &Repository) -> Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let _tags = self.alone_in(repository)?;
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        for tag in self.own_tags(repository)? {
            let Some(tagged) = self.tagged(repository, &tag)? else { continue };
            if tagged.local && local.find(repository, &tag)?.is_none() {
                fs::remove_file(&self.tree.tag(repository, &tag))?;
                lost.push(tagged.digest);
            } else {
                kept.push(tagged.digest);
            }
        }
        let (kept, lost) = (self.reachable(repository, kept)?, self.reachable(repository, lost)?);
        let mut unneeded: HashSet<Digest> = HashSet::new();
        for digest in Tree::digests(&self.tree.repository(repository).join("manifests"))? {
            // What has lost its tag goes. What has none (yet: it may be part of a push) has its time.
            let age = tree::age(&self.tree.manifest(repository, &digest)).unwrap_or_default();
            if !kept.contains(&digest) && (lost.contains(&digest) || age >= self.lifetime.as_secs()) {
                unneeded.extend(self.remove_manifest(repository, &digest)?);
            }
        }
        if !unneeded.is_empty() {
            let needed = needed(&self.tree, repository)?;
            self.remove_blobs(repository, |digest, _| unneeded.contains(digest) && !needed.contains(digest))?;
            self.write_index(repository)?;
        }
        Ok(())
    }

    /// In a mirror, manifests that nobody has asked for in a long time. What they needed goes with the unneeded blobs.
    fn sweep_unasked(&self, repository: &Repository) -> Result<()> {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let mut gone = HashSet::new();
        for digest in Tree::digests(&self.tree.repository(repository).join("manifests"))? {
            let age = tree::age(&self.tree.manifest(repository, &digest)).unwrap_or_default();
            if age >= mirror.keep.as_secs() {
                self.remove_manifest(repository, &digest)?;
                gone.insert(digest);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let _tags = self.alone_in(repository)?;
        for tag in self.own_tags(repository)? {
            if self.tagged(repository, &tag)?.is_some_and(|tagged| gone.contains(&tagged.digest)) {
                fs::remove_file(&self.tree.tag(repository, &tag))?;
            }
        }
        self.write_index(repository)
    }

    /// Removes a manifest; tells what it needed.
    fn remove_manifest(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Digest>> {
        let (path, blob) = (self.tree.manifest(repository, digest), self.tree.own_blob(repository, digest));
        let record: Option<Record> = tree::read(&path)?;
        if let Some(subject) = record.and_then(|record| record.subject) {
            fs::remove_file(&self.tree.referrers(repository, &subject).join(digest.hex()))?;
        }
        let understood = understand(&fs::read_if_exists(&blob)?.unwrap_or_default(), None);
        fs::remove_file(&path)?;
        fs::remove_file(&blob)?;
        Ok(understood.map(|found| found.blobs).unwrap_or_default().into_iter().chain([*digest]).collect())
    }

    /// Manifests that these lead to, and those that refer to one of them.
    fn reachable(&self, repository: &Repository, mut front: Vec<Digest>) -> Result<HashSet<Digest>> {
        let mut reached = HashSet::new();
        while let Some(digest) = front.pop() {
            if !reached.insert(digest) {
                continue;
            }
            front.extend(Tree::digests(&self.tree.referrers(repository, &digest))?);
            let bytes = fs::read_if_exists(&self.tree.own_blob(repository, &digest))?.unwrap_or_default();
            if let Ok(understood) = understand(&bytes, None) {
                front.extend(understood.manifests);
            }
        }
        Ok(reached)
    }

    fn sweep_blobs(&self, repository: &Repository) -> Result<()> {
        let lifetime = self.lifetime.as_secs();
        let mut old = false;
        self.remove_blobs(repository, |_, age| {
            old |= age >= lifetime;
            false
        })?;
        // Most repositories end here.
        if !old {
            return Ok(());
        }
        let needed = needed(&self.tree, repository)?;
        self.remove_blobs(repository, |digest, age| age >= lifetime && !needed.contains(digest))
    }

    fn remove_blobs(
        &self,
        repository: &Repository,
        mut which: impl FnMut(&Digest, u64) -> bool,
    ) -> Result<()> {
        for digest in Tree::digests(&self.tree.repository(repository).join("blobs/sha256"))? {
            let path = self.tree.own_blob(repository, &digest);
            if tree::age(&path).is_some_and(|age| which(&digest, age)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Lets go what the registry of local images has of those that were removed: whoever removes images ends with this.
    pub(crate) fn sweep_registry(&self) -> crate::Result<()> {
        if self.registry_directory().exists() {
            Registry::of_images(self, LIFETIME)?.follow_names()?;
        }
        Ok(())
    }
}
