//! The store: names and blobs.

use std::fs::File;

use base::{Digest, Failure, Kind};
use state::Instance;

use crate::{Ingest, Reference, Resolved};

/// The result of a store's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// No such image.
    #[error("there is no image `{0}` here")]
    NotFound(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// The images of an instance.
#[derive(Debug, Clone)]
pub struct Store {}

/// What a collection found, held until dropped: no pull can begin to rely on what is in it meanwhile.
#[derive(Debug)]
pub struct Garbage {
    /// Blobs that were removed.
    pub blobs: Vec<Digest>,
    /// The diff ids among those present that nothing uses: the caller removes their unpacked layers while it
    /// holds this value.
    pub layers: Vec<Digest>,
}

impl Store {
    /// The store of an instance. Touches nothing on disk.
    pub fn open(_instance: &Instance) -> Result<Self> {
        todo!()
    }
    /// What the name stands for: one small file read.
    pub fn resolve(&self, _reference: &Reference) -> Result<Option<Resolved>> {
        todo!()
    }
    /// What a user's text stands for: a reference, or an id or unique beginning of one.
    pub fn find(&self, _text: &str) -> Result<Resolved> {
        todo!()
    }
    /// All records: one per name, and one per image without a name.
    pub fn list(&self) -> Result<Vec<Resolved>> {
        todo!()
    }
    /// Gives an image one more name. An image that loses its last name by this stays, without a name.
    pub fn tag(&self, _target: &Reference, _image: &Resolved) -> Result<Resolved> {
        todo!()
    }
    /// Takes away the name (or the nameless record) that this record stands for. False if it was gone or
    /// stands for something else by now. What nothing names any more goes at the next collection.
    pub fn untag(&self, _record: &Resolved) -> Result<bool> {
        todo!()
    }
    /// Removes blobs that no name and no running ingest needs. `present`: the diff ids that are unpacked;
    /// `in_use`: those among them that containers need, whatever names exist.
    pub fn collect_garbage(&self, _present: &[Digest], _in_use: &[Digest]) -> Result<Garbage> {
        todo!()
    }
    /// Opens a blob for reading, and its size.
    pub fn open_blob(&self, _digest: &Digest) -> Result<(File, u64)> {
        todo!()
    }
    /// A small blob (a manifest or configuration) in memory.
    pub fn read_blob(&self, _digest: &Digest) -> Result<Vec<u8>> {
        todo!()
    }
    /// Begins a pull or load.
    pub fn ingest(&self) -> Result<Ingest> {
        todo!()
    }
}
