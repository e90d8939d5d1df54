//! A group at any path, made level by level: the parents that are missing, and what a level must hand down so that
//! the next can be limited: on v2 the controllers, on v1 a cpuset's processors.
//!
//! Parents that are made for a group go with it. So that they do even where who makes them is killed, they can be noted in
//! a file before: a path after the other, each with a zero byte behind it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use base::fs::At as _;
use rustix::fs::{CWD, Mode, OFlags, mkdir, openat, rmdir};
use rustix::io::Errno;

use super::Error;
use super::files::{read_text, write_to};
use super::group::is_usable;
use super::hierarchy::Controller;
use super::{freezer, processes};

const MODE: Mode = Mode::from_raw_mode(0o755);
/// How often somebody may remove an empty parent just when we have found or made it.
const ATTEMPTS: u32 = 10;

/// The parents that were made for a group.
#[derive(Debug, Default)]
pub(super) struct Parents<'a> {
    /// The outermost of a hierarchy first.
    pub(super) made: Vec<PathBuf>,
    /// Where they are noted before.
    pub(super) file: Option<&'a Path>,
}

impl Parents<'_> {
    fn note(&self, levels: &[PathBuf]) -> Result<(), Error> {
        let Some(file) = self.file else { return Ok(()) };
        let mut text = Vec::new();
        for level in levels.iter().filter(|level| !level.exists()) {
            text.extend_from_slice(level.as_os_str().as_bytes());
            text.push(0);
        }
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let written = openat(CWD, file, flags, Mode::from_raw_mode(0o600))
            .and_then(|file| rustix::io::write(file, &text));
        // In parts only where the disk is full: what is not noted then is not made.
        match written {
            Ok(length) if length < text.len() => Err(Errno::NOSPC),
            other => other.map(drop),
        }
        .at("note cgroups in", file)
        .map_err(Error::File)
    }
}

/// Removes the groups that are noted in this file, as far as nobody has come to use them. Without it there is nothing to
/// be done.
pub fn remove_noted(file: &Path) {
    let Ok(Some(text)) = base::fs::read_if_exists(file) else { return };
    let paths = text.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let paths: Vec<PathBuf> =
        paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).filter(|path| is_usable(path)).collect();
    remove_parents(&paths);
}

/// Makes `below` in the hierarchy at `root`. Parents that were missing are added to `parents`.
///
/// A group that is there already is taken over if nothing is in it: then false is the answer.
pub(super) fn make(root: &Path, below: &Path, parents: &mut Parents<'_>) -> Result<bool, Error> {
    let path = root.join(below);
    let mut attempt = 0;
    loop {
        match mkdir(&path, MODE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return unused(&path).map(|()| false),
            Err(Errno::NOENT) if attempt < ATTEMPTS => {
                attempt += 1;
                make_parents(root, below, parents)?;
            }
            Err(error) => return Err(error).at("create the cgroup", &path).map_err(Error::File),
        }
    }
}

