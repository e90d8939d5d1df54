//! Directories that outlive a build: `RUN --mount=type=cache`.
//!
//! ```text
//! ROOT/build/caches/<digest>/           its lock: shared by all who use it, exclusive for who removes it
//!                           /id         what it is called
//!                           /0          the lock of one: shared by those who share it, exclusive for who has it alone
//!                           /0/data     what is mounted
//!                           /1 …        more of them, where each wants one of its own
//! ```
//!
//! One `RUN` holds each cache once, however often it mounts it, and takes them in the order of their digests: so nobody waits for
//! himself, and no two for each other.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::build::graph::Sharing;
use base::Digest;
use base::fs::{self, At, Durability};
use state::lock::Lock;

use super::cache::Cache;
use super::cancel::Cancel;
use crate::error::Result;

/// How often it is tried again to have one alone.
const LOOK: Duration = Duration::from_millis(10);

/// Which cache is wanted.
pub(super) struct Wanted<'w> {
    pub(super) id: &'w str,
    /// What it begins with, if it does not begin empty.
    pub(super) identity: &'w str,
    pub(super) sharing: Sharing,
    /// Mode, uid and gid of a new one.
    pub(super) look: (u32, u32, u32),
}

impl Wanted<'_> {
    /// What it is called: who wants the same has the same.
    pub(super) fn name(&self) -> Digest {
        let (mode, uid, gid) = self.look;
        Digest::of(format!("{}\0{}\0{mode:o} {uid} {gid}", self.id, self.identity).as_bytes())
    }
}

/// How one is held that is wanted in two ways at once: as the stricter says.
pub(super) fn stricter(one: Sharing, other: Sharing) -> Sharing {
    match (one, other) {
        (Sharing::Locked, _) | (_, Sharing::Locked) => Sharing::Locked,
        (Sharing::Private, _) | (_, Sharing::Private) => Sharing::Private,
        (Sharing::Shared, Sharing::Shared) => Sharing::Shared,
    }
}

/// A cache that is in use while this lives.
#[derive(Debug)]
pub(super) struct Held {
    data: PathBuf,
    _lock: Lock,
    _used: Lock,
}

impl Held {
    pub(super) fn path(&self) -> &Path {
        &self.data
    }
}

/// Takes a cache, and waits where it must. A new one is filled by `fill`.
pub(super) fn hold(
    cache: &Cache,
    wanted: &Wanted<'_>,
    fill: &dyn Fn(&Path) -> Result<()>,
    cancel: &Cancel,
) -> Result<Held> {
    let dir = cache.dir().join("caches").join(wanted.name().hex());
    let used = keep(&dir, cancel)?;
    fs::write_atomic(&dir.join("id"), wanted.id.as_bytes(), Durability::Volatile)?;
    for n in 0_u32.. {
        let own = dir.join(n.to_string());
        fs::create_dir_all(&own, 0o700)?;
        let data = own.join("data");
        loop {
            cancel.check()?;
            let alone = Lock::try_exclusive(&own)?;
            let lock = match (alone, wanted.sharing) {
                (Some(lock), sharing) => {
                    if !data.is_dir() {
                        make(&own, &data, wanted.look, fill)?;
                    }
                    if sharing == Sharing::Shared {
                        drop(lock);
                        Lock::try_shared(&own)?
                    } else {
                        Some(lock)
                    }
                }
                // Whoever fills it for the first time has it alone for that long.
                (None, Sharing::Shared) if data.is_dir() => Lock::try_shared(&own)?,
                (None, Sharing::Private) => break,
                (None, _) => None,
            };
            match lock {
                Some(lock) => return Ok(Held { data, _lock: lock, _used: used }),
                None => std::thread::sleep(LOOK),
            }
        }
    }
    Err(super::error::Error::Interrupted.into())
}

/// Keeps a cache from being removed, and makes its directory if there is none.
fn keep(dir: &Path, cancel: &Cancel) -> Result<Lock> {
    loop {
        cancel.check()?;
        fs::create_dir_all(dir, 0o700)?;
        match Lock::try_shared(dir) {
            Ok(Some(lock)) if lock.is_of(dir) => return Ok(lock),
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(LOOK),
            // Removed just now.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes it beside its place: whole, or not there.
fn make(own: &Path, data: &Path, look: (u32, u32, u32), fill: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    let new = own.join("new");
    fs::remove_dir_all(&new)?;
    fs::create_dir(&new, 0o700)?;
    fill(&new)?;
    let (mode, uid, gid) = look;
    std::os::unix::fs::chown(&new, Some(uid), Some(gid)).at("set the owner of", &new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).at("set the mode of", &new)?;
    Ok(fs::rename(&new, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ones_do_not_meet_and_locked_ones_wait() {
        let dir = tempfile::tempdir().unwrap();
        let instance = state::Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        let cache = Cache::of(&instance);
        cache.make().unwrap();
        let cancel = Cancel::default();
        let wanted = |sharing| Wanted { id: "x", identity: "", sharing, look: (0o700, 0, 0) };
        let take = |sharing| hold(&cache, &wanted(sharing), &|_| Ok(()), &cancel).unwrap();
        let (one, two) = (take(Sharing::Private), take(Sharing::Private));
        assert_ne!(one.path(), two.path());
        let first = one.path().to_owned();
        drop(one);
        assert_eq!(take(Sharing::Private).path(), first);
        let (one, other) = (take(Sharing::Shared), take(Sharing::Shared));
        assert_eq!(one.path(), other.path());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| take(Sharing::Locked).path().to_owned());
            std::thread::sleep(LOOK * 3);
            assert!(!waits.is_finished());
            drop((one, other));
            assert_eq!(waits.join().unwrap(), first);
        });
    }

    #[test]
    fn a_cache_in_use_is_not_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let instance = state::Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        let cache = Cache::of(&instance);
        cache.make().unwrap();
        let wanted = Wanted { id: "x", identity: "", sharing: Sharing::Shared, look: (0o700, 0, 0) };
        let held = hold(&cache, &wanted, &|_| Ok(()), &Cancel::default()).unwrap();
        let own = cache.dir().join("caches").join(wanted.name().hex());
        assert!(Lock::try_exclusive(&own).unwrap().is_none());
        drop(held);
        let lock = Lock::try_exclusive(&own).unwrap().unwrap();
        // Who comes meanwhile waits, and then makes another.
        std::thread::scope(|scope| {
            let comes = scope.spawn(|| hold(&cache, &wanted, &|_| Ok(()), &Cancel::default()).unwrap());
            std::thread::sleep(LOOK * 3);
            std::fs::rename(&own, dir.path().join("gone")).unwrap();
            drop(lock);
            assert!(comes.join().unwrap().path().is_dir());
        });
    }
}
