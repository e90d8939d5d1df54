//! `login` and `logout`: who we are to a registry, asked of the registry and kept where Docker keeps it.

use base::{Failure, Kind};
use registry::{Credentials, Location, Login};

pub use registry::credentials::Kept;

use crate::Engine;
use crate::error::Result;
use crate::registries::remote::credentials;

/// The registry of those who name none.
const HUB: &str = "docker.io";

/// What came of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The registry: `docker.io`, `localhost:5000`.
    pub host: String,
    /// Where the login is kept.
    pub kept: Kept,
    /// False where the registry gives everything to everybody, so that the password was not looked at.
    pub needed: bool,
}

#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error("`{0}` is not a registry: want a host, such as ghcr.io or localhost:5000")]
    Host(String),
    #[error("there is no login for `{0}` to try again")]
    Unknown(String),
    #[error("a user's name is not empty and has no colon")]
    User,
    #[error("the password is empty")]
    Password,
}

impl Failure for LoginError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown(_) => Kind::NotFound,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown(host) => {
                vec![format!("say who you are: dhow login -u USER --password-stdin {host}")]
            }
            _ => Vec::new(),
        }
    }
}

impl Engine {
    /// Logs in to a registry (none: Docker Hub) and keeps the login. Nothing is kept that the registry refuses.
    pub fn login(&self, server: Option<&str>, user: &str, password: &str) -> Result<LoggedIn> {
        if user.is_empty() || user.contains(':') {
            return Err(LoginError::User.into());
        }
        if password.is_empty() {
            return Err(LoginError::Password.into());
        }
        // How credential helpers call it; what is sent then is no password.
        let login = match (user, password) {
            ("<token>", token) => Login::Identity(token.to_owned()),
            (user, password) => Login::Password { user: user.to_owned(), password: password.to_owned() },
        };
        self.check_and_keep(&host(server)?, &login, credentials()?)
    }

    /// Logs in once more with what is kept.
    pub fn login_again(&self, server: Option<&str>) -> Result<LoggedIn> {
        let host = host(server)?;
        let credentials = credentials()?;
        let known = credentials.of(&Location { host: host.clone(), repository: String::new() })?;
        let login = known.ok_or_else(|| LoginError::Unknown(host.clone()))?;
        self.check_and_keep(&host, &login, credentials)
    }

    /// The user whose login for a registry is kept.
    pub fn known_user(&self, server: Option<&str>) -> Result<Option<String>> {
        Ok(credentials()?.user_of(&host(server)?))
    }

    /// The registries that there are logins for, or images from.
    pub fn known_registries(&self) -> Result<Vec<String>> {
        let mut all = credentials()?.hosts();
        let references = self.images()?.into_iter().flat_map(|image| image.references);
        let hosts =
            references.filter_map(|name| Some(name.parse::<image::Reference>().ok()?.registry().to_owned()));
        all.extend(hosts);
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn check_and_keep(&self, host: &str, login: &Login, credentials: Credentials) -> Result<LoggedIn> {
        let client = self.registry_client_with(credentials.clone())?;
        let needed = client.check_login(host, login)?;
        let kept = credentials.keep(host, login)?;
        // Tokens of whoever we were before.
        client.forget_tokens();
        Ok(LoggedIn { host: host.to_owned(), kept, needed })
    }

    /// Forgets the login of a registry (none: Docker Hub). Returns the registry, and whether there was a login.
    pub fn logout(&self, server: Option<&str>) -> Result<(String, bool)> {
        let host = host(server)?;
        let credentials = credentials()?;
        let was_there = credentials.forget(&host)?;
        self.registry_client_with(credentials)?.forget_tokens();
        Ok((host, was_there))
    }
}

/// The host in what people write for a registry: `https://index.docker.io/v1/` is `docker.io`.
fn host(server: Option<&str>) -> Result<String> {
    let Some(text) = server else { return Ok(HUB.to_owned()) };
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let good = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
        && !host.starts_with(['-', '.', ':']);
    if !good {
        return Err(LoginError::Host(text.chars().take(100).collect()).into());
    }
    Ok(match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_however_it_is_written() {
        for (text, is) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("GHCR.io/", "ghcr.io"),
            ("http://localhost:5000/v2/", "localhost:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(host(Some(text)).unwrap(), is);
        }
        assert_eq!(host(None).unwrap(), "docker.io");
        for bad in ["", "https://", "user@host", "a b", "../x", "-x", "x\n"] {
            assert!(host(Some(bad)).is_err(), "{bad}");
        }
    }
}
