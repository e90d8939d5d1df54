//! The volumes of an instance: made whole or not at all, found, held, removed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base::fs::{self, At, Durability};
use base::{Id, Timestamp};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use state::Instance;
use state::events::{Event, Kind, append};

use crate::local::{self, Backing};
use crate::record::{self, FILE, FORMAT, Record};
use crate::{Error, Result, name, users};

/// What containers see of a volume.
pub(crate) const DATA: &str = "data";
/// The start of the names of directories that are being made.
const UNFINISHED: &str = ".new-";

/// A volume to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct New {
    /// Its name; none: anonymous, with a name of 64 random digits.
    pub name: Option<String>,
    /// `local`, if it is said.
    pub driver: Option<String>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// It is made for one container.
    pub anonymous: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What is written down of it.
    pub record: Record,
    /// Where its content is, on the host.
    pub mountpoint: PathBuf,
}

impl Volume {
    /// What its content is kept in.
    pub fn backing(&self) -> Result<Backing> {
        local::backing(&self.record.options)
    }
}

/// A volume that nobody removes as long as this is held.
#[derive(Debug)]
pub struct Held {
    /// The volume.
    pub volume: Volume,
    pub(crate) dir: PathBuf,
    pub(crate) lock: OwnedFd,
}

/// The volumes of an instance.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) instance: Instance,
    pub(crate) volumes: PathBuf,
}

impl Store {
    /// Touches nothing.
    pub fn open(instance: &Instance) -> Self {
        Self { instance: instance.clone(), volumes: instance.volumes() }
    }

    /// Makes a volume, unless there is one of this name: then it is that one. True if it was made.
    pub fn create(&self, new: &New, durability: Durability) -> Result<(Volume, bool)> {
        let name = match &new.name {
            Some(name) => name.clone(),
            None => Id::random().map_err(Error::Random)?.to_string(),
        };
        name::check(&name)?;
        if let Some(driver) = new.driver.as_deref().filter(|d| !d.is_empty() && *d != local::DRIVER) {
            return Err(Error::Driver(driver.chars().take(40).collect()));
        }
        local::backing(&new.options)?;
        loop {
            if let Some(volume) = self.find(&name)? {
                return existing(volume, new).map(|volume| (volume, false));
            }
            if let Some(volume) = self.make(&name, new, durability)? {
                return Ok((volume, true));
            }
            // Somebody was faster, and may have removed it again.
        }
    }

    /// Makes a volume; `None` if there is one by now.
    fn make(&self, name: &str, new: &New, durability: Durability) -> Result<Option<Volume>> {
        let record = Record {
            format: FORMAT,
            name: name.to_owned(),
            created: Timestamp::now(),
            driver: local::DRIVER.to_owned(),
            options: new.options.clone(),
            labels: new.labels.clone(),
            anonymous: new.anonymous,
        };
        fs::create_dir_all(&self.volumes, 0o700)?;
        let unfinished = Unfinished::create(&self.volumes)?;
        let target = self.dir(name);
        let made = unfinished.fill(&record, durability).and_then(|()| {
            match rustix::fs::renameat_with(CWD, &unfinished.path, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(e) => Err(e).at("rename", &unfinished.path).map_err(Error::from),
            }
        });
        if !matches!(made, Ok(true)) {
            // Best effort: the first error matters more than the leftover, which a listing removes.
            fs::remove_dir_all(&unfinished.path).ok();
        }
        if !made? {
            return Ok(None);
        }
        if durability == Durability::Synced {
            fs::sync_dir(&self.volumes)?;
        }
        self.note("create", name);
        Ok(Some(Volume { record, mountpoint: target.join(DATA) }))
    }

