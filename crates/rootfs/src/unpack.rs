//! The way of a blob, through three threads: the caller's reads and decompresses, the next hashes, the last
//! takes the archive apart and writes. Between them go a few buffers, in a circle, so that memory is bounded
//! whatever the layer.
//!
//! ```text
//! blob ─► bounds ─► inflate ─► bounds ══► hash ══► archive ─► apply ─► files
//!                                 ▲                   │
//!                                 └── empty buffers ──┘
//! ```
//!
//! What takes longest is inflating; a thread of its own leaves it nothing to wait for but the blob.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use base::digest::{DigestMismatch, Hasher};
use base::failure::kind_of_io;
use base::{Digest, Failure, Kind};

use crate::apply::{self, ApplyError, EntryError};
use crate::archive::{Archive, ArchiveError};
use crate::compression::{Compression, Decoder, OpenError, Unsupported, check_media_type};
use crate::limits::{Exceeded, Limits};

/// The size of a buffer; a multiple of tar's 512, so that headers mostly lie in one.
const BUFFER: usize = 256 << 10;
/// How many buffers wait between two threads.
const WAITING: usize = 2;

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
    /// It does not keep to a bound.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The archive cannot be unpacked.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No thread could be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl Failure for UnpackError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Thread(e) if base::processes::are_exhausted(e) => Kind::Exhausted,
            Self::Blob(e) | Self::Thread(e) => kind_of_io(e),
            Self::Stream(..) | Self::Content(_) | Self::Exceeded(_) => Kind::Corrupt,
            Self::Apply(e) => match e.system() {
                Some(io) => kind_of_io(io),
                None => Kind::Corrupt,
            },
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Stream(..) | Self::Content(_) => vec!["pull or load the image again".to_owned()],
            Self::Thread(e) => base::processes::hints(e, &[]),
            Self::Exceeded(bound) => vec![bound.hint()],
            Self::Apply(e) => e.exceeded().map(|bound| bound.hint()).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl UnpackError {
    /// What the kernel said to what was to be written, where it was the kernel.
    pub(crate) fn system(&self) -> Option<&io::Error> {
        match self {
            Self::Apply(e) => e.system(),
            _ => None,
        }
    }
}

impl ApplyError {
    fn exceeded(&self) -> Option<&Exceeded> {
        match self {
            Self::Exceeded(bound)
            | Self::Archive(ArchiveError::Exceeded(bound))
            | Self::Entry { source: EntryError::Archive(ArchiveError::Exceeded(bound)), .. } => Some(bound),
            _ => None,
        }
    }

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
    limits: &Limits,
    advance: &dyn Fn(u64),
) -> Result<(), UnpackError> {
    check_media_type(media_type)?;
    let source = Source { read: Cell::new(0), failed: Cell::new(false) };
    let tap = Tap { inner: blob, source: &source, advance };
    let decoder = Decoder::new(tap, limits.max_window).map_err(|e| match e {
        OpenError::Read(e) => UnpackError::Blob(e),
        OpenError::Unsupported(e) => e.into(),
    })?;
    let compression = decoder.compression();
    let mut content = Bounded { inner: decoder, source: &source, limits, written: 0 };
    let (full, read) = sync_channel(WAITING);
    let (hashed, filled) = sync_channel(WAITING);
    let (spent, empty) = channel();
    let start = |name: &str| thread::Builder::new().name(name.to_owned());
    let (fed, verified, unpacked) = thread::scope(|scope| {
        let chunks = Chunks { filled, spent, chunk: Vec::new(), at: 0 };
        let writer = start("unpack")
            .spawn_scoped(scope, move || apply::unpack(Archive::new(chunks, *limits), root, limits))
            .map_err(UnpackError::Thread)?;
        let hasher = start("hash")
            .spawn_scoped(scope, move || hash(&read, &hashed).map(|hasher| hasher.verify(diff_id)))
            .map_err(UnpackError::Thread)?;
        let fed = feed(&mut content, full, &empty);
        let verified = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let unpacked = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, UnpackError>((fed, verified, unpacked))
    })?;
    // A stream that broke looks to the archive like one that ends too early: the cause goes first.
    fed.map_err(|error| explain(error, compression, &source, limits))?;
    if let Some(verified) = verified {
        verified.map_err(UnpackError::Content)?;
    }
    Ok(unpacked?)
}

