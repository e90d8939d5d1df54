//! Changes are done to a tree: each file is made in its place, as it shall be.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use ::build::graph::{self, Change, StepId};
use base::{Root, Timestamp};
use rootfs::copy::Place;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Uid};
use rustix::io::Errno;

use super::attributes::{self, Attributes};
use super::choose::{Chosen, choose};
use super::content::{Contents, Failed};
use super::error::shown;
use super::filter::{Filter, exclude};
use super::listing::{open_regular, os};
use super::mode::Chmod;
use super::owner::find_owner;
use super::target::{Spot, Target, both, clear};
use super::{Error, Owners, Source, tree};
use crate::error::Result;

/// How often what is in the way is removed before we give up: somebody may be playing.
const ATTEMPTS: u32 = 16;
/// Mode of a here-document.
const DOCUMENT: u32 = 0o644;

/// What copies look like.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// All belong to them.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) owners: Owners,
    pub(super) chmod: Option<Chmod>,
}

impl Manner {
    pub(super) fn owner_of(&self, stat: &Stat) -> (u32, u32) {
        match self.owners {
            _ if self.owner.is_some() => self.owner.unwrap_or_default(),
            Owners::Kept => (stat.st_uid, stat.st_gid),
            Owners::Root | Owners::Exported => (0, 0),
        }
    }

    pub(super) fn mode_of(&self, stat: &Stat) -> u32 {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let mut mode = stat.st_mode & 0o7777;
        if self.owners == Owners::Exported {
            let (uid, gid) = self.owner_of(stat);
            let lost =
                if uid == stat.st_uid { 0 } else { 0o4000 } | if gid == stat.st_gid { 0 } else { 0o2000 };
            mode &= !lost;
        }
        self.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, is_directory))
    }

    /// To whom directories belong that are made on the way.
    fn made(&self) -> (u32, u32) {
        self.owner.unwrap_or_default()
    }
}

