//! Blobs that come over the network: `content/.partial/<hex>`.
//!
//! ```text
//! open ─► the lock is somebody's: Busy, ask again later
//!      ─► it has come meanwhile:  Present
//!      ─► Partial: what an earlier try left is hashed again, the rest is appended
//!           verify ─► the digest is right ─► keep: synced, renamed to blobs/sha256/<hex>
//!                  ─► it is not, but an earlier try's bytes were in it ─► emptied, to start again
//!                  ─► it is not: emptied as well
//! ```
//!
//! Nothing in such a file is believed: after a power cut it may hold anything. The file's flock makes two pulls
//! of one blob, in whatever processes, one download. What nobody finishes is swept after [`KEPT`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base::fs::{self, At};
use base::{Digest, Hasher};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Ingest;
use crate::store::{Error, Result, Store};

/// Where they are, below `content`.
pub(crate) const DIR: &str = ".partial";
/// How long what nobody finishes is kept: whoever tries again mostly does so at once, or tomorrow.
pub const KEPT: Duration = Duration::from_hours(7 * 24);

/// What became of asking for a blob.
pub enum Opening<'i> {
    /// It is in the store.
    Present,
    /// Another pull receives it now.
    Busy,
    /// It is ours to receive.
    Partial(Partial<'i>),
}

/// Whether what came is the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Whole,
    /// It is not; but what an earlier try had left was part of it. That is thrown away: receive it all again.
    Again,
    /// It is not: it has this digest. It is thrown away.
    Wrong(Digest),
}

/// A blob that is being received, and its lock.
#[derive(Debug)]
pub struct Partial<'i> {
    ingest: &'i Ingest,
    path: PathBuf,
    file: File,
    digest: Digest,
    size: u64,
    hasher: Hasher,
    received: u64,
    /// Bytes of it were here before.
    inherited: bool,
}

impl Ingest {
    /// Asks for a blob of this size: whether it has to be received, and how much of it is here. Reads and hashes
    /// what is here. Protects the digest.
    pub fn open_partial(&self, digest: &Digest, size: u64) -> Result<Opening<'_>> {
        self.protect(std::slice::from_ref(digest))?;
        let dir = self.store().partial_dir();
        let path = dir.join(digest.hex());
        loop {
            if self.store().blob_path(digest).exists() {
                return Ok(Opening::Present);
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = match options.open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(&dir, 0o700)?;
                    options.open(&path).at("create", &path)?
                }
                other => other.at("create", &path)?,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(Opening::Busy),
                other => other.at("lock", &path)?,
            }
            // Whoever had the lock may have finished or swept it: then this is no partial file any more.
            if !is_at(&file, &path)? {
                continue;
            }
            // Or have finished it between our two looks: then this is a new file in the place of that one. From now on
            // nobody else can finish it.
            if self.store().blob_path(digest).exists() {
                fs::remove_file(&path)?;
                return Ok(Opening::Present);
            }
            let mut partial = Partial {
                ingest: self,
                path,
                file,
                digest: *digest,
                size,
                hasher: Hasher::default(),
                received: 0,
                inherited: false,
            };
            partial.inherit()?;
            return Ok(Opening::Partial(partial));
        }
    }
}

impl Partial<'_> {
    /// How many bytes are here.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Another view of the file, for whoever reads what is here while it grows. It stays good when the blob comes
    /// to its place.
    pub fn reader(&self) -> Result<File> {
        Ok(fs::open(&self.path)?)
    }

    /// The next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let found = self.received + bytes.len() as u64;
        if found > self.size {
            return Err(Error::Size { digest: self.digest, wanted: self.size, found });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).at("write", &self.path)?;
        self.received = found;
        Ok(())
    }

    /// Whether what is here is the blob. All of it must have come.
    pub fn verify(&mut self) -> Result<Verdict> {
        if self.received != self.size {
            return Err(Error::Size { digest: self.digest, wanted: self.size, found: self.received });
        }
        let (found, _) = std::mem::take(&mut self.hasher).finish();
        if found == self.digest {
            return Ok(Verdict::Whole);
        }
        let verdict = if self.inherited { Verdict::Again } else { Verdict::Wrong(found) };
        self.empty()?;
        Ok(verdict)
    }

    /// Syncs what was verified, and makes it the blob.
    pub fn keep(self) -> Result<()> {
        self.file.sync_data().at("sync", &self.path)?;
        self.ingest.take_in(&self.path, &self.digest)
    }

    /// Hashes what an earlier try left.
    fn inherit(&mut self) -> Result<()> {
        let length = self.file.metadata().at("examine", &self.path)?.len();
        if length == 0 {
            return Ok(());
        }
        if length > self.size {
            return self.empty();
        }
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.hasher.update(&buffer[..n]);
                    self.received += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).at("read", &self.path).map_err(Error::from),
            }
        }
        self.inherited = true;
        Ok(())
    }

    /// Throws away what came.
    pub fn empty(&mut self) -> Result<()> {
        self.file.set_len(0).at("empty", &self.path)?;
        rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(0)).at("rewind", &self.path)?;
        (self.hasher, self.received, self.inherited) = (Hasher::default(), 0, false);
        Ok(())
    }
}

