//! Uploads: blobs that come in pieces.
//!
//! ```text
//! uploads/<id>/upload.json   the repository
//! uploads/<id>/data          what has come so far; its length is the upload's offset
//! ```
//!
//! A piece says where it begins, and is taken only where the last one ended: so of two requests that write to one
//! upload (one of them from before the connection broke, say) the slower one fails, and no lock is held while a
//! client takes its time. What has come is hashed as it comes; after a restart it is hashed again from the file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::fs::{self, At};
use base::{Digest, Hasher};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::Registry;
use super::error::{Error, Result};
use super::name::{Repository, UploadId};
use super::tree::{self, Tree};

/// How many uploads may be unfinished at once. Each is a directory, and some bytes of memory.
const MOST: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Record {
    repository: String,
}

/// What is known of an upload that is used.
struct Live {
    repository: Repository,
    offset: u64,
    hasher: Hasher,
}

/// The uploads that this process knows.
#[derive(Default)]
pub(super) struct Uploads(Mutex<HashMap<UploadId, Arc<Mutex<Option<Live>>>>>);

impl Uploads {
    fn known(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Mutex<Option<Live>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: &UploadId) -> Arc<Mutex<Option<Live>>> {
        Arc::clone(self.known().entry(id.clone()).or_default())
    }

    fn forget(&self, id: &UploadId) {
        self.known().remove(id);
    }
}

impl Registry {
    /// Begins an upload.
    pub fn begin_upload(&self, repository: &Repository) -> Result<UploadId> {
        let unfinished = fs::names(&self.tree.uploads())?.len();
        if unfinished >= MOST {
            return Err(Error::TooManyUploads(unfinished));
        }
        let id = UploadId::random().map_err(Error::Random)?;
        let dir = self.tree.upload(&id);
        fs::create_dir(&dir, 0o700)?;
        fs::create_new(&dir.join("data"), b"", 0o600)?;
        let record = Record { repository: repository.as_str().to_owned() };
        // Not synced: an upload need not survive a power cut.
        let path = dir.join("upload.json");
        let text = serde_json::to_vec(&record).map_err(|_| Error::Record(path.clone()))?;
        fs::write_atomic(&path, &text, fs::Durability::Volatile)?;
        let live = Live { repository: repository.clone(), offset: 0, hasher: Hasher::default() };
        *lock(&self.uploads.entry(&id)) = Some(live);
        Ok(id)
    }

    /// How many bytes of an upload are here.
    pub fn upload_offset(&self, repository: &Repository, id: &UploadId) -> Result<u64> {
        self.with(repository, id, |live, _| Ok(live.offset))
    }

    /// Takes the piece that begins at `begins`; tells where the next one begins.
    pub fn append(&self, repository: &Repository, id: &UploadId, begins: u64, bytes: &[u8]) -> Result<u64> {
        self.with(repository, id, |live, data| {
            if begins != live.offset {
                return Err(Error::OutOfOrder { has: live.offset, begins });
            }
            if let Err(error) = data.file.write_all_at(bytes, begins).at("write", &data.path) {
                // A full disk: what has come in part has not come. If not even that can be said, the next who looks
                // finds another length than we knew, and hashes again.
                data.file.set_len(begins).ok();
                return Err(error.into());
            }
            live.hasher.update(bytes);
            live.offset += bytes.len() as u64;
            Ok(live.offset)
        })
    }

    /// Ends an upload: what has come is the blob of this digest, or the upload stays as it is.
    pub fn finish_upload(&self, repository: &Repository, id: &UploadId, wanted: &Digest) -> Result<()> {
        self.with(repository, id, |live, data| {
            let (found, _) = live.hasher.clone().finish();
            if found != *wanted {
                return Err(Error::Digest { wanted: *wanted, found });
            }
            data.file.sync_data().at("sync", &data.path)?;
            let _held = self.tree.hold()?;
            self.tree.take(repository, wanted, &data.path)?;
            Ok(fs::remove_dir_all(&self.tree.upload(id))?)
        })?;
        self.uploads.forget(id);
        Ok(())
    }

    /// Gives an upload up.
    pub fn cancel_upload(&self, repository: &Repository, id: &UploadId) -> Result<()> {
        self.with(repository, id, |_, _| Ok(fs::remove_dir_all(&self.tree.upload(id))?))?;
        self.uploads.forget(id);
        Ok(())
    }

    /// Does something with an upload while nobody else does, in this process or another one: what was hashed and what is
    /// written must be the same, or a blob could become another than its digest says.
    fn with<T>(
        &self,
        repository: &Repository,
        id: &UploadId,
        act: impl FnOnce(&mut Live, &Data) -> Result<T>,
    ) -> Result<T> {
        let unknown = || {
            self.uploads.forget(id);
            Error::Upload(id.clone())
        };
        let entry = self.uploads.entry(id);
        let mut slot = lock(&entry);
        let Some(data) = Data::open(self.tree.upload(id).join("data"))? else { return Err(unknown()) };
        let mut live = match slot.take() {
            Some(live) if live.offset == data.length => live,
            _ => load(&self.tree, id, &data)?.ok_or_else(unknown)?,
        };
        if live.repository != *repository {
            *slot = Some(live);
            return Err(Error::Upload(id.clone()));
        }
        let done = act(&mut live, &data);
        *slot = Some(live);
        done
    }

