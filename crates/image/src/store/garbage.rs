//! What nothing needs any more goes.
//!
//! Roots are the records of names (and of images without one), and what running ingests protect. A record tells
//! all that its image needs, so that no blob is opened here. The order makes a kill at any point harmless: a name
//! goes first, then `index.json` no longer tells of it, then its blobs go; what is left of that by a kill is
//! garbage of the next collection.

use std::collections::HashSet;

use base::Digest;
use base::fs;
use state::lock::Lock;

use super::{Result, Store};

/// What a collection found, and the store's lock: nobody can begin to rely on what is in it, nor change a name,
/// before it is dropped. Whoever holds it must not call the store or an ingest: they would wait for it.
#[derive(Debug)]
#[must_use = "the unpacked layers in it are the caller's to remove"]
pub struct Garbage {
    /// Blobs that were removed.
    pub blobs: Vec<Digest>,
    /// How many bytes they had.
    pub bytes: u64,
    /// The diff ids among those present that nothing needs: the caller removes their unpacked layers while it
    /// holds this value.
    pub layers: Vec<Digest>,
    lock: Option<Lock>,
}

impl Store {
    /// Removes blobs that no name and no running ingest needs, and tells which unpacked layers nothing needs.
    /// `present`: the diff ids that are unpacked; `in_use`: those among them that containers need, whatever
    /// names exist.
    pub fn collect_garbage(&self, present: &[Digest], in_use: &[Digest]) -> Result<Garbage> {
        let lock = self.try_lock()?;
        let mut garbage = Garbage { blobs: Vec::new(), bytes: 0, layers: Vec::new(), lock };
        if garbage.lock.is_none() {
            return Ok(garbage);
        }
        self.sweep_temporaries()?;
        let needed = self.needed(crate::ingest::protected(self.content())?)?;
        // Others must not find there what is removed now: a kill may have kept it from being written.
        if !self.index_is_current()? {
            self.write_index()?;
        }
        for name in fs::names(&self.blobs_dir())? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            if needed.contains(&digest) {
                continue;
            }
            let path = self.blob_path(&digest);
            let size = path.symlink_metadata().map_or(0, |about| about.len());
            if fs::remove_file(&path)? {
                garbage.blobs.push(digest);
                garbage.bytes += size;
            }
        }
        let needed_layer = |diff_id: &&Digest| needed.contains(diff_id) || in_use.contains(diff_id);
        garbage.layers.extend(present.iter().filter(|diff_id| !needed_layer(diff_id)));
        Ok(garbage)
    }

    /// The blobs that nothing needs, of those that are here: what the next collection would remove. Sweeps nothing.
    pub fn orphans(&self) -> Result<Vec<Digest>> {
        let Some(_lock) = self.try_lock()? else { return Ok(Vec::new()) };
        let needed = self.needed(self.relied_on()?)?;
        let names = fs::names(&self.blobs_dir())?;
        let blobs = names.iter().filter_map(|name| Digest::from_hex(name).ok());
        Ok(blobs.filter(|digest| !needed.contains(digest)).collect())
    }

    /// What pulls and loads rely on: blobs and diff ids. Those of dead ones, too, until they are swept.
    pub fn relied_on(&self) -> Result<HashSet<Digest>> {
        let ingests = self.content().join(crate::ingest::DIR);
        let mut digests = HashSet::new();
        for name in fs::names(&ingests)? {
            let files = fs::names(&ingests.join(name))?;
            digests.extend(files.iter().filter_map(|file| Digest::from_hex(file).ok()));
        }
        Ok(digests)
    }

    /// Blobs and diff ids that names need, and `protected`. A record that cannot be read is an error: what it needs
    /// is not known. The caller holds the lock.
    fn needed(&self, protected: HashSet<Digest>) -> Result<HashSet<Digest>> {
        let mut needed = protected;
        for record in self.list()? {
            needed.extend(record.blobs().chain(record.diff_ids()));
        }
        Ok(needed)
    }
}
