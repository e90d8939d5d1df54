//! One file is made in its place.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::Manner;
use super::error::{Action, Refusal};
use super::place::{Place, check};
use crate::apply::{device, is_content};
use crate::name::{BadName, Name, shown};
use crate::pack::header::{Header, Kind};
use crate::tree::{both, os};

/// How often what is in the way is removed before we give up: somebody may be playing.
const ATTEMPTS: u32 = 16;

/// Writes the content of a file.
pub(super) type Fill<'a> = dyn FnMut(&mut File) -> Result<(), Refusal> + 'a;

/// What became of an attempt to make something.
enum Made {
    Done,
    /// Something is there.
    Occupied,
}

impl Place {
    /// Makes what the header is of. A directory that is there becomes what the header says; any other file that is there is
    /// replaced, but never a directory by something else, nor something else by a directory.
    pub(super) fn put(
        &mut self,
        header: &Header<'_>,
        manner: &Manner,
        fill: &mut Fill<'_>,
    ) -> Result<(), Refusal> {
        let name = Name::new(header.path)?;
        match &header.kind {
            Kind::Directory => return self.directory(&name, header, manner),
            _ if name.is_root() => return Err(BadName::Root.into()),
            _ => {}
        }
        for _ in 0..ATTEMPTS {
            let made = match &header.kind {
                Kind::HardLink(target) => self.hard_link(&name, target)?,
                _ => self.make(&name, header, manner, fill)?,
            };
            match made {
                Made::Done => return Ok(()),
                Made::Occupied if self.clear(&name, &header.kind, fill)? => return Ok(()),
                Made::Occupied => {}
            }
        }
        Err(Refusal::Contended)
    }

    fn directory(&mut self, name: &Name, header: &Header<'_>, manner: &Manner) -> Result<(), Refusal> {
        let Some((parent, last)) = name.split() else {
            let own = self.dir(name)?;
            dress(own, header, manner)?;
            self.set_time(header.mtime);
            return Ok(());
        };
        let above = self.dir(&parent)?;
        match rustix::fs::mkdirat(above, os(last), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Refusal::system("make the directory", e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(above, os(last), flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Refusal::OverFile),
            other => other.to("open the directory")?,
        };
        check(fd.as_fd())?;
        dress(fd.as_fd(), header, manner)?;
        self.enter(name, fd, header.mtime)
    }

    fn make(
        &mut self,
        name: &Name,
        header: &Header<'_>,
        manner: &Manner,
        fill: &mut Fill<'_>,
    ) -> Result<Made, Refusal> {
        let Some((parent, last)) = name.split() else { return Err(BadName::Root.into()) };
        let (dir, last) = (self.dir(&parent)?, os(last));
        let private = Mode::from_raw_mode(0o600);
        let node = |kind, device| rustix::fs::mknodat(dir, last, kind, private, device);
        let (made, kind) = match &header.kind {
            Kind::File(_) | Kind::Sparse(..) => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = match rustix::fs::openat(dir, last, flags, private) {
                    Err(Errno::EXIST) => return Ok(Made::Occupied),
                    other => File::from(other.to("create the file")?),
                };
                let filled = fill(&mut file).and_then(|()| {
                    dress(file.as_fd(), header, manner)?;
                    rustix::fs::futimens(&file, &both(header.mtime)).to("set the time")
                });
                if filled.is_err() {
                    // Half a file looks like a whole one.
                    rustix::fs::unlinkat(dir, last, AtFlags::empty()).ok();
                }
                return filled.map(|()| Made::Done);
            }
            Kind::Symlink(target) => (rustix::fs::symlinkat(os(target), dir, last), FileType::Symlink),
            Kind::Fifo => (node(FileType::Fifo, 0), FileType::Fifo),
            Kind::CharDevice(major, minor) => {
                (node(FileType::CharacterDevice, number(*major, *minor)?), FileType::CharacterDevice)
            }
            Kind::BlockDevice(major, minor) => {
                (node(FileType::BlockDevice, number(*major, *minor)?), FileType::BlockDevice)
            }
            Kind::Directory | Kind::HardLink(_) => return Ok(Made::Done), // made elsewhere
        };
        match made {
            Err(Errno::EXIST) => return Ok(Made::Occupied),
            other => other.to("create it")?,
        }
        dress_node(dir, last, kind, header, manner)?;
        Ok(Made::Done)
    }

    fn hard_link(&mut self, name: &Name, raw: &[u8]) -> Result<Made, Refusal> {
        let target = Name::new(raw).map_err(|source| Refusal::Target { target: shown(raw), source })?;
        let no_target = || Refusal::NoTarget(shown(raw));
        let (Some((parent, last)), Some((target_parent, target_last))) = (name.split(), target.split())
        else {
            return Err(no_target());
        };
        let from = self.existing_dir(&target_parent)?.ok_or_else(no_target)?;
        // The other directory may push this one out of the cache.
        let from = from.try_clone_to_owned().to("open the directory")?;
        let stat = match look(from.as_fd(), target_last).to("look for the link's target")? {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => stat,
            _ => return Err(no_target()),
        };
        let to = self.dir(&parent)?;
        if let Some(there) = look(to, last).to("look at what is there")?
            && (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(Made::Done);
        }
        // Without AT_SYMLINK_FOLLOW: a link to a symlink is a second name of the symlink.
        match rustix::fs::linkat(&from, os(target_last), to, os(last), AtFlags::empty()) {
            Err(Errno::EXIST) => Ok(Made::Occupied),
            other => other.to("make the hard link").map(|()| Made::Done),
        }
    }

