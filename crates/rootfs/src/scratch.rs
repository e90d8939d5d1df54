//! What a step of a build writes: an upper directory that becomes a layer of the store as it is.
//!
//! Nothing is copied: the directory is read once for its diff id, marked as an unpacked layer is, and renamed. So a layer
//! costs in proportion to what the step has changed. It lies in a directory of the store's own that is locked while somebody
//! writes to it; what a crash leaves of it is swept like an unpacker's.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::fs::At;
use base::{Digest, Timestamp};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::mark::{self, Layer};
use crate::store::{Unfinished, remove_tree};
use crate::tree::is_whiteout;
use crate::{LayerStore, Overlay, Result, derived, pack, stack};

/// A directory that is being written to, over layers. Gone when dropped, unless it is kept.
#[derive(Debug)]
pub struct Scratch {
    unfinished: Unfinished,
    store: LayerStore,
}

/// A layer that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The digest of its archive.
    pub diff_id: Digest,
    /// The length of that archive in bytes.
    pub size: u64,
}

impl LayerStore {
    /// A new, empty one.
    pub fn scratch(&self) -> Result<Scratch> {
        let unfinished = Unfinished::create(&self.layers)?;
        let scratch = Scratch { unfinished, store: self.clone() };
        base::fs::create_dir(&scratch.upper(), 0o755)?;
        // Whatever our umask is: it becomes a root directory.
        rustix::fs::chmod(scratch.upper(), Mode::from_raw_mode(0o755))
            .at("set the mode of", scratch.upper())?;
        base::fs::create_dir(&scratch.unfinished.path.join("work"), 0o700)?;
        Ok(scratch)
    }

    /// The directories of these layers (lowest first), topmost first: for an overlay, or to be looked at together.
    pub fn stack(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        self.lowers(layers)
    }
}

impl Scratch {
    /// What is written: the upper directory.
    pub fn upper(&self) -> PathBuf {
        self.unfinished.path.join("upper")
    }

    /// The overlay of these layers (lowest first) under what is written. Its root looks as theirs does.
    pub fn overlay(&self, layers: &[Digest]) -> Result<Overlay> {
        self.over(self.store.lowers(layers)?)
    }

    /// The same over any directories, the topmost first.
    pub fn over(&self, lowers: Vec<PathBuf>) -> Result<Overlay> {
        let (upper, work) = (self.upper(), self.unfinished.path.join("work"));
        let made = |lower: &&PathBuf| {
            !lower.file_name().is_some_and(|n| n.as_bytes().starts_with(derived::PARENTS.as_bytes()))
        };
        if let Some(top) = lowers.iter().find(made) {
            let (from, to) = (open(top)?, open(&upper)?);
            stack::copy_look(from.as_fd(), to.as_fd()).at("copy the attributes of", top)?;
        }
        Ok(Overlay { lowers, upper, work })
    }

    /// What was written is whole: makes an unpacked layer of it, which is not in its place yet. Nobody writes to it any more, and
    /// no mount of it is left. No file's time is later than `latest`.
    pub fn seal(self, latest: Option<Timestamp>) -> Result<Sealed> {
        let upper = self.upper();
        let root = open(&upper)?;
        let empty = settle(root.as_fd(), &upper, latest)?;
        let (diff_id, size) = pack::identify(root.as_fd(), pack::Source::Layer)?;
        Layer { empty, ..Layer::default() }.rewrite(&root).at("mark", &upper)?;
        Ok(Sealed { scratch: self, root, kept: Kept { diff_id, size } })
    }
}

/// A layer that has yet to come to its place. Gone when dropped.
#[derive(Debug)]
pub struct Sealed {
    scratch: Scratch,
    root: OwnedFd,
    kept: Kept,
}

impl Sealed {
    /// What it is.
    pub fn layer(&self) -> Kept {
        self.kept
    }

    /// Puts it into the store, where it may be already. Whoever keeps others from collecting what nothing names does so
    /// meanwhile.
    pub fn publish(self) -> Result<Kept> {
        let store = &self.scratch.store;
        let made = Unfinished { path: self.scratch.upper(), fd: self.root };
        store.publish(&made, &store.path(&self.kept.diff_id))?;
        Ok(self.kept)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: a sweep removes what stays.
        remove_tree(&self.unfinished.path, &self.store.removing).ok();
    }
}

