//! A tar stream, entry by entry, in bounded memory.
//!
//! `tar-core` parses headers (ustar, GNU, PAX, sparse maps) out of memory; here they get their bytes, and
//! what they leave open is decided as Go's `archive/tar` decides it, because the tools that make and check
//! layers use that: two readers that disagree about where an entry ends can be shown different layers.
//!
//! - Links, directories, devices and fifos have no content, whatever size they claim.
//! - A number that does not fit, or a value that is no number, is an error and never a default.
//! - Global PAX headers are ignored (`git archive` writes one with the commit's name).
//! - A GNU long name ends at its first zero byte.
//!
//! One thing more than Go reads: attributes that are there only in libarchive's notation (`attributes`).

use std::io::{self, BufRead};

use rustix::fs::Timespec;
use tar_core::parse::{self, ParseError, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, PaxExtensions};

use crate::attributes::{self, Attribute};
use crate::limits::{self, Exceeded, Limits};

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream beneath failed.
    #[error("cannot read on")]
    Read(#[source] io::Error),
    /// It ends in the middle of something.
    #[error("the archive ends too early")]
    Truncated,
    /// A header is malformed.
    #[error("a header of the archive is malformed")]
    Malformed(#[source] ParseError),
    /// A header with its extensions is larger than any we hold.
    #[error("a header of the archive is larger than {} MiB", .0 >> 20)]
    HeaderTooLarge(usize),
    /// It does not keep to a bound.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// A field of an entry makes no sense.
    #[error("the entry `{name}` has an impossible {field}")]
    Field {
        /// The entry's name, fit to be shown.
        name: String,
        /// Which field.
        field: &'static str,
    },
    /// An entry of a kind that no layer has.
    #[error("the entry `{name}` is of the type {kind:#04x}, which no layer has")]
    Type {
        /// The entry's name, fit to be shown.
        name: String,
        /// The type byte of its header.
        kind: u8,
    },
}

impl From<ParseError> for ArchiveError {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::PathTooLong { limit, .. } => Exceeded::Path(limit).into(),
            ParseError::MetadataTooLarge { limit, .. } => Exceeded::Metadata(limit).into(),
            other => Self::Malformed(other),
        }
    }
}

/// One entry, resolved from its header and extensions. Names are as the archive has them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Permissions with setuid, setgid and sticky; nothing else.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timespec,
    /// Extended attributes, all that the archive has.
    pub(crate) xattrs: Vec<Attribute>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Directory,
    /// A file with this many bytes of content in the stream.
    File(u64),
    /// A file of the length `size`, of which the stream has only these regions (offset and length, ascending,
    /// disjoint), one after another.
    Sparse {
        size: u64,
        regions: Vec<(u64, u64)>,
    },
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// An archive that is being read.
pub(crate) struct Archive<R> {
    reader: R,
    parser: Parser,
    limits: Limits,
    /// Bytes read ahead of the parser, where a header did not lie in one piece in the reader's buffer.
    window: Vec<u8>,
    /// Where the unread part of `window` begins.
    at: usize,
    /// Bytes of the current entry's content that nobody has read yet.
    content: u64,
    /// Bytes between the content and the next header.
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(reader: R, limits: Limits) -> Self {
        let mut parser = Parser::new(parse::Limits {
            max_metadata_size: limits.max_metadata,
            max_path_len: Some(limits.max_path),
            max_sparse_entries: limits::SPARSE_REGIONS,
            ..parse::Limits::default()
        });
        // It takes no times before 1970; `resolve` looks at the values itself, and is not lenient.
        parser.set_ignore_pax_errors(true);
        Self { reader, parser, limits, window: Vec::new(), at: 0, content: 0, padding: 0 }
    }

