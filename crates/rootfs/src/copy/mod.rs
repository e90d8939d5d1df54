//! Copies between a container and its surroundings: of a file or a tree into a directory that somebody may be changing
//! meanwhile.
//!
//! ```text
//! handle  ──► walk    ─┐
//!                      ├─► put ──► place
//! archive ──► entries ─┘   what    directories, by
//!                          they    descriptor
//!                          mean
//! ```
//!
//! Neither side is trusted where it is a container's: it may swap a directory for a symlink at any moment (CVE-2018-15664).
//! What is read is what a handle is of (`walk`), what is written is made by its last name alone in a directory that is held
//! open (`place`), and whatever is changed about a file is changed by its descriptor (CVE-2021-41089). Nothing that is there
//! is opened to be written to, so that a FIFO holds nobody up, and nothing of a container is ever executed (CVE-2019-14271).

mod error;
mod place;
mod put;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

pub use self::error::{CopyError, Refusal};
pub use self::place::Place;
use crate::apply::write_content;
use crate::archive::{Archive, Entry, EntryKind};
use crate::compression::{Decoder, OpenError};
use crate::limits::Limits;
use crate::pack::content::{self, CopyError as ContentError};
use crate::pack::header::{BLOCK, Header, Kind};
use crate::pack::walk::{Content, Visit, walk_object};
use crate::pack::{self, Source};

/// What copies look like where they arrive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Whom they belong to; none: whom they belonged to. With its owner a program's set-id bits go, too.
    pub owner: Option<(u32, u32)>,
    /// They come from a container to its host, where they may not be more than files: no set-id bits, no capabilities, no
    /// device nodes.
    pub tamed: bool,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes, as an archive would have them.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub devices: u64,
}

/// Bytes that are copied at a time.
const BUFFER: usize = 256 << 10;
/// The end of an archive.
const END: u64 = 2 * BLOCK as u64;

/// Copies what `handle` is of (`O_PATH` will do), a tree with all that is in it and mounted in it, into `place` under this
/// name; `.` is the place itself. `advance` is told of every byte.
pub fn copy(
    handle: BorrowedFd<'_>,
    name: &[u8],
    mut place: Place,
    manner: Manner,
    advance: &dyn Fn(u64),
) -> Result<Copied, CopyError> {
    let buffer = vec![0; BUFFER];
    let mut placer =
        Placer { place: &mut place, manner, advance, buffer, copied: Copied::default(), failed: None };
    let walked = walk_object(handle, name, Source::View, &mut placer);
    let Placer { mut copied, failed, .. } = placer;
    if let Some(error) = failed {
        return Err(error);
    }
    walked?;
    place.finish()?;
    copied.bytes += END;
    Ok(copied)
}

/// Unpacks an archive, compressed or not, into `place`.
pub fn unpack(
    archive: impl Read,
    mut place: Place,
    manner: Manner,
    limits: Limits,
    advance: &dyn Fn(u64),
) -> Result<Copied, CopyError> {
    let decoder = Decoder::of_archive(archive, limits.max_window).map_err(|e| match e {
        OpenError::Read(e) => CopyError::Input(e),
        OpenError::Unsupported(e) => CopyError::Unsupported(e),
    })?;
    let mut archive = Archive::new(io::BufReader::with_capacity(BUFFER, decoder), limits);
    let mut copied = Copied::default();
    while let Some(mut entry) = archive.next()? {
        entry.mtime = place.clamp(entry.mtime);
        if manner.leaves_out(&entry.kind) {
            copied.devices += 1;
            continue;
        }
        let header = header_of(&entry);
        let mut content = |file: &mut File| {
            write_content(file, &entry.kind, &mut archive).map_err(Refusal::from_entry)?;
            Ok(())
        };
        place
            .put(&header, &manner, &mut content)
            .map_err(|refusal| CopyError::of_entry(&entry.name, refusal))?;
        let bytes = in_archive(&header.kind);
        advance(bytes);
        copied.bytes += bytes;
    }
    place.finish()?;
    archive.drain()?;
    copied.bytes += END;
    Ok(copied)
}

/// Whether this is an archive, compressed or not: it begins as one does. What cannot be read is none.
pub fn is_archive(file: impl Read) -> bool {
    let limits = Limits::default();
    let Ok(decoder) = Decoder::of_archive(file, limits.max_window) else { return false };
    let mut archive = Archive::new(io::BufReader::new(decoder), limits);
    matches!(archive.next(), Ok(Some(_)))
}

/// Packs what `handle` is of into an archive, under this name.
pub fn stream(handle: BorrowedFd<'_>, name: &[u8], out: impl Write) -> Result<(), CopyError> {
    Ok(pack::pack_object(handle, name, out)?)
}

