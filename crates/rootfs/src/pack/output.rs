//! Where a layer goes: hashed, compressed, hashed again, and out, in one pass.

use std::io::{self, Write};

use base::{Digest, Hasher};

use super::gzip::Gzip;
use crate::Compression;

/// zstd's own default. The library's threads change nothing about the bytes, as long as there are any.
const ZSTD_LEVEL: i32 = 3;

/// Hashes and counts what passes.
pub(super) struct Hashed<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Hashed<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default() }
    }

    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.inner.flush()?;
        Ok(self.hasher.finish())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The way of the archive's bytes.
pub(super) struct Output<W: Write> {
    encoder: Encoder<Hashed<W>>,
    content: Hasher,
}

enum Encoder<W: Write> {
    Plain(W),
    Gzip(Box<Gzip<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// What went out.
pub(super) struct Sums {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) content: Digest,
    pub(super) content_size: u64,
}

impl<W: Write> Output<W> {
    pub(super) fn new(out: W, compression: Compression, threads: usize) -> io::Result<Self> {
        let out = Hashed::new(out);
        let encoder = match compression {
            Compression::None => Encoder::Plain(out),
            Compression::Gzip => Encoder::Gzip(Box::new(Gzip::new(out, threads)?)),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                encoder.multithread(threads.max(1) as u32)?;
                Encoder::Zstd(encoder)
            }
        };
        Ok(Self { encoder, content: Hasher::default() })
    }

    pub(super) fn finish(self) -> io::Result<Sums> {
        let out = match self.encoder {
            Encoder::Plain(out) => out,
            Encoder::Gzip(gzip) => gzip.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        let (digest, size) = out.finish()?;
        let (content, content_size) = self.content.finish();
        Ok(Sums { digest, size, content, content_size })
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.encoder {
            Encoder::Plain(out) => out.write_all(bytes)?,
            Encoder::Gzip(gzip) => gzip.write_all(bytes)?,
            Encoder::Zstd(encoder) => encoder.write_all(bytes)?,
        }
        self.content.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
