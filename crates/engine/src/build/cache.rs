//! What was done before: a small file for each key, which names the layer that came of it.
//!
//! ```text
//! ROOT/build/                 its lock: shared by builds, exclusive for who collects layers
//!   records/<key>             a record; when it was used last is its own time
//!   blobs/<diff id>           the blob that a layer was packed into
//!   running/<key>             locked while somebody does that step
//!   caches/<id>/              cache mounts
//!   http/<address>/           what came from the web
//!   git/<address>/            a repository
//!   digests/<context>         the digests of a context's files
//!   explain/<what is built>   what the steps were made of the last time
//! ```
//!
//! A record is replaced by rename, and may be lost at any time: then the step is done again. A record whose layer is gone is
//! none.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::fs::{self, At, Durability};
use base::{Digest, Timestamp};
use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use state::Instance;
use state::lock::Lock;

use super::cancel::Cancel;
use super::error::Error;
use crate::error::Result;

/// The newest format of records that this code reads and the one that it writes.
const FORMAT: u32 = 1;
/// How often somebody looks whether another build is done with a step.
const LOOK: Duration = Duration::from_millis(10);

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// [`FORMAT`] of the writer.
    pub(crate) format: u32,
    /// Its layer.
    pub(crate) layer: Digest,
    /// The length of that layer's archive in bytes.
    pub(crate) size: u64,
    /// When it was done.
    pub(crate) created: Timestamp,
    /// How many milliseconds it took.
    pub(crate) took: u64,
    /// The step, as people know it.
    pub(crate) title: String,
}

impl Record {
    pub(crate) fn new(layer: Digest, size: u64, took: Duration, title: &str) -> Self {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Self { format: FORMAT, layer, size, created: Timestamp::now(), took, title: title.to_owned() }
    }
}

/// A record that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) key: Digest,
    pub(crate) record: Record,
    /// When it was used last.
    pub(crate) used: Timestamp,
}