pub(super) fn all<'a>(
    changes: &[Change],
    source: &dyn Fn(StepId) -> Result<Source<'a>>,
    root: BorrowedFd<'_>,
    epoch: Option<Timestamp>,
) -> Result<()> {
    let epoch = epoch.map(|Timestamp(nanoseconds)| Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000) as _,
    });
    let target = Target { root, epoch };
    for change in changes {
        match change {
            Change::Copy(copy) => one_copy(copy, &source(copy.from)?, &target)?,
            Change::Write { target: path, content, owner, mode } => {
                let owner = owner.as_deref().map(|owner| find_owner(owner, root)).transpose()?;
                let chmod = mode.as_ref().map(Chmod::of).transpose()?;
                let mode = chmod.map_or(DOCUMENT, |chmod| chmod.apply(DOCUMENT, false));
                write(&target, path.as_bytes(), content, owner.unwrap_or_default(), mode)?;
            }
            Change::MakeDirectory { target: path, owner } => {
                let owner = owner.as_deref().map(|owner| find_owner(owner, root)).transpose()?;
                target.directory(path.as_bytes(), owner.unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

fn one_copy(copy: &graph::Copy, source: &Source<'_>, target: &Target<'_>) -> std::result::Result<(), Error> {
    let manner = Manner {
        owner: copy.owner.as_deref().map(|owner| find_owner(owner, target.root)).transpose()?,
        owners: source.owners,
        chmod: copy.mode.as_ref().map(Chmod::of).transpose()?,
    };
    let to = copy.target.as_bytes();
    // Several sources go into a directory; so does what keeps its own directories.
    let into = copy.sources.len() > 1 || copy.parents || to.ends_with(b"/");
    let mut putter = Putter { target, manner, devices: source.devices, contents: Contents::new() };
    for chosen in choose(copy, source)? {
        match chosen {
            Chosen::Directory { directory, path, include, required } => {
                let place = target.directory(to, putter.manner.made())?;
                let filter = Filter { ignore: source.ignore, exclude: exclude(&copy.exclude)?, include };
                let taken = tree::copy(directory, &path, place.as_fd(), to, &filter, &mut putter)?;
                target.settle(place.as_fd()).map_err(|e| Error::target(to, "set the time of", e))?;
                if let Some(name) =
                    required.filter(|_| taken == 0 && copy.required && copy.exclude.is_empty())
                {
                    return Err(Error::Ignored(name));
                }
            }
            Chosen::File { above, name, stat, called, path } => {
                if copy.unpack && unpack(&above, &name, &stat, &path, to, &putter)? {
                    continue;
                }
                let spot = if into {
                    Spot::Directory(target.directory(to, putter.manner.made())?)
                } else {
                    target.spot(to, putter.manner.made())?
                };
                let (place, last) = match spot {
                    Spot::Directory(place) => (place, called),
                    Spot::Name(place, last) => (place, last),
                };
                let from = From { above: above.as_fd(), name: &name, path: &path };
                let kind = FileType::from_raw_mode(stat.st_mode);
                putter.file(&from, kind, place.as_fd(), &last, to)?;
                target.settle(place.as_fd()).map_err(|e| Error::target(to, "set the time of", e))?;
            }
        }
    }
    Ok(())
}

/// A file of a source.
pub(super) struct From<'f> {
    pub(super) above: BorrowedFd<'f>,
    pub(super) name: &'f [u8],
    /// For messages.
    pub(super) path: &'f [u8],
}

/// Makes files.
pub(super) struct Putter<'p> {
    pub(super) target: &'p Target<'p>,
    pub(super) manner: Manner,
    devices: Option<&'p AtomicUsize>,
    contents: Contents,
}

impl Putter<'_> {
    /// Copies anything but a directory to this name. Returns what it was, or none if it is gone or no file for images.
    pub(super) fn file(
        &mut self,
        from: &From<'_>,
        kind: FileType,
        place: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> std::result::Result<Option<Stat>, Error> {
        if kind == FileType::RegularFile {
            match open_regular(from.above, from.name) {
                Ok((file, stat)) => {
                    return self.regular(&file, &stat, from, place, name, path).map(|()| Some(stat));
                }
                Err(Errno::NOENT) => return Ok(None),
                // No longer one.
                Err(Errno::AGAIN | Errno::LOOP | Errno::NXIO) => {}
                Err(e) => return Err(Error::source(from.path, "open", e)),
            }
        }
        self.node(from, place, name, path)
    }

    fn regular(
        &mut self,
        file: &OwnedFd,
        stat: &Stat,
        from: &From<'_>,
        place: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> std::result::Result<(), Error> {
        let attributes = attributes::read(file.as_fd());
        let attributes = attributes.map_err(|e| Error::source(from.path, "read the attributes of", e))?;
        let mode = self.manner.mode_of(stat);
        let made = create(place, name, mode & 0o777, path)?;
        let filled = match self.contents.copy(file, stat, &made) {
            Ok(()) => self.dress(made.as_fd(), stat, &attributes, path),
            Err(Failed::Read(e)) => Err(Error::source(from.path, "read", e)),
            Err(Failed::Write(e)) => Err(Error::target(path, "write", e)),
        };
        if filled.is_err() {
            // Half a file looks like a whole one.
            rustix::fs::unlinkat(place, os(name), AtFlags::empty()).ok();
        }
        filled
    }

    /// Owner, mode, attributes and time, in an order in which none takes away what another gave.
    pub(super) fn dress(
        &self,
        made: BorrowedFd<'_>,
        stat: &Stat,
        attributes: &Attributes,
        path: &[u8],
    ) -> std::result::Result<(), Error> {
        let failed = |action| move |e: Errno| Error::target(path, action, e);
        let now = rustix::fs::fstat(made).map_err(failed("look at"))?;
        let (uid, gid) = self.manner.owner_of(stat);
        let mode = self.manner.mode_of(stat);
        let same = (now.st_uid, now.st_gid) == (uid, gid);
        // To look costs a tenth of what the file system's journal takes for a change.
        if !same {
            rustix::fs::fchown(made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed("set the owner of"))?;
        }
        if !same || now.st_mode & 0o7777 != mode {
            rustix::fs::fchmod(made, Mode::from_raw_mode(mode)).map_err(failed("set the mode of"))?;
        }
        attributes::write(made, attributes).map_err(failed("set the attributes of"))?;
        rustix::fs::futimens(made, &both(self.time_of(stat))).map_err(failed("set the time of"))
    }

    fn time_of(&self, stat: &Stat) -> Timespec {
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        match self.target.epoch {
            Some(epoch) if (epoch.tv_sec, epoch.tv_nsec) < (time.tv_sec, time.tv_nsec) => epoch,
            _ => time,
        }
    }

    /// A symlink, a device, a FIFO: by a handle, which opens nothing.
    fn node(
        &self,
        from: &From<'_>,
        place: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> std::result::Result<Option<Stat>, Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(from.above, os(from.name), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|e| Error::source(from.path, "open", e))?,
        };
        let stat = rustix::fs::fstat(&handle).map_err(|e| Error::source(from.path, "look at", e))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let link = match kind {
            FileType::Symlink => {
                let read = rustix::fs::readlinkat(&handle, c"", Vec::new());
                Some(read.map_err(|e| Error::source(from.path, "read the link", e))?)
            }
            FileType::CharacterDevice | FileType::BlockDevice if self.devices.is_some() => {
                self.devices.map(|count| count.fetch_add(1, Ordering::Relaxed));
                return Ok(None);
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => None,
            // A socket, which no layer has; or what became something else while we looked.
            _ => return Ok(None),
        };
        for _ in 0..ATTEMPTS {
            let made = match &link {
                Some(link) => rustix::fs::symlinkat(&**link, place, os(name)),
                None => rustix::fs::mknodat(place, os(name), kind, Mode::from_raw_mode(0o600), stat.st_rdev),
            };
            match made {
                Err(Errno::EXIST) => clear(place, name, path)?,
                other => {
                    other.map_err(|e| Error::target(path, "make", e))?;
                    return self.dress_node(place, name, &stat, path).map(|()| Some(stat));
                }
            }
        }
        Err(Error::target(path, "replace", Errno::EXIST))
    }

    /// By name: nobody else works in this tree.
    fn dress_node(
        &self,
        place: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        path: &[u8],
    ) -> std::result::Result<(), Error> {
        let failed = |action| move |e: Errno| Error::target(path, action, e);
        let (uid, gid) = self.manner.owner_of(stat);
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(place, os(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the owner of"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let mode = Mode::from_raw_mode(self.manner.mode_of(stat));
            rustix::fs::chmodat(place, os(name), mode, AtFlags::empty())
                .map_err(failed("set the mode of"))?;
        }
        let times = both(self.time_of(stat));
        rustix::fs::utimensat(place, os(name), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the time of"))
    }
}

/// A new file, to be written.
fn create(place: BorrowedFd<'_>, name: &[u8], mode: u32, path: &[u8]) -> std::result::Result<OwnedFd, Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat(place, os(name), flags, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => clear(place, name, path)?,
            other => return other.map_err(|e| Error::target(path, "create", e)),
        }
    }
    Err(Error::target(path, "replace", Errno::EXIST))
}

/// Writes a here-document.
fn write(
    target: &Target<'_>,
    path: &[u8],
    content: &[u8],
    owner: (u32, u32),
    mode: u32,
) -> std::result::Result<(), Error> {
    let Spot::Name(place, name) = target.spot(path, owner)? else {
        return Err(Error::OverDirectory(shown(path)));
    };
    let made = create(place.as_fd(), &name, mode & 0o777, path)?;
    let written = (|| {
        let mut file = File::from(made);
        file.write_all(content).map_err(|e| Error::target(path, "write", e))?;
        let failed = |action| move |e: Errno| Error::target(path, action, e);
        let (uid, gid) = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
        rustix::fs::fchown(&file, uid, gid).map_err(failed("set the owner of"))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("set the mode of"))?;
        target.settle(file.as_fd()).map_err(failed("set the time of"))?;
        target.settle(place.as_fd()).map_err(failed("set the time of"))
    })();
    if written.is_err() {
        rustix::fs::unlinkat(&place, os(&name), AtFlags::empty()).ok();
    }
    written
}

/// Unpacks a file into the directory `to`, if it is an archive.
fn unpack(
    above: &OwnedFd,
    name: &[u8],
    stat: &Stat,
    path: &[u8],
    to: &[u8],
    putter: &Putter<'_>,
) -> std::result::Result<bool, Error> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let open = || open_regular(above.as_fd(), name).map(|(file, _)| File::from(file));
    let failed = |e: Errno| Error::source(path, "open", e);
    let because = |source| Error::Archive { path: shown(path), source };
    if !rootfs::copy::is_archive(open().map_err(failed)?) {
        return Ok(false);
    }
    let directory = putter.target.directory(to, putter.manner.made())?;
    let directory = super::listing::reopen(&directory).map_err(|e| Error::target(to, "open", e))?;
    let root = putter.target.root.try_clone_to_owned().map_err(|e| Error::target(to, "open", e))?;
    let inside = std::path::Path::new(os(to));
    let place = Place::in_container(directory, Root::from_fd(root), inside).not_after(putter.target.epoch);
    let manner = rootfs::copy::Manner { owner: putter.manner.owner, ..Default::default() };
    let limits = rootfs::Limits::default();
    rootfs::copy::unpack(open().map_err(failed)?, place, manner, limits, &|_| {}).map_err(because)?;
    Ok(true)
}
