//! Directories that outlive a build: `RUN --mount=type=cache`.
//!
//! ```text
//! ROOT/build/caches/<digest>/id         what it is called
//!                           /0          its lock: shared by those who share it, exclusive for who has it alone
//!                           /0/data     what is mounted
//!                           /1 …        more of them, where each wants one of its own
//! ```

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

/// A cache that is in use while this lives.
#[derive(Debug)]
pub(super) struct Held {
    data: PathBuf,
    _lock: Lock,
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
    let (mode, uid, gid) = wanted.look;
    let name = Digest::of(format!("{}\0{}\0{mode:o} {uid} {gid}", wanted.id, wanted.identity).as_bytes());
    let dir = cache.dir().join("caches").join(name.hex());
    fs::create_dir_all(&dir, 0o700)?;
    fs::write_atomic(&dir.join("id"), wanted.id.as_bytes(), Durability::Volatile)?;
    for n in 0_u32.. {
        let own = dir.join(n.to_string());
        fs::create_dir_all(&own, 0o700)?;
        let data = own.join("data");
        loop {
            cancel.check()?;
            let alone = Lock::try_exclusive(&own)?;
            match (alone, wanted.sharing) {
                (Some(lock), sharing) => {
                    if !data.is_dir() {
                        make(&own, &data, wanted.look, fill)?;
                    }
                    if sharing != Sharing::Shared {
                        return Ok(Held { data, _lock: lock });
                    }
                    drop(lock);
                    return Ok(Held { _lock: Lock::shared(&own)?, data });
                }
                // Whoever fills it for the first time has it alone for that long.
                (None, Sharing::Shared) if data.is_dir() => {
                    return Ok(Held { _lock: Lock::shared(&own)?, data });
                }
                (None, Sharing::Private) => break,
                (None, _) => std::thread::sleep(LOOK),
            }
        }
    }
    Err(super::error::Error::Interrupted.into())
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
}
