//! One file of logins: Docker's `config.json`, or Podman's `auth.json`, which has the same form.
//!
//! What we write changes one entry of `auths` and leaves all else as it was, also what we do not know. The file is
//! replaced, not rewritten, and is readable for its owner alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::fs::{self, Durability};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Login;
use crate::endpoint::canonical;
use crate::{Error, Result};

/// A configuration of more bytes than this is none.
const MAX_CONFIG: usize = 4 << 20;
/// Docker Hub's name in these files.
const HUB: &str = "https://index.docker.io/v1/";

/// A file as it was read.
#[derive(Clone)]
pub(super) struct AuthFile {
    path: PathBuf,
    logins: BTreeMap<String, Login>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

/// What becomes of an entry of `auths`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It holds the login.
    Set,
    /// It is there, empty: a helper has the login.
    Mark,
    /// It goes.
    Remove,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: Option<BTreeMap<String, Stored>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Stored {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl AuthFile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut file =
            Self { path: path.to_owned(), logins: BTreeMap::new(), helpers: BTreeMap::new(), store: None };
        let Some(bytes) = fs::read_if_exists(path)? else { return Ok(file) };
        let config: Config = parse(path, &bytes)?;
        for (name, entry) in config.auths.unwrap_or_default() {
            match login(entry) {
                Ok(Some(login)) => drop(file.logins.insert(key(&name), login)),
                // An entry without a login, as credential helpers leave behind.
                Ok(None) => {}
                Err(why) => return Err(broken(path, format!("the `auth` of `{name}` is not {why}"))),
            }
        }
        let known = |name: &String| !name.is_empty();
        file.helpers =
            config.helpers.unwrap_or_default().into_iter().map(|(host, name)| (key(&host), name)).collect();
        file.store = config.store.filter(known);
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The hosts, or parts of them, that it knows something of.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.logins.keys().chain(self.helpers.keys()).map(String::as_str)
    }

    /// The program that knows the login of a host.
    pub(super) fn helper_of(&self, host: &str) -> Option<&str> {
        match self.helpers.get(host) {
            // Docker: an empty name takes a host out of the store.
            Some(name) => Some(name.as_str()).filter(|name| !name.is_empty()),
            None => self.store.as_deref(),
        }
    }

    /// The login that stands in the file: of the longest part of `host/repository` that has one.
    pub(super) fn login_of(&self, host: &str, repository: &str) -> Option<&Login> {
        let mut name = format!("{host}/{repository}");
        loop {
            if let Some(login) = self.logins.get(name.trim_end_matches('/')) {
                return Some(login);
            }
            name.truncate(name.rfind('/')?);
        }
    }

    /// Changes a host's entry in the file as it is now; true if there was one. Nothing is written where nothing
    /// changes.
    pub(super) fn write(&self, host: &str, login: Option<&Login>, what: Entry) -> Result<bool> {
        // A link stays one: who keeps this file elsewhere means to.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut config: Map<String, Value> = match fs::read_if_exists(&path)? {
            Some(bytes) => parse(&path, &bytes)?,
            None if what == Entry::Remove => return Ok(false),
            None => Map::new(),
        };
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        let Some(auths) = auths.as_object_mut() else {
            return Err(broken(&path, "`auths` is not an object".to_owned()));
        };
        let before = auths.clone();
        auths.retain(|name, _| key(name) != host);
        let was_there = before.len() > auths.len();
        match (what, login) {
            (Entry::Remove, _) => {}
            (_, Some(login)) => drop(auths.insert(server(host), entry(login))),
            (_, None) => drop(auths.insert(server(host), json!({}))),
        }
        if before == *auths {
            return Ok(was_there);
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory, 0o700)?;
        }
        let mut text = serde_json::to_vec_pretty(&config).map_err(|e| Error::Setup(Box::new(e)))?;
        text.push(b'\n');
        fs::write_atomic(&path, &text, Durability::Synced)?;
        Ok(was_there)
    }
}

fn entry(login: &Login) -> Value {
    match login {
        Login::Password { user, password } => {
            json!({ "auth": STANDARD.encode(format!("{user}:{password}")) })
        }
        Login::Identity(token) => json!({ "auth": STANDARD.encode("<token>:"), "identitytoken": token }),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path, bytes: &[u8]) -> Result<T> {
    if bytes.len() > MAX_CONFIG {
        return Err(broken(path, "it is larger than 4 MiB".to_owned()));
    }
    // Not the parser's own text beyond the place: it could quote a password.
    serde_json::from_slice(bytes).map_err(|e| {
        broken(path, format!("it is not the JSON it should be (line {}, column {})", e.line(), e.column()))
    })
}

fn broken(path: &Path, why: String) -> Error {
    Error::CredentialsFile { path: path.to_owned(), why }
}

fn login(entry: Stored) -> std::result::Result<Option<Login>, &'static str> {
    if let Some(token) = entry.identitytoken.filter(|t| !t.is_empty()) {
        return Ok(Some(Login::Identity(token)));
    }
    if let Some(auth) = entry.auth.filter(|a| !a.is_empty()) {
        let bytes = STANDARD.decode(auth.trim()).map_err(|_| "base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "UTF-8")?;
        let (user, password) = text.split_once(':').ok_or("user:password")?;
        // Old clients pad with zeros.
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Login::Password { user: user.to_owned(), password }));
    }
    let user = entry.username.filter(|u| !u.is_empty());
    Ok(user.zip(entry.password).map(|(user, password)| Login::Password { user, password }))
}

/// One spelling for each registry: Docker writes `https://index.docker.io/v1/`, `host`, `https://host`, …; Podman also
/// `host/path`, for a part of a registry.
pub(super) fn key(name: &str) -> String {
    let (is_address, rest) = match name.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, name),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let host = canonical(host);
    if is_address || matches!(path, "" | "v1" | "v2") { host } else { format!("{host}/{path}") }
}

/// The name under which Docker keeps a registry's login.
pub(super) fn server(host: &str) -> String {
    if host == "docker.io" { HUB.to_owned() } else { host.to_owned() }
}
