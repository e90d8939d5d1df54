//! The members of an archive or directory, by name.
//!
//! Those of a stream are hashed on the way into the ingest's directory, and put into the store only when asked. Those of
//! a file stay where they are until somebody wants them: of a layer whose digest is told elsewhere, that is when it is
//! unpacked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use base::fs::At;
use base::{Digest, Root, Sha256Reader};
use rustix::fs::{Mode, OFlags};

use super::archive::{self, Content, Tar};
use super::{Cause, Source};
use crate::Ingest;
use crate::ingest::Temporary;
use crate::manifest::{DocumentError, MAX_DOCUMENT};

type Result<T> = std::result::Result<T, Cause>;

/// More members than any archive of images has; each costs a file for as long as the load takes.
const MAX_MEMBERS: usize = 100_000;
const MAX_LINKS: usize = 16;

pub(super) struct Files<'i> {
    ingest: &'i Ingest,
    /// `None` for an archive, whose members are all in the table.
    directory: Option<Root>,
    /// The archive, where it is a file that is not compressed.
    pub(super) file: Option<File>,
    members: HashMap<String, Member>,
}

enum Member {
    /// In the ingest's directory.
    New(Temporary, Digest, u64),
    /// A blob of the store.
    Stored(Digest, u64),
    /// In the archive's file.
    There(Place),
    Link(String),
    Other,
}

/// Where something is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The bytes of a place.
pub(super) struct PlaceReader<'f> {
    file: &'f File,
    place: Place,
}

impl<'f> PlaceReader<'f> {
    pub(super) fn new(file: &'f File, place: Place) -> Self {
        Self { file, place }
    }
}

impl Read for PlaceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.place.size).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = self.file.read_at(&mut buffer[..most], self.place.offset)?;
        self.place.offset += n as u64;
        self.place.size -= n as u64;
        Ok(n)
    }
}

impl<'i> Files<'i> {
    pub(super) fn open(ingest: &'i Ingest, source: Source<'_>) -> Result<Self> {
        let mut files = Self { ingest, directory: None, file: None, members: HashMap::new() };
        match source {
            Source::Path(path) if path.is_dir() => {
                files.directory = Some(Root::open(&path).at("open", &path)?);
            }
            Source::Path(path) => {
                let file = base::fs::open(&path)?;
                let mut head = [0; 6];
                let is_plain = file.metadata().at("examine", &path)?.is_file()
                    && file.read_at(&mut head, 0).is_ok_and(|n| !archive::is_compressed(&head[..n]));
                if is_plain {
                    files.index_archive(file.try_clone().at("open", &path)?)?;
                    files.file = Some(file);
                } else {
                    files.read_archive(file)?;
                }
            }
            Source::Stream(stream) => files.read_archive(stream)?,
        }
        Ok(files)
    }

    /// Notes where in a file the members are.
    fn index_archive(&mut self, file: File) -> Result<()> {
        let mut tar = Tar::new(archive::Seekable::new(file).map_err(Cause::Read)?);
        while let Some(archive::Member { name, content }) = tar.next()? {
            let member = match content {
                Content::Link(target) => Member::Link(target),
                Content::Other => Member::Other,
                Content::File => match self.stored(&name)? {
                    Some(stored) => stored,
                    None => Member::There(Place { offset: tar.offset(), size: tar.length() }),
                },
            };
            self.insert(name, member)?;
        }
        Ok(())
    }

    fn insert(&mut self, name: String, member: Member) -> Result<()> {
        if self.members.len() >= MAX_MEMBERS {
            return Err(Cause::TooMany("a hundred thousand members"));
        }
        match self.members.entry(name) {
            Entry::Occupied(taken) => Err(Cause::Duplicate(taken.key().clone())),
            Entry::Vacant(free) => {
                free.insert(member);
                Ok(())
            }
        }
    }

    fn read_archive(&mut self, raw: impl Read) -> Result<()> {
        let mut tar = Tar::new(archive::decompress(raw)?);
        let mut buffer = vec![0; 128 << 10];
        while let Some(archive::Member { name, content }) = tar.next()? {
            let member = match content {
                Content::Link(target) => Member::Link(target),
                Content::Other => Member::Other,
                Content::File => match self.stored(&name)? {
                    Some(stored) => stored,
                    None => self.spool(|buffer| tar.read(buffer), &mut buffer)?,
                },
            };
            self.insert(name, member)?;
        }
        Ok(())
    }