    /// Removes what is in the way. Something that is mounted cannot be: a file of that kind is written to, and then all is
    /// done (true).
    fn clear(&mut self, name: &Name, kind: &Kind<'_>, fill: &mut Fill<'_>) -> Result<bool, Refusal> {
        let Some((parent, last)) = name.split() else { return Err(BadName::Root.into()) };
        let dir = self.dir(&parent)?;
        match look(dir, last).to("look at what is there")? {
            None => return Ok(false),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(Refusal::OverDirectory);
            }
            Some(_) => {}
        }
        if is_mounted(dir, last).to("look at what is there")? {
            return self.overwrite(name, kind, fill);
        }
        match rustix::fs::unlinkat(dir, os(last), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(false),
            Err(Errno::ISDIR) => Err(Refusal::OverDirectory),
            Err(e) => Err(Refusal::system("replace what is there", e)),
        }
    }

    /// Writes to a regular file that is there.
    fn overwrite(&mut self, name: &Name, kind: &Kind<'_>, fill: &mut Fill<'_>) -> Result<bool, Refusal> {
        let Some((parent, last)) = name.split() else { return Err(BadName::Root.into()) };
        let handle = handle(self.dir(&parent)?, last).to("open what is mounted there")?;
        let stat = rustix::fs::fstat(&handle).to("look at what is mounted there")?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || !matches!(kind, Kind::File(_) | Kind::Sparse(..)) {
            return Err(Refusal::system("replace what is mounted there", Errno::BUSY));
        }
        check(handle.as_fd())?;
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, itself(&handle), flags, Mode::empty());
        fill(&mut File::from(file.to("open what is mounted there")?))?;
        Ok(true)
    }
}

/// Whether something is mounted on this name. `unlink` refuses to remove what is a mount point in our own namespace alone:
/// in the container's it would take the mount away.
fn is_mounted(dir: BorrowedFd<'_>, last: &[u8]) -> rustix::io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let here = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        return match rustix::fs::openat2(dir, os(last), flags, Mode::empty(), here) {
            Err(Errno::AGAIN) => continue,
            Err(Errno::XDEV) => Ok(true),
            Ok(_) | Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e),
        };
    }
}

fn number(major: u32, minor: u32) -> Result<rustix::fs::Dev, Refusal> {
    device(major, minor).map_err(|_| Refusal::Device(major, minor))
}

/// What is there, not followed.
fn look(dir: BorrowedFd<'_>, last: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, os(last), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

fn handle(dir: BorrowedFd<'_>, last: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, os(last), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A path that means what the handle is of, whatever became of its name.
fn itself(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// Owner, mode and attributes, in this order: a new owner takes set-id bits and capabilities away.
fn dress(file: BorrowedFd<'_>, header: &Header<'_>, manner: &Manner) -> Result<(), Refusal> {
    let stat = rustix::fs::fstat(file).to("look at it")?;
    let (uid, gid) = manner.owner.unwrap_or((header.uid, header.gid));
    if (stat.st_uid, stat.st_gid) != (uid, gid) {
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).to("set the owner")?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode(header, manner))).to("set the mode")?;
    for (name, value) in header.xattrs.iter().filter(|(name, _)| is_kept(name, header, manner)) {
        match rustix::fs::fsetxattr(file, os(name), value, XattrFlags::empty()) {
            // Not every file system keeps them.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(Refusal::Attribute { name: shown(name), source: e.into() }),
        }
    }
    Ok(())
}

/// The same for what cannot be opened. By its handle, and only if that is of what we have just made: its name may lead to
/// another file by now, or to a link to one.
fn dress_node(
    dir: BorrowedFd<'_>,
    last: &std::ffi::OsStr,
    kind: FileType,
    header: &Header<'_>,
    manner: &Manner,
) -> Result<(), Refusal> {
    use std::os::unix::ffi::OsStrExt;
    let handle = handle(dir, last.as_bytes()).to("open what was made")?;
    let stat = rustix::fs::fstat(&handle).to("look at it")?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_nlink != 1 {
        return Err(Refusal::Contended);
    }
    let (uid, gid) = manner.owner.unwrap_or((header.uid, header.gid));
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(&handle, c"", uid, gid, AtFlags::EMPTY_PATH).to("set the owner")?;
    if kind != FileType::Symlink {
        let mode = Mode::from_raw_mode(mode(header, manner));
        rustix::fs::chmodat(CWD, itself(&handle), mode, AtFlags::empty()).to("set the mode")?;
    }
    rustix::fs::utimensat(&handle, c"", &both(header.mtime), AtFlags::EMPTY_PATH).to("set the time")
}

/// A set-id bit means "as its owner": it goes with the owner, and never from a container to the host.
fn mode(header: &Header<'_>, manner: &Manner) -> u32 {
    let mut mode = header.mode;
    if header.kind == Kind::Directory {
        return mode;
    }
    let (uid, gid) = manner.owner.unwrap_or((header.uid, header.gid));
    if manner.tamed || uid != header.uid {
        mode &= !0o4000;
    }
    if manner.tamed || gid != header.gid {
        mode &= !0o2000;
    }
    mode
}

/// Access lists name users: they mean something only with the owner. Capabilities are root's rights.
fn is_kept(name: &[u8], header: &Header<'_>, manner: &Manner) -> bool {
    let as_it_was = manner.owner.is_none_or(|owner| owner == (header.uid, header.gid));
    match name {
        _ if !is_content(name) => false,
        b"security.capability" => !manner.tamed,
        _ if name.starts_with(b"system.") => as_it_was,
        _ => true,
    }
}