    /// The next entry; what the last one's content has left is skipped. `None` at the archive's end, which
    /// need not be the stream's.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let rest = self.content + self.padding;
        (self.content, self.padding) = (0, 0);
        self.take(rest, |_| Ok::<_, ArchiveError>(()))?;
        loop {
            let in_window = self.at < self.window.len();
            let input = if in_window {
                &self.window[self.at..]
            } else {
                self.reader.fill_buf().map_err(ArchiveError::Read)?
            };
            let have = input.len();
            let (consumed, entry) = match self.parser.parse(input)? {
                ParseEvent::NeedData { min_bytes } => {
                    if self.read_ahead(have, min_bytes)? {
                        continue;
                    }
                    // Go takes an end without the closing blocks, or with one of the two, for an end.
                    let rest = &self.window[self.at..];
                    let ended = rest.len() <= HEADER_SIZE && rest.iter().all(|&b| b == 0);
                    return if ended { Ok(None) } else { Err(ArchiveError::Truncated) };
                }
                ParseEvent::End { .. } => return Ok(None),
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, None),
                ParseEvent::Entry { consumed, entry } => {
                    (consumed, Some(resolve(&entry, None, &self.limits)?))
                }
                ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                    let regions = sparse_map.iter().map(|r| (r.offset, r.length)).collect();
                    (consumed, Some(resolve(&entry, Some((real_size, regions)), &self.limits)?))
                }
            };
            self.consume(in_window, consumed);
            if let Some((entry, content)) = entry {
                self.content = content;
                self.padding = content.wrapping_neg() % HEADER_SIZE as u64;
                return Ok(Some(entry));
            }
        }
    }

    /// Hands the next `count` bytes of the current entry's content to `sink`, piece by piece.
    pub(crate) fn content<E: From<ArchiveError>>(
        &mut self,
        count: u64,
        sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = count.min(self.content);
        self.content -= count;
        self.take(count, sink)
    }

    /// Reads the stream to its end. What follows the archive in it means nothing, but belongs to the digest.
    pub(crate) fn drain(mut self) -> Result<(), ArchiveError> {
        loop {
            let n = self.reader.fill_buf().map_err(ArchiveError::Read)?.len();
            if n == 0 {
                return Ok(());
            }
            self.reader.consume(n);
        }
    }

    fn take<E: From<ArchiveError>>(
        &mut self,
        mut count: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while count > 0 {
            let in_window = self.at < self.window.len();
            let piece = if in_window {
                &self.window[self.at..]
            } else {
                self.reader.fill_buf().map_err(ArchiveError::Read)?
            };
            if piece.is_empty() {
                return Err(ArchiveError::Truncated.into());
            }
            let n = piece.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            sink(&piece[..n])?;
            self.consume(in_window, n);
            count -= n as u64;
        }
        Ok(())
    }

    fn consume(&mut self, in_window: bool, n: usize) {
        if in_window {
            self.at += n;
        } else {
            self.reader.consume(n);
        }
    }

    /// Gets more than the `have` bytes that the parser has seen into the window, best `wanted`. False if the
    /// stream has no more.
    fn read_ahead(&mut self, have: usize, wanted: usize) -> Result<bool, ArchiveError> {
        let most = limits::SPARSE_MAP.saturating_add(self.limits.max_metadata as usize);
        if wanted > most || have >= most {
            return Err(ArchiveError::HeaderTooLarge(most));
        }
        self.window.drain(..self.at);
        self.at = 0;
        // The parser begins anew each time, and asks for little more where it cannot know better: doubling
        // keeps the work linear.
        let goal = wanted.max(2 * have).min(most);
        let before = self.window.len();
        while self.window.len() < goal {
            let more = self.reader.fill_buf().map_err(ArchiveError::Read)?;
            if more.is_empty() {
                break;
            }
            let n = more.len().min(goal - self.window.len());
            self.window.extend_from_slice(&more[..n]);
            self.reader.consume(n);
        }
        // Where the window was empty, what it has now may be only what the parser saw in the reader's buffer.
        Ok(self.window.len() > before.max(have))
    }
}

