//! The digests of files, kept from one build to the next: who has not changed since need not be read again.
//!
//! A file is taken for the same while its device, inode, size, modification and change time are. As in Git's index, what was
//! changed just before it was read is not kept ("racily clean"): the next change could fall into the same tick of the clock.
//!
//! The table is one file, replaced as a whole, with a digest of itself: what is spoilt, or of another version, counts as
//! empty. Builds that end at once take turns, and each adds to what the other wrote.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::fs::{At, Durability};
use base::{Hasher, Timestamp};
use rustix::fs::Stat;
use state::lock::Lock;

use super::Error;

const MAGIC: &[u8; 16] = b"dhow digests 1\n\0";
/// Bytes of an entry.
const ENTRY: usize = 8 * 5 + 32 + 4;
/// Entries that are kept, those used last. In memory they take thirty megabytes, on the disk nineteen.
const MOST: usize = 250_000;
/// A tick of the kernel's clock, with room; and that of file systems that count whole seconds (two, on some).
const TICK: Duration = Duration::from_millis(100);
const COARSE_TICK: Duration = Duration::from_millis(2100);
const DAY: i64 = 86_400 * 1_000_000_000;

/// Digests of files.
#[derive(Debug)]
pub(crate) struct Remembered {
    path: PathBuf,
    table: Table,
    /// What this build adds: it asks again when it has copied.
    fresh: Mutex<Table>,
    today: u32,
    /// Something that was used last on another day.
    aged: AtomicBool,
}

/// Device and inode.
type Identity = (u64, u64);

type Table = HashMap<Identity, Entry, BuildHasherDefault<Mix>>;

#[derive(Debug)]
struct Entry {
    size: u64,
    /// Nanoseconds since 1970.
    modified: i64,
    changed: i64,
    digest: [u8; 32],
    /// Days since 1970.
    used: AtomicU32,
}

impl Remembered {
    /// Reads the table at this path, if there is one.
    pub(crate) fn open(path: &Path) -> Self {
        let today = (Timestamp::now().0 / DAY) as u32;
        let table = read(path).unwrap_or_default();
        Self { path: path.to_owned(), table, fresh: Mutex::default(), today, aged: AtomicBool::new(false) }
    }

    /// The digest of this file, if it was kept and the file has not changed.
    pub(super) fn get(&self, stat: &Stat) -> Option<[u8; 32]> {
        let same = |entry: &&Entry| (entry.size, entry.modified, entry.changed) == version(stat);
        let Some(entry) = self.table.get(&identity(stat)).filter(same) else {
            let fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            return fresh.get(&identity(stat)).filter(same).map(|entry| entry.digest);
        };
        if entry.used.swap(self.today, Ordering::Relaxed) != self.today {
            self.aged.store(true, Ordering::Relaxed);
        }
        Some(entry.digest)
    }

    /// Keeps the digest of a file that looked like this before and after it was read; `began` is when that began.
    pub(super) fn put(&self, stat: &Stat, began: Timestamp, digest: [u8; 32]) {
        let (size, modified, changed) = version(stat);
        if !is_settled(stat, began) {
            return;
        }
        let entry = Entry { size, modified, changed, digest, used: AtomicU32::new(self.today) };
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(identity(stat), entry);
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// The table cannot be written. Nothing is lost then but time.
    pub(crate) fn save(&self) -> Result<(), Error> {
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        if fresh.is_empty() && !self.aged.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        // The directory's, since the file is replaced.
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        base::fs::create_dir_all(directory, 0o700)?;
        let _lock = Lock::exclusive(directory)?;
        let mut table = read(&self.path).unwrap_or_default();
        for (identity, entry) in &self.table {
            if entry.used.load(Ordering::Relaxed) == self.today {
                table.entry(*identity).and_modify(|other| other.used = AtomicU32::new(self.today));
            }
        }
        table.extend(fresh);
        Ok(base::fs::write_atomic(&self.path, &encode(table), Durability::Volatile)?)
    }
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// What changes with a file.
pub(super) fn version(stat: &Stat) -> (u64, i64, i64) {
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    (
        stat.st_size.unsigned_abs(),
        nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
        nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
    )
}

/// Whether a change after `began` would show in the file's times.
fn is_settled(stat: &Stat, began: Timestamp) -> bool {
    let (_, modified, changed) = version(stat);
    let is_coarse = stat.st_ctime_nsec == 0;
    let tick = if is_coarse { COARSE_TICK } else { TICK };
    modified.max(changed) < began.0.saturating_sub(tick.as_nanos() as i64)
}

fn encode(table: Table) -> Vec<u8> {
    let mut entries: Vec<_> = table.into_iter().collect();
    if entries.len() > MOST {
        entries.sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.used.load(Ordering::Relaxed)));
        entries.truncate(MOST);
    }
    let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + entries.len() * ENTRY + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for ((device, inode), entry) in entries {
        bytes.extend_from_slice(&device.to_le_bytes());
        bytes.extend_from_slice(&inode.to_le_bytes());
        bytes.extend_from_slice(&entry.size.to_le_bytes());
        bytes.extend_from_slice(&entry.modified.to_le_bytes());
        bytes.extend_from_slice(&entry.changed.to_le_bytes());
        bytes.extend_from_slice(&entry.digest);
        bytes.extend_from_slice(&entry.used.load(Ordering::Relaxed).to_le_bytes());
    }
    let mut hasher = Hasher::default();
    hasher.update(&bytes);
    bytes.extend_from_slice(hasher.finish().0.as_bytes());
    bytes
}

