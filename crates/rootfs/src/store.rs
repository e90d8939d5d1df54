//! The store of unpacked layers: `layers/<diff id>/`, each whole or not there at all.
//!
//! A layer is unpacked into `layers/.unpack-…`, synced, and renamed. Its unpacker holds that directory's
//! `flock`: without it, it is the leftover of a crash, and anybody's to remove. What is removed goes through
//! `removing/`, so that a layer is never seen half gone.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base::Digest;
use base::fs::At;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::apply::OPAQUE;
use crate::{Error, MAX_LOWERS, Overlay, Result, unpack};

/// The start of the names of directories that are being unpacked.
const UNFINISHED: &str = ".unpack-";

/// The unpacked layers of an instance.
#[derive(Debug, Clone)]
pub struct LayerStore {
    layers: PathBuf,
    removing: PathBuf,
}

impl LayerStore {
    /// The store in the directory `layers`, which moves what it removes through `removing` (on the same file
    /// system). Both must exist. Touches nothing: it lies on the way of every start.
    pub fn open(layers: &Path, removing: &Path) -> Self {
        Self { layers: layers.to_owned(), removing: removing.to_owned() }
    }

    /// Whether the layer is unpacked, whole.
    pub fn has(&self, diff_id: &Digest) -> bool {
        self.path(diff_id).is_dir()
    }

    /// Where the layer is, or would be: a directory that can be a lower directory of an overlay.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    /// Unpacks a layer whose compressed bytes come from `blob` (verified by whoever gives them), and makes it
    /// durable. `advance` is told of every compressed byte consumed. False if the layer was there, or somebody
    /// else was faster.
    ///
    /// On success the blob has been read to its end, whether that was needed or not.
    ///
    /// The price of durability is one `syncfs(2)`, which writes out whatever the file system has in memory,
    /// not our files alone: about as long as writing the layer takes the disk, and far less than an
    /// `fsync(2)` per file, of which each waits for the journal.
    pub fn unpack(
        &self,
        diff_id: &Digest,
        media_type: &str,
        blob: impl Read,
        advance: &dyn Fn(u64),
    ) -> Result<bool> {
        let failed = |source| Error::Unpack { layer: *diff_id, source };
        if self.has(diff_id) {
            drain(blob, advance).map_err(|e| failed(unpack::UnpackError::Blob(e)))?;
            return Ok(false);
        }
        let unfinished = Unfinished::create(&self.layers)?;
        let root = unfinished.fd.try_clone().at("open", &unfinished.path)?;
        let result = unpack::unpack(root, diff_id, media_type, blob, advance)
            .map_err(failed)
            .and_then(|()| unfinished.publish(&self.path(diff_id)).map_err(Error::from));
        match result {
            Ok(true) => base::fs::sync_dir(&self.layers).map(|()| true).map_err(Error::from),
            other => {
                // Best effort: the first error matters more than the leftover, which a sweep removes.
                remove_tree(&unfinished.path, &self.removing).ok();
                other
            }
        }
    }

    /// The diff ids of all layers in the store.
    pub fn list(&self) -> Result<Vec<Digest>> {
        Ok(base::fs::names(&self.layers)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// Removes a layer; fine if it is gone. The caller knows that nothing uses it.
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        remove_tree(&self.path(diff_id), &self.removing)
    }

    /// Removes what unpackers that died have left behind. Those that live are left alone.
    pub fn sweep(&self) -> Result<()> {
        let entries = std::fs::read_dir(&self.layers).at("list", &self.layers)?;
        for entry in entries {
            let name = entry.at("list", &self.layers)?.file_name();
            let path = self.layers.join(&name);
            if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
                && let Some(_lock) = lock(&path)?
            {
                remove_tree(&path, &self.removing)?;
            }
        }
        Ok(())
    }

    /// The overlay of these layers (lowest first, as images list them) for a container's directory.
    ///
    /// A layer whose root is opaque hides all below it, which then are left out: overlay itself takes no
    /// notice of that attribute on the root of a layer.
    pub fn overlay(&self, layers: &[Digest], container: &Path) -> Result<Overlay> {
        let mut lowers = Vec::with_capacity(layers.len());
        for layer in layers.iter().rev() {
            let path = self.path(layer);
            let mut value = [0; 1];
            let opaque = match rustix::fs::lgetxattr(&path, OPAQUE, &mut value) {
                Ok(length) => length == 1 && value == *b"y",
                Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => false,
                Err(Errno::NOENT) => return Err(Error::Missing(*layer)),
                Err(e) => return Err(e).at("read the attributes of", &path).map_err(Error::from),
            };
            lowers.push(path);
            if opaque {
                break;
            }
        }
        if lowers.len() > MAX_LOWERS {
            return Err(Error::TooDeep { layers: lowers.len(), most: MAX_LOWERS });
        }
        Ok(Overlay { lowers, upper: container.join("upper"), work: container.join("work") })
    }
}

/// Removes a directory at once for all who look by its name: renames it into `removing`, then deletes it
/// there. What a crash leaves in `removing`, [`sweep_removing`] deletes. Fine if it is gone already.
pub fn remove_tree(path: &Path, removing: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or(OsStr::new("tree"));
    loop {
        let mut unique = name.to_owned();
        unique.push(format!(".{}.{}", std::process::id(), counter()));
        let target = removing.join(unique);
        match rustix::fs::renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(base::fs::remove_dir_all(&target)?),
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {} // left by a process that had our number
            Err(e) => return Err(e).at("move out of the way", path).map_err(Error::from),
        }
    }
}

/// Deletes all that is in `removing`. Any number may do so at once. Goes on after an error, and reports the
/// first.
pub fn sweep_removing(removing: &Path) -> Result<()> {
    let mut first = Ok(());
    for entry in std::fs::read_dir(removing).at("list", removing)? {
        let entry = entry.at("list", removing)?;
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => base::fs::remove_dir_all(&path),
            _ => base::fs::remove_file(&path).map(drop),
        };
        first = first.and(removed.map_err(Error::from));
    }
    first
}

/// A directory that is being unpacked, and its lock.
struct Unfinished {
    path: PathBuf,
    fd: OwnedFd,
}

impl Unfinished {
    fn create(layers: &Path) -> base::fs::Result<Self> {
        loop {
            let path = layers.join(format!("{UNFINISHED}{}-{}", std::process::id(), counter()));
            match base::fs::create_dir(&path, 0o755) {
                Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            // Between these two steps it looks like a leftover: then somebody may have swept it away.
            if let Some(fd) = lock(&path)? {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).at("set the mode of", &path)?;
                return Ok(Self { path, fd });
            }
        }
    }

    /// Makes it durable, then gives it its name. False if that is taken: the other is as good.
    fn publish(&self, target: &Path) -> base::fs::Result<bool> {
        rustix::fs::syncfs(&self.fd).at("sync the file system of", &self.path)?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e).at("rename", &self.path),
        }
    }
}

/// The lock of a directory, if nobody holds it and the directory is still there afterwards.
fn lock(path: &Path) -> base::fs::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at("open", path)?,
    };
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        other => other.at("lock", path)?,
    }
    let ours = rustix::fs::fstat(&fd).at("look at", path)?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino) => Ok(Some(fd)),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e).at("look at", path),
    }
}

fn drain(mut blob: impl Read, advance: &dyn Fn(u64)) -> std::io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match blob.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => advance(n as u64),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn counter() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
