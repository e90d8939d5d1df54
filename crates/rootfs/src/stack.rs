//! Several layers as overlay would show them, looked at from outside.
//!
//! - [`Stack::merge`] makes one layer of them that stands for all, whatever lies below it.
//! - [`Stack::parents`] makes a layer to lie on top, of the directories that would look wrong: a layer's archive
//!   need not have entries for the directories above its files, and who unpacks layers one upon another leaves
//!   those then as the layers below have them. Overlay takes mode, owner and times from the topmost.
//!
//! Files are not copied: they get another name (`link(2)`), since nobody writes to a layer. Directories are found
//! from their layer's root by their whole path, so that neither depth nor number of layers costs descriptors.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::fs::{At, Result};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Uid, XattrFlags};
use rustix::io::Errno;

use crate::mark;

/// Layers, topmost first.
pub(crate) struct Stack {
    layers: Vec<(PathBuf, OwnedFd)>,
}

/// What a layer has under a name.
enum Here {
    Nothing,
    Directory {
        opaque: bool,
        implied: bool,
    },
    /// Hides what is below: a whiteout or anything else that is no directory.
    Other,
}

/// A directory of the merged layer that is still to be filled.
#[derive(Default)]
struct Pending {
    path: PathBuf,
    /// The layers whose directories of this name show in it, topmost first.
    layers: Vec<usize>,
    /// The layer that it has mode, owner and times from, where one has an entry for it.
    owner: Option<usize>,
    /// Something in these layers hides what is below them.
    opaque: bool,
}

