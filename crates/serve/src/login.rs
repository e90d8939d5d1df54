//! Who may come in: a file of names and bcrypt hashes, as `htpasswd -B` writes it, read again when it changes.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::{Digest, Id, fs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::run::say;

/// The dearest hash: one of cost 14 takes a second. Who asks for more asks for a server that does nothing else.
const MAX_COST: u32 = 14;
/// How many proven passwords are remembered.
const REMEMBERED: usize = 4096;
/// The longest header that is looked at.
const MAX_HEADER: usize = 4096;

/// Why a file lets nobody in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] fs::Error),
    #[error("line {line} of {} is not `name:hash` with a bcrypt hash", path.display())]
    Line { path: PathBuf, line: usize },
    #[error("line {line} of {} has a hash of cost {cost}: at most {MAX_COST} is taken", path.display())]
    Cost { path: PathBuf, line: usize, cost: u32 },
    #[error("cannot get randomness")]
    Random(#[source] std::io::Error),
}

impl Error {
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Line { path, .. } => {
                vec![format!("add users with bcrypt: htpasswd -B {} NAME", path.display())]
            }
            Self::Cost { path, .. } => {
                vec![format!("hash it again: htpasswd -B -C 10 {} NAME", path.display())]
            }
            _ => Vec::new(),
        }
    }
}

/// The users, and what has been proven.
pub(crate) struct Login {
    path: PathBuf,
    key: Id,
    users: Mutex<Users>,
    /// Digests of key, name, password and hash: a hash takes milliseconds by design, and every request brings one.
    proven: Mutex<HashSet<Digest>>,
}

struct Users {
    hashes: HashMap<String, String>,
    stamp: Option<(u64, i64, i64, u64)>,
}

impl Login {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let stamp = stamp(path);
        let users = Mutex::new(Users { hashes: read(path)?, stamp });
        let key = Id::random().map_err(Error::Random)?;
        Ok(Self { path: path.to_owned(), key, users, proven: Mutex::default() })
    }

    /// The user that an `Authorization` proves to be there. May take long: not for threads that must not block.
    pub(crate) fn check(&self, authorization: &str) -> Option<String> {
        let (name, password) = parse(authorization)?;
        let (hash, known) = {
            let users = self.users();
            let own = users.hashes.get(&name);
            // For a name that nobody has, somebody else's is computed: how long it takes must not tell.
            (own.or_else(|| users.hashes.values().next())?.clone(), own.is_some())
        };
        let text = format!("{}\0{name}\0{password}\0{hash}", self.key.as_str());
        let proof = Digest::of(text.as_bytes());
        if known && lock(&self.proven).contains(&proof) {
            return Some(name);
        }
        let right = bcrypt::verify(&password, &hash).unwrap_or(false);
        if !(known && right) {
            return None;
        }
        let mut proven = lock(&self.proven);
        if proven.len() >= REMEMBERED {
            proven.clear();
        }
        proven.insert(proof);
        Some(name)
    }

    /// The users as the file has them now. One that makes no sense (yet) is told of, and the old ones stay.
    fn users(&self) -> MutexGuard<'_, Users> {
        let mut users = lock(&self.users);
        let stamp = stamp(&self.path);
        if stamp != users.stamp {
            users.stamp = stamp;
            match read(&self.path) {
                Ok(hashes) => {
                    users.hashes = hashes;
                    say("the users have been read again");
                }
                Err(error) => {
                    say(&format!("warning: the old users stay: {}", base::failure::chain(&error)));
                }
            }
        }
        users
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamp(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec(), about.len()))
}

fn read(path: &Path) -> Result<HashMap<String, String>, Error> {
    let text = fs::read(path)?;
    let mut users = HashMap::new();
    for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || Error::Line { path: path.to_owned(), line: number + 1 };
        let (name, hash) = line.split_once(':').ok_or_else(bad)?;
        let cost = cost(hash).filter(|_| !name.is_empty()).ok_or_else(bad)?;
        if cost > MAX_COST {
            return Err(Error::Cost { path: path.to_owned(), line: number + 1, cost });
        }
        users.insert(name.to_owned(), hash.to_owned());
    }
    Ok(users)
}

/// The cost of a bcrypt hash, `$2y$05$` and 53 letters; none if it is none.
fn cost(hash: &str) -> Option<u32> {
    let mut parts = hash.strip_prefix('$')?.split('$');
    let (kind, cost, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    let good = matches!(kind, "2a" | "2b" | "2y")
        && cost.len() == 2
        && rest.len() == 53
        && rest.bytes().all(letters)
        && parts.next().is_none();
    cost.parse().ok().filter(|cost| good && (4..=31).contains(cost))
}

/// `Basic` and the base64 of `name:password` (RFC 7617).
fn parse(authorization: &str) -> Option<(String, String)> {
    if authorization.len() > MAX_HEADER {
        return None;
    }
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    // A NUL would end the password for bcrypt.
    let good = !name.is_empty() && !password.contains('\0');
    good.then(|| (name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn only_who_knows_the_password_comes_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let hash = bcrypt::hash("se:cret", 4).unwrap().replacen("$2b$", "$2y$", 1);
        std::fs::write(&path, format!("# team\n\nme:{hash}\n")).unwrap();
        let login = Login::open(&path).unwrap();
        for _ in 0..2 {
            assert_eq!(login.check(&basic("me:se:cret")), Some("me".to_owned()));
            for bad in ["me:wrong", "me:", "you:se:cret", ":se:cret", "me", ""] {
                assert_eq!(login.check(&basic(bad)), None, "{bad}");
            }
            assert_eq!(login.check("Bearer x"), None);
        }
        std::fs::write(&path, format!("you:{hash}\n")).unwrap();
        assert_eq!(login.check(&basic("me:se:cret")), None, "who is gone is gone at once");
        assert_eq!(login.check(&basic("you:se:cret")), Some("you".to_owned()));
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(login.check(&basic("you:se:cret")), Some("you".to_owned()), "the old ones stay");
    }

    #[test]
    fn files_that_are_none_are_refused_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        for bad in [
            "me:{SHA}x",
            "me:$apr1$x$y",
            "me",
            ":$2y$05$......................abcdefghijklmnopqrstuvwxyzABCDE",
            "me:$2y$31$......................abcdefghijklmnopqrstuvwxyzABCDE",
        ] {
            std::fs::write(&path, format!("\n{bad}\n")).unwrap();
            let error = Login::open(&path).err().unwrap().to_string();
            assert!(error.contains("line 2"), "{error}");
            assert!(!error.contains("$2"), "{error}");
        }
        assert!(Login::open(&dir.path().join("none")).is_err());
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text in ".{0,60}") {
            let _ = parse(&text);
            let _ = parse(&basic(&text));
            let _ = cost(&text);
        }
    }
}
