//! The state directory: a directory a container, claimed by making it.
//!
//! ```text
//!   <root>/<id>/            made by mkdir: of two that create the same container one wins
//!     config.json           the bundle's, as it was: what happens to that one later does not matter
//!     state.json            the record, replaced by write and rename
//!     cgroups               the groups above its own that were made for it, if there were none
//!     start.sock            there while the container waits for `start`
//!     notify/               of a container whose caller wants to be told when it is ready
//! ```
//!
//! Whoever changes a container holds the `flock` of its directory, but not while hooks run: they may take as long as
//! they like, and ask for changes themselves. A directory without a record is what a `create` that was killed has left.
//! Nothing of the container has run then, and its process ends by itself; `delete --force` finds in config.json where
//! its cgroup would be.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs::{self, At as _, Durability};
use oci::runtime::{State, Status};
use runtime::cgroup::{self, Group, Hierarchy, Location};
use runtime::{ForeignRoot, rdt};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, rmdir};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Doing as _, Error};
use crate::later::Later;

/// Where compiled filters are kept, below the root. Ids may begin with a dot, but no container has this one.
pub(crate) const CACHE: &str = ".cache";

/// The file with the groups above a container's own that were made for it, noted before they were.
pub(crate) const NOTES: &str = "cgroups";

/// The format of the record that we write; we read all up to it.
const FORMAT: u32 = 1;

/// What is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Of this record.
    pub(crate) format: u32,
    /// Of the configuration.
    pub(crate) oci_version: String,
    /// The container's id.
    pub(crate) id: String,
    /// Hooks run that come before its root is changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) creating: bool,
    /// Its first process.
    pub(crate) pid: u32,
    /// When that was born, in ticks since boot: another of the same number was born later.
    pub(crate) start_time: u64,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// Its root file system on the host.
    pub(crate) rootfs: PathBuf,
    /// Its cgroup; none: it shares its maker's.
    pub(crate) cgroup: Option<Location>,
    /// What is known of that, once somebody has had the time to write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<cgroup::Record>,
    /// What that bears as long as it is this container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<cgroup::Mark>,
    /// Whether its processes are all that die with its first one.
    pub(crate) own_pids: bool,
    /// Made without the rights of root.
    pub(crate) rootless: bool,
    /// Who made it.
    pub(crate) owner: u32,
    /// The configuration's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// The class of service that was made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resctrl: Option<rdt::Plan>,
    /// Its root in a mount namespace of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) foreign_root: Option<ForeignRoot>,
}

impl Record {
    /// The format that is written.
    pub(crate) const FORMAT: u32 = FORMAT;

    /// What hooks and listeners are told.
    pub(crate) fn state(&self, status: Status) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid: if status == Status::Stopped { 0 } else { self.pid },
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }

    /// Its group, whatever is left of it. None where another's is in its place by now.
    pub(crate) fn group(&self) -> Result<Option<Group>, Error> {
        let group = match (&self.group, &self.cgroup) {
            (Some(group), _) => Group::from_record(group),
            (None, Some(location)) => Group::existing(&Hierarchy::detect()?, location),
            (None, None) => return Ok(None),
        };
        Ok(Some(group).filter(|group| self.owns(group)))
    }

    /// Whether a group is still this container's: another that has ended is taken over by whoever is made in its place.
    pub(crate) fn owns(&self, group: &Group) -> bool {
        self.mark.as_ref().is_none_or(|mark| group.bears(mark))
    }

    /// Whether its first process lives.
    pub(crate) fn lives(&self) -> bool {
        self.pid != 0 && birth(self.pid) == Some(self.start_time)
    }

    /// A descriptor of its first process; none if that has ended.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>, Error> {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let Some(pid) = Pid::from_raw(self.pid.cast_signed()) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // In this order: whoever lives now with that birth is who the descriptor means.
            Ok(process) => Ok(self.lives().then_some(process)),
            // INVAL: it is being reaped at this moment, or its number is a thread's by now (kernel/pid.c, before 6.9).
            Err(Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(error) => Err(error).doing(format!("open the process {}", self.pid)),
        }
    }
}