/// A layer's blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The cache of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Touches nothing.
    pub(crate) fn of(instance: &Instance) -> Self {
        Self { dir: instance.root().join("build") }
    }

    /// Makes the directories that are missing.
    pub(crate) fn make(&self) -> fs::Result<()> {
        for name in ["records", "blobs", "running", "caches", "explain", "digests"] {
            let path = self.dir.join(name);
            if !path.is_dir() {
                fs::create_dir_all(&path, 0o700)?;
            }
        }
        Ok(())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Held by a build: no layers are collected meanwhile.
    pub(crate) fn share(&self) -> fs::Result<Lock> {
        Lock::shared(&self.dir)
    }

    /// Held by who collects layers; none while somebody builds.
    pub(crate) fn try_own(&self) -> fs::Result<Option<Lock>> {
        fs::create_dir_all(&self.dir, 0o700)?;
        Lock::try_exclusive(&self.dir)
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.dir.join("records").join(key.hex())
    }

    /// What is there of a key, whether its layer is or not.
    pub(crate) fn find(&self, key: &Digest) -> fs::Result<Option<Record>> {
        let Some(bytes) = fs::read_if_exists(&self.path(key))? else { return Ok(None) };
        // One that was torn by a power cut, or that a later release wrote, is none.
        let record = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|record: &Record| record.format <= FORMAT))
    }

    /// Notes that it is used.
    pub(crate) fn touch(&self, key: &Digest) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // Only a collection asks: where it cannot be noted, it seems older than it is.
        rustix::fs::utimensat(CWD, self.path(key), &times, AtFlags::empty()).ok();
    }

    pub(crate) fn put(&self, key: &Digest, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(Error::Encode)?;
        Ok(fs::write_atomic(&self.path(key), &bytes, Durability::Volatile)?)
    }

    pub(crate) fn remove(&self, key: &Digest) -> fs::Result<bool> {
        fs::remove_file(&self.path(key))
    }

    /// All records.
    pub(crate) fn list(&self) -> fs::Result<Vec<Found>> {
        let mut all = Vec::new();
        for name in fs::names(&self.dir.join("records"))? {
            let Ok(key) = Digest::from_hex(&name) else { continue };
            let path = self.path(&key);
            let Ok(about) = std::fs::metadata(&path) else { continue };
            match self.find(&key)? {
                Some(record) => {
                    let used = Timestamp(
                        about.mtime().saturating_mul(1_000_000_000).saturating_add(about.mtime_nsec()),
                    );
                    all.push(Found { key, record, used });
                }
                None => drop(fs::remove_file(&path)?),
            }
        }
        Ok(all)
    }

    /// The layers that records name.
    pub(crate) fn layers(&self) -> fs::Result<Vec<Digest>> {
        Ok(self.list()?.into_iter().map(|found| found.record.layer).collect())
    }

    /// The blob that a layer was packed into, wherever that is now.
    pub(crate) fn blob(&self, layer: &Digest) -> Option<Blob> {
        let bytes = fs::read_if_exists(&self.dir.join("blobs").join(layer.hex())).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn put_blob(&self, layer: &Digest, blob: &Blob) -> Result<()> {
        let bytes = serde_json::to_vec(blob).map_err(Error::Encode)?;
        Ok(fs::write_atomic(&self.dir.join("blobs").join(layer.hex()), &bytes, Durability::Volatile)?)
    }

    /// Forgets blobs of layers that are not among these.
    pub(crate) fn retain_blobs(&self, keep: &dyn Fn(&Digest) -> bool) -> fs::Result<()> {
        let dir = self.dir.join("blobs");
        for name in fs::names(&dir)? {
            if Digest::from_hex(&name).is_ok_and(|layer| !keep(&layer)) {
                fs::remove_file(&dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Waits until nobody else does this step, and lets others wait while what is returned lives.
    pub(crate) fn claim(&self, key: &Digest, cancel: &Cancel) -> Result<Claim> {
        let path = self.dir.join("running").join(key.hex());
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let file = file.at("create", &path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if file.metadata().at("look at", &path)?.nlink() > 0 => {
                    return Ok(Claim { path, _file: file });
                }
                // Whoever had it has taken the file away: the next is another one.
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    cancel.check()?;
                    std::thread::sleep(LOOK);
                }
                Err(e) => return Err(e).at("lock", &path).map_err(Into::into),
            }
        }
    }

    /// Removes what builds that died have left of claims.
    pub(crate) fn sweep(&self) {
        let dir = self.dir.join("running");
        for name in fs::names(&dir).unwrap_or_default() {
            let path = dir.join(name);
            let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_file(&path).ok();
            }
        }
    }
}

/// That a step is being done.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    _file: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: who opens it now finds a file without a name, and tries again.
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { dir: dir.path().join("build") };
        cache.make().unwrap();
        (dir, cache)
    }

    #[test]
    fn records_are_found_again_and_torn_ones_are_none() {
        let (_dir, cache) = cache();
        let key = Digest::of(b"key");
        assert_eq!(cache.find(&key).unwrap(), None);
        let record = Record::new(Digest::of(b"layer"), 7, Duration::from_secs(1), "RUN x");
        cache.put(&key, &record).unwrap();
        cache.touch(&key);
        assert_eq!(cache.find(&key).unwrap(), Some(record));
        std::fs::write(cache.path(&key), "{").unwrap();
        assert_eq!(cache.find(&key).unwrap(), None);
        assert!(cache.list().unwrap().is_empty());
        assert!(!cache.path(&key).exists());
    }

    #[test]
    fn a_step_is_done_by_one_at_a_time() {
        let (_dir, cache) = cache();
        let (key, cancel) = (Digest::of(b"key"), Cancel::default());
        let claim = cache.claim(&key, &cancel).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| drop(cache.claim(&key, &cancel).unwrap()));
            std::thread::sleep(LOOK * 3);
            assert!(!other.is_finished());
            drop(claim);
        });
        assert!(fs::names(&cache.dir.join("running")).unwrap().is_empty());
    }

    #[test]
    fn who_waits_can_be_interrupted() {
        let (_dir, cache) = cache();
        let (key, cancel) = (Digest::of(b"key"), Cancel::default());
        let _claim = cache.claim(&key, &cancel).unwrap();
        cancel.interrupt();
        assert!(cache.claim(&key, &cancel).is_err());
    }
}