    /// Gives up the uploads that nobody has touched for so long.
    pub(super) fn sweep_uploads(&self, lifetime: Duration) -> Result<()> {
        let dir = self.tree.uploads();
        for name in fs::names(&dir)? {
            let Ok(id) = name.parse::<UploadId>() else { continue };
            let entry = self.uploads.entry(&id);
            let slot = lock(&entry);
            let age = tree::age(&dir.join(&name).join("data")).or_else(|| tree::age(&dir.join(&name)));
            if age.is_some_and(|age| age >= lifetime.as_secs()) {
                fs::remove_dir_all(&dir.join(&name))?;
            }
            if age.is_none_or(|age| age >= lifetime.as_secs()) || slot.is_none() {
                self.uploads.forget(&id);
            }
        }
        // What was to become a manifest when its writer was killed.
        for entry in std::fs::read_dir(&dir).at("list", &dir)?.flatten() {
            let path = entry.path();
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if hidden && tree::age(&path).is_some_and(|age| age >= lifetime.as_secs()) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// A file of these bytes, synced, that is somebody else's for a moment.
    pub(super) fn with_temporary<T>(&self, bytes: &[u8], act: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let path = self.tree.uploads().join(format!(".{}", tree::temporary_name()?));
        let written = (|| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(&path).at("create", &path)?;
            file.write_all_at(bytes, 0).at("write", &path)?;
            file.sync_data().at("sync", &path)?;
            act(&path)
        })();
        fs::remove_file(&path)?;
        written
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of an upload, locked.
struct Data {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Data {
    /// Waits for the lock. None if there is no such upload, or not any more when the lock was free.
    fn open(path: PathBuf) -> Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", &path)?,
        };
        flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
        let about = file.metadata().at("examine", &path)?;
        let same = std::fs::metadata(&path).is_ok_and(|now| now.ino() == about.ino());
        Ok(same.then_some(Self { path, file, length: about.len() }))
    }
}

/// From what is on disk.
fn load(tree: &Tree, id: &UploadId, data: &Data) -> Result<Option<Live>> {
    let Some(record) = tree::read::<Record>(&tree.upload(id).join("upload.json"))? else { return Ok(None) };
    let Ok(repository) = record.repository.parse() else { return Ok(None) };
    let mut live = Live { repository, offset: 0, hasher: Hasher::default() };
    let mut chunk = vec![0; 1 << 20];
    loop {
        match data.file.read_at(&mut chunk, live.offset) {
            Ok(0) => return Ok(Some(live)),
            Ok(n) => {
                live.hasher.update(&chunk[..n]);
                live.offset += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).at("read", &data.path).map_err(Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(dir: &Path) -> Registry {
        Registry::in_directory(&dir.join("registry"), Duration::from_mins(1)).unwrap()
    }

    #[test]
    fn two_processes_share_an_upload_and_what_was_hashed_is_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (registry(dir.path()), registry(dir.path()));
        let repository: Repository = "a/b".parse().unwrap();
        let id = one.begin_upload(&repository).unwrap();
        assert_eq!(one.append(&repository, &id, 0, b"abc").unwrap(), 3);
        assert_eq!(two.append(&repository, &id, 3, b"def").unwrap(), 6);
        assert!(matches!(
            one.append(&repository, &id, 3, b"xyz"),
            Err(Error::OutOfOrder { has: 6, begins: 3 })
        ));
        let other = "b".parse().unwrap();
        assert!(matches!(one.append(&other, &id, 6, b"x"), Err(Error::Upload(_))));
        let digest = Digest::of(b"abcdef");
        assert!(matches!(
            one.finish_upload(&repository, &id, &Digest::of(b"abc")),
            Err(Error::Digest { .. })
        ));
        one.finish_upload(&repository, &id, &digest).unwrap();
        // who still knows the upload cannot write to what is a blob now
        assert!(matches!(two.append(&repository, &id, 6, b"x"), Err(Error::Upload(_))));
        assert_eq!(two.blob(&repository, &digest).unwrap().size, 6);
        assert_eq!(std::fs::read_dir(one.tree.uploads()).unwrap().count(), 0);
    }

    #[test]
    fn pieces_that_race_come_one_after_the_other_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let repository: Repository = "a".parse().unwrap();
        let registries = [registry(dir.path()), registry(dir.path())];
        let id = registries[0].begin_upload(&repository).unwrap();
        std::thread::scope(|scope| {
            for (registry, letter) in registries.iter().zip([b'x', b'y']) {
                let (repository, id) = (&repository, &id);
                scope.spawn(move || {
                    for _ in 0..100 {
                        let offset = registry.upload_offset(repository, id).unwrap();
                        registry.append(repository, id, offset, &[letter; 100]).ok();
                    }
                });
            }
        });
        let written = std::fs::read(registries[0].tree.upload(&id).join("data")).unwrap();
        registries[0].finish_upload(&repository, &id, &Digest::of(&written)).unwrap();
        assert!(
            written.len() >= 10_000 && written.chunks(100).all(|piece| piece.iter().all(|b| *b == piece[0]))
        );
    }

    #[test]
    fn uploads_that_nobody_touches_are_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(dir.path());
        let repository: Repository = "a".parse().unwrap();
        let id = registry.begin_upload(&repository).unwrap();
        registry.sweep_uploads(Duration::from_mins(1)).unwrap();
        registry.append(&repository, &id, 0, b"x").unwrap();
        registry.sweep_uploads(Duration::ZERO).unwrap();
        assert!(matches!(registry.append(&repository, &id, 1, b"x"), Err(Error::Upload(_))));
    }
}
