//! Addresses of files elsewhere: which are repositories, and which are files on web servers.

use crate::graph::Git;

/// Whether an address is one of a Git repository, and if so which: `git://…`, `ssh://…`, `user@host:path`, `http(s)://….git`; each
/// with `#reference:subdirectory`, or with `?ref=…&subdir=…&checksum=…&keep-git-dir=…`, behind it.
///
/// # Errors
/// An address of a repository that asks for what there is not, in words.
pub fn git(address: &str) -> Option<Result<Git, String>> {
    if !is_git(address) {
        return None;
    }
    Some(read(address))
}

/// Whether it is an address of a web server that is no repository's.
pub fn is_http(address: &str) -> bool {
    (address.starts_with("http://") || address.starts_with("https://")) && !is_git(address)
}

fn is_git(address: &str) -> bool {
    let place = address.split(['#', '?']).next().unwrap_or_default();
    if let Some(rest) = place.strip_prefix("http://").or_else(|| place.strip_prefix("https://")) {
        return rest.split_once('/').is_some_and(|(_, path)| path.strip_suffix(".git").is_some());
    }
    place.starts_with("git://") || place.starts_with("ssh://") || is_scp(place)
}

/// `user@host:path`.
fn is_scp(place: &str) -> bool {
    let named = |text: &str, more: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            && !text.starts_with('-')
    };
    place.split_once('@').is_some_and(|(user, rest)| {
        named(user, "-_.")
            && rest.split_once(':').is_some_and(|(host, path)| named(host, "-_.") && !path.is_empty())
    })
}

fn read(address: &str) -> Result<Git, String> {
    let (place, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (url, query) = place.split_once('?').unwrap_or((place, ""));
    let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let mut git = Git {
        url: url.to_owned(),
        reference: reference.to_owned(),
        subdirectory: subdirectory.to_owned(),
        keep_git_dir: false,
        checksum: None,
    };
    if !query.is_empty() && !fragment.is_empty() {
        return Err(format!("`{address}` has both a `?…` and a `#…`: what is wanted is said in one of them"));
    }
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = unescape(value);
        match key {
            "ref" if git.reference.is_empty() => git.reference = value,
            "tag" if git.reference.is_empty() => git.reference = format!("refs/tags/{value}"),
            "branch" if git.reference.is_empty() => git.reference = format!("refs/heads/{value}"),
            "ref" | "tag" | "branch" => {
                return Err(format!("`{address}` names more than one of ref, tag and branch"));
            }
            "subdir" => git.subdirectory = value,
            "checksum" | "commit" => git.checksum = Some(value),
            "keep-git-dir" => git.keep_git_dir = matches!(&*value, "" | "1" | "true"),
            "submodules" if matches!(&*value, "" | "1" | "true") => {}
            "submodules" => return Err("`submodules=false` is not supported".to_owned()),
            _ => {
                return Err(format!(
                    "unknown `{key}` in `{address}`: there are ref, tag, branch, subdir, checksum, keep-git-dir"
                ));
            }
        }
    }
    if let Some(checksum) = &git.checksum {
        check_commit(checksum)?;
    }
    // Git would take it for an option, or leave the checkout.
    if git.reference.starts_with('-') || git.url.starts_with('-') {
        return Err(format!("`{address}` does not name a repository: nothing in it may begin with `-`"));
    }
    if git.subdirectory.split('/').any(|part| part == "..") {
        return Err(format!("the subdirectory of `{address}` may not contain `..`"));
    }
    Ok(git)
}

/// A commit, or how it begins.
pub(crate) fn check_commit(text: &str) -> Result<(), String> {
    let good = (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if good { Ok(()) } else { Err(format!("`{text}` is no commit: want 7 or more hexadecimal digits")) }
}

/// `%2F` and the like.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_repositories() {
        for (address, url, reference, subdirectory) in [
            ("https://github.com/a/b.git", "https://github.com/a/b.git", "", ""),
            ("https://github.com/a/b.git#v1:docs", "https://github.com/a/b.git", "v1", "docs"),
            ("https://github.com/a/b.git#:docs", "https://github.com/a/b.git", "", "docs"),
            ("git@github.com:a/b.git#main", "git@github.com:a/b.git", "main", ""),
            ("git://host/a", "git://host/a", "", ""),
            ("ssh://git@host/a#x", "ssh://git@host/a", "x", ""),
            ("https://h/a.git?branch=x%2Fy&subdir=d", "https://h/a.git", "refs/heads/x/y", "d"),
        ] {
            let git = git(address).unwrap().unwrap();
            assert_eq!((&*git.url, &*git.reference, &*git.subdirectory), (url, reference, subdirectory));
        }
        for plain in
            ["https://host/a.tar.gz", "https://host/a", "a.git", "dir/file", "github.com/a/b", "a@b", "x:y"]
        {
            assert!(git(plain).is_none(), "{plain}");
        }
        assert!(is_http("https://host/a.tar.gz") && !is_http("https://host/a.git") && !is_http("a"));
    }

    #[test]
    fn addresses_that_reach_for_the_host_are_refused() {
        for address in [
            "https://h/a.git#--upload-pack=x",
            "https://h/a.git#main:../../etc",
            "https://h/a.git?ref=-x",
            "https://h/a.git?what=x",
            "https://h/a.git?ref=a#b",
            "https://h/a.git?checksum=zz",
        ] {
            assert!(git(address).unwrap().is_err(), "{address}");
        }
    }
}