    /// A member that the store has already, if its name is that of a blob: then there is nothing to read.
    fn stored(&self, name: &str) -> Result<Option<Member>> {
        let Some(digest) = name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok())
        else {
            return Ok(None);
        };
        if !self.ingest.has_blob(&digest)? {
            return Ok(None);
        }
        let (_, size) = self.ingest.store().open_blob(&digest)?;
        Ok(Some(Member::Stored(digest, size)))
    }

    /// Copies what `read` gives into a file of the ingest.
    fn spool(&self, read: impl FnMut(&mut [u8]) -> Result<usize>, buffer: &mut [u8]) -> Result<Member> {
        /// Keeps the error's own type, which `io::Error` would hide.
        struct Reader<F> {
            read: F,
            failed: Option<Cause>,
        }
        impl<F: FnMut(&mut [u8]) -> Result<usize>> Read for Reader<F> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (self.read)(buffer).map_err(|cause| {
                    self.failed = Some(cause);
                    io::ErrorKind::Other.into()
                })
            }
        }
        let mut reader = Reader { read, failed: None };
        let mut hashing = Sha256Reader::new(&mut reader);
        let mut file = self.ingest.temporary()?;
        let done = loop {
            match hashing.read(buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => file.append(&buffer[..n])?,
                Err(e) => break Err(e),
            }
        };
        let (digest, size) = hashing.finish();
        match (done, reader.failed) {
            (Ok(()), _) => Ok(Member::New(file, digest, size)),
            (Err(_), Some(cause)) => Err(cause),
            (Err(e), None) => Err(Cause::Read(e)),
        }
    }

    /// Whether there is such a member.
    pub(super) fn contains(&self, name: &str) -> bool {
        match &self.directory {
            Some(root) => root.resolve(Path::new(name)).is_ok(),
            None => self.members.contains_key(name),
        }
    }

    /// Follows links, and reads a directory's file on first use; then it is in the table.
    fn find(&mut self, name: &str) -> Result<String> {
        let mut name = archive::normalize(name).ok_or_else(|| Cause::Missing(shown(name)))?;
        if let Some(root) = &self.directory
            && !self.members.contains_key(&name)
        {
            let member = if let Some(stored) = self.stored(&name)? {
                stored
            } else {
                let mut file = open_in(root, &name)?;
                self.spool(|buffer| file.read(buffer).map_err(Cause::Read), &mut vec![0; 128 << 10])?
            };
            self.members.insert(name.clone(), member);
        }
        for _ in 0..MAX_LINKS {
            match self.members.get(&name) {
                Some(Member::Link(target)) => name.clone_from(target),
                Some(Member::Other) => return Err(Cause::NotAFile(shown(&name))),
                Some(_) => return Ok(name),
                None => break,
            }
        }
        Err(Cause::Missing(shown(&name)))
    }

    /// The digest and size of a member's content.
    pub(super) fn content(&mut self, name: &str) -> Result<(Digest, u64)> {
        let found = self.find(name)?;
        if let Some(Member::There(place)) = self.members.get(&found) {
            let spooled = self.fetch(*place)?;
            self.members.insert(found.clone(), spooled);
        }
        match self.members.get(&found) {
            Some(Member::New(_, digest, size) | Member::Stored(digest, size)) => Ok((*digest, *size)),
            _ => Err(Cause::Missing(shown(name))),
        }
    }

    /// Where a member is, if it can be left there until it is unpacked.
    pub(super) fn place(&mut self, name: &str) -> Result<Option<Place>> {
        let found = self.find(name)?;
        Ok(match self.members.get(&found) {
            Some(Member::There(place)) => Some(*place),
            _ => None,
        })
    }

    fn fetch(&self, place: Place) -> Result<Member> {
        let file = self.file.as_ref().ok_or(Cause::Truncated)?;
        let mut reader = PlaceReader::new(file, place);
        self.spool(|buffer| reader.read(buffer).map_err(Cause::Read), &mut vec![0; 128 << 10])
    }

    /// The first bytes of a member: at most `most`.
    fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let found = self.find(name)?;
        let mut file = match self.members.get(&found) {
            Some(Member::New(temporary, ..)) => {
                let mut file = temporary.file.try_clone().map_err(Cause::Read)?;
                file.seek(SeekFrom::Start(0)).map_err(Cause::Read)?;
                file
            }
            Some(Member::Stored(digest, _)) => self.ingest.store().open_blob(digest)?.0,
            Some(Member::There(place)) => {
                let file = self.file.as_ref().ok_or(Cause::Truncated)?;
                let mut bytes = Vec::new();
                PlaceReader::new(file, *place).take(most).read_to_end(&mut bytes).map_err(Cause::Read)?;
                return Ok(bytes);
            }
            _ => return Err(Cause::Missing(shown(name))),
        };
        let mut bytes = Vec::new();
        file.by_ref().take(most).read_to_end(&mut bytes).map_err(Cause::Read)?;
        Ok(bytes)
    }

    /// A manifest, index or configuration.
    pub(super) fn document(&mut self, name: &str) -> Result<Vec<u8>> {
        let bytes = self.read(name, MAX_DOCUMENT + 1)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Cause::Document { name: shown(name), source: DocumentError::TooLarge });
        }
        Ok(bytes)
    }

    /// The first four bytes, which tell a layer's compression.
    pub(super) fn head(&mut self, name: &str) -> Result<Vec<u8>> {
        self.read(name, 4)
    }

    /// Puts a member into the store.
    pub(super) fn keep(&mut self, name: &str) -> Result<()> {
        let found = self.find(name)?;
        self.content(name)?;
        let member = self.members.remove(&found).ok_or_else(|| Cause::Missing(shown(name)))?;
        let member = match member {
            Member::New(temporary, digest, size) => {
                // Before it is kept, so that nobody collects it in between.
                self.ingest.protect(&[digest])?;
                self.ingest.keep(temporary, &digest)?;
                Member::Stored(digest, size)
            }
            other => other,
        };
        self.members.insert(found, member);
        Ok(())
    }
}

/// A name as messages show it.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(160).collect()
}

fn open_in(root: &Root, name: &str) -> Result<File> {
    // Not blocking, so that a named pipe is seen for what it is.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match root.open_with(Path::new(name), flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Cause::Missing(shown(name))),
        Err(e) => return Err(Cause::File(base::fs::Error { action: "open", path: name.into(), source: e })),
    };
    if file.metadata().at("examine", name)?.is_file() { Ok(file) } else { Err(Cause::NotAFile(shown(name))) }
}
