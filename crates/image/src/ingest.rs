//! A pull or load in progress: `content/.ingest/<random>/`.
//!
//! The directory holds what is being written, and an empty file, named by the hexadecimal digits, for each
//! digest that the ingest relies on. Its flock is the ingest's life: a directory whose lock is free belongs to
//! a dead process, and the next ingest removes it. A blob comes to its place by rename, verified and synced:
//! whole or not at all. Those that come over the network can be taken up by a later pull, and lie elsewhere until
//! they are whole: see [`crate::partial`].

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::fs::{self, At};
use base::{Digest, Sha256Reader};
use state::lock::Lock;

use crate::manifest::{self, Document, DocumentError};
use crate::partial;
use crate::store::{Error, Result, Store};
use crate::{Reference, Resolved};

pub(crate) const DIR: &str = ".ingest";

/// A pull or load in progress. What it received or asked for is safe from garbage collection until it is
/// dropped; what it leaves behind, also when killed, is swept by the next one.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    dir: PathBuf,
    next: AtomicU64,
    /// Blobs that were not here before, until a commit relies on them; and where they go if none does.
    arrived: Mutex<HashMap<Digest, Otherwise>>,
    _life: Lock,
}

/// What becomes of a blob that came for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// It is removed.
    Gone,
    /// It was fetched, and the next try should not have to do it again.
    Partial,
}

impl Ingest {
    /// The caller holds the store's lock, so that nobody takes the new directory for a dead one's.
    pub(crate) fn begin(store: Store) -> Result<Self> {
        let parent = store.content().join(DIR);
        // Who died may have written a name, and not yet what others read of it.
        if sweep(&parent)? && matches!(store.index_is_current(), Ok(false)) {
            store.write_index()?;
        }
        store.sweep_temporaries()?;
        store.sweep_partial(partial::KEPT)?;
        let id = base::Id::random().at("name a directory in", &parent)?;
        let dir = parent.join(id.short());
        fs::create_dir(&dir, 0o700)?;
        let life = Lock::exclusive(&dir)?;
        Ok(Self { store, dir, next: AtomicU64::new(0), arrived: Mutex::default(), _life: life })
    }

    /// The store that this fills.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Protects digests (of blobs, or diff ids of unpacked layers) from collection while this ingest lives.
    /// Ask whether something exists only after protecting it.
    pub fn protect(&self, digests: &[Digest]) -> Result<()> {
        let _lock = Lock::shared(self.store.content())?;
        for digest in digests {
            let path = self.dir.join(digest.hex());
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .at("create", &path)?;
        }
        Ok(())
    }

