//! Headers of a tar archive: ustar (POSIX, pax), with an extended header in front of what that cannot say.
//!
//! The same file always gives the same bytes. What readers disagree about is avoided: no prefix field, no global
//! headers, no names of users and groups, no access times.

use rustix::fs::Timespec;

/// A tar block.
pub(crate) const BLOCK: usize = 512;
/// Room for a name or link target in the header itself.
const NAME: usize = 100;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    File(u64),
    /// A file of this length, of which only these regions (offset, length) follow: GNU's format 0.1.
    Sparse(u64, &'a [(u64, u64)]),
    Directory,
    Symlink(&'a [u8]),
    /// To a path of the archive.
    HardLink(&'a [u8]),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// An entry. Names are raw bytes, as the file system has them.
#[derive(Debug, Clone)]
pub(crate) struct Header<'a> {
    /// Without a slash at either end.
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind<'a>,
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timespec,
    /// In order.
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl Header<'_> {
    /// Appends the header's blocks. Content follows, and zeros to the next block.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut path = self.path.to_vec();
        if self.kind == Kind::Directory {
            path.push(b'/');
        }
        let (size, link) = match &self.kind {
            Kind::File(size) => (*size, &[][..]),
            Kind::Sparse(_, regions) => (regions.iter().map(|(_, length)| length).sum(), &[][..]),
            Kind::Symlink(target) | Kind::HardLink(target) => (0, *target),
            _ => (0, &[][..]),
        };
        let records = self.records(&path, link, size);
        let base = self.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        if !records.is_empty() {
            let mut block = blank(&[b"PaxHeaders.0/", base].concat(), b'x', records.len() as u64);
            field(&mut block, 100, 8, 0o644);
            finish(&mut block);
            out.extend_from_slice(&block);
            out.extend_from_slice(&records);
            pad(out);
        }
        let name = match self.kind {
            // Readers without sparse files show it under this name instead of as a file that lacks its holes.
            Kind::Sparse(..) => [b"GNUSparseFile.0/", base].concat(),
            _ => path,
        };
        let mut block = blank(&name, self.type_byte(), if size < 1 << 33 { size } else { 0 });
        field(&mut block, 100, 8, u64::from(self.mode & 0o7777));
        field(&mut block, 108, 8, small_id(self.uid).unwrap_or(0));
        field(&mut block, 116, 8, small_id(self.gid).unwrap_or(0));
        field(&mut block, 136, 12, small_time(self.mtime).unwrap_or(0));
        block[157..157 + link.len().min(NAME)].copy_from_slice(&link[..link.len().min(NAME)]);
        if let Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) = self.kind {
            field(&mut block, 329, 8, u64::from(major));
            field(&mut block, 337, 8, u64::from(minor));
        }
        finish(&mut block);
        out.extend_from_slice(&block);
    }

    fn type_byte(&self) -> u8 {
        match self.kind {
            Kind::File(_) | Kind::Sparse(..) => b'0',
            Kind::HardLink(_) => b'1',
            Kind::Symlink(_) => b'2',
            Kind::CharDevice(..) => b'3',
            Kind::BlockDevice(..) => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        }
    }

    /// The extended header's records, in a fixed order.
    fn records(&self, path: &[u8], link: &[u8], size: u64) -> Vec<u8> {
        let mut records = Vec::new();
        if let Kind::Sparse(length, regions) = self.kind {
            let map: Vec<String> =
                regions.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
            record(&mut records, b"GNU.sparse.size", length.to_string().as_bytes());
            record(&mut records, b"GNU.sparse.numblocks", regions.len().to_string().as_bytes());
            record(&mut records, b"GNU.sparse.name", path);
            record(&mut records, b"GNU.sparse.map", map.join(",").as_bytes());
        } else if path.len() > NAME || !path.is_ascii() {
            record(&mut records, b"path", path);
        }
        if link.len() > NAME || !link.is_ascii() {
            record(&mut records, b"linkpath", link);
        }
        if size >= 1 << 33 {
            record(&mut records, b"size", size.to_string().as_bytes());
        }
        if small_id(self.uid).is_none() {
            record(&mut records, b"uid", self.uid.to_string().as_bytes());
        }
        if small_id(self.gid).is_none() {
            record(&mut records, b"gid", self.gid.to_string().as_bytes());
        }
        if small_time(self.mtime).is_none() {
            record(&mut records, b"mtime", decimal_time(self.mtime).as_bytes());
        }
        for (name, value) in self.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        records
    }
}

/// Fills up to the next block.
pub(crate) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Seven octal digits hold 21 bits.
fn small_id(id: u32) -> Option<u64> {
    (id < 1 << 21).then_some(u64::from(id))
}

