//! The store: names, and the blobs they need.
//!
//! **Names are the truth.** A name is one small file under `names/images`, replaced by write and rename and
//! synced. Reading one takes no lock. Whatever changes names or removes blobs holds the exclusive lock of
//! `content/` for that moment; an [`Ingest`] takes the shared one for each digest that it begins to rely on.
//! So a collection sees every name and every running ingest, or the ingest sees what the collection left.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base::fs::{self, At, Durability};
use base::{Digest, Failure, Kind};
use state::Instance;
use state::lock::Lock;

use crate::manifest::{DocumentError, MAX_DOCUMENT};
use crate::reference::ParseReferenceError;
use crate::resolved::VERSION;
use crate::{Ingest, Reference, Resolved};

mod check;
mod garbage;
mod index;
mod pins;
mod usage;

pub use check::RecordFile;
pub use garbage::Garbage;
pub use usage::StoredBlob;

/// The result of a store's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// A text that names no image, whatever is here.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// No such image.
    #[error("there is no image `{0}` here")]
    NotFound(String),
    /// Several images' ids begin so.
    #[error("`{text}` is the beginning of {count} images' ids")]
    AmbiguousId {
        /// What the user wrote.
        text: String,
        /// How many fit.
        count: usize,
    },
    /// A record that is not what we wrote.
    #[error("the record {} is broken", path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: Option<serde_json::Error>,
    },
    /// A record by a later version of Dhow.
    #[error("the record {} was written by a newer version of Dhow (format {found}, we know {VERSION})", path.display())]
    NewerRecord {
        /// Its file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A manifest or configuration that is none.
    #[error("the {what} {digest} cannot be used")]
    Document {
        /// `manifest` or `configuration`.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// A blob that an image needs is not here.
    #[error("the blob {0} is missing")]
    MissingBlob(Digest),
    /// A stored blob is no longer what it was.
    #[error("the stored blob {wanted} is damaged: its content has the digest {found}")]
    DamagedBlob {
        /// What it should be.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob's bytes stopped coming, or could not be written.
    #[error("cannot receive the blob {digest}")]
    Receive {
        /// Which.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A blob ended early or went on too long.
    #[error("the blob {digest} should have {wanted} bytes, but {}", if *.found < *.wanted { format!("ends after {found}") } else { "goes on".to_owned() })]
    Size {
        /// Which.
        digest: Digest,
        /// How many it should have.
        wanted: u64,
        /// How many came.
        found: u64,
    },
    /// A blob's bytes are other ones than claimed.
    #[error("the blob {wanted} came with other content: its digest is {found}")]
    Digest {
        /// What was claimed.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::File(e) => e.kind(),
            Self::Reference(e) => e.kind(),
            Self::NotFound(_) => Kind::NotFound,
            Self::AmbiguousId { .. } => Kind::Invalid,
            Self::NewerRecord { .. } => Kind::Unsupported,
            Self::Document { source, .. } => source.kind(),
            Self::Receive { source, .. } => base::failure::kind_of_io(source),
            Self::Record { .. }
            | Self::MissingBlob(_)
            | Self::DamagedBlob { .. }
            | Self::Size { .. }
            | Self::Digest { .. } => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::File(e) => e.hints(),
            Self::Document { source, .. } => source.hints(),
            // Wrapped on its way through a reader: see ingest.
            Self::Receive { source, .. } => source
                .get_ref()
                .and_then(|e| e.downcast_ref::<fs::Error>())
                .map_or(Vec::new(), Failure::hints),
            Self::AmbiguousId { .. } => vec!["give more digits of the id".to_owned()],
            Self::MissingBlob(_) | Self::DamagedBlob { .. } => {
                vec!["remove the image and pull or load it again".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// The images of an instance.
#[derive(Debug, Clone)]
pub struct Store {
    content: PathBuf,
    names: PathBuf,
}

impl Store {
    /// The store of an instance. Touches nothing on disk.
    pub fn open(instance: &Instance) -> Result<Self> {
        Ok(Self { content: instance.content(), names: instance.image_names() })
    }

    /// What the name stands for: one small file read.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Resolved>> {
        let canonical = reference.canonical();
        let path = self.name_path(&canonical);
        if let Some(record) = read_record(&path)? {
            let same = record.reference == canonical;
            return if same { Ok(Some(record)) } else { Err(Error::Record { path, source: None }) };
        }
        match reference.digest() {
            Some(digest) => self.pulled_by_tag(reference, digest),
            None => Ok(None),
        }
    }

    /// An image that was pulled by a tag is also known by the digest that the tag had then.
    fn pulled_by_tag(&self, reference: &Reference, digest: &Digest) -> Result<Option<Resolved>> {
        let repository = format!("{}/{}", reference.registry(), reference.repository());
        Ok(self.list()?.into_iter().find(|record| {
            let rest = record.reference.strip_prefix(&repository);
            rest.is_some_and(|r| r.starts_with([':', '@']))
                && (record.manifest == *digest || record.source == Some(*digest))
        }))
    }

    /// What a user's text stands for: a reference, or an id or unique beginning of one.
    pub fn find(&self, text: &str) -> Result<Resolved> {
        let reference = text.parse::<Reference>();
        if let Ok(reference) = &reference
            && let Some(record) = self.resolve(reference)?
        {
            return Ok(record);
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.is_empty()
            || digits.len() > 64
            || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(reference.err().map_or_else(|| Error::NotFound(text.to_owned()), Error::Reference));
        }
        let mut found = self.list()?;
        found.retain(|record| record.id.hex().starts_with(digits));
        let ids: BTreeSet<Digest> = found.iter().map(|r| r.id).collect();
        if ids.len() > 1 {
            return Err(Error::AmbiguousId { text: text.to_owned(), count: ids.len() });
        }
        found.into_iter().next().ok_or_else(|| Error::NotFound(text.to_owned()))
    }

    /// All records: one per name, and one per image without a name.
    pub fn list(&self) -> Result<Vec<Resolved>> {
        let mut records = Vec::new();
        for name in fs::names(&self.names)? {
            // Gone since it was listed: then it is not in the list.
            records.extend(read_record(&self.names.join(name))?);
        }
        Ok(records)
    }

    /// Gives an image one more name. An image that loses its last name by this stays, without a name.
    pub fn tag(&self, target: &Reference, image: &Resolved) -> Result<Resolved> {
        self.ensure_layout()?;
        let _lock = self.lock()?;
        let mut record = image.clone();
        record.reference = target.canonical();
        self.write_name(record)
    }

    /// Takes away blobs that belong to an image beside its own: those for other platforms that `keep` refuses.
    /// What nothing needs any more goes at the next collection.
    pub fn retain_others(&self, image: &Resolved, keep: impl Fn(&Digest) -> bool) -> Result<()> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        let path = self.record_path(image);
        let Some(mut record) = read_record(&path)?.filter(|now| now.id == image.id) else { return Ok(()) };
        let used = self.last_used(&record)?;
        record.others.retain(keep);
        self.write_record(&record)?;
        self.set_last_used(&record, used)?;
        self.write_index()
    }

    /// Takes away the name (or the nameless record) that this record stands for. False if it was gone or
    /// stands for something else by now. What nothing names any more goes at the next collection.
    pub fn untag(&self, record: &Resolved) -> Result<bool> {
        let Some(_lock) = self.try_lock()? else { return Ok(false) };
        let path = self.record_path(record);
        if read_record(&path)?.is_none_or(|now| now.id != record.id) {
            return Ok(false);
        }
        fs::remove_file(&path)?;
        fs::sync_dir(&self.names)?;
        self.write_index()?;
        Ok(true)
    }

    /// Opens a blob for reading, and its size.
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.blob_path(digest);
        let file = match fs::open(&path) {
            Err(e) if e.is_not_found() => return Err(Error::MissingBlob(*digest)),
            other => other?,
        };
        let size = file.metadata().at("examine", &path)?.len();
        Ok((file, size))
    }

    /// A small blob (a manifest or configuration) in memory, verified once more.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let (file, _) = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).at("read", self.blob_path(digest))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Error::Document {
                what: "document",
                digest: *digest,
                source: DocumentError::TooLarge,
            });
        }
        let found = Digest::of(&bytes);
        if found == *digest { Ok(bytes) } else { Err(Error::DamagedBlob { wanted: *digest, found }) }
    }

    /// Begins a pull or load.
    pub fn ingest(&self) -> Result<Ingest> {
        self.ensure_layout()?;
        let _lock = self.lock()?;
        Ingest::begin(self.clone())
    }

    /// Whether all of an image's blobs are here.
    pub fn is_whole(&self, image: &Resolved) -> bool {
        self.missing_blob(image).is_none()
    }

    pub(crate) fn missing_blob(&self, image: &Resolved) -> Option<Digest> {
        // The index is kept where it is at hand, but no container needs it.
        image.blobs().find(|digest| Some(*digest) != image.source && !self.blob_path(digest).exists())
    }

    /// Writes a name (an empty one: the record of an image without one) and what follows from it. The caller
    /// holds the lock, and the blobs are synced.
    pub(crate) fn write_name(&self, record: Resolved) -> Result<Resolved> {
        if let Some(missing) = self.missing_blob(&record) {
            return Err(Error::MissingBlob(missing));
        }
        let records = self.list()?;
        if record.reference.is_empty() {
            if let Some(named) = records.into_iter().find(|r| r.id == record.id) {
                return Ok(named);
            }
            self.write_record(&record)?;
            return self.write_index().map(|()| record);
        }
        // Who had this name before may now have none, and the image itself one more.
        if let Some(loser) = records.iter().find(|r| r.reference == record.reference && r.id != record.id)
            && !records.iter().any(|r| r.id == loser.id && r.reference != loser.reference)
        {
            let nameless = Resolved { reference: String::new(), ..loser.clone() };
            let used = self.last_used(loser)?;
            self.write_record(&nameless)?;
            self.set_last_used(&nameless, used)?;
        }
        self.write_record(&record)?;
        fs::remove_file(&self.record_path(&Resolved { reference: String::new(), ..record.clone() }))?;
        self.write_index()?;
        Ok(record)
    }

    fn write_record(&self, record: &Resolved) -> Result<()> {
        let path = self.record_path(record);
        let text =
            serde_json::to_vec(record).map_err(|e| Error::Record { path: path.clone(), source: Some(e) })?;
        Ok(fs::write_atomic(&path, &text, Durability::Synced)?)
    }

    /// The directories, and the files without which a layout is none.
    fn ensure_layout(&self) -> Result<()> {
        if self.content.join("index.json").exists() && self.names.is_dir() {
            return Ok(());
        }
        for dir in [&self.names, &self.blobs_dir(), &self.content.join(crate::ingest::DIR)] {
            fs::create_dir_all(dir, 0o700)?;
        }
        let _lock = self.lock()?;
        self.write_layout_file()?;
        if !self.content.join("index.json").exists() {
            self.write_index()?;
        }
        Ok(())
    }

    fn write_layout_file(&self) -> Result<()> {
        Ok(fs::write_atomic(&self.content.join("oci-layout"), index::LAYOUT, Durability::Synced)?)
    }

    /// Removes what writers of names left when they were killed. The caller holds the lock, under which all of
    /// them write: so whatever has a temporary name belongs to none that lives.
    pub(crate) fn sweep_temporaries(&self) -> Result<()> {
        for dir in [&self.names, &self.content] {
            if !dir.exists() {
                continue;
            }
            for entry in std::fs::read_dir(dir).at("list", dir)? {
                let entry = entry.at("list", dir)?;
                let path = entry.path();
                if entry.file_name().as_encoded_bytes().starts_with(b".")
                    && entry.file_type().at("examine", &path)?.is_file()
                {
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The lock of names and blobs. Held for moments only, never twice by one thread.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.content)?)
    }

    /// The same; `None` if there never was a store here, and so nothing to do.
    fn try_lock(&self) -> Result<Option<Lock>> {
        match Lock::exclusive(&self.content) {
            Err(e) if e.is_not_found() => Ok(None),
            other => Ok(other.map(Some)?),
        }
    }

    pub(crate) fn content(&self) -> &Path {
        &self.content
    }

    pub(crate) fn blobs_dir(&self) -> PathBuf {
        self.content.join("blobs/sha256")
    }

    /// Where a blob lies, if it is here.
    pub fn blob_file(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.blob_path(digest)).filter(|path| path.exists())
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.content.join(format!("blobs/sha256/{}", digest.hex()))
    }

    fn record_path(&self, record: &Resolved) -> PathBuf {
        if record.reference.is_empty() {
            // No canonical reference lacks a slash, so the two kinds of file names never meet.
            self.names.join(record.id.to_string())
        } else {
            self.name_path(&record.reference)
        }
    }

    fn name_path(&self, canonical: &str) -> PathBuf {
        self.names.join(file_name(canonical))
    }
}

/// A file name for a canonical reference: `+`, which occurs in none, stands for the slash. A file name has at
/// most 255 bytes, and a temporary one beside it a few more: what is too long ends in its own digest instead.
fn file_name(canonical: &str) -> String {
    const ROOM: usize = 200;
    let escaped = canonical.replace('/', "+");
    if escaped.len() <= ROOM {
        return escaped;
    }
    // References are ASCII; where one were not, the digest alone is as good.
    let head = escaped.get(..ROOM - 65).unwrap_or_default();
    format!("{head}+{}", Digest::of(canonical.as_bytes()).hex())
}

fn read_record(path: &Path) -> Result<Option<Resolved>> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Some(bytes) = fs::read_if_exists(path)? else { return Ok(None) };
    match serde_json::from_slice::<Resolved>(&bytes) {
        Ok(record) if record.version <= VERSION => Ok(Some(record)),
        other => {
            let version = serde_json::from_slice::<Version>(&bytes).map_or(0, |v| v.version);
            let path = path.to_owned();
            if version > VERSION {
                return Err(Error::NewerRecord { path, found: version });
            }
            Err(Error::Record { path, source: other.err() })
        }
    }
}

#[cfg(test)]
mod tests;
