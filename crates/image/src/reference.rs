//! Image references in Docker's grammar (github.com/distribution/reference), normalised as Docker does:
//!
//! ```text
//! reference := name [ ":" tag ] [ "@" digest ]
//! name      := [ domain "/" ] component { "/" component }          the components: at most 255 bytes
//! domain    := host [ ":" port ]        only if it has a dot, a colon or a capital, or is localhost
//! host      := letters, digits, - and .  |  IPv4  |  "[" IPv6 "]"
//! component := [a-z0-9]+ { ( "." | "_" | "__" | "-"+ ) [a-z0-9]+ }
//! tag       := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! digest    := "sha256:" and 64 hexadecimal digits                 other algorithms are named and refused
//! ```
//!
//! `debian` is short for `docker.io/library/debian:latest`; [`Display`](fmt::Display) gives the short form
//! back, [`Reference::canonical`] the whole. Where Docker's short form would mean something else (`docker.io/a.b/c`, a
//! repository of Docker Hub whose name is 64 hexadecimal digits), ours keeps the registry.

use std::fmt;
use std::str::FromStr;

use base::{Digest, Failure, Kind};

/// The registry of names that name none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Another name of the same, from old configurations.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// The folder of Docker Hub's own repositories.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
/// A host's name (RFC 1035) and its port.
const MAX_DOMAIN: usize = 255 + 6;
/// A host, a name, a tag, a digest: nothing longer is worth looking at.
const MAX_TEXT: usize = MAX_DOMAIN + 1 + MAX_NAME + 1 + MAX_TAG + 1 + 135;

/// A parsed, normalised image reference.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not an image reference: {why}")]
pub struct ParseReferenceError {
    text: String,
    why: &'static str,
}

impl Failure for ParseReferenceError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Reference {
    /// The registry's host, with its port if it has one: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. `None` only where a digest is given instead.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference pins one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The whole name: `docker.io/library/debian:latest`. A digest replaces the tag, which then says nothing.
    pub fn canonical(&self) -> String {
        let Self { registry, repository, tag, digest } = self;
        match (digest, tag) {
            (Some(digest), _) => format!("{registry}/{repository}@{digest}"),
            (None, tag) => format!("{registry}/{repository}:{}", tag.as_deref().unwrap_or(DEFAULT_TAG)),
        }
    }

    /// As [`Display`](fmt::Display), without tag and digest: `debian`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') && !is_id(name) => name.to_owned(),
            _ if self.repository.split_once('/').is_some_and(|(first, _)| is_domain(first))
                || self.repository.strip_prefix(OFFICIAL).is_some_and(is_id) =>
            {
                format!("{}/{}", self.registry, self.repository)
            }
            _ => self.repository.clone(),
        }
    }

    /// The same repository under a digest instead of the tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        parse(text).map_err(|why| ParseReferenceError { text: text.chars().take(100).collect(), why })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_TEXT {
        return Err("it is too long");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before it, a port.
    let last = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest[last..].find(':') {
        Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if is_id(name) {
        return Err("64 hexadecimal digits are an id, not a name");
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { registry };
    check_domain(registry)?;
    check_path(path)?;
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{OFFICIAL}{path}")
    } else {
        path.to_owned()
    };
    if repository.len() > MAX_NAME {
        return Err("a repository's name has at most 255 characters");
    }
    if registry.len() > MAX_DOMAIN {
        return Err("the registry's host has at most 255 characters");
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TAG.to_owned()),
    };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// The digest behind an `@`. That of another algorithm may be a good one, which we cannot check.
fn parse_digest(text: &str) -> Result<Digest, &'static str> {
    let known = [("sha384:", 96), ("sha512:", 128)];
    let hexadecimal = |hex: &str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let other = known.iter().any(|(algorithm, length)| {
        text.strip_prefix(algorithm).is_some_and(|hex| hex.len() == *length && hexadecimal(hex))
    });
    if other {
        return Err("its digest is of an algorithm that we do not check by: want one of sha256");
    }
    text.parse().map_err(|_| "after the @ goes a digest: sha256: and 64 hexadecimal digits")
}

/// Whether it is 64 hexadecimal digits.
fn is_id(name: &str) -> bool {
    name.len() == 64 && Digest::from_hex(name).is_ok()
}

/// Whether the first part of a name is a registry, by Docker's rule.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    const WHY: &str = "the part before the first slash is not a host, or host:port";
    let host = if let Some(rest) = domain.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(WHY)?;
        // Docker's grammar knows no IPv4 within IPv6, and no zones.
        if address.contains('.') || address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("the address in brackets is not an IPv6 address");
        }
        return match rest.strip_prefix(':') {
            Some(port) => check_port(port),
            None if rest.is_empty() => Ok(()),
            None => Err(WHY),
        };
    } else if let Some((host, port)) = domain.split_once(':') {
        check_port(port)?;
        host
    } else {
        domain
    };
    let good = |part: &str| {
        let bytes = part.as_bytes();
        !part.is_empty()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    if host.split('.').all(good) { Ok(()) } else { Err(WHY) }
}

fn check_port(port: &str) -> Result<(), &'static str> {
    let good = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    if good { Ok(()) } else { Err("the registry's port is not a number from 1 to 65535") }
}

/// Whether this is the path of a repository within a registry; why not. Its length is not looked at.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository's name is lower-case");
    }
    if path.split('/').all(is_component) {
        Ok(())
    } else {
        Err("a repository's name is lower-case letters and digits, with single . _ - between them")
    }
}

