//! What a container has changed: its writable layer, held against the layers below.
//!
//! The rules are Docker's. A file counts as changed by its type, mode, owner, device, size and time, and by its
//! capabilities; a directory only by the first of these, or because something in it has changed. So what overlay copied up
//! without need (a file that was opened, a directory that a file came to and left) is not shown. What is removed is shown
//! once, without what was in it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::header::{Header, Kind};
use super::walk::{self, Content, Visit};
use super::{Error, Source, Why};
use crate::tree::{is_whiteout, os};

/// A path that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute, in the container; raw bytes, as the file system has them.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It was something else, looked otherwise, or something in it has changed.
    Changed,
    /// It is there no more.
    Deleted,
}

/// The changes that the writable layer `upper` makes to the tree `lower` (none: to nothing), ordered by path. `scaffolding`
/// are paths without a slash in front which the engine itself made to mount something there: while they are empty, they are
/// nobody's change.
pub fn changes(
    upper: BorrowedFd<'_>,
    lower: Option<BorrowedFd<'_>>,
    scaffolding: &[&str],
) -> Result<Vec<Change>, Error> {
    let mut compare = Compare { upper, lower, scaffolding, above: Vec::new(), found: Vec::new() };
    walk::walk(upper, Source::Layer, &mut compare)?;
    compare.found.sort_unstable();
    Ok(compare.found)
}

struct Compare<'a> {
    upper: BorrowedFd<'a>,
    lower: Option<BorrowedFd<'a>>,
    scaffolding: &'a [&'a str],
    /// The directories on the way down.
    above: Vec<Above>,
    found: Vec<Change>,
}

struct Above {
    path: Vec<u8>,
    /// What it is shown as when something in it is.
    pending: Option<ChangeKind>,
}

