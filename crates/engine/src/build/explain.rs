//! Why a step was not found in the cache: what it was made of the last time that something of this name was built, and what it
//! is made of now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ::build::graph::{Change, Copy};
use base::Digest;
use base::fs::{self, Durability};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::cache::Cache;
use super::solve::Tree;
use crate::error::Result;

/// The most differences that are told of.
const MOST: usize = 8;

/// How a part begins that is of one file, and one that is of many.
const FILE: &str = "the file ";
const FILES: &str = "the files copied";
/// Of more files than that it is not remembered which they were.
const MOST_FILES: usize = 1000;

/// The parts of steps, by their titles.
type Steps = BTreeMap<String, BTreeMap<String, Digest>>;

/// What is remembered of the last build of something.
pub(super) struct Explain {
    path: PathBuf,
    before: Steps,
    now: Mutex<Steps>,
    wanted: bool,
}

impl Explain {
    /// What is remembered of what is called so. It is only `wanted` where somebody asks.
    pub(super) fn of(cache: &Cache, name: &str, wanted: bool) -> Self {
        let path = cache.dir().join("explain").join(Digest::of(name.as_bytes()).hex());
        let before = fs::read_if_exists(&path).ok().flatten();
        let before = before.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, before, now: Mutex::default(), wanted }
    }

    /// Why a step of these parts has to be done, if somebody wants to know.
    pub(super) fn why(&self, title: &str, forced: bool, parts: &[(String, Digest)]) -> Option<String> {
        let parts: BTreeMap<String, Digest> = parts.iter().cloned().collect();
        let why = self.wanted.then(|| self.compare(title, forced, &parts));
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.extend(place(title).map(|place| (place.to_owned(), parts.clone())));
        now.insert(name(title).to_owned(), parts);
        why
    }

    fn compare(&self, title: &str, forced: bool, parts: &BTreeMap<String, Digest>) -> String {
        if forced {
            return "not cached: the cache is not to be used".to_owned();
        }
        let before = self.before.get(name(title));
        // With another text it may still be the step that was there.
        let Some(before) = before.or_else(|| self.before.get(place(title)?)) else {
            return "not cached: it was never built".to_owned();
        };
        let mut changed: Vec<String> = Vec::new();
        for (part, digest) in parts {
            match before.get(part) {
                None => changed.push(format!("{part} is new")),
                Some(old) if old != digest => changed.push(format!("{part} changed")),
                Some(_) => {}
            }
        }
        // Of files, those that changed say more than that some have.
        if changed.iter().any(|what| what.starts_with(FILE)) {
            changed.retain(|what| !what.starts_with(FILES));
        }
        changed.extend(
            before.keys().filter(|part| !parts.contains_key(*part)).map(|part| format!("{part} is gone")),
        );
        if changed.is_empty() {
            return "not cached: its layer is not here any more".to_owned();
        }
        let more = changed.len().saturating_sub(MOST);
        changed.truncate(MOST);
        if more > 0 {
            changed.push(format!("and {more} more"));
        }
        format!("not cached: {}", changed.join(", "))
    }

    /// Remembers what was built now.
    pub(super) fn keep(&self) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.is_empty() {
            return;
        }
        let mut all = self.before.clone();
        all.extend(now.clone());
        // Only for who asks: where it cannot be kept, the answer is less good.
        if let Ok(bytes) = serde_json::to_vec(&all) {
            fs::write_atomic(&self.path, &bytes, Durability::Volatile).ok();
        }
    }
}

/// The files of a context that a change copies, as parts; none where they are too many, or chosen by patterns.
pub(super) fn files(
    tree: &Tree,
    copy: &Copy,
    digest: &dyn Fn(&Change) -> Result<Digest>,
) -> Vec<(String, Digest)> {
    let mut parts = Vec::new();
    for source in &copy.sources {
        let path = source.trim_matches('/').trim_start_matches("./").trim_matches('.');
        if source.contains(['*', '?', '[']) {
            continue;
        }
        let mut pending = vec![PathBuf::from(path)];
        while let Some(path) = pending.pop() {
            if !one(tree, copy, &path, digest, &mut pending, &mut parts) || parts.len() > MOST_FILES {
                return Vec::new();
            }
        }
    }
    parts
}

/// Looks at one path. False where that cannot be done.
fn one(
    tree: &Tree,
    copy: &Copy,
    path: &Path,
    digest: &dyn Fn(&Change) -> Result<Digest>,
    pending: &mut Vec<PathBuf>,
    parts: &mut Vec<(String, Digest)>,
) -> bool {
    let Some(text) = path.to_str() else { return false };
    let (open, hidden) = (if text.is_empty() { "." } else { text }, tree.ignore.as_ref());
    let Ok(stat) = rustix::fs::statat(&tree.root, open, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let change = Change::Copy(Copy { sources: vec![format!("/{text}")], ..copy.clone() });
        let Ok(digest) = digest(&change) else { return false };
        parts.push((format!("{FILE}{text}"), digest));
        return true;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::openat(&tree.root, open, flags, Mode::empty()) else { return false };
    let Ok(entries) = Dir::read_from(&dir) else { return false };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { return false };
        if matches!(name, "." | "..") {
            continue;
        }
        let path = path.join(name);
        let shown =
            |text: &str| hidden.is_none_or(|hidden| !hidden.excludes(text) || hidden.may_include_below(text));
        if path.to_str().is_some_and(shown) {
            pending.push(path);
        }
        if pending.len() > MOST_FILES {
            return false;
        }
    }
    true
}

/// A title without its place: a step more before it is no other step.
fn name(title: &str) -> &str {
    let rest = title.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    rest.map_or(title, |(_, rest)| rest)
}

/// Its stage and its number in it.
fn place(title: &str) -> Option<&str> {
    title.strip_prefix('[')?.split_once("] ")?.0.split_once('/').map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let instance = state::Instance::new(&dir.path().join("root"), &dir.path().join("run"));
        let cache = Cache::of(&instance);
        cache.make().unwrap();
        let parts = |value: &str| {
            vec![
                ("the command".to_owned(), Digest::of(b"x")),
                ("the variable A".to_owned(), Digest::of(value.as_bytes())),
            ]
        };
        let first = Explain::of(&cache, "x", true);
        assert_eq!(first.why("[1/2] RUN x", false, &parts("1")).unwrap(), "not cached: it was never built");
        first.keep();
        let second = Explain::of(&cache, "x", true);
        let why = second.why("[2/3] RUN x", false, &parts("2")).unwrap();
        assert_eq!(why, "not cached: the variable A changed");
        assert_eq!(Explain::of(&cache, "x", false).why("RUN x", false, &parts("2")), None);
    }
}
