//! The heads of files and of blocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use base::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};

const MAGIC: &[u8; 8] = b"DHOWLOG1";
/// The length of a file's head.
pub(crate) const FILE_HEAD: usize = 36;
/// The length of a block's head.
pub(crate) const HEAD: usize = 48;
/// More than a writer ever puts into one block, which bounds the memory of who reads it.
pub(crate) const MAX_BODY: usize = 2 << 20;
/// The least that an entry takes: flags, time, length.
const LEAST_ENTRY: u32 = 3;
const LEVEL: i32 = 1;

/// Where a block begins: random bytes, the same in all of a file.
pub(crate) type Mark = [u8; 8];

/// How the body of a block is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    Zstd,
}

/// What a file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHead {
    pub(crate) mark: Mark,
    /// The number of the first entry that it may hold.
    pub(crate) first: u64,
    /// The latest time of any entry before.
    pub(crate) latest: Timestamp,
}

impl FileHead {
    /// One with a mark of its own.
    pub(crate) fn new(first: u64, latest: Timestamp) -> io::Result<Self> {
        let mut mark = Mark::default();
        getrandom(&mut mark, GetRandomFlags::empty())?;
        Ok(Self { mark, first, latest })
    }

    pub(crate) fn to_bytes(self) -> [u8; FILE_HEAD] {
        let mut bytes = [0; FILE_HEAD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.mark);
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.latest.0.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// None where the file is empty, torn, or none of ours.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; FILE_HEAD];
        if read_at(file, &mut bytes, 0)? < FILE_HEAD {
            return Ok(None);
        }
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8; FILE_HEAD]) -> Option<Self> {
        let fits = bytes.starts_with(MAGIC) && crc32fast::hash(&bytes[..32]) == u32_at(bytes, 32);
        fits.then(|| Self {
            mark: array_at(bytes, 8),
            first: u64::from_le_bytes(array_at(bytes, 16)),
            latest: Timestamp(i64::from_le_bytes(array_at(bytes, 24))),
        })
    }
}

/// What a block begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of its first entry.
    pub(crate) first: u64,
    /// The latest time of all entries up to its end.
    pub(crate) latest: Timestamp,
    /// How many entries it holds.
    pub(crate) count: u32,
    /// The length of its entries.
    pub(crate) raw: u32,
    /// The length of its body, as it is in the file.
    pub(crate) stored: u32,
    pub(crate) how: How,
    /// The checksum of its body.
    pub(crate) sum: u32,
}

impl Head {
    /// The number after that of its last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// The length of the whole block.
    pub(crate) fn length(&self) -> u64 {
        HEAD as u64 + u64::from(self.stored)
    }

    pub(crate) fn to_bytes(self, mark: Mark) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&mark);
        bytes[8..16].copy_from_slice(&self.first.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.latest.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.raw.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.stored.to_le_bytes());
        bytes[36] = u8::from(self.how == How::Zstd);
        bytes[40..44].copy_from_slice(&self.sum.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..44]);
        bytes[44..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// None where these bytes are no head, or one that no writer makes.
    pub(crate) fn parse(bytes: &[u8; HEAD], mark: Mark) -> Option<Self> {
        if !bytes.starts_with(&mark) || crc32fast::hash(&bytes[..44]) != u32_at(bytes, 44) {
            return None;
        }
        let how = match bytes[36] {
            0 => How::Plain,
            1 => How::Zstd,
            _ => return None,
        };
        let head = Self {
            first: u64::from_le_bytes(array_at(bytes, 8)),
            latest: Timestamp(i64::from_le_bytes(array_at(bytes, 16))),
            count: u32_at(bytes, 24),
            raw: u32_at(bytes, 28),
            stored: u32_at(bytes, 32),
            how,
            sum: u32_at(bytes, 40),
        };
        let sane = head.first.checked_add(u64::from(head.count)).is_some()
            && head.count > 0
            && head.count <= head.raw / LEAST_ENTRY
            && head.raw as usize <= MAX_BODY
            && head.stored as usize <= MAX_BODY
            && (head.how == How::Zstd || head.raw == head.stored);
        sane.then_some(head)
    }
}

/// Makes a block of entries, whose bytes follow [`HEAD`] bytes of room in `body`. With `compress` it is made in a
/// buffer of its own, if that is shorter.
pub(crate) fn seal(
    mut body: Vec<u8>,
    mark: Mark,
    (first, count): (u64, u32),
    latest: Timestamp,
    compress: bool,
) -> Vec<u8> {
    let raw = (body.len() - HEAD) as u32;
    let packed = if compress { pack(&body[HEAD..]) } else { None };
    let how = if packed.is_some() { How::Zstd } else { How::Plain };
    let mut block = packed.unwrap_or_else(|| std::mem::take(&mut body));
    let stored = (block.len() - HEAD) as u32;
    let sum = crc32fast::hash(&block[HEAD..]);
    let head = Head { first, latest, count, raw, stored, how, sum };
    block[..HEAD].copy_from_slice(&head.to_bytes(mark));
    block
}

/// Puts a sealed block into another file than it was made for.
pub(crate) fn mark_again(block: &mut [u8], mark: Mark) {
    block[..8].copy_from_slice(&mark);
    let sum = crc32fast::hash(&block[..44]);
    block[44..HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// The compressed bytes behind room for a head; none where they would be no fewer.
fn pack(raw: &[u8]) -> Option<Vec<u8>> {
    let mut packed = vec![0; HEAD + raw.len()];
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).ok()?;
    // An error here is a body that does not shrink.
    let length = compressor.compress_to_buffer(raw, &mut packed[HEAD..]).ok()?;
    packed.truncate(HEAD + length);
    Some(packed)
}

/// Reads the body of a block whose head was at `offset`, and makes entries of it in `raw`. False where it is not (yet)
/// what was written.
pub(crate) fn open(
    file: &File,
    offset: u64,
    head: &Head,
    stored: &mut Vec<u8>,
    raw: &mut Vec<u8>,
) -> io::Result<bool> {
    let into = if head.how == How::Plain { &mut *raw } else { &mut *stored };
    into.resize(head.stored as usize, 0);
    if read_at(file, into, offset + HEAD as u64)? < into.len() || crc32fast::hash(into) != head.sum {
        return Ok(false);
    }
    if head.how == How::Plain {
        return Ok(true);
    }
    raw.resize(head.raw as usize, 0);
    let length = zstd::bulk::decompress_to_buffer(stored, &mut raw[..]);
    Ok(length.is_ok_and(|length| length == raw.len()))
}

/// Reads until the buffer is full or the file ends, and returns how much it was.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
