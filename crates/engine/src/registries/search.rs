//! `search`: what a registry has to offer.

pub use registry::search::Found;

use crate::Engine;
use crate::error::Result;

impl Engine {
    /// Repositories that have to do with a term: on Docker Hub, or of the registry that the term begins with
    /// (`ghcr.io/tool`). At most so many.
    pub fn search(&self, term: &str, limit: usize) -> Result<Vec<Found>> {
        let (host, term) = split(term);
        Ok(self.registry_client()?.search(host, term, limit)?)
    }
}

/// The registry and the term, by the rule that names of images follow.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => (host, term),
        _ => ("docker.io", term),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_begin_with_a_registry() {
        assert_eq!(split("nginx"), ("docker.io", "nginx"));
        assert_eq!(split("me/tool"), ("docker.io", "me/tool"));
        assert_eq!(split("localhost:5000/me/tool"), ("localhost:5000", "me/tool"));
        assert_eq!(split("localhost/"), ("localhost", ""));
    }
}
