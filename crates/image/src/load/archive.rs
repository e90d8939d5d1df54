//! A tar stream, compressed or not, as a sequence of members.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::read::MultiGzDecoder;
use tar_core::parse::{Limits, ParseError, ParseEvent, Parser};

use super::Cause;

/// What may follow the end of the archive: tar pads to its record size, nothing needs more than this.
const MAX_TRAILER: u64 = 64 << 20;

/// Whether something begins as [`decompress`] knows it, or knows that it cannot.
pub(super) fn is_compressed(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || head.starts_with(b"\xfd7zXZ\0")
        || head.starts_with(b"BZh")
}

/// A stream, decompressed as its first bytes ask for.
pub(super) fn decompress<'r>(mut raw: impl Read + 'r) -> Result<Box<dyn Read + 'r>, Cause> {
    let mut head = Vec::with_capacity(6);
    raw.by_ref().take(6).read_to_end(&mut head).map_err(Cause::Read)?;
    let whole = io::Cursor::new(head.clone()).chain(raw);
    let buffered = |reader| BufReader::with_capacity(128 << 10, reader);
    Ok(match *head {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(buffered(whole))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(buffered(whole)).map_err(Cause::Compression)?)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(Cause::UnknownCompression("xz")),
        [b'B', b'Z', b'h', ..] => return Err(Cause::UnknownCompression("bzip2")),
        _ => Box::new(whole),
    })
}

/// A member of the archive; its content is read next, by [`Tar::read`].
pub(super) struct Member {
    pub(super) name: String,
    pub(super) content: Content,
}

pub(super) enum Content {
    File,
    /// Where a link leads, as a member's name.
    Link(String),
    /// A sparse file, a device: nothing that an image's archive has.
    Other,
}

/// Where an archive's bytes come from.
pub(super) trait Stream: Read {
    /// Goes past `count` bytes; says how many there were.
    fn pass(&mut self, count: u64) -> io::Result<u64>;
}

impl Stream for Box<dyn Read + '_> {
    fn pass(&mut self, count: u64) -> io::Result<u64> {
        io::copy(&mut self.take(count), &mut io::sink())
    }
}

/// A file that is no stream: what nobody wants to read is not read.
pub(super) struct Seekable {
    file: File,
    at: u64,
    end: u64,
}

impl Seekable {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self { file, at: 0, end })
    }
}

impl Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Stream for Seekable {
    fn pass(&mut self, count: u64) -> io::Result<u64> {
        let passed = count.min(self.end.saturating_sub(self.at));
        self.at += passed;
        Ok(passed)
    }
}

/// Reads members one after another.
pub(super) struct Tar<R> {
    reader: R,
    parser: Parser,
    /// Header bytes that the parser has not consumed.
    header: Vec<u8>,
    /// Content and padding of the current member that nobody has read yet.
    content: u64,
    padding: u64,
    any: bool,
}

impl<R: Stream> Tar<R> {
    pub(super) fn new(reader: R) -> Self {
        let limits = Limits { max_path_len: Some(4096), ..Limits::default() };
        Self { reader, parser: Parser::new(limits), header: Vec::new(), content: 0, padding: 0, any: false }
    }