/// Whole seconds from 1970 on, in eleven octal digits.
fn small_time(time: Timespec) -> Option<u64> {
    u64::try_from(time.tv_sec).ok().filter(|seconds| time.tv_nsec == 0 && *seconds < 1 << 33)
}

/// `[-]seconds[.fraction]` without needless zeros.
fn decimal_time(time: Timespec) -> String {
    // Of a time before 1970 the kernel's fraction counts forwards from the second before.
    let (sign, seconds, nanos) = match (time.tv_sec < 0, time.tv_nsec) {
        (true, 0) => ("-", time.tv_sec.unsigned_abs(), 0),
        (true, nanos) => ("-", (time.tv_sec + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (false, nanos) => ("", time.tv_sec.unsigned_abs(), nanos),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `length key=value\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A header of root's, of 1970, without its checksum.
fn blank(name: &[u8], kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = &name[..name.len().min(NAME)];
    block[..name.len()].copy_from_slice(name);
    for at in [100, 108, 116] {
        field(&mut block, at, 8, 0);
    }
    field(&mut block, 124, 12, size);
    field(&mut block, 136, 12, 0);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    field(&mut block, 329, 8, 0);
    field(&mut block, 337, 8, 0);
    block
}

/// Octal digits and a zero byte.
fn field(block: &mut [u8; BLOCK], at: usize, width: usize, value: u64) {
    let digits = format!("{value:0width$o}", width = width - 1);
    block[at..at + width - 1].copy_from_slice(digits.as_bytes());
    block[at + width - 1] = 0;
}

fn finish(block: &mut [u8; BLOCK]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Archive, EntryKind};
    use proptest::prelude::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        let text = |tv_sec, tv_nsec| decimal_time(Timespec { tv_sec, tv_nsec });
        assert_eq!(text(1_700_000_000, 123_456_789), "1700000000.123456789");
        assert_eq!(text(1, 500_000_000), "1.5");
        assert_eq!(text(-2, 500_000_000), "-1.5");
        assert_eq!(text(-1, 0), "-1");
        assert_eq!(text(-1, 999_999_999), "-0.000000001");
        assert_eq!(text(1 << 40, 0), "1099511627776");
    }

    proptest! {
        /// Whatever a file is like, our own reader finds all of it again.
        #[test]
        fn what_is_written_is_read(
            path in "[a-z\u{e9}\u{ff}/]{0,180}[a-z]",
            target in proptest::collection::vec(1u8.., 1..300),
            pick in 0usize..7,
            mode in 0u32..0o10000,
            uid in 0..u32::MAX,
            gid in 0..u32::MAX,
            seconds in -(1i64 << 40)..1 << 40,
            nanos in 0i64..1_000_000_000,
            value in proptest::collection::vec(any::<u8>(), 1..100),
        ) {
            let regions = [(0, 4096), (1 << 20, 512)];
            let kind = [
                Kind::File(0), Kind::Sparse(1 << 21, &regions), Kind::Directory, Kind::Symlink(&target),
                Kind::HardLink(&target), Kind::CharDevice(uid % 4096, gid % (1 << 20)), Kind::Fifo,
            ].into_iter().nth(pick).unwrap();
            let path = path.trim_start_matches('/').as_bytes();
            let mtime = Timespec { tv_sec: seconds, tv_nsec: nanos };
            let xattrs = [(b"user.x".to_vec(), value)];
            let mut bytes = Vec::new();
            Header { path, kind: kind.clone(), mode, uid, gid, mtime, xattrs: &xattrs }.write(&mut bytes);
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            bytes.resize(bytes.len() + 8192 + 1024, 0);
            let mut archive = Archive::new(&bytes[..], crate::Limits::default());
            let entry = archive.next().unwrap().unwrap();
            let mut name = path.to_vec();
            if pick == 2 {
                name.push(b'/');
            }
            prop_assert_eq!(&entry.name, &name);
            prop_assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime), (mode, uid, gid, mtime));
            prop_assert_eq!(&entry.xattrs, &xattrs.to_vec());
            let want = match kind {
                Kind::File(size) => EntryKind::File(size),
                Kind::Sparse(size, regions) => EntryKind::Sparse { size, regions: regions.to_vec() },
                Kind::Directory => EntryKind::Directory,
                Kind::Symlink(target) => EntryKind::Symlink(target.to_vec()),
                Kind::HardLink(target) => EntryKind::HardLink(target.to_vec()),
                Kind::CharDevice(major, minor) => EntryKind::CharDevice(major, minor),
                Kind::BlockDevice(major, minor) => EntryKind::BlockDevice(major, minor),
                Kind::Fifo => EntryKind::Fifo,
            };
            prop_assert_eq!(entry.kind, want);
        }
    }
}
