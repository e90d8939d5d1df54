//! The store of unpacked layers: `layers/<diff id>/`, each whole or not there at all. (What is made of several,
//! `derived` keeps in the same way beside them.)
//!
//! A layer is unpacked into `layers/.unpack-…`, and renamed; it becomes durable later (`settle`). Its unpacker holds that directory's
//! `flock`: without it, it is the leftover of a crash, and anybody's to remove. What is removed goes through
//! `removing/`, so that a layer is never seen half gone.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base::Digest;
use base::fs::At;
use rustix::fs::{AtFlags, CWD, FlockOperation, IFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::{Error, Limits, Overlay, Result, unpack};

/// The start of the names of directories that are being unpacked.
const UNFINISHED: &str = ".unpack-";

/// The unpacked layers of an instance.
#[derive(Debug, Clone)]
pub struct LayerStore {
    pub(crate) layers: PathBuf,
    pub(crate) removing: PathBuf,
    limits: Limits,
}

impl LayerStore {
    /// The store in the directory `layers`, which moves what it removes through `removing` (on the same file
    /// system). Both must exist. Touches nothing: it lies on the way of every start.
    pub fn open(layers: &Path, removing: &Path) -> Self {
        Self { layers: layers.to_owned(), removing: removing.to_owned(), limits: Limits::default() }
    }

    /// The same with other bounds of what a layer may cost.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the layer is unpacked, whole.
    pub fn has(&self, diff_id: &Digest) -> bool {
        self.look(&self.path(diff_id)).is_ok_and(|found| found.is_some())
    }

    /// Where the layer is, or would be: a directory that can be a lower directory of an overlay.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }

    /// Unpacks a layer whose compressed bytes come from `blob` (verified by whoever gives them). `advance` is told of
    /// every compressed byte consumed. False if the layer was there, or somebody else was faster. It is durable only
    /// when it has settled ([`LayerStore::settle`]): should the power fail before that, it is not there any more.
    ///
    /// On success the blob has been read to its end, whether that was needed or not.
    pub fn unpack(
        &self,
        diff_id: &Digest,
        media_type: &str,
        blob: impl Read,
        advance: &dyn Fn(u64),
    ) -> Result<bool> {
        let failed =
            |source| Error::Unpack { layer: *diff_id, place: self.layers.clone(), source: Box::new(source) };
        if self.has(diff_id) {
            drain(blob, advance).map_err(|e| failed(unpack::UnpackError::Blob(e)))?;
            return Ok(false);
        }
        let unfinished = Unfinished::create(&self.layers)?;
        let root = unfinished.fd.try_clone().at("open", &unfinished.path)?;
        let result = unpack::unpack(root, diff_id, media_type, blob, &self.limits, advance)
            .map_err(failed)
            .and_then(|()| self.publish(&unfinished, &self.path(diff_id)));
        if !matches!(result, Ok(true)) {
            // Best effort: the first error matters more than the leftover, which a sweep removes.
            remove_tree(&unfinished.path, &self.removing).ok();
        }
        result
    }

    /// The diff ids of all layers in the store.
    pub fn list(&self) -> Result<Vec<Digest>> {
        Ok(base::fs::names(&self.layers)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// The bytes of all files of a layer, each counted once; none if it is not unpacked.
    pub fn size(&self, diff_id: &Digest) -> Result<Option<u64>> {
        let path = self.path(diff_id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.at("open", &path)?,
        };
        Ok(Some(crate::pack::size(root.as_fd())?))
    }

    /// Removes a layer; fine if it is gone. The caller knows that nothing uses it. What was made of it stays until
    /// [`LayerStore::sweep_derived`].
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        remove_tree(&self.path(diff_id), &self.removing)
    }

    /// Removes what unpackers that died have left behind. Those that live are left alone.
    pub fn sweep(&self) -> Result<()> {
        self.spread();
        self.unfinished()?.into_iter().try_for_each(|(path, _lock)| remove_tree(&path, &self.removing))
    }

    /// What [`LayerStore::sweep`] would remove.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        Ok(self.unfinished()?.into_iter().map(|(path, _lock)| path).collect())
    }

    /// The directories of dead unpackers, locked.
    fn unfinished(&self) -> Result<Vec<(PathBuf, OwnedFd)>> {
        let entries = std::fs::read_dir(&self.layers).at("list", &self.layers)?;
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.at("list", &self.layers)?.file_name();
            let path = self.layers.join(&name);
            if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
                && let Some(lock) = lock(&path)?
            {
                found.push((path, lock));
            }
        }
        Ok(found)
    }

    /// Asks ext4 to put each layer into a part of the disk of its own, as it does with users' homes (`chattr +T`).
    /// It would put all of them where their directory is; and for a minute or more after a removal it looks at
    /// every inode that was freed there before it takes another (`recently_deleted` in fs/ext4/ialloc.c), so that an
    /// image that replaces a large one took five times as long. Elsewhere it is not needed, and not known.
    fn spread(&self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::openat(CWD, &self.layers, flags, Mode::empty()) else { return };
        if let Ok(flags) = rustix::fs::ioctl_getflags(&dir)
            && !flags.contains(IFlags::TOPDIR)
        {
            rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR).ok();
        }
    }

    /// The overlay of these layers (lowest first, as images list them) for a container's directory.
    ///
    /// A layer whose root is opaque hides all below it, which then are left out.
    pub fn overlay(&self, layers: &[Digest], container: &Path) -> Result<Overlay> {
        let lowers = self.lowers(layers)?;
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
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) path: PathBuf,
    pub(crate) fd: OwnedFd,
}

impl Unfinished {
    pub(crate) fn create(layers: &Path) -> base::fs::Result<Self> {
        crate::placement::spread(layers);
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

    /// Gives it its name. False if that is taken: the other is as good.
    pub(crate) fn rename(&self, target: &Path) -> base::fs::Result<bool> {
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