impl Compare<'_> {
    /// Leaves the directories that `path` does not lie in.
    fn come_to(&mut self, path: &[u8]) {
        let is_in = |above: &Above| {
            path.strip_prefix(&*above.path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        while self.above.last().is_some_and(|above| !is_in(above)) {
            self.above.pop();
        }
    }

    fn show(&mut self, path: &[u8], kind: ChangeKind) {
        for above in &mut self.above {
            if let Some(kind) = above.pending.take() {
                self.found.push(Change { path: absolute(&above.path), kind });
            }
        }
        self.found.push(Change { path: absolute(path), kind });
    }

    fn before(&self, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Error> {
        let Some(lower) = self.lower else { return Ok(None) };
        look(lower, path).map_err(|e| failed(path, e))
    }

    fn is_scaffolding(&self, path: &[u8], directory: bool) -> bool {
        self.scaffolding.iter().any(|made| {
            let rest = made.as_bytes().strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || directory && rest[0] == b'/')
        })
    }
}

impl Visit for Compare<'_> {
    fn entry(&mut self, header: &Header<'_>, _: Option<Content<'_>>) -> Result<(), Error> {
        let path = header.path;
        // The root is always there.
        if path == b"." {
            return Ok(());
        }
        self.come_to(path);
        let before = self.before(path)?;
        let directory = header.kind == Kind::Directory;
        let kind = match &before {
            None => Some(ChangeKind::Added),
            Some((file, stat)) if differs(header, stat) || differs_in_rights(header, file, stat) => {
                Some(ChangeKind::Changed)
            }
            Some(_) => None,
        };
        let empty = directory || header.kind == Kind::File(0);
        let (now, later) = match kind {
            Some(ChangeKind::Added) if empty && self.is_scaffolding(path, directory) => (None, kind),
            Some(_) => (kind, None),
            None => (None, Some(ChangeKind::Changed)),
        };
        if let Some(kind) = now {
            self.show(path, kind);
        }
        if directory {
            self.above.push(Above { path: path.to_vec(), pending: later });
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        self.come_to(path);
        // It may hide nothing.
        if self.before(path)?.is_some() {
            self.show(path, ChangeKind::Deleted);
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        let Some((lower, stat)) = self.before(path)? else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        for name in names(lower.as_fd()).map_err(|e| failed(path, e))? {
            let path = [path, b"/", &name].concat();
            let now = look(self.upper, &path).map_err(|e| failed(&path, e))?;
            if now.is_none() && self.before(&path)?.is_some() {
                self.show(&path, ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    fn socket(&mut self, path: &[u8], _: &Stat) -> Result<(), Error> {
        self.come_to(path);
        match self.before(path)? {
            None => self.show(path, ChangeKind::Added),
            Some((_, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {}
            Some(_) => self.show(path, ChangeKind::Changed),
        }
        Ok(())
    }
}

/// With a slash in front.
fn absolute(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

fn failed(path: &[u8], error: Errno) -> Error {
    Error::at(path, Why::System { action: "compare it with what it was", source: error.into() })
}

/// What a tree has at a path, without following a link anywhere: where one is on the way, nothing is there.
fn look(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Option<(OwnedFd, Stat)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        let file = match rustix::fs::openat2(root, os(path), flags, Mode::empty(), confined) {
            Err(Errno::AGAIN) => continue,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            other => other?,
        };
        let stat = rustix::fs::fstat(&file)?;
        return Ok((!is_whiteout(&stat)).then_some((file, stat)));
    }
}

fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn differs(now: &Header<'_>, before: &Stat) -> bool {
    let was = FileType::from_raw_mode(before.st_mode);
    let device = (rustix::fs::major(before.st_rdev), rustix::fs::minor(before.st_rdev));
    let size = before.st_size.unsigned_abs();
    let same_content = match &now.kind {
        // Its time says nothing: anything that was made in it and removed again changes that.
        Kind::Directory => was == FileType::Directory,
        Kind::File(length) | Kind::Sparse(length, _) => was == FileType::RegularFile && size == *length,
        Kind::Symlink(target) => was == FileType::Symlink && size == target.len() as u64,
        Kind::CharDevice(major, minor) => was == FileType::CharacterDevice && device == (*major, *minor),
        Kind::BlockDevice(major, minor) => was == FileType::BlockDevice && device == (*major, *minor),
        Kind::Fifo => was == FileType::Fifo,
        // Another name of a file that was shown; of what type it is its time tells.
        Kind::HardLink(_) => was != FileType::Directory,
    };
    let same_time = now.kind == Kind::Directory || {
        // Archives without fractions of seconds are no other time.
        let (one, other) = (now.mtime.tv_nsec, before.st_mtime_nsec as _);
        now.mtime.tv_sec == before.st_mtime && (one == other || one == 0 || other == 0)
    };
    let same_rights = (now.mode, now.uid, now.gid) == (before.st_mode & 0o7777, before.st_uid, before.st_gid);
    !(same_content && same_time && same_rights)
}

const CAPABILITY: &str = "security.capability";

fn differs_in_rights(now: &Header<'_>, before: &OwnedFd, stat: &Stat) -> bool {
    if !matches!(now.kind, Kind::File(_)) || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return false;
    }
    let mut value = [0; 64];
    let path = format!("/proc/self/fd/{}", before.as_raw_fd());
    let was = rustix::fs::getxattr(&*path, CAPABILITY, &mut value).map_or(&[][..], |n| &value[..n]);
    let is = now.xattrs.iter().find(|(name, _)| name == CAPABILITY.as_bytes());
    is.map_or(&[][..], |(_, value)| &value[..]) != was
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn of(upper: &Path, lower: Option<&Path>) -> Vec<String> {
        let open = |path: &Path| File::open(path).unwrap();
        let (upper, lower) = (open(upper), lower.map(open));
        let found = changes(upper.as_fd(), lower.as_ref().map(AsFd::as_fd), &["etc/hosts", "proc"]).unwrap();
        let letter = |kind| match kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        found.iter().map(|c| format!("{} {}", letter(c.kind), String::from_utf8_lossy(&c.path))).collect()
    }

    #[test]
    fn what_was_copied_up_without_need_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for root in [&upper, &lower] {
            std::fs::create_dir_all(root.join("etc")).unwrap();
            std::fs::create_dir_all(root.join("var/lib")).unwrap();
            std::fs::write(root.join("etc/same"), "x").unwrap();
            symlink("same", root.join("etc/link")).unwrap();
        }
        for name in ["etc/same", "etc/link"] {
            let from = std::fs::symlink_metadata(lower.join(name)).unwrap();
            let time = rustix::fs::Timespec {
                tv_sec: std::os::unix::fs::MetadataExt::mtime(&from),
                tv_nsec: std::os::unix::fs::MetadataExt::mtime_nsec(&from),
            };
            let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(rustix::fs::CWD, upper.join(name), &times, nofollow).unwrap();
        }
        assert_eq!(of(&upper, Some(&lower)), [""; 0]);
        // The engine's own mount points are none either, but what is in them is.
        std::fs::create_dir(upper.join("proc")).unwrap();
        std::fs::write(upper.join("etc/hosts"), "").unwrap();
        assert_eq!(of(&upper, Some(&lower)), [""; 0]);
        std::fs::write(upper.join("proc/x"), "").unwrap();
        std::fs::write(upper.join("etc/hosts"), "x").unwrap();
        assert_eq!(of(&upper, Some(&lower)), ["C /etc", "A /etc/hosts", "A /proc", "A /proc/x"]);
    }

    #[test]
    fn changes_are_told_by_type_rights_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for root in [&upper, &lower] {
            std::fs::create_dir_all(root.join("a/b")).unwrap();
        }
        std::fs::set_permissions(upper.join("a/b"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(lower.join("a/file"), "").unwrap();
        std::fs::create_dir(upper.join("a/file")).unwrap();
        std::fs::write(upper.join("a/file/in"), "").unwrap();
        std::fs::write(upper.join("a/.wh.odd"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap();
        assert_eq!(
            of(&upper, Some(&lower)),
            ["C /a", "A /a/.wh.odd", "C /a/b", "C /a/file", "A /a/file/in", "A /socket"]
        );
        let all = of(&upper, None);
        assert!(all.iter().all(|line| line.starts_with("A ")), "{all:?}");
    }
}
