//! The names of images, as far as a plan has to know them (distribution's reference grammar).

/// A name in full: `docker.io/library/alpine:latest`; `None`, if it is none.
pub(super) fn full(name: &str) -> Option<String> {
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    let last = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest.get(last..)?.split_once(':') {
        Some((base, tag)) => (rest.get(..last + base.len())?, Some(tag)),
        None => (rest, None),
    };
    let is_domain =
        |part: &str| part.contains(['.', ':']) || part == "localhost" || part.chars().any(char::is_uppercase);
    let (domain, path) = match path.split_once('/') {
        Some((domain, path)) if is_domain(domain) => (domain, path.to_owned()),
        _ => ("docker.io", path.to_owned()),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let path = if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
    let good_domain = domain.split_once(':').map_or(Some((domain, "0")), Some).is_some_and(|(host, port)| {
        port.bytes().all(|b| b.is_ascii_digit())
            && !port.is_empty()
            && host.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
    });
    let good_tag = |tag: &str| {
        tag.len() <= 128
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let good_digest = |digest: &str| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
                && hex.len() >= 32
                && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    if !good_domain
        || !path.split('/').all(is_component)
        || !tag.is_none_or(good_tag)
        || !digest.is_none_or(good_digest)
    {
        return None;
    }
    Some(match (tag, digest) {
        (None, None) => format!("{domain}/{path}:latest"),
        (Some(tag), None) => format!("{domain}/{path}:{tag}"),
        (None, Some(digest)) => format!("{domain}/{path}@{digest}"),
        (Some(tag), Some(digest)) => format!("{domain}/{path}:{tag}@{digest}"),
    })
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(part: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(inner)
        && part.ends_with(inner)
        && part.split(inner).all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

/// What named contexts are compared by: without what is implied.
pub(super) fn familiar(name: &str) -> Option<String> {
    let full = full(name)?;
    let short = full.strip_prefix("docker.io/").unwrap_or(&full);
    let short = short.strip_prefix("library/").unwrap_or(short);
    Some(short.strip_suffix(":latest").unwrap_or(short).to_owned())
}

/// A name with the digest that it was found to have.
pub(super) fn pinned(name: &str, digest: &str) -> String {
    let name = full(name).unwrap_or_else(|| name.to_owned());
    if digest.is_empty() || name.contains('@') { name } else { format!("{name}@{digest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_full() {
        for (name, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("host:5000/a", "host:5000/a:latest"),
        ] {
            assert_eq!(full(name).as_deref(), Some(whole), "{name}");
        }
        for wrong in ["", "Alpine", "a b", "a:", "-a", "a..b", "a/", "/a", ":x", "a@sha256:12", "$x", "a:b:c"]
        {
            assert_eq!(full(wrong), None, "{wrong}");
        }
        assert_eq!(familiar("docker.io/library/alpine:latest").as_deref(), Some("alpine"));
        assert_eq!(familiar("ghcr.io/a/b:1").as_deref(), Some("ghcr.io/a/b:1"));
    }
}
