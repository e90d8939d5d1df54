//! Where a registry keeps things.
//!
//! ```text
//! DIR/
//!   dhow-registry                  the layout's version; its flock: shared who links or unlinks, exclusive who sweeps
//!   blobs/sha256/<hex>             every blob and manifest once
//!   uploads/<id>/                  what comes in (see `uploads`)
//!   repositories/<name>/           an OCI image layout each: `skopeo inspect oci:DIR/repositories/team+app:v1`
//!     oci-layout  index.json       index.json is written from the tags, for others; never read by us
//!     blobs/sha256/<hex>           what the repository has: further names (hard links) of the same files
//!     manifests/<hex>              which of these are manifests, and of what type
//!     tags/<tag>                   a tag → a manifest
//!     referrers/<hex>/<hex>        a subject → manifests that refer to it
//! ```
//!
//! The file system counts: a blob below `blobs/` that has no other name is nobody's. So a local store of images can
//! share its files with a registry without either knowing what the other keeps.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base::Digest;
use base::fs::{self, At, Durability};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat_with};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use super::name::{Repository, Tag, UploadId};

const MARK: &str = "dhow-registry";
const VERSION: u32 = 1;

/// The directories of a registry.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    dir: PathBuf,
}

/// Holds off sweepers (or, exclusive, everybody).
pub(super) struct Held(#[allow(dead_code, reason = "its end releases the lock")] rustix::fd::OwnedFd);

impl Tree {
    /// Opens or makes one. A directory with other things in it is refused.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let tree = Self { dir: std::path::absolute(dir).at("make absolute", dir)? };
        let mark = tree.dir.join(MARK);
        if let Some(text) = fs::read_if_exists(&mark)? {
            let version = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u32>().ok());
            match version {
                Some(version) if version <= VERSION => {}
                Some(_) => return Err(Error::Newer(tree.dir)),
                None => return Err(Error::Record(mark)),
            }
        } else {
            fs::create_dir_all(&tree.dir, 0o700)?;
            let entries = std::fs::read_dir(&tree.dir).at("list", &tree.dir)?;
            // What another `open` is just making is ours, too.
            let foreign = |entry: std::fs::DirEntry| {
                !entry.file_name().as_encoded_bytes().starts_with(format!(".{MARK}").as_bytes())
            };
            if entries.flatten().any(foreign) && !mark.exists() {
                return Err(Error::NotOurs(tree.dir));
            }
            fs::write_atomic(&mark, format!("{VERSION}\n").as_bytes(), Durability::Synced)?;
        }
        for below in ["blobs/sha256", "uploads", "repositories"] {
            fs::create_dir_all(&tree.dir.join(below), 0o700)?;
        }
        Ok(tree)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    pub(super) fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(id.as_str())
    }

    pub(super) fn repositories(&self) -> PathBuf {
        self.dir.join("repositories")
    }

    pub(super) fn repository(&self, repository: &Repository) -> PathBuf {
        self.repositories().join(repository.file_name())
    }

    pub(super) fn own_blob(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.repository(repository).join("blobs/sha256").join(digest.hex())
    }

    pub(super) fn manifest(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.repository(repository).join("manifests").join(digest.hex())
    }

    pub(super) fn tag(&self, repository: &Repository, tag: &Tag) -> PathBuf {
        self.repository(repository).join("tags").join(tag.as_str())
    }

    pub(super) fn referrers(&self, repository: &Repository, subject: &Digest) -> PathBuf {
        self.repository(repository).join("referrers").join(subject.hex())
    }

    /// Keeps sweepers away while something is made of several steps.
    pub(super) fn hold(&self) -> Result<Held> {
        self.lock(FlockOperation::LockShared)
    }

    /// Keeps everybody away.
    pub(super) fn hold_alone(&self) -> Result<Held> {
        self.lock(FlockOperation::LockExclusive)
    }

    fn lock(&self, how: FlockOperation) -> Result<Held> {
        let path = self.dir.join(MARK);
        let file = openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", &path)?;
        flock(&file, how).at("lock", &path)?;
        Ok(Held(file))
    }

    pub(super) fn has_repository(&self, repository: &Repository) -> bool {
        self.repository(repository).is_dir()
    }

    /// Makes a repository, if it is not there.
    pub(super) fn ensure(&self, repository: &Repository) -> Result<()> {
        let dir = self.repository(repository);
        if dir.join("oci-layout").exists() {
            return Ok(());
        }
        for below in ["blobs/sha256", "manifests", "tags", "referrers"] {
            fs::create_dir_all(&dir.join(below), 0o700)?;
        }
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        fs::write_atomic(&dir.join("oci-layout"), layout, Durability::Synced)?;
        Ok(fs::sync_dir(&self.repositories())?)
    }

    /// Makes a file, synced and verified by the caller, the blob of this digest, and gives it to a repository. The
    /// caller holds the tree.
    pub(super) fn keep(&self, repository: &Repository, digest: &Digest, file: &Path) -> Result<()> {
        let blob = self.blob(digest);
        match std::fs::hard_link(file, &blob) {
            Ok(()) => fs::sync_dir(&self.blobs())?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks) => {
                copy(file, &blob)?;
            }
            Err(e) => return Err(e).at("link", file).map_err(Error::from),
        }
        self.link(repository, digest).map(drop)
    }

    /// The same with a file that somebody could still write to by its name: it loses that. The caller has locked it.
    pub(super) fn take(&self, repository: &Repository, digest: &Digest, file: &Path) -> Result<()> {
        let blob = self.blob(digest);
        match renameat_with(CWD, file, CWD, &blob, RenameFlags::NOREPLACE) {
            // Somebody has brought the same: all have the one file.
            Err(Errno::EXIST) => {}
            // Not every file system knows how not to replace. Then what is replaced is the same.
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(file, &blob)?,
            other => other.at("rename", file)?,
        }
        fs::sync_dir(&self.blobs())?;
        self.link(repository, digest).map(drop)
    }

    /// Gives a repository a blob that some repository has. False if none has. The caller holds the tree.
    pub(super) fn link(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let (from, to) = (self.blob(digest), self.own_blob(repository, digest));
        if to.exists() {
            return Ok(true);
        }
        if !from.exists() {
            return Ok(false);
        }
        self.ensure(repository)?;
        match std::fs::hard_link(&from, &to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // 65000 names on ext4. A file of its own then.
            Err(e) if e.kind() == io::ErrorKind::TooManyLinks => copy(&from, &to)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e).at("link", &from).map_err(Error::from),
        }
        // It may be an old one, and no manifest needs it yet.
        touch(&to);
        if let Some(parent) = to.parent() {
            fs::sync_dir(parent)?;
        }
        Ok(true)
    }

    /// All repositories, in order.
    pub(super) fn list(&self) -> Result<Vec<Repository>> {
        let names = fs::names(&self.repositories())?;
        let mut found: Vec<_> = names.iter().filter_map(|name| Repository::from_file_name(name)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The digests that a directory's files are named after.
    pub(super) fn digests(dir: &Path) -> Result<Vec<Digest>> {
        Ok(fs::names(dir)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }
}

/// Copies a file beside its place, and puts it there whole.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let beside = to.with_file_name(format!(".{}", temporary_name()?));
    let copied = std::fs::copy(from, &beside)
        .at("copy", from)
        .and_then(|_| fs::open(&beside)?.sync_data().at("sync", &beside));
    if let Err(error) = copied {
        fs::remove_file(&beside)?;
        return Err(error.into());
    }
    fs::rename(&beside, to)?;
    Ok(to.parent().map_or(Ok(()), fs::sync_dir)?)
}

/// Writes a small record, durably.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|_| Error::Record(path.to_owned()))?;
    Ok(fs::write_atomic(path, &text, Durability::Synced)?)
}

/// Reads one; none if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = fs::read_if_exists(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|_| Error::Record(path.to_owned()))
}

/// How old a file is, in seconds by its modification; none if it is not there.
pub(super) fn age(path: &Path) -> Option<u64> {
    let modified = std::fs::metadata(path).ok()?.mtime();
    let now = base::Timestamp::now().0 / 1_000_000_000;
    Some(now.saturating_sub(modified).max(0) as u64)
}

/// Makes a file one that somebody has needed just now. Where that cannot be, it is an old one.
pub(super) fn touch(path: &Path) {
    if let Ok(file) = fs::open(path) {
        file.set_modified(SystemTime::now()).ok();
    }
}

/// A name for a temporary file that nobody else uses.
pub(super) fn temporary_name() -> Result<String> {
    Ok(UploadId::random().map_err(Error::Random)?.as_str().to_owned())
}