impl Drop for Partial<'_> {
    /// What has nothing in it is nothing to come back to. (After a rename there is no such file.)
    fn drop(&mut self) {
        if self.received == 0 {
            fs::remove_file(&self.path).ok();
        }
    }
}

impl Store {
    /// Removes what came of blobs that nobody has worked on for this long. True if something went.
    pub fn sweep_partial(&self, kept: Duration) -> Result<bool> {
        let dir = self.partial_dir();
        let Some(limit) = SystemTime::now().checked_sub(kept) else { return Ok(false) };
        let mut removed = false;
        for name in fs::names(&dir)? {
            let path = dir.join(name);
            let Ok(about) = std::fs::metadata(&path) else { continue };
            if about.modified().is_ok_and(|modified| modified <= limit) {
                removed |= remove_idle(&path)?;
            }
        }
        Ok(removed)
    }

    /// Bytes on disk of what has come of blobs that are not whole.
    pub fn partial_size(&self) -> Result<u64> {
        let dir = self.partial_dir();
        let size = |name| std::fs::metadata(dir.join(name)).map_or(0, |about| about.blocks() * 512);
        Ok(fs::names(&dir)?.into_iter().map(size).sum())
    }

    /// Removes what came of a blob, unless somebody receives it now.
    pub fn discard_partial(&self, digest: &Digest) -> Result<()> {
        remove_idle(&self.partial_dir().join(digest.hex()))?;
        Ok(())
    }

    pub(crate) fn partial_dir(&self) -> PathBuf {
        self.content().join(DIR)
    }
}

fn remove_idle(path: &Path) -> Result<bool> {
    let file = match fs::open(path) {
        Err(e) if e.is_not_found() => return Ok(false),
        other => other?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        other => other.at("lock", path)?,
    }
    Ok(is_at(&file, path)? && fs::remove_file(path)?)
}

