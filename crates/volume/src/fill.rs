//! A new volume is filled with what the image has at its mount point.
//!
//! ```text
//! image ── copy ──▶ fill.part/ ── rename ──▶ fill/ ── entry by entry ──▶ data/
//! ```
//!
//! Killed in the first step, nothing has happened; killed in the last one, whoever comes next goes on with it. So a volume is
//! never filled in part and taken for full. All under the volume's exclusive lock; containers that use the volume hold no
//! lock, and see entries appear, each whole.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use base::fs::{self, At};
use base::root::Root;
use rustix::fs::{CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::store::{DATA, Held, flock, is_at};
use crate::{Error, Result, copy};

/// A copy that is being made.
const PART: &str = "fill.part";
/// A whole copy, whose entries are being moved.
const WHOLE: &str = "fill";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Held {
    /// Whether there is nothing in it, or what it is filled with is not all there yet.
    pub fn wants_filling(&self) -> Result<bool> {
        Ok(self.dir.join(WHOLE).exists() || is_empty(&self.open(DATA)?).at("list", self.dir.join(DATA))?)
    }

    /// Fills it, if there is nothing in it, with what the directory at `path` in `image` holds. That path is the
    /// kernel's to resolve: what leads out of the image leads nowhere, and what is no directory fills nothing.
    ///
    /// Others may fill it at the same time, and even remove it: `None` if it is gone.
    pub fn fill(self, image: &Root, path: &Path) -> Result<Option<Self>> {
        let shown = &self.dir;
        flock(&self.lock, FlockOperation::LockExclusive).at("lock", shown)?;
        // Between the two locks it was nobody's.
        if !is_at(&self.lock, shown)? {
            return Ok(None);
        }
        let filled = self.fill_locked(image, path);
        flock(&self.lock, FlockOperation::LockShared).at("lock", shown)?;
        filled?;
        Ok(is_at(&self.lock, &self.dir)?.then_some(self))
    }

    fn fill_locked(&self, image: &Root, path: &Path) -> Result<()> {
        let failed = |source: std::io::Error| Error::Fill {
            name: self.volume.record.name.clone(),
            path: path.display().to_string(),
            place: self.dir.clone(),
            source,
        };
        fs::remove_dir_all(&self.dir.join(PART))?;
        if self.dir.join(WHOLE).exists() {
            return self.move_in();
        }
        let data = self.open(DATA)?;
        if !is_empty(&data).at("list", self.dir.join(DATA))? {
            return Ok(());
        }
        let source = match image.open_with(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(source) => source,
            // Not there, no directory, or a link to nowhere.
            Err(e) if is_nothing(&e) => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        if !is_empty(&source).map_err(|e| failed(e.into()))? {
            let part = self.dir.join(PART);
            fs::create_dir(&part, 0o700)?;
            let copied = self.open(PART).map(|part| {
                // Its look, too, so that whoever finds it whole needs nothing else.
                copy::tree(source.as_fd(), part.as_fd())
                    .and_then(|()| Ok(copy::look(source.as_fd(), part.as_fd())?))
            })?;
            if let Err(error) = copied {
                fs::remove_dir_all(&part).ok();
                return Err(failed(error));
            }
            fs::rename(&part, &self.dir.join(WHOLE))?;
            self.move_in()?;
        }
        // Last: its mode may keep others out.
        copy::look(source.as_fd(), data.as_fd()).map_err(|e| failed(e.into()))
    }

    /// Moves what is whole to where it belongs; what is there already, a container has made meanwhile.
    fn move_in(&self) -> Result<()> {
        let (from, to) = (self.open(WHOLE)?, self.open(DATA)?);
        let shown = self.dir.join(WHOLE);
        let names: Vec<_> = Dir::read_from(&from)
            .and_then(|entries| entries.map(|e| e.map(|e| e.file_name().to_owned())).collect())
            .at("list", &shown)?;
        for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
            match rustix::fs::renameat_with(&from, name, &to, name, RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(e) => return Err(e).at("move into the volume", &shown).map_err(Error::from),
            }
        }
        copy::look(from.as_fd(), to.as_fd()).at("give the look of the image's directory to", &shown)?;
        Ok(fs::remove_dir_all(&shown)?)
    }

    fn open(&self, name: &str) -> Result<OwnedFd> {
        let path = self.dir.join(name);
        Ok(rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()).at("open", &path)?)
    }
}

fn is_empty(dir: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let dots = matches!(entry.file_name().to_bytes(), b"." | b"..");
        // mkfs makes it, and Docker does not count it either.
        let lost = entry.file_name() == c"lost+found" && entry.file_type() == FileType::Directory;
        if !dots && !lost {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_nothing(error: &std::io::Error) -> bool {
    let nothing = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV, Errno::NAMETOOLONG];
    nothing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