    /// Whether the store has this blob; protects it first.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        self.protect(std::slice::from_ref(digest))?;
        Ok(self.store.blob_path(digest).exists())
    }

    /// Receives a blob: verified, synced, and then all at once there.
    pub fn write_blob(&self, claimed: &Digest, size: Option<u64>, reader: impl Read) -> Result<()> {
        self.receive(claimed, size, reader)?.finish()
    }

    /// Takes over a blob that lies in a file which its owner has verified and synced, and never changes: as one more
    /// name of that file, or, across file systems, as a copy.
    pub fn adopt(&self, digest: &Digest, file: &Path) -> Result<()> {
        if self.has_blob(digest)? {
            return Ok(());
        }
        let path = self.store.blob_path(digest);
        match std::fs::hard_link(file, &path) {
            Ok(()) => {
                self.arrived().insert(*digest, Otherwise::Gone);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) if matches!(e.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks) => {
                self.write_blob(digest, None, fs::open(file)?)
            }
            Err(e) => Err(e).at("link", file).map_err(Error::from),
        }
    }

    /// Begins to receive a blob: whoever reads the receiver (to unpack the layer, say) has the bytes written to
    /// the store on the way. [`Receiver::finish`] reads the rest, verifies and keeps them.
    pub fn receive<R: Read>(
        &self,
        claimed: &Digest,
        size: Option<u64>,
        reader: R,
    ) -> Result<Receiver<'_, R>> {
        self.protect(std::slice::from_ref(claimed))?;
        let bound = size.unwrap_or(u64::MAX - 1);
        // One byte more than announced is enough to know that it goes on.
        let reader = Sha256Reader::new(reader.take(bound + 1));
        Ok(Receiver { ingest: self, claimed: *claimed, size, written: 0, reader, file: self.temporary()? })
    }

    /// A file in this ingest's directory, gone when dropped unless it is renamed.
    pub(crate) fn temporary(&self) -> Result<Temporary> {
        let path = self.dir.join(format!("new-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        Ok(Temporary { file: file.at("create", &path)?, path, kept: false })
    }

    /// Makes a temporary file the blob `digest`, which its content has been verified to be.
    pub(crate) fn keep(&self, mut temporary: Temporary, digest: &Digest) -> Result<()> {
        temporary.file.sync_data().at("sync", &temporary.path)?;
        self.place(&temporary.path, digest, Otherwise::Gone)?;
        temporary.kept = true;
        Ok(())
    }

    /// Makes a file that was verified and synced the blob `digest`. If the pull fails it is a partial one again.
    pub(crate) fn take_in(&self, file: &Path, digest: &Digest) -> Result<()> {
        self.place(file, digest, Otherwise::Partial)
    }

    fn place(&self, file: &Path, digest: &Digest, otherwise: Otherwise) -> Result<()> {
        let path = self.store.blob_path(digest);
        if !path.exists() {
            self.arrived().insert(*digest, otherwise);
        }
        Ok(fs::rename(file, &path)?)
    }

    /// Reads and checks a manifest and its configuration, which must both be here; the layers need not, nor an
    /// artifact's configuration. The record it returns has no name yet.
    pub fn inspect(&self, digest: &Digest) -> Result<Resolved> {
        let what = |what, digest| move |source: DocumentError| Error::Document { what, digest, source };
        let bytes = self.store.read_blob(digest)?;
        let refused = what("manifest", *digest);
        let manifest = match manifest::classify(&bytes, None).map_err(refused)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) => return Err(refused(DocumentError::Neither)),
        };
        if let Some(kind) = manifest::artifact_type(&manifest) {
            return Resolved::of_artifact(*digest, bytes.len() as u64, &manifest, kind).map_err(refused);
        }
        manifest::check_manifest(&manifest).map_err(refused)?;
        let id = manifest.config.digest;
        let config = manifest::parse_config(&self.store.read_blob(&id)?, &manifest)
            .map_err(what("configuration", id))?;
        Resolved::new(*digest, bytes.len() as u64, &manifest, config).map_err(refused)
    }

    /// Gives an image a name (none: it is kept without one), durably. Its blobs must all be here. `source` is
    /// what the registry has under that name, if that is an index.
    pub fn commit(
        &self,
        reference: Option<&Reference>,
        manifest: &Digest,
        source: Option<&Digest>,
    ) -> Result<Resolved> {
        self.commit_with(reference, manifest, source, &[])
    }

    /// The same with more blobs that belong to it: what the index `source` has for other platforms.
    pub fn commit_with(
        &self,
        reference: Option<&Reference>,
        manifest: &Digest,
        source: Option<&Digest>,
        others: &[Digest],
    ) -> Result<Resolved> {
        let mut record = self.inspect(manifest)?;
        record.reference = reference.map(Reference::canonical).unwrap_or_default();
        record.source = source.copied();
        record.others.extend(others);
        // The blobs' content is synced; now their names, before a name of ours points to them.
        fs::sync_dir(&self.store.blobs_dir())?;
        let _lock = self.store.lock()?;
        let record = self.store.write_name(record)?;
        let mut arrived = self.arrived();
        for digest in record.blobs() {
            arrived.remove(&digest);
        }
        Ok(record)
    }

    fn arrived(&self) -> MutexGuard<'_, HashMap<Digest, Otherwise>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away what this ingest brought and no name came to need: a load that fails leaves nothing, and a pull
    /// what the next one of the same need not fetch.
    fn abandon(&mut self) -> Result<()> {
        let arrived = std::mem::take(&mut *self.arrived());
        if arrived.is_empty() {
            return Ok(fs::remove_dir_all(&self.dir)?);
        }
        let _lock = self.store.lock()?;
        // First, so that it does not protect them itself any more.
        fs::remove_dir_all(&self.dir)?;
        let mut needed = protected(self.store.content())?;
        for record in self.store.list()? {
            needed.extend(record.blobs());
        }
        for (digest, otherwise) in arrived.iter().filter(|(digest, _)| !needed.contains(digest)) {
            let path = self.store.blob_path(digest);
            match otherwise {
                Otherwise::Gone => drop(fs::remove_file(&path)?),
                Otherwise::Partial => fs::rename(&path, &self.store.partial_dir().join(digest.hex()))?,
            }
        }
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // What stays after an error here, the next ingest or collection removes.
        self.abandon().ok();
    }
}

