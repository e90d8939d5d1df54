//! Who may change a container: whoever holds the `flock` of its live directory.
//!
//! The command that makes a container takes it first; the monitor inherits it and keeps it for its life. A
//! live directory whose lock is free therefore belongs to nobody alive. The directory goes with its last
//! owner, so a lock that was won may be that of a directory that is gone by now: that is checked, and tried
//! again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::fs::{self, At};
use base::{Failure, Id, Kind};
use rustix::fs::fstat;
use state::Instance;
use state::container::file;
use state::lock::Lock;
pub(crate) use state::lock::{Held, held as held_at};

/// The ownership of a container. Dropping it gives the container up and removes its live directory.
#[derive(Debug)]
pub(crate) struct Owner {
    lock: Option<Lock>,
    live: PathBuf,
    /// Where the live directory came from, and goes in the end.
    spare: Option<PathBuf>,
}

/// How often a lock is asked for again while it is waited for: `flock` itself cannot be given up on.
const RETRY: Duration = Duration::from_millis(2);

impl Owner {
    /// Takes the ownership, if nobody has it.
    pub(crate) fn take(instance: &Instance, id: &Id) -> fs::Result<Option<Self>> {
        let live = instance.live(id);
        loop {
            match fs::create_dir(&live, 0o700) {
                Err(e) if e.source.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            let lock = match Lock::try_exclusive(&live) {
                Ok(Some(lock)) => lock,
                // Somebody who only looks ([`held`]) is no owner, and gone in an instant.
                Ok(None) if held_at(&live)? == Held::Owned => return Ok(None),
                Ok(None) => continue,
                // Its last owner removed it between our two steps.
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            if fstat(&lock).at("examine", &live)?.st_nlink > 0 {
                return Ok(Some(Self { lock: Some(lock), live, spare: None }));
            }
        }
    }

    /// The same for one who makes room: where RUN has none for the live directory, the spare one becomes it. There is
    /// one, so that removers may have to wait for each other.
    pub(crate) fn take_to_remove(instance: &Instance, id: &Id) -> fs::Result<Option<Self>> {
        let full = match Self::take(instance, id) {
            Err(error) if error.kind() == Kind::Exhausted => error,
            other => return other,
        };
        let spare = instance.spare();
        // Locked first: nobody is to find it without an owner.
        let Ok(Some(lock)) = Lock::try_exclusive(&spare) else { return Err(full) };
        let live = instance.live(id);
        match fs::rename(&spare, &live) {
            Ok(()) => Ok(Some(Self { lock: Some(lock), live, spare: Some(spare) })),
            Err(_) => Err(full),
        }
    }

    /// Takes the ownership as soon as nobody has it, for so long at most.
    pub(crate) fn wait(instance: &Instance, id: &Id, patience: Duration) -> fs::Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::take(instance, id)? {
                None if Instant::now() < deadline => std::thread::sleep(RETRY),
                other => return Ok(other),
            }
        }
    }

    /// The same for one who makes room.
    pub(crate) fn wait_to_remove(
        instance: &Instance,
        id: &Id,
        patience: Duration,
    ) -> fs::Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::take_to_remove(instance, id) {
                Ok(None) if Instant::now() < deadline => {}
                // The spare directory is somebody else's just now.
                Err(error) if error.kind() == Kind::Exhausted && Instant::now() < deadline => {}
                other => return other,
            }
            std::thread::sleep(RETRY);
        }
    }

    /// The live directory.
    pub(crate) fn live(&self) -> &Path {
        &self.live
    }

    /// Hands the lock on: the directory is the next owner's from now on.
    pub(crate) fn hand_over(mut self) -> Option<Lock> {
        self.lock.take()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Removed while the lock is held, so that nobody finds it half empty and free.
        // With an end in it that has found no room elsewhere it stays: see [`state::exit`].
        if self.lock.is_some() && !self.live.join(file::EXIT).exists() {
            // What stays is abandoned, and the next command's to remove.
            match &self.spare {
                Some(spare) => fs::rename(&self.live, spare).ok(),
                None => fs::remove_dir_all(&self.live).ok(),
            };
        }
    }
}

/// Whether somebody owns the container, found out without disturbing anybody who looks too.
pub(crate) fn held(instance: &Instance, id: &Id) -> fs::Result<Held> {
    held_at(&instance.live(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(dir: &Path) -> Instance {
        let instance = Instance::new(&dir.join("root"), &dir.join("run"));
        instance.create_dirs().unwrap();
        instance
    }

    #[test]
    fn a_container_has_one_owner_and_its_live_directory_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        let id = Id::random().unwrap();
        assert_eq!(held(&instance, &id).unwrap(), Held::Absent);
        let owner = Owner::take(&instance, &id).unwrap().unwrap();
        assert_eq!(held(&instance, &id).unwrap(), Held::Owned);
        assert!(Owner::take(&instance, &id).unwrap().is_none());
        drop(owner);
        assert_eq!(held(&instance, &id).unwrap(), Held::Absent);
        drop(Owner::take(&instance, &id).unwrap().unwrap().hand_over());
        assert_eq!(held(&instance, &id).unwrap(), Held::Abandoned);
    }

    #[test]
    fn who_only_looks_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        let id = Id::random().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        held(&instance, &id).unwrap();
                    }
                });
            }
            let taken = (0..300).all(|_| Owner::take(&instance, &id).unwrap().is_some());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(taken);
        });
    }

    #[test]
    fn many_takers_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        let id = Id::random().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let owner = Owner::wait(&instance, &id, Duration::from_secs(20)).unwrap().unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(owner);
                    }
                });
            }
        });
        assert_eq!(held(&instance, &id).unwrap(), Held::Absent);
    }
}
