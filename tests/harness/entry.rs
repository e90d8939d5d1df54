//! Entries of tar archives that say whatever they are told: in every dialect, and hostile ones.

use crate::tar::Tar;

/// One entry. `Entry { name: b"x", ..Entry::default() }` is an empty file of root's.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// In the header, cut to 100 bytes.
    pub name: &'a [u8],
    /// The type: `0` file, `1` hard link, `2` symlink, `3` and `4` devices, `5` directory, `6` fifo.
    pub kind: u8,
    /// Permissions.
    pub mode: u32,
    /// In base 256 where it does not fit.
    pub uid: u64,
    /// In base 256 where it does not fit.
    pub gid: u64,
    /// Seconds; in base 256 where they do not fit, or lie before 1970.
    pub mtime: i64,
    /// Where a link leads to.
    pub link: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// What the header says of the size; else the content's.
    pub size: Option<u64>,
    /// The bytes 257 to 265, which tell the dialect.
    pub magic: &'a [u8; 8],
    /// The bytes from 345 on: a prefix of the name (ustar), a sparse map (GNU).
    pub tail: &'a [u8],
    /// Records of an extended header before it.
    pub pax: &'a [(&'a str, &'a [u8])],
    /// The content.
    pub content: &'a [u8],
}

/// POSIX's magic and version.
pub const USTAR: &[u8; 8] = b"ustar\x0000";
/// GNU's.
pub const GNU: &[u8; 8] = b"ustar  \0";
/// None: the seventh edition of Unix.
pub const V7: &[u8; 8] = &[0; 8];

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_500_000_000,
            link: b"",
            device: (0, 0),
            size: None,
            magic: USTAR,
            tail: b"",
            pax: &[],
            content: b"",
        }
    }
}

impl Tar {
    /// Adds an entry, with its extended header if it has one.
    #[must_use]
    pub fn with(self, entry: &Entry<'_>) -> Self {
        let tar = if entry.pax.is_empty() {
            self
        } else {
            let mut records = Vec::new();
            for (key, value) in entry.pax {
                records.extend(record(key, value));
            }
            self.block(&Entry { name: b"PaxHeaders/x", kind: b'x', content: &records, ..Entry::default() })
        };
        tar.block(entry)
    }

    /// The same with GNU's long name before it, and a long link target where there is one.
    #[must_use]
    pub fn with_gnu_names(self, entry: &Entry<'_>) -> Self {
        let long = |tar: Self, kind, text: &[u8]| {
            let content = [text, b"\0"].concat();
            let name = b"././@LongLink";
            tar.block(&Entry { name, kind, magic: GNU, content: &content, ..Entry::default() })
        };
        let mut tar = long(self, b'L', entry.name);
        if !entry.link.is_empty() {
            tar = long(tar, b'K', entry.link);
        }
        tar.block(&Entry { magic: GNU, ..entry.clone() })
    }

    fn block(self, entry: &Entry<'_>) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, &entry.name[..entry.name.len().min(100)]);
        put(100, format!("{:07o}\0", entry.mode).as_bytes());
        put(108, &number::<8>(entry.uid.cast_signed()));
        put(116, &number::<8>(entry.gid.cast_signed()));
        put(124, &number::<12>(entry.size.unwrap_or(entry.content.len() as u64).cast_signed()));
        put(136, &number::<12>(entry.mtime));
        put(156, &[entry.kind]);
        put(157, &entry.link[..entry.link.len().min(100)]);
        put(257, entry.magic);
        if entry.magic != V7 {
            put(329, format!("{:07o}\0", entry.device.0).as_bytes());
            put(337, format!("{:07o}\0", entry.device.1).as_bytes());
        }
        put(345, entry.tail);
        self.raw(header, entry.content)
    }
}

/// A record of an extended header, with its own length in front.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Octal with an end where that fits, else GNU's base 256.
fn number<const N: usize>(value: i64) -> [u8; N] {
    let mut field = [0; N];
    let octal = format!("{value:0width$o}\0", width = N - 1);
    if value >= 0 && octal.len() == N {
        field.copy_from_slice(octal.as_bytes());
        return field;
    }
    field.fill(if value < 0 { 0xff } else { 0 });
    let bytes = value.to_be_bytes();
    let count = bytes.len().min(N);
    field[N - count..].copy_from_slice(&bytes[bytes.len() - count..]);
    field[0] |= 0x80;
    field
}