/// None where there is no whole table.
fn read(path: &Path) -> Option<Table> {
    let file = std::fs::File::open(path).at("open", path).ok()?;
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hasher = Hasher::default();
    let mut head = [0; MAGIC.len() + 8];
    reader.read_exact(&mut head).ok()?;
    hasher.update(&head);
    let count = usize::try_from(u64::from_le_bytes(head[MAGIC.len()..].try_into().ok()?)).ok()?;
    if &head[..MAGIC.len()] != MAGIC || count > MOST || length != head.len() + count * ENTRY + 32 {
        return None;
    }
    let mut table = Table::with_capacity_and_hasher(count, BuildHasherDefault::default());
    let mut entry = [0; ENTRY];
    for _ in 0..count {
        reader.read_exact(&mut entry).ok()?;
        hasher.update(&entry);
        let number = |at: usize| entry[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let used = entry[72..76].try_into().map_or(0, u32::from_le_bytes);
        let decoded = Entry {
            size: number(16),
            modified: number(24).cast_signed(),
            changed: number(32).cast_signed(),
            digest: entry[40..72].try_into().ok()?,
            used: AtomicU32::new(used),
        };
        table.insert((number(0), number(8)), decoded);
    }
    let mut claimed = [0; 32];
    reader.read_exact(&mut claimed).ok()?;
    (hasher.finish().0.as_bytes() == &claimed).then_some(table)
}

/// Inodes are numbers already, in rows: they need no more than being spread.
#[derive(Debug, Default)]
struct Mix(u64);

impl std::hash::Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stat_of(path: &Path) -> Stat {
        rustix::fs::stat(path).unwrap()
    }

    fn later() -> Timestamp {
        Timestamp(Timestamp::now().0 + 10_000_000_000)
    }

    #[test]
    fn digests_outlive_the_build_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("tables/table"), dir.path().join("file"));
        std::fs::write(&file, "one").unwrap();
        let remembered = Remembered::open(&path);
        assert_eq!(remembered.get(&stat_of(&file)), None);
        remembered.put(&stat_of(&file), later(), [7; 32]);
        assert_eq!(remembered.get(&stat_of(&file)), Some([7; 32]));
        remembered.save().unwrap();
        assert_eq!(Remembered::open(&path).get(&stat_of(&file)), Some([7; 32]));
        std::fs::write(&file, "two").unwrap();
        assert_eq!(Remembered::open(&path).get(&stat_of(&file)), None);
    }

    #[test]
    fn what_changed_just_now_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let remembered = Remembered::open(&dir.path().join("table"));
        remembered.put(&stat_of(&file), Timestamp::now(), [7; 32]);
        assert!(remembered.fresh.lock().unwrap().is_empty());
    }

    #[test]
    fn builds_that_end_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let files: Vec<_> = (0..8).map(|n| dir.path().join(format!("{n}"))).collect();
        for file in &files {
            std::fs::write(file, "x").unwrap();
        }
        std::thread::scope(|scope| {
            for file in &files {
                scope.spawn(|| {
                    let remembered = Remembered::open(&path);
                    remembered.put(&stat_of(file), later(), [1; 32]);
                    remembered.save().unwrap();
                });
            }
        });
        let remembered = Remembered::open(&path);
        assert!(files.iter().all(|file| remembered.get(&stat_of(file)).is_some()));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_was_used_last() {
        let entry =
            |used| Entry { size: 0, modified: 0, changed: 0, digest: [0; 32], used: AtomicU32::new(used) };
        let table: Table = (0..MOST as u64 + 10).map(|n| ((1, n), entry(n as u32))).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        std::fs::write(&path, encode(table)).unwrap();
        let table = read(&path).unwrap();
        assert_eq!(table.len(), MOST);
        assert!(!table.contains_key(&(1, 9)) && table.contains_key(&(1, 10)));
    }

    proptest! {
        #[test]
        fn a_spoilt_table_is_empty(at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
            let dir = tempfile::tempdir().unwrap();
            let (path, file) = (dir.path().join("table"), dir.path().join("file"));
            std::fs::write(&file, "one").unwrap();
            let remembered = Remembered::open(&path);
            remembered.put(&stat_of(&file), later(), [7; 32]);
            remembered.save().unwrap();
            let whole = std::fs::read(&path).unwrap();
            let mut spoilt = whole.clone();
            let at = at % whole.len();
            spoilt[at] ^= 1 << bit;
            std::fs::write(&path, &spoilt).unwrap();
            prop_assert_eq!(Remembered::open(&path).get(&stat_of(&file)), None);
            std::fs::write(&path, &whole[..cut % whole.len()]).unwrap();
            prop_assert_eq!(Remembered::open(&path).get(&stat_of(&file)), None);
        }
    }
}