/// Whether the open file is what the path leads to.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().at("examine", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(now) => Ok((now.dev(), now.ino()) == (ours.dev(), ours.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("examine", path).map_err(Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::Instance;

    struct Fixture {
        _dir: tempfile::TempDir,
        store: Store,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let instance = Instance::new(&dir.path().join("root"), &dir.path().join("run"));
            instance.create_dirs().unwrap();
            Self { store: Store::open(&instance).unwrap(), _dir: dir }
        }

        fn left(&self) -> usize {
            fs::names(&self.store.partial_dir()).unwrap().len()
        }
    }

    fn open<'i>(ingest: &'i Ingest, content: &[u8]) -> Partial<'i> {
        match ingest.open_partial(&Digest::of(content), content.len() as u64).unwrap() {
            Opening::Partial(partial) => partial,
            Opening::Present => panic!("it is there"),
            Opening::Busy => panic!("somebody has it"),
        }
    }

    #[test]
    fn what_an_earlier_try_left_is_taken_up() {
        let fixture = Fixture::new();
        let content = b"first and second";
        {
            let ingest = fixture.store.ingest().unwrap();
            open(&ingest, content).append(b"first and").unwrap();
        }
        let ingest = fixture.store.ingest().unwrap();
        let mut partial = open(&ingest, content);
        assert_eq!(partial.received(), 9);
        let mut seen = String::new();
        partial.reader().unwrap().read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "first and");
        assert!(partial.append(b" second and more").is_err(), "more than announced");
        partial.append(b" second").unwrap();
        assert_eq!(partial.verify().unwrap(), Verdict::Whole);
        partial.keep().unwrap();
        assert_eq!(fixture.store.read_blob(&Digest::of(content)).unwrap(), content);
        assert!(matches!(ingest.open_partial(&Digest::of(content), 16).unwrap(), Opening::Present));
        assert_eq!(fixture.left(), 0);
        // A pull that fails gives its blobs back to the next try.
        drop(ingest);
        assert!(fixture.store.read_blob(&Digest::of(content)).is_err());
        let ingest = fixture.store.ingest().unwrap();
        let mut partial = open(&ingest, content);
        assert_eq!((partial.received(), partial.verify().unwrap()), (16, Verdict::Whole));
    }

    #[test]
    fn what_an_earlier_try_left_is_not_believed() {
        let fixture = Fixture::new();
        let ingest = fixture.store.ingest().unwrap();
        for wrong in [&b"fiRst"[..], b"longer than all of it", b"right length, no"] {
            fs::create_dir_all(&fixture.store.partial_dir(), 0o700).unwrap();
            let content = b"first and second";
            std::fs::write(fixture.store.partial_dir().join(Digest::of(content).hex()), wrong).unwrap();
            let mut partial = open(&ingest, content);
            let rest = &content[partial.received() as usize..];
            partial.append(rest).unwrap();
            if partial.verify().unwrap() == Verdict::Again {
                assert_eq!(partial.received(), 0);
                partial.append(content).unwrap();
                assert_eq!(partial.verify().unwrap(), Verdict::Whole);
            }
            drop(partial);
            std::fs::remove_file(fixture.store.partial_dir().join(Digest::of(content).hex())).unwrap();
        }
        // What came now and is wrong goes at once.
        let mut partial = open(&ingest, b"content");
        partial.append(b"contenT").unwrap();
        assert!(matches!(partial.verify().unwrap(), Verdict::Wrong(_)));
        drop(partial);
        assert_eq!(fixture.left(), 0);
    }

    #[test]
    fn what_is_discarded_is_nobodys() {
        let fixture = Fixture::new();
        let ingest = fixture.store.ingest().unwrap();
        let digest = Digest::of(b"content");
        fixture.store.discard_partial(&digest).unwrap();
        let mut partial = open(&ingest, b"content");
        partial.append(b"con").unwrap();
        fixture.store.discard_partial(&digest).unwrap();
        assert_eq!(fixture.left(), 1, "it is being received");
        drop(partial);
        assert_eq!(fixture.left(), 1);
        fixture.store.discard_partial(&digest).unwrap();
        assert_eq!(fixture.left(), 0);
        // What is emptied goes with whoever received it.
        let mut partial = open(&ingest, b"content");
        partial.append(b"con").unwrap();
        partial.empty().unwrap();
        assert_eq!(partial.received(), 0);
        drop(partial);
        assert_eq!(fixture.left(), 0);
    }

    #[test]
    fn one_receives_and_others_wait() {
        let fixture = Fixture::new();
        let (one, two) = (fixture.store.ingest().unwrap(), fixture.store.ingest().unwrap());
        let digest = Digest::of(b"x");
        let mut first = open(&one, b"x");
        assert!(matches!(two.open_partial(&digest, 1).unwrap(), Opening::Busy));
        assert!(!fixture.store.sweep_partial(Duration::ZERO).unwrap(), "it is being received");
        first.append(b"x").unwrap();
        first.verify().unwrap();
        first.keep().unwrap();
        assert!(matches!(two.open_partial(&digest, 1).unwrap(), Opening::Present));
        // The second relies on it, though the first fails.
        drop(one);
        assert!(two.has_blob(&digest).unwrap());
        assert_eq!(fixture.left(), 0);
        open(&two, b"half").append(b"ha").unwrap();
        assert_eq!(fixture.left(), 1);
        assert!(!fixture.store.sweep_partial(Duration::from_hours(1)).unwrap(), "it may be wanted yet");
        assert!(fixture.store.sweep_partial(Duration::ZERO).unwrap());
        assert_eq!(fixture.left(), 0);
    }

    #[test]
    fn of_many_who_ask_at_once_one_receives() {
        let fixture = Fixture::new();
        let received = std::sync::atomic::AtomicUsize::new(0);
        let contents: Vec<[u8; 2]> = (0..200_u16).map(u16::to_le_bytes).collect();
        // What was received goes back when they end without a commit: they outlive the race.
        let ingests: Vec<Ingest> = (0..4).map(|_| fixture.store.ingest().unwrap()).collect();
        std::thread::scope(|scope| {
            for ingest in &ingests {
                scope.spawn(|| {
                    for content in &contents {
                        let digest = Digest::of(content);
                        loop {
                            match ingest.open_partial(&digest, 2).unwrap() {
                                Opening::Present => break,
                                Opening::Busy => std::thread::yield_now(),
                                Opening::Partial(mut partial) => {
                                    received.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                    partial.append(content).unwrap();
                                    assert_eq!(partial.verify().unwrap(), Verdict::Whole);
                                    partial.keep().unwrap();
                                }
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(received.into_inner(), contents.len());
        assert_eq!(fixture.left(), 0);
    }
}
