//! When an unpacked layer becomes durable: later.
//!
//! A layer can be unpacked again from its blob, which is durable. So nobody waits until the disk has written all its
//! files: who publishes a layer marks its root with the boot that it was unpacked in, and renames it into place. A
//! mark of this boot means nothing: the kernel has the files, wherever they are. A mark of an earlier one means that
//! the power may have failed before they were written: such a layer is not there, and is removed when it is met.
//!
//! The mark goes with [`LayerStore::settle`], a `syncfs(2)` for all layers at once, done by some later command when
//! the kernel has written most of them by itself.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base::fs::At;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::mark::{self, Boot, Layer};
use crate::store::{Unfinished, remove_tree};
use crate::{LayerStore, Result};

/// Descriptors that are held while the file system is synced.
const AT_ONCE: usize = 200;

impl LayerStore {
    /// Makes durable what was unpacked, if the last of it was so long ago. True if there was anything. The price is
    /// one `syncfs(2)`, which writes out whatever the file system has in memory, not our files alone.
    pub fn settle(&self, quiet: Duration) -> Result<bool> {
        let Some(store) = open(&self.layers)? else { return Ok(false) };
        if !mark::has_unsettled(&store).at("look at", &self.layers)? {
            return Ok(false);
        }
        // The last layer's coming was the last change of the directory.
        let changed = std::fs::metadata(&self.layers).and_then(|about| about.modified());
        let ago = SystemTime::now().duration_since(changed.at("look at", &self.layers)?);
        if ago.is_ok_and(|ago| ago < quiet) {
            return Ok(false);
        }
        // First: who marks another layer meanwhile notes it anew.
        mark::clear_has_unsettled(&store).at("mark", &self.layers)?;
        let settled = self.settle_all();
        if settled.is_err() {
            // Best effort: the error matters more.
            mark::set_has_unsettled(&store).ok();
        }
        settled.map(|()| true)
    }

    fn settle_all(&self) -> Result<()> {
        let mut marked = Vec::new();
        for name in base::fs::names(&self.layers)? {
            let path = self.layers.join(name);
            if self.look(&path)?.is_some_and(|layer| layer.unsettled.is_some())
                && let Some(root) = open(&path)?
            {
                marked.push((root, path));
            }
            if marked.len() == AT_ONCE {
                sync_and_unmark(&mut marked)?;
            }
        }
        sync_and_unmark(&mut marked)
    }

    /// What is noted on the layer at `path`; `None` if it is not there, or cannot be relied on.
    pub(crate) fn look(&self, path: &Path) -> Result<Option<Layer>> {
        let found = Layer::read(path).at("read the attributes of", path)?;
        match found.and_then(|layer| layer.unsettled) {
            Some(boot) if boot != this_boot()? => {
                remove_tree(path, &self.removing)?;
                Ok(None)
            }
            _ => Ok(found),
        }
    }

    /// Gives what was made its place, marked. False if that is taken: the other is as good.
    pub(crate) fn publish(&self, made: &Unfinished, target: &Path) -> Result<bool> {
        let mut note = Layer::read(&made.path).at("look at", &made.path)?.unwrap_or_default();
        note.unsettled = Some(this_boot()?);
        match note.write(&made.fd) {
            // A file system that keeps no such attributes: then at once.
            Err(Errno::OPNOTSUPP) => {
                rustix::fs::syncfs(&made.fd).at("sync the file system of", &made.path)?;
                return Ok(made.rename(target)?);
            }
            other => other.at("mark", &made.path)?,
        }
        let new = made.rename(target)?;
        // Afterwards: who settles takes the note away before looking for layers.
        if let Some(store) = open(&self.layers)? {
            mark::set_has_unsettled(&store).at("mark", &self.layers)?;
        }
        Ok(new)
    }
}

fn sync_and_unmark(marked: &mut Vec<(OwnedFd, PathBuf)>) -> Result<()> {
    let Some((first, path)) = marked.first() else { return Ok(()) };
    rustix::fs::syncfs(first).at("sync the file system of", path)?;
    for (root, path) in marked.drain(..) {
        // By descriptor: what has the name by now may be another one.
        let note = Layer::read_of(&root).at("look at", &path)?;
        Layer { unsettled: None, ..note }.rewrite(&root).at("mark", &path)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        other => Ok(Some(other.at("open", path)?)),
    }
}

fn this_boot() -> Result<Boot> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = base::fs::read(Path::new(PATH))?;
    Ok(Boot::parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).at("read", PATH)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Digest;
    use rustix::fs::XattrFlags;

    const ANOTHER: &[u8] = b"@00000000-0000-0000-0000-000000000000";

    struct Fixture {
        dir: tempfile::TempDir,
        store: LayerStore,
    }

    impl Fixture {
        /// Attributes of overlay want a real file system.
        fn new() -> Self {
            let dir = tempfile::tempdir_in("/var/tmp").unwrap();
            let (layers, removing) = (dir.path().join("layers"), dir.path().join("removing"));
            std::fs::create_dir(&layers).unwrap();
            std::fs::create_dir(&removing).unwrap();
            Self { store: LayerStore::open(&layers, &removing), dir }
        }

        /// A layer of no files.
        fn layer(&self) -> Digest {
            let tar = [0; 1024];
            let digest = Digest::of(&tar);
            assert!(self.store.unpack(&digest, "", &tar[..], &|_| {}).unwrap());
            digest
        }

        fn mark(&self, layer: &Digest) -> Option<Boot> {
            Layer::read(&self.store.path(layer)).unwrap().unwrap().unsettled
        }
    }

    #[test]
    fn a_layer_is_there_at_once_and_settles_later() {
        let fixture = Fixture::new();
        assert!(!fixture.store.settle(Duration::ZERO).unwrap(), "there is nothing");
        let layer = fixture.layer();
        assert!(fixture.store.has(&layer));
        assert_eq!(fixture.mark(&layer), Some(this_boot().unwrap()));
        assert!(!fixture.store.settle(Duration::from_hours(1)).unwrap(), "it is new");
        assert!(fixture.store.settle(Duration::ZERO).unwrap());
        assert_eq!(fixture.mark(&layer), None);
        assert!(fixture.store.has(&layer));
        assert!(!fixture.store.settle(Duration::ZERO).unwrap(), "there is nothing more");
    }

    #[test]
    fn a_layer_of_an_earlier_boot_that_never_settled_is_not_there() {
        let fixture = Fixture::new();
        let layer = fixture.layer();
        let path = fixture.store.path(&layer);
        rustix::fs::setxattr(&path, "trusted.overlay.dhow", ANOTHER, XattrFlags::empty()).unwrap();
        let overlay = fixture.store.overlay(&[layer], fixture.dir.path());
        assert!(matches!(overlay, Err(crate::Error::Missing(missing)) if missing == layer));
        assert!(!path.exists() && !fixture.store.has(&layer));
        fixture.layer();
        assert!(fixture.store.overlay(&[layer], fixture.dir.path()).is_ok());
    }
}
