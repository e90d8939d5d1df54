//! One file in the form of `registries.toml`, and what makes no sense in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::fs;
use serde::{Deserialize, Deserializer};

use super::Certificates;
use crate::{Error, Result};

/// A file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parsed {
    pub(super) offline: Option<bool>,
    pub(super) registry: BTreeMap<String, Table>,
}

/// What a file says of a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Table {
    pub(super) mirrors: Option<Vec<String>>,
    pub(super) fallback: Option<bool>,
    pub(super) rewrite: Option<String>,
    pub(super) blocked: Option<bool>,
    pub(super) http: Option<bool>,
    #[serde(deserialize_with = "one_or_many")]
    pub(super) ca: Option<Vec<PathBuf>>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

impl Table {
    /// Takes over what a later file says.
    pub(super) fn take(&mut self, later: Self) {
        let blocked = self.blocked == Some(true) || later.blocked == Some(true);
        *self = Self {
            mirrors: later.mirrors.or(self.mirrors.take()),
            fallback: later.fallback.or(self.fallback),
            rewrite: later.rewrite.or(self.rewrite.take()),
            blocked: Some(blocked),
            http: later.http.or(self.http),
            ca: later.ca.or(self.ca.take()),
            certificate: later.certificate.or(self.certificate.take()),
            key: later.key.or(self.key.take()),
        };
    }

    /// The certificates that it names.
    pub(super) fn certificates(&self) -> Option<Certificates> {
        let identity = self.certificate.clone().zip(self.key.clone());
        let authorities = self.ca.clone().unwrap_or_default();
        (identity.is_some() || !authorities.is_empty()).then_some(Certificates { authorities, identity })
    }

    fn check(&self, prefix: &str) -> std::result::Result<(), String> {
        check_name(prefix.strip_prefix("*.").unwrap_or(prefix))?;
        for (key, names) in
            [("mirrors", self.mirrors.as_deref().unwrap_or_default()), ("rewrite", self.rewrite.as_slice())]
        {
            for name in names {
                check_name(name).map_err(|why| format!("{key}: {why}"))?;
            }
        }
        if self.fallback == Some(false) && self.mirrors.as_ref().is_none_or(Vec::is_empty) {
            return Err("fallback = false leaves nothing to ask: there are no mirrors".to_owned());
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err("certificate and key go together".to_owned());
        }
        let of_connection =
            self.http.is_some() || self.ca.is_some() || self.certificate.is_some() || self.key.is_some();
        if of_connection && prefix.contains('/') {
            let host = prefix.split('/').next().unwrap_or_default();
            return Err(format!(
                "http, ca, certificate and key are a host's: put them below [registry.\"{host}\"]"
            ));
        }
        if self.http == Some(true) && (self.ca.is_some() || self.certificate.is_some()) {
            return Err("http = true has no use for certificates".to_owned());
        }
        let files = self.ca.iter().flatten().chain(&self.certificate).chain(&self.key);
        match files.into_iter().find(|path| !path.is_absolute()) {
            Some(path) => Err(format!("`{}` is not an absolute path", path.display())),
            None => Ok(()),
        }
    }
}

/// `host[:port][/path]`, as it begins the names of images.
fn check_name(name: &str) -> std::result::Result<(), String> {
    if name.contains("://") {
        return Err(format!("`{name}` is an address: want a host, or host/path, as names of images begin"));
    }
    let mut parts = name.split('/');
    let host = parts.next().unwrap_or_default();
    let good_host = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
        && (host.contains(['.', ':']) || host == "localhost" || host.bytes().any(|b| b.is_ascii_uppercase()));
    let good_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && part.trim_matches('.') == part
    };
    if good_host && parts.all(good_part) {
        Ok(())
    } else {
        Err(format!("`{name}` is not a host, nor host/path, as names of images begin"))
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Vec<PathBuf>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "want a path or a list of paths")]
    enum Paths {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(Some(match Paths::deserialize(from)? {
        Paths::One(path) => vec![path],
        Paths::Many(paths) => paths,
    }))
}

/// Reads a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Parsed>> {
    let Some(content) = fs::read_if_exists(path)? else { return Ok(None) };
    let invalid = |reason: String| Error::Registries { path: path.to_owned(), reason };
    let text = std::str::from_utf8(&content).map_err(|e| invalid(e.to_string()))?;
    let parsed: Parsed = toml::from_str(text).map_err(|e| invalid(describe(&e, text)))?;
    for (prefix, table) in &parsed.registry {
        table.check(prefix).map_err(|why| {
            let line = text.lines().position(|line| line.contains(&format!("{prefix:?}")));
            let line = line.map(|at| format!("line {}: ", at + 1)).unwrap_or_default();
            invalid(format!("{line}registry.{prefix:?}: {why}"))
        })?;
    }
    Ok(Some(parsed))
}

/// The parser's reason on one line, with the line it is about.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}
