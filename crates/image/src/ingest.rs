//! A pull or load in progress.

use std::io::{self, Read};

use base::Digest;

use crate::{Reference, Resolved, store::Result};

/// A pull or load in progress. What it received or asked for is safe from garbage collection until it is
/// dropped; what it leaves behind, also when killed, is swept by the next one.
#[derive(Debug)]
pub struct Ingest {}

impl Ingest {
    /// Protects digests (of blobs, or diff ids of unpacked layers) from collection while this ingest lives.
    /// Ask whether something exists only after protecting it.
    pub fn protect(&self, _digests: &[Digest]) -> Result<()> {
        todo!()
    }
    /// Whether the store has this blob; protects it first.
    pub fn has_blob(&self, _digest: &Digest) -> Result<bool> {
        todo!()
    }
    /// Receives a blob: verified, synced, and then all at once there.
    pub fn write_blob(&self, claimed: &Digest, size: Option<u64>, reader: impl Read) -> Result<()> {
        self.receive(claimed, size, reader)?.finish()
    }
    /// Begins to receive a blob: whoever reads the receiver (to unpack the layer, say) has the bytes written to
    /// the store on the way. [`Receiver::finish`] reads the rest, verifies and keeps them.
    pub fn receive<R: Read>(&self, _claimed: &Digest, _size: Option<u64>, _reader: R) -> Result<Receiver<R>> {
        todo!()
    }
    /// Reads and checks a manifest and its configuration, which must both be here; the layers need not. The
    /// record it returns has no name yet.
    pub fn inspect(&self, _manifest: &Digest) -> Result<Resolved> {
        todo!()
    }
    /// Gives an image a name (none: it is kept without one), durably. Its blobs must all be here. `source` is
    /// what the registry has under that name, if that is an index.
    pub fn commit(
        &self,
        _reference: Option<&Reference>,
        _manifest: &Digest,
        _source: Option<&Digest>,
    ) -> Result<Resolved> {
        todo!()
    }
}

/// A blob on its way in.
#[derive(Debug)]
pub struct Receiver<R> {
    _inner: R,
}

impl<R: Read> Receiver<R> {
    /// Reads what is left, verifies, syncs, and puts the blob in its place.
    pub fn finish(self) -> Result<()> {
        todo!()
    }
}

impl<R: Read> Read for Receiver<R> {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        todo!()
    }
}
