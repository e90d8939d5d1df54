//! The way back: a tree, or what a container wrote over its image, becomes a layer.
//!
//! ```text
//! directory ──► walk ──► header, content ──► output ──► blob
//!               names    tar                 two digests,
//!               in order                     compression
//! ```
//!
//! **The same content gives the same bytes**, whoever packs it and when: names are sorted, what depends on the machine
//! (inode numbers, access times, names of users) is left out, and the compression does not depend on the number of
//! threads. What is unpacked and packed again is the same layer.
//!
//! The tree may be a stranger's, and be changed while it is read: see `walk`.

pub(crate) mod attributes;
mod changes;
pub(crate) mod content;
mod gzip;
pub(crate) mod header;
pub(crate) mod merged;
mod output;
mod stream;
pub(crate) mod walk;

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use base::failure::kind_of_io;
use base::{Digest, Failure, Kind as FailureKind};
use rustix::fs::Timespec;

pub use self::changes::{Change, ChangeKind, changes};
use self::content::CopyError;
use self::header::{BLOCK, Header, Kind, pad};
pub use self::merged::{MergeError, merged, running, written};
use self::output::Output;
pub use self::stream::{StreamError, layer_of};
use self::walk::{Content, Visit};
use crate::Compression;
use crate::name::shown;

/// Bytes that are read of a file at a time.
const BUFFER: usize = 128 << 10;

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A layer, such as the upper directory of an overlay: its whiteouts and opaque directories become the
    /// specification's (layer.md), and a file whose name would be taken for one is an error.
    Layer,
    /// A whole root file system: everything in it is what it looks like.
    Tree,
    /// The same with all that is mounted into it; but the kernel's own file systems (`/proc`, `/sys`) show as empty
    /// directories.
    View,
}

/// What became of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// The digest of what was written.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// The digest of the archive before compression.
    pub diff_id: Digest,
    /// The length of the archive before compression.
    pub unpacked: u64,
}

/// Why a directory was not packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One file or directory cannot be packed.
    #[error("cannot pack `{path}`")]
    Entry {
        /// Its path in the tree, fit to be shown.
        path: String,
        /// Why.
        source: Why,
    },
    /// What was packed cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// Why one file cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// The kernel said no.
    #[error("cannot {action}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A name that means something else in a layer.
    #[error("in a layer the name would be a whiteout (a file whose name begins with .wh.)")]
    Reserved,
    /// No name in an archive is so long.
    #[error("its path is too long")]
    TooLong,
    /// Overlay keeps its content elsewhere.
    #[error("overlay keeps its content elsewhere (the attribute {0})")]
    Elsewhere(&'static str),
    /// An attribute that an archive cannot name.
    #[error("an archive cannot name its attribute `{0}`")]
    Attribute(String),
    /// A type of file that Linux did not have.
    #[error("it is a file of an unknown type (mode {0:o})")]
    Unknown(u32),
}

impl Error {
    pub(crate) fn at(path: &[u8], source: Why) -> Self {
        Self::Entry { path: if path.is_empty() { "/".to_owned() } else { shown(path) }, source }
    }
}

