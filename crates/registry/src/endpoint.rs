//! Where a registry's host name leads.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::{Error, Location, Result};

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Everywhere.
    Https,
    /// On the loopback interface, where nobody listens in.
    Http,
}

impl Location {
    pub(crate) fn scheme(&self) -> Scheme {
        if is_loopback(&self.host) { Scheme::Http } else { Scheme::Https }
    }

    /// The address of something in this repository.
    pub(crate) fn url(&self, rest: &str) -> Result<Url> {
        let Self { host, repository } = self;
        let host = match &**host {
            // Docker Hub's registry has another name than its images.
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let scheme = match self.scheme() {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        let text = format!("{scheme}://{host}/v2/{repository}/{rest}");
        // A name that changes the address's structure (`..`, `?`, `@`) is not a repository.
        match Url::parse(&text) {
            Ok(url) if url.username().is_empty() && url.query().is_none_or(|_| rest.contains('?')) => Ok(url),
            _ => Err(Error::Location { host: self.host.clone(), repository: repository.clone() }),
        }
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split(']').next().unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok_and(|a| a.is_loopback());
    }
    let name = host.split(':').next().unwrap_or(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_interface_is_spoken_to_in_plain_text() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "docker.io",
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "10.0.0.1:5000",
            "[::2]:1",
            "128.0.0.1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn docker_hub_has_another_address_than_name() {
        let at = |host: &str| Location { host: host.to_owned(), repository: "a/b".to_owned() };
        assert_eq!(
            at("docker.io").url("tags/list").unwrap().as_str(),
            "https://registry-1.docker.io/v2/a/b/tags/list"
        );
        assert_eq!(at("localhost:1").url("x").unwrap().as_str(), "http://localhost:1/v2/a/b/x");
        assert!(at("user@evil").url("x").is_err());
    }
}
