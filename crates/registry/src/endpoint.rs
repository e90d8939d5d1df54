//! Where a registry's name leads.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::{Error, Location, Result};

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Everywhere.
    Https,
    /// On the loopback interface, where nobody listens in, and where `registries.toml` says so.
    Http,
}

/// A repository at a host that can be asked for it: the registry that the name says, a mirror, or what stands in for
/// it. With an empty repository, the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How.
    pub scheme: Scheme,
    /// Where, as names of images would say it.
    pub location: Location,
}

/// What is asked for: something in a repository, wherever that is, or one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `blobs/sha256:…` at whichever endpoint is asked.
    In(String),
    /// Where a registry has sent us.
    At(Url),
}

impl Location {
    /// The address of something in this repository.
    pub(crate) fn url(&self, rest: &str) -> Result<Address> {
        // A name that makes no address anywhere is told before anybody is asked.
        Endpoint { scheme: Scheme::Https, location: self.clone() }.url(rest)?;
        Ok(Address::In(rest.to_owned()))
    }
}

impl Endpoint {
    /// The address of something in the repository.
    pub(crate) fn url(&self, rest: &str) -> Result<Url> {
        let Location { host, repository } = &self.location;
        self.parse(&format!("v2/{repository}/{rest}"), rest.contains('?'))
            .ok_or_else(|| Error::Location { host: host.clone(), repository: repository.clone() })
    }

    /// The address of something at the host.
    pub(crate) fn host_url(&self, path: &str) -> Result<Url> {
        self.parse(path, path.contains('?')).ok_or_else(|| Error::Host { host: self.location.host.clone() })
    }

    fn parse(&self, path: &str, query: bool) -> Option<Url> {
        let host = match canonical(&self.location.host) {
            // Docker Hub's registry has another name than its images; so has what it is searched by.
            hub if hub == "docker.io" && path.starts_with("v1/") => "index.docker.io".to_owned(),
            hub if hub == "docker.io" => "registry-1.docker.io".to_owned(),
            _ => self.location.host.clone(),
        };
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        // A name that changes the address's structure (`..`, `?`, `@`) is not a repository.
        let url = Url::parse(&format!("{scheme}://{host}/{path}")).ok()?;
        let unchanged = url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            && (query || url.query().is_none())
            && url.path() == format!("/{}", path.split('?').next().unwrap_or_default());
        unchanged.then_some(url)
    }

    /// Whether this address is at the endpoint's own host, port and scheme.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        self.host_url("v2/").is_ok_and(|own| own.origin() == url.origin())
    }
}

/// One spelling for each registry, of which Docker Hub has several.
pub(crate) fn canonical(name: &str) -> String {
    let (host, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => format!("docker.io{rest}"),
        host => format!("{host}{rest}"),
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
    fn only_the_loopback_interface_is_loopback() {
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
        let at = |host: &str, scheme| Endpoint {
            scheme,
            location: Location { host: host.to_owned(), repository: "a/b".to_owned() },
        };
        for name in ["docker.io", "index.docker.io"] {
            let hub = at(name, Scheme::Https);
            assert_eq!(
                hub.url("tags/list").unwrap().as_str(),
                "https://registry-1.docker.io/v2/a/b/tags/list"
            );
            assert_eq!(
                hub.host_url("v1/search?q=x").unwrap().as_str(),
                "https://index.docker.io/v1/search?q=x"
            );
        }
        let local = at("localhost:1", Scheme::Http);
        assert_eq!(local.url("x").unwrap().as_str(), "http://localhost:1/v2/a/b/x");
        assert!(local.owns(&Url::parse("http://localhost:1/x").unwrap()));
        for other in
            ["https://localhost:1/x", "http://localhost:2/x", "http://127.0.0.1:1/x", "http://localhost/x"]
        {
            assert!(!local.owns(&Url::parse(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn names_do_not_become_other_addresses() {
        for (host, repository) in [
            ("user@evil", "x"),
            ("a.io", "../v1"),
            ("a.io", "x?y"),
            ("a.io", "x#y"),
            ("a.io", "x/%2e%2e/y"),
            ("a b", "x"),
        ] {
            let location = Location { host: host.to_owned(), repository: repository.to_owned() };
            assert!(location.url("tags/list").is_err(), "{location:?}");
        }
    }
}
