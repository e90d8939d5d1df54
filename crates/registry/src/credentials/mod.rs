//! Who we are to which registry: Docker's `config.json`, its credential helpers, and Podman's `auth.json`.
//!
//! For a repository the first of these that knows something decides:
//!
//! ```text
//! config.json   credHelpers[host]     a program is asked        (helper.rs)
//!               credsStore            a program is asked
//!               auths[host]           user and password, or a token that is exchanged for others   (file.rs)
//! auth.json     the same; `auths` may also have  host/path
//! ```
//!
//! Helpers are asked when a registry asks for a login, and once in the life of a value.

mod file;
mod helper;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base::Digest;

use self::file::AuthFile;
use crate::{Location, Result};

/// User names and passwords by registry. Never shown, not even by `Debug`.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Docker's first: it is also what is written to.
    files: Vec<AuthFile>,
    /// What callers have from elsewhere: it wins.
    given: BTreeMap<String, Login>,
    /// What helpers have answered.
    answers: Arc<Mutex<BTreeMap<String, Option<Login>>>>,
}

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// With a password.
    Password {
        /// The user.
        user: String,
        /// Their password, or an access token in its place.
        password: String,
    },
    /// A token that is exchanged for others (OAuth 2 refresh token).
    Identity(String),
}

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file, readable for whoever may read it.
    File(PathBuf),
    /// With this helper.
    Helper(String),
}

impl Credentials {
    /// Reads Docker's `config.json`; none if the file does not exist.
    pub fn from_docker_config(path: &Path) -> Result<Self> {
        Self::load(path, &[])
    }

    /// Reads Docker's `config.json`, which is also where logins are kept, and files to look into after it. Those that
    /// do not exist are passed over.
    pub fn load(docker: &Path, others: &[PathBuf]) -> Result<Self> {
        let paths = std::iter::once(docker).chain(others.iter().map(PathBuf::as_path));
        let files = paths.map(AuthFile::read).collect::<Result<_>>()?;
        Ok(Self { files, ..Self::default() })
    }

    /// One login, for callers that have it from elsewhere.
    pub fn with_password(mut self, host: &str, user: &str, password: &str) -> Self {
        let login = Login::Password { user: user.to_owned(), password: password.to_owned() };
        self.given.insert(file::key(host), login);
        self
    }

    /// The login for a repository, or for a host where the repository is empty.
    pub fn of(&self, location: &Location) -> Result<Option<Login>> {
        match self.source(location) {
            None => Ok(None),
            Some(Source::Inline(login)) => Ok(Some(login.clone())),
            Some(Source::Helper { name, host, otherwise }) => {
                let question = format!("{name} {host}");
                let known =
                    self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&question).cloned();
                let answer = match known {
                    Some(answer) => answer,
                    None => helper::get(name, &host)?,
                };
                self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(question, answer.clone());
                Ok(answer.or_else(|| otherwise.cloned()))
            }
        }
    }

    /// Tells the logins of a repository from any other's, without asking a helper: what is remembered under one must
    /// not be used under another.
    pub(crate) fn fingerprint(&self, location: &Location) -> Digest {
        let text = match self.source(location) {
            None => String::new(),
            Some(Source::Inline(Login::Password { user, password })) => {
                format!("password\0{user}\0{password}")
            }
            Some(Source::Inline(Login::Identity(token))) => format!("identity\0{token}"),
            Some(Source::Helper { name, .. }) => format!("helper\0{name}"),
        };
        Digest::of(text.as_bytes())
    }

    /// Keeps a login where Docker would: with the helper that `config.json` names, or in that file.
    pub fn keep(&self, host: &str, login: &Login) -> Result<Kept> {
        let file = self.docker()?;
        let host = file::key(host);
        if let Some(helper) = file.helper_of(&host) {
            helper::store(helper, &file::server(&host), login)?;
            // An entry says to others where to look.
            file.write(&host, None, file::Entry::Mark)?;
            return Ok(Kept::Helper(helper.to_owned()));
        }
        file.write(&host, Some(login), file::Entry::Set)?;
        Ok(Kept::File(file.path().to_owned()))
    }

    /// Forgets a login; true if there was one.
    pub fn forget(&self, host: &str) -> Result<bool> {
        let file = self.docker()?;
        let host = file::key(host);
        let mut was_there = false;
        if let Some(helper) = file.helper_of(&host) {
            let server = file::server(&host);
            was_there = helper::get(helper, &server)?.is_some();
            if was_there {
                helper::erase(helper, &server)?;
            }
        }
        Ok(file.write(&host, None, file::Entry::Remove)? || was_there)
    }

    /// The user that is known for a host, to be offered at the next login. Helpers are not asked.
    pub fn user_of(&self, host: &str) -> Option<String> {
        let location = Location { host: host.to_owned(), repository: String::new() };
        match self.source(&location) {
            Some(Source::Inline(Login::Password { user, .. })) => Some(user.clone()),
            _ => None,
        }
    }

    /// The hosts that the files have logins for. Helpers are not asked.
    pub fn hosts(&self) -> Vec<String> {
        self.files.iter().flat_map(AuthFile::hosts).map(str::to_owned).collect()
    }

    fn docker(&self) -> Result<&AuthFile> {
        self.files.first().ok_or(crate::Error::NoCredentialsFile)
    }

    fn source(&self, location: &Location) -> Option<Source<'_>> {
        let host = file::key(&location.host);
        if let Some(login) = self.given.get(&host) {
            return Some(Source::Inline(login));
        }
        self.files.iter().find_map(|file| {
            let inline = file.login_of(&host, &location.repository);
            match file.helper_of(&host) {
                Some(name) => Some(Source::Helper { name, host: file::server(&host), otherwise: inline }),
                None => inline.map(Source::Inline),
            }
        })
    }
}

/// Where a login comes from.
enum Source<'a> {
    Inline(&'a Login),
    Helper {
        name: &'a str,
        /// As the helper knows it.
        host: String,
        /// What is taken if the helper knows nothing.
        otherwise: Option<&'a Login>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.files.iter().map(|file| file.path().display().to_string());
        f.debug_set().entries(paths.chain(self.given.keys().cloned())).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password { .. }",
            Self::Identity(_) => "Identity(..)",
        })
    }
}

#[cfg(test)]
mod tests;