/// Reads `content` to its end into buffers; stops early, without an error, if nobody takes them any more.
fn feed(content: &mut impl Read, full: SyncSender<Vec<u8>>, empty: &Receiver<Vec<u8>>) -> io::Result<()> {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.resize(BUFFER, 0);
        let mut filled = 0;
        let mut ended = false;
        while filled < BUFFER && !ended {
            match content.read(&mut chunk[filled..]) {
                Ok(0) => ended = true,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        chunk.truncate(filled);
        if full.send(chunk).is_err() || ended {
            return Ok(());
        }
    }
}

/// Hashes what passes, up to the end; `None` where nobody takes it any more.
fn hash(read: &Receiver<Vec<u8>>, hashed: &SyncSender<Vec<u8>>) -> Option<Hasher> {
    let mut hasher = Hasher::default();
    while let Ok(chunk) = read.recv() {
        hasher.update(&chunk);
        hashed.send(chunk).ok()?;
    }
    Some(hasher)
}

/// Which of the readers in the stack an error came from.
fn explain(error: io::Error, compression: Compression, source: &Source, limits: &Limits) -> UnpackError {
    if source.failed.get() {
        return UnpackError::Blob(error);
    }
    if compression == Compression::Zstd && wants_memory(&error) {
        return Exceeded::Window(limits.max_window).into();
    }
    match error.downcast::<Exceeded>() {
        Ok(bound) => bound.into(),
        Err(error) => UnpackError::Stream(compression, error),
    }
}

/// What libzstd says of a frame with too large a window (`ZSTD_error_frameParameter_windowTooLarge`); the
/// number of the error does not come through.
fn wants_memory(error: &io::Error) -> bool {
    error.to_string().contains("requires too much memory")
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
    limits: &'a Limits,
    written: u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.written += n as u64;
        let Limits { max_size, max_ratio, ratio_free, .. } = *self.limits;
        let bomb = if self.written > max_size {
            Exceeded::Size(max_size)
        } else if self.written > ratio_free.saturating_add(self.source.read.get().saturating_mul(max_ratio)) {
            Exceeded::Ratio(max_ratio)
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

    fn expand(compressed: u64, to: u64, limits: &Limits) -> io::Result<u64> {
        let source = Source { read: Cell::new(compressed), failed: Cell::new(false) };
        let mut bounded = Bounded { inner: io::repeat(0).take(to), source: &source, limits, written: 0 };
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
        let limits = Limits::default();
        assert!(expand(limits.ratio_free / limits.max_ratio, 2 * limits.ratio_free - 500, &limits).is_ok());
        assert!(expand(100, limits.ratio_free, &limits).is_ok());
        let source = Source { read: Cell::new(0), failed: Cell::new(false) };
        let stopped = |compressed, limits: &Limits| {
            let error = expand(compressed, u64::MAX, limits).unwrap_err();
            let error = explain(error, Compression::Zstd, &source, limits);
            assert_eq!(error.kind(), Kind::Corrupt);
            (error.to_string(), error.hints().remove(0))
        };
        let (said, hint) = stopped(1000, &limits);
        assert!(said.contains("more than 500 times") && hint.contains("`max_ratio`"), "{said} {hint}");
        let (said, hint) = stopped(u64::MAX, &Limits { max_size: 4096, ..limits });
        assert!(said.contains("more than 4096 bytes") && hint.contains("`max_size`"), "{said} {hint}");
    }
}
