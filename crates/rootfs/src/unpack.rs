//! The way of a blob: read, decompressed, measured and hashed in the caller's thread; taken apart and written
//! in another. Between them go a few buffers, in a circle, so that memory is bounded whatever the layer.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use base::digest::DigestMismatch;
use base::failure::kind_of_io;
use base::{Digest, Failure, Kind, Verifier};

use crate::apply::{self, ApplyError, EntryError};
use crate::archive::{Archive, ArchiveError};
use crate::compression::{Compression, Decoder, OpenError, Unsupported, check_media_type};
use crate::limits;

/// The size of a buffer; a multiple of tar's 512, so that headers mostly lie in one.
const BUFFER: usize = 256 << 10;
/// How many buffers wait between the two threads.
const WAITING: usize = 4;

/// Why a blob did not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be a layer.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Whoever gives the blob failed.
    #[error("cannot read the blob")]
    Blob(#[source] io::Error),
    /// The compressed stream is broken.
    #[error("the {0} stream is broken")]
    Stream(Compression, #[source] io::Error),
    /// The content is not what the image's configuration promises.
    #[error("its content is not what the image's configuration names")]
    Content(#[source] DigestMismatch),
    /// More comes out than any layer has.
    #[error("{0}")]
    Bomb(Bomb),
    /// The archive cannot be unpacked.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A stream that expands beyond reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bomb {
    /// In all.
    #[error("it unpacks to more than {} GiB", limits::UNPACKED >> 30)]
    Size,
    /// For its compressed size.
    #[error("it unpacks to more than {} times its size", limits::RATIO)]
    Ratio,
}

impl Failure for UnpackError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Blob(e) | Self::Thread(e) => kind_of_io(e),
            Self::Stream(..) | Self::Content(_) | Self::Bomb(_) => Kind::Corrupt,
            Self::Apply(e) => match e.system() {
                Some(io) => kind_of_io(io),
                None => Kind::Corrupt,
            },
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Stream(..) | Self::Content(_) => vec!["pull or load the image again".to_owned()],
            _ => Vec::new(),
        }
    }
}

impl ApplyError {
    /// What the kernel said, where it was the kernel.
    fn system(&self) -> Option<&io::Error> {
        match self {
            Self::Finish(e)
            | Self::Archive(ArchiveError::Read(e))
            | Self::Entry {
                source: EntryError::System { source: e, .. } | EntryError::Attribute { source: e, .. },
                ..
            } => Some(e),
            _ => None,
        }
    }
}

/// Unpacks `blob` into the empty directory `root`. Success means: the blob was read to its end, its content
/// has the digest `diff_id`, and all of it is written (not synced).
pub(crate) fn unpack(
    root: OwnedFd,
    diff_id: &Digest,
    media_type: &str,
    blob: impl Read,
    advance: &dyn Fn(u64),
) -> Result<(), UnpackError> {
    check_media_type(media_type)?;
    let source = Source { read: Cell::new(0), failed: Cell::new(false) };
    let decoder = Decoder::new(Tap { inner: blob, source: &source, advance }).map_err(|e| match e {
        OpenError::Read(e) => UnpackError::Blob(e),
        OpenError::Unsupported(e) => e.into(),
    })?;
    let compression = decoder.compression();
    let bounded = Bounded { inner: decoder, source: &source, written: 0 };
    let mut content = Verifier::new(bounded, *diff_id);
    let (full, filled) = sync_channel(WAITING);
    let (spent, empty) = channel();
    let (fed, unpacked) = thread::scope(|scope| {
        let chunks = Chunks { filled, spent, chunk: Vec::new(), at: 0 };
        let worker = thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, move || apply::unpack(Archive::new(chunks), root))
            .map_err(UnpackError::Thread)?;
        let fed = feed(&mut content, full, &empty);
        let unpacked = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, UnpackError>((fed, unpacked))
    })?;
    // A stream that broke looks to the archive like one that ends too early: the cause goes first.
    fed.map_err(|error| explain(error, compression, &source))?;
    Ok(unpacked?)
}

/// Reads `content` to its end into buffers; stops early, without an error, if nobody takes them any more.
fn feed(content: &mut impl Read, full: SyncSender<Vec<u8>>, empty: &Receiver<Vec<u8>>) -> io::Result<()> {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.resize(BUFFER, 0);
        let mut filled = 0;
        while filled < BUFFER {
            match content.read(&mut chunk[filled..]) {
                Ok(0) => {
                    chunk.truncate(filled);
                    full.send(chunk).ok();
                    return Ok(());
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if full.send(chunk).is_err() {
            return Ok(());
        }
    }
}

/// Which of the readers in the stack an error came from.
fn explain(error: io::Error, compression: Compression, source: &Source) -> UnpackError {
    if source.failed.get() {
        return UnpackError::Blob(error);
    }
    if let Some(&bomb) = error.get_ref().and_then(|e| e.downcast_ref::<Bomb>()) {
        return UnpackError::Bomb(bomb);
    }
    match error.downcast::<DigestMismatch>() {
        Ok(mismatch) => UnpackError::Content(mismatch),
        Err(error) => UnpackError::Stream(compression, error),
    }
}

/// What is known of the blob while it is read.
struct Source {
    read: Cell<u64>,
    failed: Cell<bool>,
}

/// Counts what is read of the blob, and remembers whether that failed.
struct Tap<'a, R> {
    inner: R,
    source: &'a Source,
    advance: &'a dyn Fn(u64),
}

impl<R: Read> Read for Tap<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        match &result {
            Ok(n) => {
                self.source.read.set(self.source.read.get() + *n as u64);
                (self.advance)(*n as u64);
            }
            Err(e) => self.source.failed.set(e.kind() != io::ErrorKind::Interrupted),
        }
        result
    }
}

/// Fails where too much comes out.
struct Bounded<'a, R> {
    inner: R,
    source: &'a Source,
    written: u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.written += n as u64;
        let bomb = if self.written > limits::UNPACKED {
            Bomb::Size
        } else if self.written
            > limits::RATIO_FREE.saturating_add(self.source.read.get().saturating_mul(limits::RATIO))
        {
            Bomb::Ratio
        } else {
            return Ok(n);
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, bomb))
    }
}

/// The buffers as one stream. Spent ones go back.
struct Chunks {
    filled: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len()
            && let Ok(next) = self.filled.recv()
        {
            let spent = std::mem::replace(&mut self.chunk, next);
            self.at = 0;
            // The other side may be done already, and need no more buffers.
            self.spent.send(spent).ok();
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(compressed: u64, to: u64) -> io::Result<u64> {
        let source = Source { read: Cell::new(compressed), failed: Cell::new(false) };
        let mut bounded = Bounded { inner: io::repeat(0).take(to), source: &source, written: 0 };
        let mut buffer = vec![0; 1 << 20];
        let mut sum = 0;
        loop {
            match bounded.read(&mut buffer)? {
                0 => return Ok(sum),
                n => sum += n as u64,
            }
        }
    }

    #[test]
    fn bombs_are_stopped_and_layers_of_zeros_are_not() {
        let gzip = 1032;
        assert!(expand(limits::RATIO_FREE / gzip, limits::RATIO_FREE + (1 << 20)).is_ok());
        assert!(expand(100, limits::RATIO_FREE).is_ok());
        let error = expand(1000, u64::MAX).unwrap_err();
        let source = Source { read: Cell::new(0), failed: Cell::new(false) };
        let error = explain(error, Compression::Zstd, &source);
        assert!(matches!(error, UnpackError::Bomb(Bomb::Ratio)) && error.kind() == Kind::Corrupt);
    }
}
