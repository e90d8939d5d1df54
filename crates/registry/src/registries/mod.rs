//! `registries.toml`: where names lead, and how hosts are spoken to.
//!
//! ```toml
//! offline = false                           # true: nothing is asked of any registry
//!
//! [registry."docker.io"]                    # names that begin so; the longest prefix decides
//! mirrors = ["mirror.example:5000/hub"]     # asked first, in this order
//! fallback = true                           # false: the mirrors alone
//! rewrite = "registry.example/hub"          # what stands there instead of the prefix
//! blocked = false                           # true: nothing comes from there, and nothing goes there
//!
//! [registry."mirror.example:5000"]          # a host: how it is spoken to
//! http = true                               # plain HTTP (the loopback interface: always, unless this is false)
//! ca = "/etc/ssl/example.crt"               # authorities besides the system's
//! certificate = "/etc/ssl/me.crt"           # who we are
//! key = "/etc/ssl/me.key"
//! ```
//!
//! An unknown key is an error that names it: a misspelt `blocked` must not be a missing one. What the keys do is
//! told at length in `docs/registries.md`.

mod certificates;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use certificates::Certificates;

use self::file::Table;
use crate::endpoint::{self, Endpoint, Scheme};
use crate::{Error, Location, Result};

/// Where names lead, and how hosts are spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    offline: bool,
    /// By prefix: `host`, `host/path`, or `*.domain`.
    tables: BTreeMap<String, Table>,
    /// Directories with a directory for each host (Docker's `certs.d`).
    certificates: Vec<PathBuf>,
}

/// What is done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reading. Mirrors may answer.
    Pull,
    /// Writing.
    Push,
}

impl Registries {
    /// Reads files in the form of `registries.toml`; those that do not exist are passed over. What a later file says
    /// of a prefix wins over what an earlier one says of it, key by key; but what one of them blocks stays blocked.
    ///
    /// `certificates` are directories in the form of Docker's `certs.d`.
    pub fn load(files: &[PathBuf], certificates: Vec<PathBuf>) -> Result<Self> {
        let mut all = Self { certificates, ..Self::default() };
        for path in files {
            if let Some(parsed) = file::read(path)? {
                all.offline = parsed.offline.unwrap_or(all.offline);
                for (prefix, table) in parsed.registry {
                    all.tables.entry(endpoint::canonical(&prefix)).or_default().take(table);
                }
            }
        }
        Ok(all)
    }

    /// The same, with or without a network.
    pub fn with_offline(self, offline: bool) -> Self {
        Self { offline: self.offline || offline, ..self }
    }

    /// True where nothing is asked of any registry.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Where a repository's content is asked for, in the order in which to ask. Never empty.
    pub fn endpoints(&self, location: &Location, access: Access) -> Result<Vec<Endpoint>> {
        let Location { host, repository } = location;
        if self.offline {
            return Err(Error::Offline { host: host.clone() });
        }
        let name = format!("{host}/{repository}");
        let Some((prefix, table)) = self.table_of(host, repository) else {
            return Ok(vec![self.endpoint(&name)]);
        };
        if table.blocked == Some(true) {
            return Err(Error::Blocked { name, prefix: prefix.to_owned() });
        }
        // What is behind the prefix. Of a pattern for hosts, that is the repository.
        let rest = if prefix.starts_with("*.") {
            repository
        } else {
            name.strip_prefix(prefix).unwrap_or_default().trim_start_matches('/')
        };
        let instead = |of: &str| match rest {
            "" => self.endpoint(of),
            rest => self.endpoint(&format!("{of}/{rest}")),
        };
        let mut endpoints = Vec::new();
        if access == Access::Pull {
            endpoints.extend(table.mirrors.iter().flatten().map(|mirror| instead(mirror)));
        }
        if table.fallback != Some(false) || endpoints.is_empty() {
            endpoints.push(table.rewrite.as_deref().map_or_else(|| self.endpoint(&name), instead));
        }
        Ok(endpoints)
    }

    /// Where a registry itself is asked, besides its repositories: for logins and searches. Mirrors have no part in
    /// that.
    pub fn of_host(&self, host: &str) -> Result<Endpoint> {
        if self.offline {
            return Err(Error::Offline { host: host.to_owned() });
        }
        match self.table_of(host, "") {
            Some((prefix, table)) if table.blocked == Some(true) => {
                Err(Error::Blocked { name: host.to_owned(), prefix: prefix.to_owned() })
            }
            Some((_, Table { rewrite: Some(rewrite), .. })) => Ok(self.endpoint(rewrite)),
            _ => Ok(self.endpoint(host)),
        }
    }

    /// How a host is spoken to.
    pub(crate) fn scheme(&self, host: &str) -> Scheme {
        let said = self.of_connection(host).and_then(|table| table.http);
        match said {
            Some(true) => Scheme::Http,
            // Who has certificates for it means to use them.
            None if endpoint::is_loopback(host) && self.certificates(host).is_none() => Scheme::Http,
            Some(false) | None => Scheme::Https,
        }
    }

    /// The certificates that are this host's alone, if there are any.
    pub(crate) fn certificates(&self, host: &str) -> Option<Certificates> {
        let host = endpoint::canonical(host);
        let said = self.of_connection(&host).and_then(Table::certificates);
        said.or_else(|| certificates::find(&self.certificates, &host))
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        let (host, repository) = name.split_once('/').unwrap_or((name, ""));
        Endpoint {
            scheme: self.scheme(host),
            location: Location { host: host.to_owned(), repository: repository.to_owned() },
        }
    }

    /// The table with the longest prefix of this name; a pattern for hosts counts less than any of their names.
    fn table_of(&self, host: &str, repository: &str) -> Option<(&str, &Table)> {
        let mut prefix = format!("{}/{repository}", endpoint::canonical(host));
        loop {
            if let Some((prefix, table)) = self.tables.get_key_value(prefix.trim_end_matches('/')) {
                return Some((prefix, table));
            }
            match prefix.rfind('/') {
                Some(at) => prefix.truncate(at),
                None => return self.pattern_of(&prefix),
            }
        }
    }

    /// The table that says how a host is spoken to.
    fn of_connection(&self, host: &str) -> Option<&Table> {
        let host = endpoint::canonical(host);
        let exact = self.tables.get(&host);
        exact.or_else(|| self.pattern_of(&host).map(|(_, table)| table))
    }

    /// `*.example.com` for `a.b.example.com:5000`: the longest one.
    fn pattern_of(&self, host: &str) -> Option<(&str, &Table)> {
        let fits = |(prefix, _): &(&String, &Table)| {
            let (name, port) = split_port(host);
            prefix.strip_prefix('*').is_some_and(|domain| {
                let (domain, wanted) = split_port(domain);
                name.ends_with(domain) && name.len() > domain.len() && (wanted.is_none() || wanted == port)
            })
        };
        let longest = self.tables.iter().filter(fits).max_by_key(|(prefix, _)| prefix.len());
        longest.map(|(prefix, table)| (prefix.as_str(), table))
    }
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}

/// Where `registries.toml` and certificates lie: the system's beside its `config.toml`, then the user's.
pub fn places(system: Option<&Path>, home: Option<&Path>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let ours = system.unwrap_or(Path::new("/etc/dhow"));
    let files = [Some(ours.to_owned()), home.map(|home| home.join("dhow"))].into_iter().flatten();
    let mut certificates = vec![ours.join("certs.d")];
    if system.is_none() {
        certificates.extend(["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from));
    }
    (files.map(|dir| dir.join("registries.toml")).collect(), certificates)
}

#[cfg(test)]
mod tests;
