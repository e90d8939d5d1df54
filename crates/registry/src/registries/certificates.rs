//! Certificates of one host, in files: those that `registries.toml` names, or those of a `certs.d` as Docker lays it
//! out.
//!
//! ```text
//! certs.d/HOST[:PORT]/*.crt            authorities besides the system's
//! certs.d/HOST[:PORT]/NAME.cert        who we are
//! certs.d/HOST[:PORT]/NAME.key
//! ```

use std::path::PathBuf;

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// Authorities, besides the system's.
    pub(crate) authorities: Vec<PathBuf>,
    /// Our certificate, and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// What the first of these directories that knows the host has for it.
pub(super) fn find(directories: &[PathBuf], host: &str) -> Option<Certificates> {
    // The host becomes a path.
    if host.is_empty() || host.contains('/') || host.starts_with('.') {
        return None;
    }
    directories.iter().find_map(|directory| {
        let directory = directory.join(host);
        // Missing, or not ours to read: nothing is known of this host here.
        let names = base::fs::names(&directory).unwrap_or_default();
        let with = |end: &str| {
            names.iter().filter(|name| name.ends_with(end)).map(|name| directory.join(name)).collect()
        };
        let authorities: Vec<PathBuf> = with(".crt");
        let certificates: Vec<PathBuf> = with(".cert");
        let identity = certificates.into_iter().find_map(|certificate| {
            let key = certificate.with_extension("key");
            key.exists().then_some((certificate, key))
        });
        (identity.is_some() || !authorities.is_empty()).then_some(Certificates { authorities, identity })
    })
}