/// The entry, and how many bytes of content follow it.
fn resolve(
    parsed: &ParsedEntry<'_>,
    sparse: Option<(u64, Vec<(u64, u64)>)>,
    limits: &Limits,
) -> Result<(Entry, u64), ArchiveError> {
    let impossible = |field| ArchiveError::Field { name: crate::name::shown(&parsed.path), field };
    let pax = Pax::read(parsed.pax.unwrap_or_default()).map_err(&impossible)?;
    let raw = parsed.header.as_bytes();
    // Sizes above 64 bits wrap in the parser.
    if raw[124] & 0x80 != 0 && (raw[124] != 0x80 || raw[125..128] != [0; 3]) {
        return Err(impossible("size"));
    }
    let link = || match parsed.link_target.as_deref().map(until_zero) {
        None | Some([]) => Err(impossible("link target")),
        Some(target) => Ok(target.to_vec()),
    };
    let device = || parsed.dev_major.zip(parsed.dev_minor).ok_or_else(|| impossible("device number"));
    let size = parsed.size;
    if size > limits.max_size {
        return Err(Exceeded::Size(limits.max_size).into());
    }
    let (kind, content) = match (parsed.entry_type, sparse) {
        (EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse, Some((real, regions))) => {
            // The parser takes a PAX size for what remains behind a map in the content (format 1.0), and
            // would then look for the next header in the wrong place.
            if pax.sparse_in_content && pax.has_size {
                return Err(impossible("size"));
            }
            if !regions_fit(&regions, real, size) {
                return Err(impossible("sparse map"));
            }
            if real > limits.max_size {
                return Err(Exceeded::Size(limits.max_size).into());
            }
            (EntryKind::Sparse { size: real, regions }, size)
        }
        (EntryType::Regular, None) if raw[156] == 0 && parsed.path.ends_with(b"/") => {
            (EntryKind::Directory, size)
        }
        (EntryType::Regular | EntryType::Continuous, None) => (EntryKind::File(size), size),
        (EntryType::Directory, None) => (EntryKind::Directory, 0),
        (EntryType::Link, None) => (EntryKind::HardLink(link()?), 0),
        (EntryType::Symlink, None) => (EntryKind::Symlink(link()?), 0),
        (EntryType::Char, None) => device().map(|(major, minor)| (EntryKind::CharDevice(major, minor), 0))?,
        (EntryType::Block, None) => {
            device().map(|(major, minor)| (EntryKind::BlockDevice(major, minor), 0))?
        }
        (EntryType::Fifo, None) => (EntryKind::Fifo, 0),
        (_, Some(_)) => return Err(impossible("sparse map")),
        (other, None) => {
            let name = crate::name::shown(&parsed.path);
            return Err(ArchiveError::Type { name, kind: other.as_byte() });
        }
    };
    // An id above 32 bits would wrap, perhaps to root's (CVE-2024-40635); the last one means "leave it" to chown.
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    let entry = Entry {
        name: until_zero(&parsed.path).to_vec(),
        kind,
        mode: parsed.mode & 0o7777,
        uid: id(parsed.uid).ok_or_else(|| impossible("user id"))?,
        gid: id(parsed.gid).ok_or_else(|| impossible("group id"))?,
        mtime: match pax.mtime {
            Some(mtime) => mtime,
            None => header_mtime(&raw[136..148], parsed.mtime).ok_or_else(|| impossible("time"))?,
        },
        xattrs: attributes::merge(&parsed.xattrs, pax.libarchive),
    };
    Ok((entry, content))
}

/// What lies before the first zero byte: a GNU name may be padded with them. In a PAX record there is none.
fn until_zero(name: &[u8]) -> &[u8] {
    name.split(|&b| b == 0).next().unwrap_or_default()
}

/// Whether the regions are in order, apart from each other, inside the file, and all of the content.
fn regions_fit(regions: &[(u64, u64)], size: u64, content: u64) -> bool {
    let mut end = 0;
    let mut sum: u64 = 0;
    for &(offset, length) in regions {
        let Some(next) = offset.checked_add(length).filter(|&next| offset >= end && next <= size) else {
            return false;
        };
        end = next;
        sum += length; // no overflow: the regions are disjoint and below `size`
    }
    sum == content
}

/// What we read in PAX records ourselves.
#[derive(Default)]
struct Pax {
    mtime: Option<Timespec>,
    has_size: bool,
    /// Attributes in libarchive's notation.
    libarchive: Vec<Attribute>,
    /// Sparse format 1.0, which keeps the map at the head of the content.
    sparse_in_content: bool,
}

impl Pax {
    /// The error is the name of the offending field. An empty value takes the record back (POSIX, pax).
    fn read(records: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        for record in PaxExtensions::new(records) {
            let record = record.map_err(|_| "extended header")?;
            let (key, value) = (record.key_bytes(), record.value_bytes());
            match key {
                _ if value.is_empty() => {}
                b"path" | b"linkpath" | b"GNU.sparse.name" if value.contains(&0) => return Err("name"),
                b"mtime" => pax.mtime = Some(pax_time(value).ok_or("time")?),
                b"size" => {
                    decimal(value).ok_or("size")?;
                    pax.has_size = true;
                }
                b"uid" => {
                    decimal(value).ok_or("user id")?;
                }
                b"gid" => {
                    decimal(value).ok_or("group id")?;
                }
                b"GNU.sparse.major" => pax.sparse_in_content = decimal(value).ok_or("sparse map")? == 1,
                b"GNU.sparse.name" | b"GNU.sparse.map" => {}
                _ if key.starts_with(attributes::LIBARCHIVE) => {
                    let name = &key[attributes::LIBARCHIVE.len()..];
                    pax.libarchive.push(attributes::decode(name, value).ok_or("attribute")?);
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    decimal(value).ok_or("sparse map")?;
                }
                _ => {}
            }
        }
        Ok(pax)
    }
}