/// When a process that has not ended was born (proc_pid_stat(5), field 22); none if there is none.
pub(crate) fn birth(pid: u32) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(CWD, format!("/proc/{pid}/stat"), flags, Mode::empty()).ok()?;
    // Some fifty numbers and a name of sixteen bytes: it comes in one reading.
    let mut buffer = [0; 2048];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    let stat = &buffer[..length];
    // The name in parentheses may contain anything, parentheses too.
    let rest = &stat[stat.iter().rposition(|b| *b == b')')? + 1..];
    let rest = std::str::from_utf8(rest).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The id of a process in its own PID namespace.
pub(crate) fn own_pid(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_ascii_whitespace().next_back()?.parse().ok()
}

/// All containers of a root.
#[derive(Debug)]
pub(crate) struct Store<'a> {
    root: &'a Path,
}

/// A container's directory.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) directory: PathBuf,
    descriptor: OwnedFd,
}

/// Held while a container changes.
#[derive(Debug)]
pub(crate) struct Lock<'a>(&'a Container);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Said, and not left to the closing of the descriptor: a child may hold a copy of it.
        flock(&self.0.descriptor, FlockOperation::Unlock).ok();
    }
}

impl Lock<'_> {
    /// Lets others change the container meanwhile.
    ///
    /// # Errors
    /// What the work ends with, but for this: it has been deleted meanwhile.
    pub(crate) fn without<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        flock(&self.0.descriptor, FlockOperation::Unlock).at("unlock", &self.0.directory)?;
        let done = work();
        self.0.acquire()?;
        done
    }
}

impl<'a> Store<'a> {
    /// Of this root.
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// Makes the directory of a new container.
    pub(crate) fn claim(&self, id: &str) -> Result<Container, Error> {
        check_id(id)?;
        let directory = self.root.join(id);
        match fs::create_dir(&directory, 0o700) {
            Err(e) if e.is_not_found() => {
                fs::create_dir_all(self.root, 0o700)?;
                fs::create_dir(&directory, 0o700)
            }
            other => other,
        }
        .map_err(|e| match e.source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists(id.to_owned()),
            _ => Error::File(e),
        })?;
        let descriptor = open_directory(&directory).at("open", &directory)?;
        Ok(Container { id: id.to_owned(), directory, descriptor })
    }

    /// One that exists.
    pub(crate) fn open(&self, id: &str) -> Result<Container, Error> {
        check_id(id)?;
        let directory = self.root.join(id);
        match open_directory(&directory) {
            Ok(descriptor) => Ok(Container { id: id.to_owned(), directory, descriptor }),
            Err(Errno::NOENT) => Err(Error::NotFound),
            Err(error) => Err(error).at("open", &directory).map_err(Error::File),
        }
    }

    /// The ids of all.
    pub(crate) fn ids(&self) -> Result<Vec<String>, Error> {
        let names = fs::names(self.root)?;
        Ok(names.into_iter().filter(|name| check_id(name).is_ok()).collect())
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// runc's rule: letters, digits, `_+-.`, and no name that leads anywhere.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.'));
    // A directory's name has 255 bytes at most.
    if plain && !id.is_empty() && id.len() <= 255 && ![".", "..", CACHE].contains(&id) {
        Ok(())
    } else {
        Err(Error::InvalidId(id.to_owned()))
    }
}

