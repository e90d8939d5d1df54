//! What answered a registry's last challenge, kept for as long as it lives: in the process, and in a directory for the
//! next one, so that a second pull needs no login of its own.
//!
//! A file is named after the digest of all that its token depends on: the host, the repository, what is done there,
//! and the login. Another login finds another file. Passwords are not kept: where a registry wants one with every
//! request, the file says that and no more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::Digest;
use base::fs::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::Access;
use crate::endpoint::{Endpoint, Scheme};

/// How long we remember that a registry wants a password with every request.
const BASIC_LIFE: Duration = Duration::from_hours(1);
/// A token that has less than this to live may be dead when it arrives.
const MARGIN: u64 = 5;
/// More tokens than this are nobody's: the directory is emptied.
const MAX_FILES: usize = 1000;

/// What a registry wants to see with each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Proof {
    /// User and password.
    Basic,
    /// This token.
    Bearer(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    proof: Proof,
    /// Seconds since 1970.
    since: u64,
    until: u64,
}

/// What we have.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    memory: Mutex<BTreeMap<Digest, Entry>>,
    directory: Option<PathBuf>,
}

impl Tokens {
    pub(crate) fn new(directory: Option<PathBuf>) -> Self {
        Self { memory: Mutex::default(), directory }
    }

    /// What is kept under this key, if it is still alive.
    pub(crate) fn get(&self, key: Digest) -> Option<Proof> {
        self.get_at(key, now())
    }

    fn get_at(&self, key: Digest, now: u64) -> Option<Proof> {
        let mut memory = self.memory();
        if let Some(entry) = memory.get(&key) {
            return Some(entry.proof.clone()).filter(|_| entry.is_alive(now));
        }
        // A file that cannot be read costs a login, and is not worth a word.
        let bytes = fs::read_if_exists(&self.file(key)?).ok()??;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        let fit = match &entry.proof {
            Proof::Basic => true,
            Proof::Bearer(token) => token.bytes().all(|b| b.is_ascii_graphic()),
        };
        let proof = Some(entry.proof.clone()).filter(|_| fit && entry.is_alive(now))?;
        memory.insert(key, entry);
        Some(proof)
    }

    pub(crate) fn put(&self, key: Digest, proof: Proof, life: Option<Duration>) {
        self.put_at(key, proof, life.unwrap_or(BASIC_LIFE), now());
    }

    fn put_at(&self, key: Digest, proof: Proof, life: Duration, now: u64) {
        let entry = Entry { proof, since: now, until: now.saturating_add(life.as_secs()) };
        // In the process a token is used until the registry refuses it: its own clock says when.
        self.memory().insert(key, Entry { until: u64::MAX, since: 0, ..entry.clone() });
        if life.as_secs() <= MARGIN {
            return;
        }
        let Some(path) = self.file(key) else { return };
        // Without a file the next command logs in once more: that is all.
        keep(&path, &entry, now).ok();
    }

    /// Forgets what did not help; true if there was something.
    pub(crate) fn forget(&self, key: Digest) -> bool {
        let known = self.memory().remove(&key).is_some();
        self.file(key).is_some_and(|path| fs::remove_file(&path).unwrap_or(false)) || known
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.memory().clear();
        if let Some(directory) = &self.directory {
            fs::remove_dir_all(directory).ok();
        }
    }

    fn file(&self, key: Digest) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(key.hex()))
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<Digest, Entry>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// A clock that was set back makes it dead: nobody knows then.
    fn is_alive(&self, now: u64) -> bool {
        self.since <= now && now.saturating_add(MARGIN) < self.until
    }
}

/// All that a token depends on.
pub(crate) fn key(endpoint: &Endpoint, access: Access, login: Digest) -> Digest {
    let scheme = if endpoint.scheme == Scheme::Https { "https" } else { "http" };
    let access = if access == Access::Pull { "pull" } else { "push" };
    let host = endpoint.location.host.to_ascii_lowercase();
    Digest::of(format!("{scheme}\0{host}\0{}\0{access}\0{login}", endpoint.location.repository).as_bytes())
}

fn keep(path: &Path, entry: &Entry, now: u64) -> fs::Result<()> {
    let Ok(bytes) = serde_json::to_vec(entry) else { return Ok(()) };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory, 0o700)?;
        sweep(directory, now);
    }
    fs::write_atomic(path, &bytes, Durability::Volatile)
}

/// Removes what is dead.
fn sweep(directory: &Path, now: u64) {
    let names = fs::names(directory).unwrap_or_default();
    let all = names.len() > MAX_FILES;
    for path in names.iter().map(|name| directory.join(name)) {
        let entry = fs::read_if_exists(&path).ok().flatten();
        let entry = entry.and_then(|bytes| serde_json::from_slice::<Entry>(&bytes).ok());
        if all || entry.is_none_or(|entry| !entry.is_alive(now)) {
            fs::remove_file(&path).ok();
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn bearer(text: &str) -> Proof {
        Proof::Bearer(text.to_owned())
    }

    #[test]
    fn the_next_process_finds_what_is_alive() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("tokens");
        let tokens = || Tokens::new(Some(place.clone()));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let first = tokens();
        first.put_at(a, bearer("t"), HOUR, 1000);
        assert_eq!(first.get_at(a, 1000 + 7200), Some(bearer("t")), "the registry says when it is dead");
        assert_eq!(tokens().get_at(a, 1000 + 3000), Some(bearer("t")));
        for wrong in [999, 1000 + 3600, 1000 + 3596] {
            assert_eq!(tokens().get_at(a, wrong), None, "{wrong}");
        }
        assert_eq!(tokens().get_at(b, 1000), None);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place), mode(&place.join(a.hex()))), (0o700, 0o600));

        // What is dead goes when something is added.
        tokens().put_at(b, Proof::Basic, HOUR, 9000);
        assert_eq!(fs::names(&place).unwrap(), [b.hex()]);
        assert!(tokens().forget(b) && !tokens().forget(b));
        first.put_at(a, bearer("t"), Duration::from_secs(3), 1000);
        assert_eq!(fs::names(&place).unwrap().len(), 0, "not worth a file");
        first.clear();
        assert_eq!(first.get_at(a, 1000), None);
    }

    #[test]
    fn files_that_are_broken_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let key = Digest::of(b"a");
        for text in ["", "{}", r#"{"proof":{"bearer":"a\nb"},"since":0,"until":99999999999}"#] {
            std::fs::write(dir.path().join(key.hex()), text).unwrap();
            assert_eq!(Tokens::new(Some(dir.path().to_owned())).get(key), None, "{text}");
        }
    }
}