/// Digits alone: what `parse` takes besides (a plus sign) other readers do not.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// `[-]seconds[.fraction]`, the fraction to any number of digits.
fn pax_time(text: &[u8]) -> Option<Timespec> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (seconds, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(seconds)?).ok()?;
    let nanos = (0..9).fold(0, |n, i| n * 10 + fraction.get(i).map_or(0, |d| i64::from(d - b'0')));
    Some(match (negative, nanos) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanos },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanos },
    })
}

/// The time of a header: octal as the parser read it, or GNU's base 256, which may be negative.
fn header_mtime(field: &[u8], parsed: u64) -> Option<Timespec> {
    let seconds = match field[0] {
        first if first & 0x80 == 0 => i64::try_from(parsed).ok()?,
        0x80 if field[1..4] == [0; 3] => i64::try_from(parsed).ok()?,
        0xff if field[1..4] == [0xff; 3] => {
            let low = i64::from_be_bytes(field[4..12].try_into().ok()?);
            if low >= 0 {
                return None;
            }
            low
        }
        _ => return None,
    };
    Some(Timespec { tv_sec: seconds, tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_signs_and_fractions() {
        let time = |text: &str| pax_time(text.as_bytes()).map(|t| (t.tv_sec, t.tv_nsec));
        assert_eq!(time("1700000000.123456789"), Some((1_700_000_000, 123_456_789)));
        assert_eq!(time("1.5"), Some((1, 500_000_000)));
        assert_eq!(time("1.0000000019"), Some((1, 1)));
        assert_eq!(time("0"), Some((0, 0)));
        assert_eq!(time("-1"), Some((-1, 0)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        for bad in ["", "-", "x", "1.x", "+1", "1 ", "99999999999999999999", "--1"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn header_times_may_lie_before_1970() {
        let mut field = [0xff; 12];
        assert_eq!(header_mtime(&field, 0).unwrap().tv_sec, -1);
        field[4] = 0x7f;
        assert!(header_mtime(&field, 0).is_none());
    }

    #[test]
    fn sparse_maps_that_lie_are_refused() {
        assert!(regions_fit(&[(0, 10), (20, 5)], 25, 15));
        assert!(regions_fit(&[], 1 << 30, 0));
        assert!(!regions_fit(&[(0, 10), (20, 5)], 24, 15), "beyond the end");
        assert!(!regions_fit(&[(0, 10), (5, 5)], 25, 15), "overlapping");
        assert!(!regions_fit(&[(20, 5), (0, 10)], 25, 15), "out of order");
        assert!(!regions_fit(&[(0, 10)], 25, 15), "less than the content");
        assert!(!regions_fit(&[(u64::MAX, 2)], u64::MAX, 2), "overflow");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever the bytes, reading ends, without a panic.
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..4096),
                                         kinds in proptest::collection::vec(prop_oneof![
                                            Just(b'0'), Just(b'1'), Just(b'5'), Just(b'L'), Just(b'K'), Just(b'S'),
                                            Just(b'x'), Just(b'g')], 8),
                                         capacity in 1usize..3000) {
            // Random headers have no right checksum: give them one, so that what lies behind is reached.
            for (block, kind) in bytes.chunks_exact_mut(512).zip(kinds) {
                block[124..136].copy_from_slice(b"00000000100\0");
                for field in [100..108, 108..116, 116..124, 329..337, 337..345] {
                    block[field].copy_from_slice(b"0000001\0");
                }
                block[136..148].copy_from_slice(b"00000000001\0");
                block[156] = kind;
                block[257..265].copy_from_slice(if kind == b'S' { b"ustar  \0" } else { b"ustar\x0000" });
                block[148..156].copy_from_slice(b"        ");
                let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let mut archive = Archive::new(std::io::BufReader::with_capacity(capacity, &bytes[..]), Limits::default());
            let mut entries = 0;
            while let Ok(Some(_)) = archive.next() {
                entries += 1;
                prop_assert!(entries <= 8);
            }
        }
    }
}
