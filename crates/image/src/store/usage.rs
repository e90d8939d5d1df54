//! What lies here and when it was last used.
//!
//! The time of last use is the modification time of the record that stands for the name: it costs a start one
//! `utimensat(2)`, and nothing has to be written.

use std::os::unix::fs::MetadataExt;

use base::fs::{self, At};
use base::{Digest, Timestamp};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::{Result, Store};
use crate::Resolved;

/// A blob as it lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Which.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Store {
    /// All blobs, whole ones or not.
    pub fn blobs(&self) -> Result<Vec<StoredBlob>> {
        let mut blobs = Vec::new();
        for name in fs::names(&self.blobs_dir())? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            // Gone since it was listed: then it is not in the list.
            if let Ok(about) = self.blob_path(&digest).symlink_metadata() {
                blobs.push(StoredBlob { digest, size: about.len() });
            }
        }
        Ok(blobs)
    }

    /// Notes that an image is used now, under this name. Nothing is lost where that fails.
    pub fn note_use(&self, record: &Resolved) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        rustix::fs::utimensat(CWD, self.record_path(record), &times, AtFlags::SYMLINK_NOFOLLOW).ok();
    }

    /// When an image was last used under this name, or came in.
    pub fn last_used(&self, record: &Resolved) -> Result<Timestamp> {
        let path = self.record_path(record);
        match path.symlink_metadata() {
            Ok(about) => {
                Ok(Timestamp(about.mtime().saturating_mul(1_000_000_000).saturating_add(about.mtime_nsec())))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Timestamp(0)),
            Err(e) => Err(e).at("examine", &path).map_err(Into::into),
        }
    }

    pub(super) fn set_last_used(&self, record: &Resolved, used: Timestamp) -> Result<()> {
        let path = self.record_path(record);
        let time =
            Timespec { tv_sec: used.0.div_euclid(1_000_000_000), tv_nsec: used.0.rem_euclid(1_000_000_000) };
        let times = Timestamps { last_access: time, last_modification: time };
        match rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other.at("set the time of", &path)?),
        }
    }
}
