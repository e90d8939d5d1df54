//! Places that were made to mount something on them, and are nobody's files.
//!
//! A mount needs a directory or file to be on. Where the image has none, the runtime makes one, in the writable layer; it is
//! taken away afterwards, if the command has put nothing there. A directory that was only touched by that is not part of the
//! layer either.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use base::fs::At;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::Result;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How many symlinks a path may lead through.
const LINKS: usize = 40;

/// The paths that are not there yet, each before what is below it; and the directories that are.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    missing: Vec<PathBuf>,
    /// With what they look like.
    above: Vec<(PathBuf, Look)>,
}

/// Owner, mode, attributes: what makes a directory another one.
type Look = (u32, u32, u32, Vec<(Vec<u8>, Vec<u8>)>);

fn look(stat: &Stat, dir: &OwnedFd) -> rustix::io::Result<Look> {
    Ok((stat.st_mode, stat.st_uid, stat.st_gid, attributes(dir)?))
}

/// Those that are not overlay's.
fn attributes(dir: &OwnedFd) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // All that Linux has room for.
    let (mut names, mut value) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let length = match rustix::fs::flistxattr(dir, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        if !name.starts_with(b"trusted.overlay.") {
            let length = rustix::fs::fgetxattr(dir, name, &mut value[..])?;
            found.push((name.to_vec(), value[..length].to_vec()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Stubs {
    /// Looks what of these paths is missing in layers (topmost first).
    pub(super) fn find(lowers: &[PathBuf], targets: &[PathBuf]) -> Result<Self> {
        let mut stubs = Self::default();
        if lowers.is_empty() {
            for target in targets {
                stubs.all_missing(Path::new(""), target.components());
            }
            return Ok(stubs);
        }
        let root = rootfs::pack::merged(lowers)?;
        for target in targets {
            stubs.one(&root, target).at("look for", target)?;
        }
        Ok(stubs)
    }

    fn all_missing<'c>(&mut self, above: &Path, rest: impl Iterator<Item = Component<'c>>) {
        let mut path = above.to_owned();
        for component in rest {
            if let Component::Normal(name) = component {
                path.push(name);
                if !self.missing.contains(&path) {
                    self.missing.push(path.clone());
                }
            }
        }
    }

    fn one(&mut self, root: &OwnedFd, target: &Path) -> rustix::io::Result<()> {
        let mut rest: Vec<OsString> = names(target);
        rest.reverse();
        let mut path = PathBuf::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                path.pop();
                continue;
            }
            let here = path.join(&name);
            let stat = match rustix::fs::statat(root, &here, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => {
                    rest.push(name);
                    let rest: PathBuf = rest.iter().rev().collect();
                    self.all_missing(&path, rest.components());
                    break;
                }
                // In the way is a file: that is the mount's to complain of.
                Err(Errno::NOTDIR) => return Ok(()),
                Err(e) => return Err(e),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Ok(());
                    }
                    let to = rustix::fs::readlinkat(root, &here, Vec::new())?;
                    let to = PathBuf::from(OsString::from_vec(to.into_bytes()));
                    if to.is_absolute() {
                        path = PathBuf::new();
                    }
                    rest.extend(names(&to).into_iter().rev());
                }
                FileType::Directory => {
                    path = here;
                    if !self.above.iter().any(|(known, _)| *known == path) {
                        let dir = rustix::fs::openat(root, &path, DIRECTORY, Mode::empty())?;
                        self.above.push((path.clone(), look(&stat, &dir)?));
                    }
                }
                _ => path = here,
            }
        }
        Ok(())
    }

    /// Takes them away from what was written.
    pub(super) fn remove(&self, upper: &Path) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, upper, flags, Mode::empty()).at("open", upper)?;
        for path in self.missing.iter().rev() {
            remove_empty(&root, path, None).at("remove", upper.join(path))?;
        }
        // Where nothing was made below, it is there because the command has changed it.
        let touched = |dir: &Path| self.missing.iter().any(|path| path.starts_with(dir));
        let mut above: Vec<_> = self.above.iter().filter(|(dir, _)| touched(dir)).collect();
        above.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
        for (path, look) in above {
            remove_empty(&root, path, Some(look)).at("remove", upper.join(path))?;
        }
        Ok(())
    }
}

fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// Removes a file or directory with nothing in it. One that looked so before (`was`) only if it does still, and says nothing
/// else; the directory above keeps its time.
fn remove_empty(root: &OwnedFd, path: &Path, was: Option<&Look>) -> rustix::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return Ok(()) };
    let Some(dir) = beneath(root, parent)? else { return Ok(()) };
    let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let times = rustix::fs::fstat(&dir)?;
    let flags = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let Some(own) = beneath(root, path)? else { return Ok(()) };
            let changed = match was {
                Some(was) => *was != look(&stat, &own)? || says_more(&own),
                None => false,
            };
            if changed || has_entries(&own)? {
                return Ok(());
            }
            AtFlags::REMOVEDIR
        }
        FileType::RegularFile if stat.st_size == 0 && was.is_none() => AtFlags::empty(),
        _ => return Ok(()),
    };
    rustix::fs::unlinkat(&dir, name, flags)?;
    let time = |seconds, nanos: u64| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos.cast_signed() };
    let times = rustix::fs::Timestamps {
        last_access: time(times.st_atime, times.st_atime_nsec),
        last_modification: time(times.st_mtime, times.st_mtime_nsec),
    };
    rustix::fs::futimens(&dir, &times)
}

fn beneath(root: &OwnedFd, path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let confined = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), confined) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

fn has_entries(dir: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it hides what is below.
fn says_more(dir: impl AsFd) -> bool {
    rustix::fs::fgetxattr(dir, "trusted.overlay.opaque", &mut [0_u8; 4]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_and_is_empty_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        for path in
            [lower.join("etc"), lower.join("var"), upper.join("etc"), upper.join("var"), upper.join("a/b")]
        {
            std::fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink("../run/x/resolv.conf", lower.join("etc/resolv.conf")).unwrap();
        std::os::unix::fs::symlink("/var", lower.join("link")).unwrap();
        let targets = ["/etc/hosts", "/etc/resolv.conf", "/a/b", "/link/cache", "/c/d"].map(PathBuf::from);
        let stubs = Stubs::find(&[lower], &targets).unwrap();
        std::fs::write(upper.join("etc/hosts"), "").unwrap();
        std::fs::create_dir_all(upper.join("run/x")).unwrap();
        std::fs::write(upper.join("run/x/resolv.conf"), "").unwrap();
        std::fs::create_dir_all(upper.join("var/cache")).unwrap();
        std::fs::create_dir_all(upper.join("c/d")).unwrap();
        std::fs::write(upper.join("c/d/kept"), "").unwrap();
        stubs.remove(&upper).unwrap();
        assert_eq!(base::fs::names(&upper).unwrap(), ["c"]);
        assert!(upper.join("c/d/kept").exists());
    }

    #[test]
    fn what_the_command_has_changed_stays() {
        // Attributes want a real file system.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        for name in ["whole/there", "marked", "same"] {
            std::fs::create_dir_all(lower.join(name)).unwrap();
        }
        let targets = ["/whole/there", "/marked/new", "/same/new"].map(PathBuf::from);
        let stubs = Stubs::find(&[lower], &targets).unwrap();
        for name in ["whole", "marked/new", "same/new"] {
            std::fs::create_dir_all(upper.join(name)).unwrap();
        }
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(upper.join("marked"), "user.x", b"y", none).unwrap();
        stubs.remove(&upper).unwrap();
        let mut left = base::fs::names(&upper).unwrap();
        left.sort();
        assert_eq!(left, ["marked", "whole"]);
        assert!(base::fs::names(&upper.join("marked")).unwrap().is_empty());
    }
}