    /// The next member with a name that can matter; the rest of the one before is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Cause> {
        loop {
            self.skip()?;
            let event = match self.parser.parse(&self.header) {
                Ok(event) => event,
                Err(_) if !self.any => return Err(Cause::NotAnArchive),
                Err(e) => return Err(tar_error(e)),
            };
            let (consumed, member) = match event {
                ParseEvent::NeedData { min_bytes } => {
                    if !self.fill(min_bytes)? {
                        return Ok(None);
                    }
                    continue;
                }
                ParseEvent::Entry { consumed, entry } => {
                    self.content = entry.size;
                    let name = std::str::from_utf8(&entry.path).ok().and_then(normalize);
                    let target = entry.link_target.as_deref().and_then(|t| std::str::from_utf8(t).ok());
                    let content = if entry.is_file() {
                        Content::File
                    } else if entry.is_symlink() {
                        let link =
                            name.as_deref().zip(target).and_then(|(name, target)| relative(name, target));
                        link.map_or(Content::Other, Content::Link)
                    } else if entry.is_hard_link() {
                        target.and_then(normalize).map_or(Content::Other, Content::Link)
                    } else {
                        Content::Other
                    };
                    let named = name.filter(|_| !entry.is_dir());
                    (consumed, named.map(|name| Member { name, content }))
                }
                ParseEvent::SparseEntry { consumed, entry, .. } => {
                    self.content = entry.size;
                    let name = std::str::from_utf8(&entry.path).ok().and_then(normalize);
                    (consumed, name.map(|name| Member { name, content: Content::Other }))
                }
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, None),
                ParseEvent::End { .. } => {
                    // To the end, so that whoever writes into the pipe is not cut off, and so that the
                    // compression's own checksum is compared.
                    io::copy(&mut self.reader.by_ref().take(MAX_TRAILER), &mut io::sink())
                        .map_err(stream_error)?;
                    return Ok(None);
                }
            };
            self.padding = self.content.next_multiple_of(512) - self.content;
            self.header.drain(..consumed);
            self.any = true;
            if member.is_some() {
                return Ok(member);
            }
        }
    }

    /// Content of the current member; `Ok(0)` at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Cause> {
        let most = usize::try_from(self.content).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        // What is left of the header's buffer comes first; there is none as the parser works now.
        let n = match (&*self.header).read(&mut buffer[..most]) {
            Ok(0) | Err(_) => read_some(&mut self.reader, &mut buffer[..most])?,
            Ok(n) => {
                self.header.drain(..n);
                n
            }
        };
        if n == 0 {
            return Err(Cause::Truncated);
        }
        self.content -= n as u64;
        Ok(n)
    }

    /// The length of the current member's content. Read nothing of it, and it is passed.
    pub(super) fn length(&self) -> u64 {
        self.content
    }

    fn skip(&mut self) -> Result<(), Cause> {
        let mut left = self.content + self.padding;
        let buffered = left.min(self.header.len() as u64);
        if buffered > 0 {
            self.header.drain(..buffered as usize);
            left -= buffered;
        }
        let skipped = self.reader.pass(left).map_err(stream_error)?;
        (self.content, self.padding) = (0, 0);
        if skipped == left { Ok(()) } else { Err(Cause::Truncated) }
    }

    /// Fills the header's buffer to `wanted` bytes. False at a clean end.
    fn fill(&mut self, wanted: usize) -> Result<bool, Cause> {
        let missing = wanted.saturating_sub(self.header.len());
        let read =
            self.reader.by_ref().take(missing as u64).read_to_end(&mut self.header).map_err(stream_error)?;
        match read {
            n if n == missing => Ok(true),
            0 if self.header.is_empty() && self.any => Ok(false),
            // One block of zeros and the end: some writers stop there.
            _ if self.any && self.header.len() == 512 && self.header.iter().all(|b| *b == 0) => Ok(false),
            _ if !self.any => Err(Cause::NotAnArchive),
            _ => Err(Cause::Truncated),
        }
    }
}

impl Tar<Seekable> {
    /// Where the current member's content begins.
    pub(super) fn offset(&self) -> u64 {
        self.reader.at - self.header.len() as u64
    }
}

fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Cause> {
    loop {
        match reader.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(stream_error),
        }
    }
}

fn stream_error(error: io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Cause::Truncated,
        // What the kernel says has a number, what a decoder says has none.
        _ if error.raw_os_error().is_some() => Cause::Read(error),
        _ => Cause::Compression(error),
    }
}

fn tar_error(error: ParseError) -> Cause {
    match error {
        ParseError::UnexpectedEof { .. } => Cause::Truncated,
        other => Cause::Tar(other),
    }
}

/// One spelling for each member: without `./` and leading slashes. Names with `..` name nothing.
pub(super) fn normalize(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

/// Where a symlink in the member `name` leads. A layer of `docker save` and skopeo is such a link to another's.
fn relative(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { name.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    normalize(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_have_one_spelling_and_links_stay_in_the_archive() {
        assert_eq!(normalize("./a//b/").as_deref(), Some("a/b"));
        assert_eq!(normalize("/a").as_deref(), Some("a"));
        assert_eq!((normalize("a/../b"), normalize(".."), normalize("")), (None, None, None));
        assert_eq!(relative("x/layer.tar", "../y/layer.tar").as_deref(), Some("y/layer.tar"));
        assert_eq!(relative("x/layer.tar", "../../etc/passwd"), None);
        assert_eq!(relative("x/y", "/z").as_deref(), Some("z"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_on(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            if let Ok(reader) = decompress(&*bytes) {
                let mut tar = Tar::new(reader);
                let mut steps = 0;
                while let Ok(Some(_)) = tar.next() {
                    steps += 1;
                    prop_assert!(steps < 100);
                }
            }
        }
    }
}
