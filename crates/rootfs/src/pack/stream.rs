//! Somebody's archive becomes a layer: what is compressed stays as it is, what is not becomes gzip.

use std::io::{self, Read, Write};

use base::failure::kind_of_io;
use base::{Failure, Hasher, Kind};

use super::Packed;
use super::output::{Hashed, Output};
use crate::compression::{Compression, Decoder, OpenError, Unsupported};
use crate::limits::{Exceeded, Limits};

/// Why a stream is no layer.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is in another format.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// It cannot be read, or its compression is broken.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It cannot be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// It does not keep to a bound.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
}

impl Failure for StreamError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Read(e) | Self::Write(e) => kind_of_io(e),
            Self::Exceeded(_) => Kind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unsupported(Unsupported::Format(what)) => vec![format!("decompress it with {what} first")],
            Self::Exceeded(bound) => vec![bound.hint()],
            _ => Vec::new(),
        }
    }
}

/// Reads `archive` to its end and writes it to `out` as the blob of a layer; also tells how that is compressed.
/// Whether it is an archive at all shows when it is unpacked.
pub fn layer_of(
    archive: impl Read,
    threads: usize,
    limits: &Limits,
    out: impl Write,
) -> Result<(Packed, Compression), StreamError> {
    let mut head = [0; 8];
    let mut archive = archive;
    let mut have = 0;
    while have < head.len() {
        match archive.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(StreamError::Read(e)),
        }
    }
    let whole = io::Cursor::new(head[..have].to_vec()).chain(archive);
    match crate::sniff(&head[..have])? {
        Compression::None => {
            let mut output = Output::new(out, Compression::Gzip, threads).map_err(StreamError::Write)?;
            drain(whole, limits, |bytes| output.write_all(bytes).map_err(StreamError::Write))?;
            let sums = output.finish().map_err(StreamError::Write)?;
            let packed = Packed {
                digest: sums.digest,
                size: sums.size,
                diff_id: sums.content,
                unpacked: sums.content_size,
            };
            Ok((packed, Compression::Gzip))
        }
        compression => {
            let mut tee = Tee { reader: whole, out: Hashed::new(out), failed: None };
            let mut content = Hasher::default();
            let mut decoder = Decoder::new(&mut tee, limits.max_window).map_err(|e| match e {
                OpenError::Read(e) => StreamError::Read(e),
                OpenError::Unsupported(e) => e.into(),
            })?;
            let read = drain(&mut decoder, limits, |bytes| {
                content.update(bytes);
                Ok(())
            });
            drop(decoder);
            if let Some(e) = tee.failed.take() {
                return Err(StreamError::Write(e));
            }
            read?;
            // What follows the compressed stream belongs to the blob.
            drain(&mut tee, limits, |_| Ok(()))?;
            let (digest, size) = tee.out.finish().map_err(StreamError::Write)?;
            let (diff_id, unpacked) = content.finish();
            Ok((Packed { digest, size, diff_id, unpacked }, compression))
        }
    }
}

fn drain(
    mut reader: impl Read,
    limits: &Limits,
    mut sink: impl FnMut(&[u8]) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let mut buffer = vec![0; 128 << 10];
    let mut total: u64 = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(StreamError::Read(e)),
        };
        total += n as u64;
        if total > limits.max_size {
            return Err(Exceeded::Size(limits.max_size).into());
        }
        sink(&buffer[..n])?;
    }
}

/// Writes all that is read through it.
struct Tee<R, W> {
    reader: R,
    out: W,
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        if let Err(e) = self.out.write_all(&buffer[..n]) {
            self.failed = Some(e);
            return Err(io::Error::other("the other side cannot be written"));
        }
        Ok(n)
    }
}