/// `[a-z0-9]+`, with `.`, `_`, `__` or any number of `-` between two such runs.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes.split(alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

/// Whether this is a tag; why not.
pub fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if good {
        Ok(())
    } else {
        Err("a tag is at most 128 letters, digits, _ . -, and begins with none of the last two")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn familiar_forms_stand_for_whole_names() {
        for (text, canonical, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("me/tool", "docker.io/me/tool:latest", "me/tool:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "ghcr.io/a/b_c/d__e/f--g.h",
                "ghcr.io/a/b_c/d__e/f--g.h:latest",
                "ghcr.io/a/b_c/d__e/f--g.h:latest",
            ),
            ("UPPER/x", "UPPER/x:latest", "UPPER/x:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            ("docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest"),
            ("192.168.0.1", "docker.io/library/192.168.0.1:latest", "192.168.0.1:latest"),
            ("192.168.0.1:80", "docker.io/library/192.168.0.1:80", "192.168.0.1:80"),
            ("test_com/foo", "docker.io/test_com/foo:latest", "test_com/foo:latest"),
            ("test-com:8080/foo", "test-com:8080/foo:latest", "test-com:8080/foo:latest"),
            ("xn--n3h.com:18080/foo", "xn--n3h.com:18080/foo:latest", "xn--n3h.com:18080/foo:latest"),
            (
                "[fc00::1]:5000/docker/docker",
                "[fc00::1]:5000/docker/docker:latest",
                "[fc00::1]:5000/docker/docker:latest",
            ),
            ("store/foo/bar", "docker.io/store/foo/bar:latest", "store/foo/bar:latest"),
            ("other/library", "docker.io/other/library:latest", "other/library:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.canonical(), canonical);
            assert_eq!(reference.to_string(), familiar);
        }
    }

    #[test]
    fn a_digest_pins_and_needs_no_tag() {
        let digest = Digest::of(b"x");
        let pinned: Reference = format!("debian@{digest}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.digest()), (None, Some(&digest)));
        assert_eq!(pinned.canonical(), format!("docker.io/library/debian@{digest}"));
        let both: Reference = format!("debian:12@{digest}").parse().unwrap();
        assert_eq!(both.canonical(), pinned.canonical());
        assert_eq!(both.to_string(), format!("debian:12@{digest}"));
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        let long = "a".repeat(256);
        let id = "a".repeat(64);
        for bad in [
            "",
            ":",
            "/",
            "@",
            "a:",
            "a@",
            ":tag",
            "/a",
            "a/",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "_a",
            "Debian",
            "a:b:c",
            "a b",
            "a\n",
            "docker.io/",
            "localhost:x/a",
            "localhost:0/a",
            "localhost:70000/a",
            "a:-b",
            "a:.b",
            "[::1/a",
            "[x]/a",
            "[fc00::1]",
            "[fc00::1]:5000",
            "fc00::1:5000/debian",
            "[fe80::1%eth0]:5000/debian",
            "[2001:db8:3:4::192.0.2.33]:5000/debian",
            "docker/Docker",
            "docker-/docker",
            "-docker/docker",
            "dock_.er/docker",
            "dock-.er/docker",
            "____/____",
            "docker///docker",
            "a.b.",
            "-x.io/a",
            "../../etc",
            "a/../b",
            "a@sha256:12",
            "a@md5:0",
            "http://x/a",
            "é",
            &long,
            &id,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }

    #[test]
    fn names_have_dockers_limits() {
        let parsed = |text: &str| text.parse::<Reference>();
        let host = format!("{}.io:5000", ["a"; 60].join("."));
        assert!(parsed(&format!("{host}/{}", "a".repeat(255))).is_ok(), "the host does not count");
        assert!(parsed(&format!("{host}/{}", "a".repeat(256))).is_err());
        // `library/` does
        assert!(parsed(&"a".repeat(247)).is_ok() && parsed(&"a".repeat(248)).is_err());
        let id = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a";
        let whole = format!("docker.io/library/{id}:latest");
        let named = parsed(&format!("docker.io/{id}")).unwrap();
        assert_eq!((named.to_string(), named.canonical()), (whole.clone(), whole));
        let other = parsed(&format!("a@sha512:{}", "0".repeat(128))).unwrap_err().to_string();
        assert!(other.contains("algorithm"), "{other}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_round_trips(text in "[a-zA-Z0-9:/@._\\[\\]+é -]{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(reference.canonical().parse::<Reference>().unwrap().canonical(), reference.canonical());
            }
        }

        #[test]
        fn short_forms_mean_the_same(first in "[a-z]{1,3}([.:_-][a-z0-9]{1,3})?|localhost|[0-9a-f]{64}", rest in "(/[a-z0-9.]{1,4}|[0-9a-f]{64}){0,2}") {
            for text in [format!("{first}{rest}"), format!("docker.io/{first}{rest}"), format!("x.io/{first}{rest}")] {
                if let Ok(reference) = text.parse::<Reference>() {
                    prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference), "{}", text);
                }
            }
        }

        #[test]
        fn good_references_are_taken(
            host in "([a-z]{1,9}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?/)?",
            path in "[a-z0-9]{1,9}(/[a-z0-9]{1,9}(([._]|__|-{1,3})[a-z0-9]{1,5}){0,3}){0,2}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
        ) {
            let text = format!("{host}{path}{tag}");
            prop_assert!(text.parse::<Reference>().is_ok(), "{}", text);
        }
    }
}