/// The extended attributes of an open file that belong to its content, names and values, ordered by name: capabilities,
/// access lists, `user.*`. None where the file system has none.
pub fn attributes(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    Ok(pack::attributes::content(file)?)
}

/// Whether this is none of the files that can be copied, but something of the kernel's own (in `/proc`, in `/sys`).
pub fn is_the_kernels(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(crate::kernels::is_of(file)?)
}

impl Manner {
    fn leaves_out(&self, kind: &EntryKind) -> bool {
        self.tamed && matches!(kind, EntryKind::CharDevice(..) | EntryKind::BlockDevice(..))
    }
}

fn header_of(entry: &Entry) -> Header<'_> {
    let kind = match &entry.kind {
        EntryKind::Directory => Kind::Directory,
        EntryKind::File(size) => Kind::File(*size),
        EntryKind::Sparse { size, regions } => Kind::Sparse(*size, regions),
        EntryKind::HardLink(target) => Kind::HardLink(target),
        EntryKind::Symlink(target) => Kind::Symlink(target),
        EntryKind::CharDevice(major, minor) => Kind::CharDevice(*major, *minor),
        EntryKind::BlockDevice(major, minor) => Kind::BlockDevice(*major, *minor),
        EntryKind::Fifo => Kind::Fifo,
    };
    let (mode, uid, gid, mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
    Header { path: &entry.name, kind, mode, uid, gid, mtime, xattrs: &entry.xattrs }
}

/// What an entry takes of an archive.
fn in_archive(kind: &Kind<'_>) -> u64 {
    let content = match kind {
        Kind::File(size) => *size,
        Kind::Sparse(_, regions) => regions.iter().map(|(_, length)| length).sum(),
        _ => 0,
    };
    BLOCK as u64 + content.next_multiple_of(BLOCK as u64)
}

struct Placer<'a> {
    place: &'a mut Place,
    manner: Manner,
    advance: &'a dyn Fn(u64),
    buffer: Vec<u8>,
    copied: Copied,
    /// What the place said; the walk knows errors of its own alone.
    failed: Option<CopyError>,
}

impl Visit for Placer<'_> {
    fn entry(&mut self, header: &Header<'_>, content: Option<Content<'_>>) -> Result<(), pack::Error> {
        if self.manner.tamed && matches!(header.kind, Kind::CharDevice(..) | Kind::BlockDevice(..)) {
            self.copied.devices += 1;
            return Ok(());
        }
        let (buffer, advance) = (&mut self.buffer, self.advance);
        let mut unread = None;
        let mut fill = |file: &mut File| {
            let (Kind::File(size), Some(content)) = (&header.kind, &content) else { return Ok(()) };
            match copy_content(content.file, *size, file, buffer, advance) {
                Ok(()) => Ok(()),
                Err(ContentError::Write(e)) => Err(Refusal::system("write the content", e)),
                Err(ContentError::Read(source)) => {
                    let why = pack::Why::System { action: "read the content", source };
                    unread = Some(pack::Error::at(header.path, why));
                    Err(Refusal::system("read the content", Errno::CANCELED))
                }
            }
        };
        match self.place.put(header, &self.manner, &mut fill) {
            Ok(()) => {
                self.copied.bytes += in_archive(&header.kind);
                Ok(())
            }
            // Another name of a device.
            Err(Refusal::NoTarget(_)) if self.copied.devices > 0 => {
                self.copied.devices += 1;
                Ok(())
            }
            Err(refusal) => Err(unread.unwrap_or_else(|| {
                self.failed = Some(CopyError::of_entry(header.path, refusal));
                pack::Error::Write(Errno::CANCELED.into())
            })),
        }
    }
}

/// Copies a file's content, but for its holes. What another one makes longer meanwhile is not copied, and what they make
/// shorter ends in zeros.
fn copy_content(
    from: BorrowedFd<'_>,
    size: u64,
    to: &mut File,
    buffer: &mut [u8],
    advance: &dyn Fn(u64),
) -> Result<(), ContentError> {
    use rustix::fs::SeekFrom as Look;
    let read = |e: Errno| ContentError::Read(e.into());
    to.set_len(size).map_err(ContentError::Write)?;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(from, Look::Data(at)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            other => other.map_err(read)?,
        };
        let hole = match rustix::fs::seek(from, Look::Hole(data)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => size,
            other => other.map_err(read)?,
        };
        if data >= size {
            break;
        }
        // Whoever makes holes just now must not keep us here.
        let end = hole.max(data + 1).min(size);
        to.seek(SeekFrom::Start(data)).map_err(ContentError::Write)?;
        content::copy(from, data, end - data, buffer, &mut Counted { file: to, advance })?;
        at = end;
    }
    Ok(())
}

struct Counted<'a> {
    file: &'a mut File,
    advance: &'a dyn Fn(u64),
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        (self.advance)(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