impl Container {
    /// Waits until nobody else changes it.
    ///
    /// # Errors
    /// It has been deleted meanwhile.
    pub(crate) fn lock(&self) -> Result<Lock<'_>, Error> {
        self.acquire()?;
        Ok(Lock(self))
    }

    fn acquire(&self) -> Result<(), Error> {
        loop {
            match flock(&self.descriptor, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                other => break other.at("lock", &self.directory)?,
            }
        }
        if self.is_deleted() {
            // Said, for the same reason as where a lock is dropped.
            flock(&self.descriptor, FlockOperation::Unlock).ok();
            return Err(Error::NotFound);
        }
        Ok(())
    }

    /// Whether somebody has deleted it. What is at its path now is another's.
    pub(crate) fn is_deleted(&self) -> bool {
        // A directory that was removed has no link left.
        fstat(self.descriptor.as_fd()).is_ok_and(|found| found.st_nlink == 0)
    }

    /// Held by whoever starts its command where hooks come right before that, since the lock is not held then: they run
    /// once.
    ///
    /// # Errors
    /// Somebody else starts it.
    pub(crate) fn claim_start(&self, later: &Later) -> Result<Option<OwnedFd>, Error> {
        if later.hooks.start_container.is_empty() {
            return Ok(None);
        }
        let path = self.path(config::NAME);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(CWD, &path, flags, Mode::empty()).at("open", &path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(Error::State("the container is being started already".to_owned())),
            other => Ok(other.at("lock", &path).map(|()| Some(file))?),
        }
    }

    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The record.
    pub(crate) fn record(&self) -> Result<Record, Error> {
        let path = self.path("state.json");
        let bytes = fs::read_if_exists(&path)?.ok_or(Error::NotFound)?;
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let read = serde_json::from_slice::<Record>(&bytes);
        if let Ok(record) = &read
            && record.format <= FORMAT
        {
            return read.map_err(|source| Error::Json { path, source });
        }
        match serde_json::from_slice::<Head>(&bytes) {
            Ok(head) if head.format > FORMAT => {
                Err(Error::TooNew { id: self.id.clone(), version: head.format, newest: FORMAT })
            }
            Ok(_) => read.map_err(|source| Error::Json { path, source }),
            Err(source) => Err(Error::Json { path, source }),
        }
    }

    /// What whoever ends a container has to know of it. Of a record that a newer version has written this is what no
    /// version ever changes: `pid`, `start_time`, `own_pids` and `cgroup`.
    pub(crate) fn essentials(&self) -> Result<Record, Error> {
        #[derive(Deserialize)]
        struct Essentials {
            format: u32,
            pid: u32,
            start_time: u64,
            own_pids: bool,
            cgroup: Option<Location>,
            #[serde(default)]
            mark: Option<cgroup::Mark>,
        }
        let refused = match self.record() {
            Err(refused @ Error::TooNew { .. }) => refused,
            other => return other,
        };
        let bytes = fs::read(&self.path("state.json"))?;
        let Ok(known) = serde_json::from_slice::<Essentials>(&bytes) else { return Err(refused) };
        Ok(Record {
            format: known.format,
            oci_version: String::new(),
            id: self.id.clone(),
            creating: false,
            pid: known.pid,
            start_time: known.start_time,
            created: String::new(),
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            cgroup: known.cgroup,
            group: None,
            mark: known.mark,
            foreign_root: None,
            own_pids: known.own_pids,
            rootless: false,
            owner: 0,
            annotations: BTreeMap::new(),
            resctrl: None,
        })
    }

    /// Replaces the record.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.path("state.json");
        let bytes =
            serde_json::to_vec(record).map_err(|source| Error::Json { path: path.clone(), source })?;
        Ok(fs::write_atomic(&path, &bytes, Durability::Volatile)?)
    }

    /// Where `start` finds a container that waits for it.
    pub(crate) fn start_socket(&self) -> PathBuf {
        self.path("start.sock")
    }

    /// Where it stands.
    pub(crate) fn status(&self, record: &Record) -> Result<Status, Error> {
        if !record.lives() {
            return Ok(Status::Stopped);
        }
        if record.creating {
            return Ok(Status::Creating);
        }
        // First: a created one that is frozen is not there to be started.
        if record.group()?.is_some_and(|group| group.frozen()) {
            return Ok(Status::Paused);
        }
        Ok(if self.start_socket().exists() { Status::Created } else { Status::Running })
    }

    /// Removes its directory: the id is free again.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        for file in ["state.json", config::NAME] {
            fs::remove_file(&self.path(file))?;
        }
        match rmdir(&self.directory) {
            Ok(()) => Ok(()),
            Err(_) => Ok(fs::remove_dir_all(&self.directory)?),
        }
    }
}