fn open(path: &Path) -> base::fs::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).at("open", path)
}

/// Makes an upper directory what an unpacked layer is: directories with whiteouts say so, and there are no sockets, which
/// no archive has. True if there is nothing in it.
fn settle(root: BorrowedFd<'_>, place: &Path, latest: Option<Timestamp>) -> Result<bool> {
    let mut empty = true;
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let dir = below(root, &path).at("open", place.join(&path))?;
        let mut hides = false;
        for entry in Dir::read_from(&dir).at("list", place.join(&path))? {
            let entry = entry.at("list", place.join(&path))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            empty = false;
            if one(&dir, name, latest, &mut hides).at("look at", child(place, &path, name))? {
                pending.push(child(Path::new(""), &path, name));
            }
        }
        plain(dir.as_fd(), c".").at("clear the attributes of", place.join(&path))?;
        if hides && !mark::has_whiteouts(&dir).at("look at", place.join(&path))? {
            mark::set_has_whiteouts(&dir).at("mark", place.join(&path))?;
        }
        if let Some(latest) = latest {
            let stat = rustix::fs::fstat(&dir).at("look at", place.join(&path))?;
            if let Some(times) = clamped(&stat, latest) {
                rustix::fs::futimens(&dir, &times).at("set the time of", place.join(&path))?;
            }
        }
    }
    Ok(empty)
}

/// Sees to one name; whether it is a directory.
fn one(dir: &OwnedFd, name: &CStr, latest: Option<Timestamp>, hides: &mut bool) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Ok(true),
        FileType::Socket => return rustix::fs::unlinkat(dir, name, AtFlags::empty()).map(|()| false),
        _ if is_whiteout(&stat) => {
            *hides = true;
            return Ok(false);
        }
        _ => {}
    }
    if plain(dir.as_fd(), name)? && stat.st_size == 0 {
        // As the layers of the store have it, for every kernel.
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)?;
        *hides = true;
        return Ok(false);
    }
    if let Some(times) = latest.and_then(|latest| clamped(&stat, latest)) {
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(false)
}

/// What says that content is elsewhere: without it the layer would be another one. Packing refuses it.
const ELSEWHERE: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];

