//! Why a step was not found in the cache: what it was made of the last time that something of this name was built, and what it
//! is made of now.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use base::Digest;
use base::fs::{self, Durability};

use super::cache::Cache;

/// The most differences that are told of.
const MOST: usize = 8;

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
        self.now.lock().unwrap_or_else(PoisonError::into_inner).insert(name(title), parts);
        why
    }

    fn compare(&self, title: &str, forced: bool, parts: &BTreeMap<String, Digest>) -> String {
        if forced {
            return "not cached: the cache is not to be used".to_owned();
        }
        let Some(before) = self.before.get(&name(title)) else {
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

/// A title without its place: a step more before it is no other step.
fn name(title: &str) -> String {
    let rest = title.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    rest.map_or(title, |(_, rest)| rest).to_owned()
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