/// Removes a group in which nothing of the container's own can be any more, if nobody is in it or all in it are just
/// about to end; true if it is gone.
pub(crate) fn remove_empty(group: &Group) -> Result<bool, cgroup::Error> {
    /// How long a process takes that has to notice that whoever made it is gone.
    const LEAVING: Duration = Duration::from_secs(2);
    let deadline = Instant::now() + LEAVING;
    while !group.processes().is_empty() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    group.remove().map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            format: FORMAT,
            oci_version: "1.0.2".to_owned(),
            id: id.to_owned(),
            creating: false,
            pid: std::process::id(),
            start_time: birth(std::process::id()).unwrap(),
            created: crate::time::now(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            cgroup: None,
            group: None,
            mark: None,
            foreign_root: None,
            own_pids: true,
            rootless: false,
            owner: 0,
            annotations: BTreeMap::new(),
            resctrl: None,
        }
    }

    #[test]
    fn ids_are_plain_names() {
        for good in ["a", "web-1", "A.b_c+d", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", CACHE, "a/b", "../x", "a b", "ä", "a\n", &"x".repeat(256)] {
            assert!(matches!(check_id(bad), Err(Error::InvalidId(_))), "{bad}");
        }
    }

    #[test]
    fn of_two_that_claim_an_id_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/root");
        let store = Store::new(&root);
        let claims: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::new(&root).claim("x").is_ok())).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().filter(|won| **won).count(), 1, "{claims:?}");
        assert!(matches!(store.claim("x"), Err(Error::Exists(_))));
        assert_eq!(store.ids().unwrap(), ["x"]);
        assert!(matches!(store.open("y"), Err(Error::NotFound)));
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let mut ours = record("x");
        assert!(ours.lives() && ours.open().unwrap().is_some());
        ours.start_time += 1;
        assert!(!ours.lives() && ours.open().unwrap().is_none());
        ours.pid = 0;
        assert!(!ours.lives());
    }

    #[test]
    fn records_are_kept_and_newer_ones_refused() {
        let dir = tempfile::tempdir().unwrap();
        let container = Store::new(dir.path()).claim("x").unwrap();
        assert!(matches!(container.record(), Err(Error::NotFound)));
        let mut ours = record("x");
        container.write(&ours).unwrap();
        assert_eq!(container.record().unwrap().start_time, ours.start_time);
        assert_eq!(container.status(&ours).unwrap(), Status::Running);
        std::fs::write(container.start_socket(), "").unwrap();
        assert_eq!(container.status(&ours).unwrap(), Status::Created);
        ours.format = FORMAT + 1;
        container.write(&ours).unwrap();
        assert!(matches!(container.record(), Err(Error::TooNew { .. })));
        let essentials = container.essentials().unwrap();
        assert_eq!((essentials.pid, essentials.start_time), (ours.pid, ours.start_time));
        std::fs::write(container.path("state.json"), "{").unwrap();
        assert!(matches!(container.record(), Err(Error::Json { .. })));
    }

    #[test]
    fn a_lock_is_of_a_container_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let container = store.claim("x").unwrap();
        let other = store.open("x").unwrap();
        drop(container.lock().unwrap());
        let held = container.lock().unwrap();
        container.remove().unwrap();
        drop(held);
        assert!(matches!(other.lock(), Err(Error::NotFound)));
    }

    #[test]
    fn a_lock_is_let_go_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let container = store.claim("x").unwrap();
        let other = store.open("x").unwrap();
        let held = container.lock().unwrap();
        held.without(|| other.lock().map(drop)).unwrap();
        let deleted = held.without(|| {
            let _lock = other.lock()?;
            other.remove()
        });
        assert!(matches!(deleted, Err(Error::NotFound)));
        // Another of the same name is not this one.
        store.claim("x").unwrap();
        assert!(container.is_deleted());
    }
}