/// Takes away what overlay notes for itself of what it has copied up: in a layer it means nothing. Whether it notes that this is
/// a whiteout.
fn plain(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<bool> {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let mut names = vec![0_u8; 4096];
    let length = loop {
        match rustix::fs::llistxattr(&path, &mut names[..]) {
            Err(Errno::OPNOTSUPP) => return Ok(false),
            // All that Linux has room for.
            Err(Errno::RANGE) if names.len() < 64 << 10 => names.resize(64 << 10, 0),
            other => break other?,
        }
    };
    let mut whiteout = false;
    for name in names[..length].split(|&b| b == 0) {
        let kept = name == mark::OPAQUE.as_bytes() || ELSEWHERE.contains(&name);
        if name.starts_with(b"trusted.overlay.") && !kept {
            whiteout |= name == b"trusted.overlay.whiteout";
            rustix::fs::lremovexattr(&path, name)?;
        }
    }
    Ok(whiteout)
}

/// Its times, where the last change was later than that.
fn clamped(stat: &rustix::fs::Stat, latest: Timestamp) -> Option<Timestamps> {
    let (seconds, nanos) = (latest.0.div_euclid(1_000_000_000), latest.0.rem_euclid(1_000_000_000));
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let later = (stat.st_mtime, stat.st_mtime_nsec.cast_signed()) > (seconds, nanos);
    later.then_some(Timestamps { last_access: time, last_modification: time })
}

fn child(place: &Path, path: &Path, name: &CStr) -> PathBuf {
    place.join(path).join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// A directory below a root, with no symlink on the way.
fn below(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    struct Fixture {
        _dir: tempfile::TempDir,
        store: LayerStore,
        layers: PathBuf,
    }

    /// Attributes of overlay want a real file system.
    fn fixture() -> Fixture {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (layers, removing) = (dir.path().join("layers"), dir.path().join("removing"));
        std::fs::create_dir(&layers).unwrap();
        std::fs::create_dir(&removing).unwrap();
        Fixture { store: LayerStore::open(&layers, &removing), _dir: dir, layers }
    }

    fn names(path: &Path) -> Vec<String> {
        base::fs::names(path).unwrap()
    }

    #[test]
    fn what_is_written_becomes_a_layer_of_the_identity_that_its_archive_has() {
        let fixture = fixture();
        let scratch = fixture.store.scratch().unwrap();
        std::fs::create_dir(scratch.upper().join("d")).unwrap();
        std::fs::write(scratch.upper().join("d/f"), "x").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(scratch.upper().join("d/s")).unwrap();
        let epoch = Timestamp(1_000_000_000_000_000_000);
        let kept = scratch.seal(Some(epoch)).unwrap().publish().unwrap();
        assert!(fixture.store.has(&kept.diff_id));
        assert_eq!(names(&fixture.layers), [kept.diff_id.hex()]);
        let path = fixture.store.path(&kept.diff_id);
        assert!(!path.join("d/s").exists());
        assert_eq!(std::fs::metadata(path.join("d/f")).unwrap().mtime(), 1_000_000_000);
        let mut tar = Vec::new();
        let root = open(&path).unwrap();
        let packed =
            pack::pack(root.as_fd(), pack::Source::Layer, crate::Compression::None, 1, &mut tar).unwrap();
        assert_eq!((packed.diff_id, packed.unpacked), (kept.diff_id, kept.size));
        // The same again is the same layer, and leaves nothing.
        let again = fixture.store.scratch().unwrap();
        std::fs::create_dir(again.upper().join("d")).unwrap();
        std::fs::write(again.upper().join("d/f"), "x").unwrap();
        assert_eq!(again.seal(Some(epoch)).unwrap().publish().unwrap(), kept);
        assert_eq!(names(&fixture.layers), [kept.diff_id.hex()]);
    }

    #[test]
    fn what_is_not_kept_leaves_nothing() {
        let fixture = fixture();
        let scratch = fixture.store.scratch().unwrap();
        std::fs::write(scratch.upper().join("f"), "x").unwrap();
        drop(scratch);
        assert!(names(&fixture.layers).is_empty());
    }

    #[test]
    fn what_is_elsewhere_is_no_layer() {
        let fixture = fixture();
        for (name, value) in [("trusted.overlay.redirect", &b"/old"[..]), ("trusted.overlay.metacopy", b"")] {
            let scratch = fixture.store.scratch().unwrap();
            let path = scratch.upper().join("d");
            if value.is_empty() {
                std::fs::write(&path, "").unwrap();
            } else {
                std::fs::create_dir(&path).unwrap();
            }
            rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
            let refused = scratch.seal(None).unwrap_err();
            let told = std::iter::successors(Some(&refused as &dyn std::error::Error), |e| e.source());
            let told: Vec<String> = told.map(ToString::to_string).collect();
            assert!(told.iter().any(|line| line.contains(name)), "{told:?}");
        }
        assert!(names(&fixture.layers).is_empty());
    }

    #[test]
    fn whiteouts_are_devices_in_layers() {
        let fixture = fixture();
        let scratch = fixture.store.scratch().unwrap();
        let path = scratch.upper().join("gone");
        std::fs::write(&path, "").unwrap();
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&path, "trusted.overlay.whiteout", b"y", none).unwrap();
        let kept = scratch.seal(None).unwrap().publish().unwrap();
        let place = fixture.store.path(&kept.diff_id);
        assert!(is_whiteout(&rustix::fs::lstat(place.join("gone")).unwrap()));
        assert!(mark::has_whiteouts(open(&place).unwrap()).unwrap());
    }

    #[test]
    fn an_empty_layer_is_not_stacked() {
        let fixture = fixture();
        let kept = fixture.store.scratch().unwrap().seal(None).unwrap().publish().unwrap();
        assert_eq!(kept.size, 1024);
        assert!(Layer::read(&fixture.store.path(&kept.diff_id)).unwrap().unwrap().empty);
    }
}