impl Failure for Error {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Write(e) | Self::Entry { source: Why::System { source: e, .. }, .. } => kind_of_io(e),
            Self::Entry { .. } => FailureKind::Unsupported,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Entry { source: Why::Reserved | Why::TooLong | Why::Attribute(_), .. } => {
                vec!["remove or rename the file in the container".to_owned()]
            }
            Self::Entry { source: Why::Elsewhere(_), .. } => vec![
                "switch the overlay module's redirect_dir and metacopy off, and make the container again"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

/// Packs the directory `root` into `out`, compressed by as many threads as there are said to be.
pub fn pack(
    root: BorrowedFd<'_>,
    source: Source,
    compression: Compression,
    threads: usize,
    out: impl Write,
) -> Result<Packed, Error> {
    let output = Output::new(out, compression, threads).map_err(Error::Write)?;
    let mut writer = Writer::new(source, output);
    walk::walk(root, source, &mut writer)?;
    let sums = writer.finish()?.finish().map_err(Error::Write)?;
    Ok(Packed { digest: sums.digest, size: sums.size, diff_id: sums.content, unpacked: sums.content_size })
}

/// What packing the directory `root` would give, before compression: the digest of the archive (its diff id), and its
/// length in bytes. Each byte is hashed once, and none is kept.
pub fn identify(root: BorrowedFd<'_>, source: Source) -> Result<(Digest, u64), Error> {
    let mut writer = Writer::new(source, output::Hashed::new(io::sink()));
    walk::walk(root, source, &mut writer)?;
    writer.finish()?.finish().map_err(Error::Write)
}

/// Packs the file that `handle` is of (`O_PATH` will do) under this name, with all that is below it if it is a directory.
pub fn pack_object(handle: BorrowedFd<'_>, name: &[u8], out: impl Write) -> Result<(), Error> {
    let mut writer = Writer::new(Source::View, out);
    walk::walk_object(handle, name, Source::View, &mut writer)?;
    writer.finish()?.flush().map_err(Error::Write)
}

/// The bytes of all files in the directory `root`, each counted once, whatever their names and holes: what Docker calls
/// the size of a layer.
pub fn size(root: BorrowedFd<'_>) -> Result<u64, Error> {
    struct Sum(u64);
    impl Visit for Sum {
        fn entry(&mut self, header: &Header<'_>, _: Option<Content<'_>>) -> Result<(), Error> {
            if let Kind::File(size) = header.kind {
                self.0 = self.0.saturating_add(size);
            }
            Ok(())
        }
    }
    let mut sum = Sum(0);
    walk::walk(root, Source::Tree, &mut sum)?;
    Ok(sum.0)
}

/// The start of a whiteout's name.
const WHITEOUT: &[u8] = b".wh.";
/// Makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

struct Writer<W: Write> {
    source: Source,
    output: W,
    /// Header blocks, before they go out.
    head: Vec<u8>,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    fn new(source: Source, output: W) -> Self {
        Self { source, output, head: Vec::new(), buffer: vec![0; BUFFER] }
    }

    /// Writes the archive's end.
    fn finish(mut self) -> Result<W, Error> {
        self.output.write_all(&[0; 2 * BLOCK]).map_err(Error::Write)?;
        Ok(self.output)
    }

    fn head(&mut self, header: &Header<'_>) -> Result<(), Error> {
        self.head.clear();
        header.write(&mut self.head);
        self.output.write_all(&self.head).map_err(Error::Write)
    }

    /// An entry that says something about others: root's, empty, of 1970, so that it depends on nothing else.
    fn special(&mut self, directory: &[u8], name: &[&[u8]]) -> Result<(), Error> {
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let path = [directory, separator, &name.concat()].concat();
        let mtime = Timespec { tv_sec: 0, tv_nsec: 0 };
        let header = Header { path: &path, kind: Kind::File(0), mode: 0, uid: 0, gid: 0, mtime, xattrs: &[] };
        self.head(&header)
    }
}

/// What lies before the last slash, and behind it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

impl<W: Write> Visit for Writer<W> {
    fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        let (directory, hidden) = split(path);
        if hidden.starts_with(WHITEOUT) {
            return Err(Error::at(path, Why::Reserved));
        }
        self.special(directory, &[WHITEOUT, hidden])
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        self.special(path, &[OPAQUE])
    }

    fn entry(&mut self, header: &Header<'_>, content: Option<Content<'_>>) -> Result<(), Error> {
        if self.source == Source::Layer && split(header.path).1.starts_with(WHITEOUT) {
            return Err(Error::at(header.path, Why::Reserved));
        }
        let (Kind::File(size), Some(content)) = (&header.kind, content) else { return self.head(header) };
        let failed = |error| match error {
            CopyError::Read(source) => {
                Error::at(header.path, Why::System { action: "read the content", source })
            }
            CopyError::Write(e) => Error::Write(e),
        };
        let regions = if content.sparse {
            let regions = content::regions(content.file, *size, &mut self.buffer)
                .map_err(|e| failed(CopyError::Read(e)))?;
            self.head(&Header { kind: Kind::Sparse(*size, &regions), ..header.clone() })?;
            regions
        } else {
            self.head(header)?;
            vec![(0, *size)]
        };
        let mut written = 0;
        for (offset, length) in regions {
            content::copy(content.file, offset, length, &mut self.buffer, &mut self.output)
                .map_err(failed)?;
            written += length;
        }
        self.head.clear();
        self.head.resize((written % BLOCK as u64) as usize, 0);
        let used = self.head.len();
        pad(&mut self.head);
        self.output.write_all(&self.head[used..]).map_err(Error::Write)
    }
}