/// Removes what dead ingests left; true if there was one. The caller holds the store's lock.
fn sweep(parent: &Path) -> Result<bool> {
    fs::create_dir_all(parent, 0o700)?;
    let mut swept = false;
    for name in fs::names(parent)? {
        let dir = parent.join(name);
        match Lock::try_exclusive(&dir) {
            Ok(Some(_lock)) => {
                fs::remove_dir_all(&dir)?;
                swept = true;
            }
            // Alive, or gone by itself meanwhile.
            Ok(None) => {}
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(swept)
}

/// What living ingests rely on. The caller holds the store's lock, so that none begins to rely on more.
pub(crate) fn protected(content: &Path) -> Result<HashSet<Digest>> {
    let parent = content.join(DIR);
    let mut digests = HashSet::new();
    sweep(&parent)?;
    for name in fs::names(&parent)? {
        // An ingest that ends meanwhile has committed, or needs nothing any more.
        let files = fs::names(&parent.join(name))?;
        digests.extend(files.iter().filter_map(|file| Digest::from_hex(file).ok()));
    }
    Ok(digests)
}

/// A file that is removed with the value unless it was put in its place.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) file: File,
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    pub(crate) fn append(&mut self, bytes: &[u8]) -> fs::Result<()> {
        self.file.write_all(bytes).at("write", &self.path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// A blob on its way in.
pub struct Receiver<'i, R> {
    ingest: &'i Ingest,
    claimed: Digest,
    size: Option<u64>,
    written: u64,
    reader: Sha256Reader<io::Take<R>>,
    file: Temporary,
}

impl<R: Read> Receiver<'_, R> {
    /// Reads what is left, verifies, syncs, and puts the blob in its place.
    pub fn finish(mut self) -> Result<()> {
        let digest = self.claimed;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Receive { digest, source }),
            }
        }
        let Self { ingest, reader, file, size, .. } = self;
        let (found, read) = reader.finish();
        if let Some(wanted) = size.filter(|wanted| *wanted != read) {
            return Err(Error::Size { digest, wanted, found: read });
        }
        if found != digest {
            return Err(Error::Digest { wanted: digest, found });
        }
        ingest.keep(file, &digest)
    }
}

impl<R: Read> Read for Receiver<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.written += n as u64;
        if let Some(size) = self.size.filter(|size| self.written > *size) {
            // Whoever unpacks from here must not see more than was announced.
            let error = Error::Size { digest: self.claimed, wanted: size, found: self.written };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        // The kind is kept, so that a full disk is told from a broken connection.
        self.file.append(&buffer[..n]).map_err(|e| io::Error::new(e.source.kind(), e))?;
        Ok(n)
    }
}