/// The same for a group whose own processes may be there already.
pub(super) fn make_shared(root: &Path, below: &Path) -> Result<(), Error> {
    match make(root, below, &mut Parents::default()) {
        Err(Error::InUse { .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn make_parents(root: &Path, below: &Path, parents: &mut Parents<'_>) -> Result<(), Error> {
    let levels: Vec<PathBuf> = levels(root, below.parent().unwrap_or(Path::new(""))).collect();
    parents.note(&levels)?;
    let made = &mut parents.made;
    for level in levels {
        match mkdir(&level, MODE) {
            Ok(()) if !made.contains(&level) => made.push(level),
            // The next level finds out if it has gone again.
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
            Err(error) => return Err(error).at("create the cgroup", &level).map_err(Error::File),
        }
    }
    Ok(())
}

/// The directories on the way from below `root` down to `below`, it included.
fn levels(root: &Path, below: &Path) -> impl Iterator<Item = PathBuf> {
    below.components().scan(root.to_owned(), |path, component| {
        path.push(component);
        Some(path.clone())
    })
}

/// Two containers in one group would share limits and fate, and who joins a frozen group stops.
fn unused(path: &Path) -> Result<(), Error> {
    if processes::is_populated(path) || freezer::is_frozen_at(path) {
        return Err(Error::InUse { path: path.to_owned() });
    }
    Ok(())
}

/// Removes those of the parents that are empty, the innermost first.
pub(super) fn remove_parents(made: &[PathBuf]) {
    for path in made.iter().rev() {
        // Not empty: somebody else has come to use it, and then it is theirs.
        rmdir(path).ok();
    }
}

/// v2: makes sure that the group at `below` has every controller that the machine has, or at least those by these
/// names. Looks first, which is one file to read where a manager has done its part.
pub(super) fn ensure_controllers(root: &Path, below: &Path, needed: &[&str]) {
    let has = read_text(&root.join(below).join("cgroup.controllers")).unwrap_or_default();
    if needed.iter().all(|n| has.split_ascii_whitespace().any(|h| h == *n)) {
        return;
    }
    hand_down(root, below);
}

/// v2: hands all controllers down from level to level. What cannot be had shows when a limit is written.
pub(super) fn hand_down(root: &Path, below: &Path) {
    hand_down_one(root);
    for level in levels(root, below.parent().unwrap_or(Path::new(""))) {
        hand_down_one(&level);
    }
}

/// All at once, or where that fails (one of them cannot be had here) those that can.
fn hand_down_one(path: &Path) {
    let available = read_text(&path.join("cgroup.controllers")).unwrap_or_default();
    let handed = read_text(&path.join("cgroup.subtree_control")).unwrap_or_default();
    let wanted: Vec<_> = available
        .split_ascii_whitespace()
        .filter(|name| !handed.split_ascii_whitespace().any(|h| h == *name))
        .map(|name| format!("+{name}"))
        .collect();
    let file = path.join("cgroup.subtree_control");
    if wanted.is_empty() || write_to(CWD, &file, wanted.join(" ").as_bytes()).is_ok() {
        return;
    }
    for one in wanted {
        write_to(CWD, &file, one.as_bytes()).ok();
    }
}

/// v1: a new cpuset is empty and takes no process: each level that is empty gets what the one above it has.
pub(super) fn fill_cpuset(root: &Path, below: &Path) {
    let mut above = root.to_owned();
    for level in levels(root, below) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let path = level.join(file);
            if read_text(&path).is_some_and(|text| text.trim().is_empty())
                && let Some(value) = read_text(&above.join(file))
            {
                // An empty set that stays empty is refused when somebody joins.
                write_to(CWD, &path, value.trim().as_bytes()).ok();
            }
        }
        above = level;
    }
}

/// What a level of v1 needs besides its directory.
pub(super) fn prepare_v1(root: &Path, below: &Path, controller: Option<Controller>) {
    if controller == Some(Controller::Cpuset) {
        fill_cpuset(root, below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_made_goes_and_what_was_there_stays() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        let mut parents = Parents::default();
        assert!(make(root.path(), Path::new("a/b/c/d"), &mut parents).unwrap());
        assert_eq!(parents.made, [root.path().join("a/b"), root.path().join("a/b/c")]);
        make(root.path(), Path::new("a/b/x"), &mut parents).unwrap();
        let made = parents.made;
        assert_eq!(made.len(), 2);
        std::fs::remove_dir(root.path().join("a/b/c/d")).unwrap();
        remove_parents(&made);
        assert!(!root.path().join("a/b/c").exists() && root.path().join("a/b/x").exists());
        std::fs::remove_dir(root.path().join("a/b/x")).unwrap();
        remove_parents(&made);
        assert!(!root.path().join("a/b").exists() && root.path().join("a").exists());
    }
}