impl Stack {
    /// Opens the layers, topmost first.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).at("open", path)?;
            Ok((path.clone(), root))
        };
        Ok(Self { layers: paths.iter().map(open).collect::<Result<_>>()? })
    }

    /// Fills the empty directory `out` with what they have together.
    pub(crate) fn merge(&self, out: &OwnedFd) -> Result<()> {
        let all: Vec<usize> = (0..self.layers.len()).collect();
        let top = Pending { layers: all, owner: Some(0), ..Pending::default() };
        let mut pending = vec![top];
        let mut has_implied = false;
        while let Some(dir) = pending.pop() {
            let target = below(out.as_fd(), &dir.path).at("open", &dir.path)?;
            for sub in self.merge_one(&dir, target.as_fd())? {
                pending.push(sub);
            }
            if dir.opaque {
                mark::set_opaque(&target).at("make opaque", &dir.path)?;
            }
            if dir.owner.is_none() {
                has_implied = true;
                mark::set_implied(&target).at("mark", &dir.path)?;
            }
            // Nothing is made in it any more: what lies deeper changes the times of others.
            let like = dir.owner.or(dir.layers.first().copied()).unwrap_or_default();
            self.dress(like, &dir.path, target.as_fd())?;
        }
        mark::Layer { implied: has_implied, ..mark::Layer::default() }.write(out).at("mark", "the layer")
    }

    /// Fills one directory, and returns those in it that are to be filled.
    fn merge_one(&self, dir: &Pending, target: BorrowedFd<'_>) -> Result<Vec<Pending>> {
        // Of names that are decided; of those that are directories so far, and whether their owner is.
        let mut closed: HashSet<OsString> = HashSet::new();
        let mut subs: BTreeMap<OsString, (Pending, bool)> = BTreeMap::new();
        for &layer in &dir.layers {
            let source = self.dir(layer, &dir.path)?;
            let whole = self.path(layer, &dir.path);
            if mark::has_whiteouts(&source).at("look at", &whole)? {
                mark::set_has_whiteouts(target).at("mark", &dir.path)?;
            }
            for entry in Dir::read_from(&source).at("list", &whole)? {
                let entry = entry.at("list", &whole)?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." || closed.contains(name) {
                    continue;
                }
                match (look(&source, name).at("look at", whole.join(name))?, subs.get_mut(name)) {
                    (Here::Nothing, _) => {}
                    (Here::Other, None) => {
                        closed.insert(name.to_owned());
                        let made = rustix::fs::linkat(&source, name, target, name, AtFlags::empty());
                        made.at("link", whole.join(name))?;
                    }
                    (Here::Other, Some((sub, decided))) => (sub.opaque, *decided) = (true, true),
                    (Here::Directory { opaque, implied }, known) => {
                        let (sub, decided) = if let Some(known) = known {
                            known
                        } else {
                            let made = rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700));
                            made.at("make", whole.join(name))?;
                            let new = Pending { path: dir.path.join(name), ..Pending::default() };
                            subs.entry(name.to_owned()).or_insert((new, false))
                        };
                        if !sub.opaque {
                            sub.layers.push(layer);
                            sub.opaque = opaque;
                        }
                        if !*decided && !implied {
                            (sub.owner, *decided) = (Some(layer), true);
                        }
                    }
                }
            }
        }
        Ok(subs.into_values().map(|(sub, _)| sub).collect())
    }

    /// Fills the empty directory `out` with the directories that would look wrong. `implied`: the layers that have
    /// directories without an entry. False if there is none.
    pub(crate) fn parents(&self, implied: &[usize], out: &OwnedFd) -> Result<bool> {
        let all: Vec<usize> = (0..self.layers.len()).collect();
        let mut pending = vec![(PathBuf::new(), all)];
        let mut made: Vec<(PathBuf, usize)> = Vec::new();
        while let Some((path, layers)) = pending.pop() {
            let mut names: HashSet<OsString> = HashSet::new();
            for &layer in layers.iter().filter(|layer| implied.contains(layer)) {
                let whole = self.path(layer, &path);
                for entry in Dir::read_from(self.dir(layer, &path)?).at("list", &whole)? {
                    let entry = entry.at("list", &whole)?;
                    let name = OsStr::from_bytes(entry.file_name().to_bytes());
                    let may_be = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                    if may_be && name != "." && name != ".." {
                        names.insert(name.to_owned());
                    }
                }
            }
            for name in names {
                let sub = self.visible(&path, &layers, &name)?;
                if !sub.layers.iter().any(|layer| implied.contains(layer)) {
                    continue;
                }
                let top = sub.layers.first().copied();
                if let Some(owner) = sub.owner
                    && Some(owner) != top
                {
                    self.make_parents(&sub.path, owner, out, &mut made)?;
                }
                // What one layer has alone can only look as it does there.
                if sub.layers.len() > 1 {
                    pending.push((sub.path, sub.layers));
                }
            }
        }
        // At the end: making a directory changes the times of the one above.
        for (path, owner) in &made {
            let target = below(out.as_fd(), path).at("open", path)?;
            self.dress(*owner, path, target.as_fd())?;
        }
        Ok(!made.is_empty())
    }

    /// Makes a directory in `out`, and those above it, and remembers whose look each shall have.
    fn make_parents(
        &self,
        path: &Path,
        owner: usize,
        out: &OwnedFd,
        made: &mut Vec<(PathBuf, usize)>,
    ) -> Result<()> {
        let mut above = PathBuf::new();
        let mut layers: Vec<usize> = (0..self.layers.len()).collect();
        for name in path {
            let sub = self.visible(&above, &layers, name)?;
            match rustix::fs::mkdirat(out, &sub.path, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => {}
                other => {
                    other.at("make", &sub.path)?;
                    let top = sub.layers.first().copied();
                    made.push((sub.path.clone(), sub.owner.or(top).unwrap_or(owner)));
                }
            }
            (above, layers) = (sub.path, sub.layers);
        }
        Ok(())
    }

    /// The directory `name` in the directory at `path`, which shows in `layers`.
    fn visible(&self, path: &Path, layers: &[usize], name: &OsStr) -> Result<Pending> {
        let mut sub = Pending { path: path.join(name), ..Pending::default() };
        for &layer in layers {
            match look(&self.dir(layer, path)?, name).at("look at", self.path(layer, &sub.path))? {
                Here::Nothing => {}
                Here::Other => break,
                Here::Directory { opaque, implied } => {
                    if !sub.opaque {
                        sub.layers.push(layer);
                        sub.opaque = opaque;
                    }
                    if !implied {
                        sub.owner.get_or_insert(layer);
                        if sub.opaque {
                            break;
                        }
                    }
                }
            }
        }
        Ok(sub)
    }

    fn path(&self, layer: usize, path: &Path) -> PathBuf {
        self.layers[layer].0.join(path)
    }

    fn dir(&self, layer: usize, path: &Path) -> Result<OwnedFd> {
        below(self.layers[layer].1.as_fd(), path).at("open", self.path(layer, path))
    }

    /// Gives a directory the mode, owner, attributes and times that it has in a layer.
    fn dress(&self, layer: usize, path: &Path, target: BorrowedFd<'_>) -> Result<()> {
        let source = self.dir(layer, path)?;
        copy_look(source.as_fd(), target).at("copy the attributes of", self.path(layer, path))
    }
}

fn look(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<Here> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(sub) => Ok(Here::Directory { opaque: mark::is_opaque(&sub)?, implied: mark::is_implied(&sub)? }),
        Err(Errno::NOENT) => Ok(Here::Nothing),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(Here::Other),
        Err(e) => Err(e),
    }
}

/// A directory below a root, with no symlink on the way.
fn below(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Gives a directory the owner, mode, attributes and times of another.
pub(crate) fn copy_look(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(source)?;
    rustix::fs::fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::flistxattr(source, &mut names[..])?;
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(source, name, &mut value[..])?;
        rustix::fs::fsetxattr(target, name, &value[..length], XattrFlags::empty())?;
    }
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = rustix::fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec.cast_signed()),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
    };
    rustix::fs::futimens(target, &times)
}
