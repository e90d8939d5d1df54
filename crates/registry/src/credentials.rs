//! Who we are to which registry: the `auths` of Docker's `config.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base::fs;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Error, Result};

/// A configuration of more bytes than this is none.
const MAX_CONFIG: usize = 4 << 20;

/// User names and passwords by registry. Never shown, not even by `Debug`.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, Login>);

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Password {
        user: String,
        password: String,
    },
    /// A token that is exchanged for others (OAuth 2 refresh token).
    Identity(String),
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// Reads `auths` of Docker's `config.json`; none if the file does not exist.
    pub fn from_docker_config(path: &Path) -> Result<Self> {
        let Some(bytes) = fs::read_if_exists(path)? else { return Ok(Self::default()) };
        let broken = |why: &str| Error::CredentialsFile { path: path.to_owned(), why: why.to_owned() };
        if bytes.len() > MAX_CONFIG {
            return Err(broken("it is larger than 4 MiB"));
        }
        // Not the parser's own text beyond the place: it could quote a password.
        let config: Config = serde_json::from_slice(&bytes).map_err(|e| {
            broken(&format!("it is not the JSON it should be (line {}, column {})", e.line(), e.column()))
        })?;
        let mut logins = BTreeMap::new();
        for (name, entry) in config.auths {
            match login(entry) {
                Ok(Some(login)) => drop(logins.insert(key(&name), login)),
                // An entry without a login, as credential helpers leave behind.
                Ok(None) => {}
                Err(why) => return Err(broken(&format!("the `auth` of `{name}` is not {why}"))),
            }
        }
        Ok(Self(logins))
    }

    /// One login, for callers that have it from elsewhere.
    pub fn with_password(mut self, host: &str, user: &str, password: &str) -> Self {
        self.0.insert(key(host), Login::Password { user: user.to_owned(), password: password.to_owned() });
        self
    }

    pub(crate) fn of(&self, host: &str) -> Option<&Login> {
        self.0.get(&key(host))
    }
}

fn login(entry: Entry) -> std::result::Result<Option<Login>, &'static str> {
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

/// One spelling for each registry: Docker writes `https://index.docker.io/v1/`, `host`, `https://host`, …
fn key(name: &str) -> String {
    let host = name.split_once("://").map_or(name, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_ascii_lowercase(),
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Credentials> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        Credentials::from_docker_config(&dir.path().join("config.json"))
    }

    #[test]
    fn logins_are_found_by_host_however_docker_spelled_it() {
        let auth = STANDARD.encode("me:se:cret");
        let credentials = read(&format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},"localhost:5000":{{"auth":"{auth}"}},
                "ghcr.io":{{}},"x.io":{{"identitytoken":"t"}}}},"credsStore":"secretservice"}}"#
        ))
        .unwrap();
        let login = Login::Password { user: "me".to_owned(), password: "se:cret".to_owned() };
        assert!(credentials.of("docker.io") == Some(&login));
        assert!(credentials.of("localhost:5000") == Some(&login));
        assert!(credentials.of("x.io") == Some(&Login::Identity("t".to_owned())));
        assert!(credentials.of("ghcr.io").is_none() && credentials.of("localhost").is_none());
        assert!(!format!("{credentials:?}").contains("cret"));
    }

    #[test]
    fn broken_files_are_told_without_their_secrets() {
        for text in ["{", "3", r#"{"auths":{"x":{"auth":"!secret!"}}}"#, r#"{"auths":{"x":"secret"}}"#] {
            let error = read(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(Credentials::from_docker_config(Path::new("/nope/config.json")).unwrap().0.is_empty());
    }
}