    /// The volume of this name.
    pub fn find(&self, name: &str) -> Result<Option<Volume>> {
        // A name that cannot be is none; and it must not be a path.
        if name::check(name).is_err() || !self.dir(name).is_dir() {
            return Ok(None);
        }
        match self.load(name) {
            Err(Error::File(e)) if e.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    /// All volumes, by name. What a killed maker has left is removed in passing.
    pub fn list(&self) -> Result<Vec<Volume>> {
        self.sweep();
        let mut volumes = Vec::new();
        for name in fs::names(&self.volumes)? {
            volumes.extend(self.find(&name)?);
        }
        Ok(volumes)
    }

    /// Keeps a volume from being removed.
    pub fn hold(&self, name: &str) -> Result<Held> {
        let lock = self.lock(name, FlockOperation::LockShared)?;
        Ok(Held { volume: self.load(name)?, dir: self.dir(name), lock })
    }

    /// Removes a volume that no container has.
    pub fn remove(&self, name: &str) -> Result<()> {
        name::check(name).map_err(|_| Error::NotFound(name.chars().take(150).collect()))?;
        // Those that are about to use it are waited for: then their records tell.
        let _lock = self.lock(name, FlockOperation::LockExclusive)?;
        if let Some(users) = users::of(&self.instance)?.remove(name) {
            return Err(Error::InUse { name: name.to_owned(), users });
        }
        self.unmount(name)?;
        let target = self.instance.removing().join(format!("volume.{}.{}", std::process::id(), counter()));
        fs::rename(&self.dir(name), &target)?;
        self.note("destroy", name);
        Ok(fs::remove_dir_all(&target)?)
    }

    /// Removes an anonymous volume with its container, unless another one has it, too.
    pub fn remove_with_container(&self, name: &str) -> Result<()> {
        match self.remove(name) {
            Err(Error::InUse { .. } | Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// Where the content of the volume of this name is, if there is one.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.dir(name).join(DATA)
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.volumes.join(name)
    }

    fn load(&self, name: &str) -> Result<Volume> {
        let dir = self.dir(name);
        let record = record::read(&dir, name)?;
        let mountpoint = dir.join(DATA);
        Ok(Volume { record, mountpoint })
    }

    /// Writes into the journal of events. One that cannot be written does not undo what was done.
    fn note(&self, action: &str, name: &str) {
        let event = Event::new(Kind::Volume, action, name).with("driver", local::DRIVER);
        append(&self.instance, &[event]).ok();
    }

    /// The lock of a volume that is there, waited for.
    pub(crate) fn lock(&self, name: &str, how: FlockOperation) -> Result<OwnedFd> {
        let dir = self.dir(name);
        let gone = || Error::NotFound(name.to_owned());
        loop {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = match rustix::fs::openat(CWD, &dir, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Err(gone()),
                other => other.at("open", &dir)?,
            };
            flock(&fd, how).at("lock", &dir)?;
            if is_at(&fd, &dir)? {
                return Ok(fd);
            }
        }
    }

    /// Removes the directories of makers that died. Those that live are left alone, and errors wait for the next.
    pub fn sweep(&self) {
        for entry in std::fs::read_dir(&self.volumes).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
                && let Ok(Some(_lock)) = try_lock(&entry.path())
            {
                fs::remove_dir_all(&entry.path()).ok();
            }
        }
    }
}

/// Somebody's volume, if it may be taken for what was asked for.
fn existing(volume: Volume, new: &New) -> Result<Volume> {
    let same = new.options.is_empty() || new.options == volume.record.options;
    if same { Ok(volume) } else { Err(Error::Different(volume.record.name)) }
}

/// Whether this directory is still the one at its path.
pub(crate) fn is_at(fd: &OwnedFd, path: &Path) -> fs::Result<bool> {
    let ours = rustix::fs::fstat(fd).at("look at", path)?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) => Ok((now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e).at("look at", path),
    }
}

/// `flock(2)`, however often a signal comes.
pub(crate) fn flock(fd: &OwnedFd, how: FlockOperation) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::flock(fd, how) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn try_lock(path: &Path) -> fs::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at("open", path)?,
    };
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(None),
        other => {
            other.at("lock", path)?;
            Ok(is_at(&fd, path)?.then_some(fd))
        }
    }
}

/// A volume that is being made, and its lock.
struct Unfinished {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Unfinished {
    fn create(volumes: &Path) -> Result<Self> {
        loop {
            let path = volumes.join(format!("{UNFINISHED}{}-{}", std::process::id(), counter()));
            match fs::create_dir(&path, 0o700) {
                Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            // Between these two steps it looks like a leftover: then somebody may have swept it away.
            if let Some(lock) = try_lock(&path)? {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    fn fill(&self, record: &Record, durability: Durability) -> Result<()> {
        let data = self.path.join(DATA);
        fs::create_dir(&data, 0o755)?;
        // What containers see, whatever our umask is.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&data, mode).at("set the mode of", &data)?;
        let bytes = serde_json::to_vec(record)
            .map_err(|source| Error::Broken { path: self.path.join(FILE), source })?;
        Ok(fs::write_atomic(&self.path.join(FILE), &bytes, durability)?)
    }
}

pub(crate) fn counter() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
