//! Addresses of Git repositories: what they may be, and what of them is shown.
//!
//! `https://host/path.git#reference:directory`, the same with `?ref=…&subdir=…`, `ssh://`, `git://`, `user@host:path`, and
//! `github.com/…`, as the builders of Docker know them. A name or a password in an address goes to its server alone.

use ::build::graph::Git;

use super::GitError;

/// What is Git's, if it is; an error where its parts cannot be what they claim.
pub(crate) fn parse(text: &str) -> Result<Option<Git>, GitError> {
    let (whole, fragment) = text.split_once('#').map_or((text, ""), |(url, fragment)| (url, fragment));
    let (url, query) = whole.split_once('?').map_or((whole, None), |(url, query)| (url, Some(query)));
    let url = match scheme(url) {
        None if url.starts_with("github.com/") => format!("https://{url}"),
        Some("git" | "ssh" | "git+ssh") => url.to_owned(),
        Some("http" | "https") if url.strip_suffix(".git").is_some() => url.to_owned(),
        None if is_short(url) => url.to_owned(),
        _ => return Ok(None),
    };
    let mut git = Git {
        url,
        reference: String::new(),
        subdirectory: String::new(),
        keep_git_dir: false,
        checksum: None,
    };
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    reference.clone_into(&mut git.reference);
    directory.clone_into(&mut git.subdirectory);
    if let Some(query) = query {
        if !fragment.is_empty() {
            return Err(GitError::Twice(shown(&git.url)));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            match key {
                "ref" | "branch" | "tag" => git.reference = value,
                "subdir" => git.subdirectory = value,
                "commit" | "checksum" => git.checksum = Some(value),
                "keep-git-dir" => git.keep_git_dir = matches!(&*value, "" | "1" | "true"),
                _ => return Err(GitError::Query(key.chars().take(100).collect())),
            }
        }
    }
    check(&git, false)?;
    Ok(Some(git))
}

/// Refuses what Git could take for something else: options, other transports, patterns.
pub(super) fn check(git: &Git, local: bool) -> Result<(), GitError> {
    let bad = |why| GitError::Address { url: shown(&git.url), why };
    if git.url.starts_with('-') || git.url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(bad("it is no address"));
    }
    match scheme(&git.url) {
        Some("http" | "https" | "ssh" | "git" | "git+ssh") => {}
        Some("file") if local => {}
        None if local && git.url.starts_with('/') => {}
        // `ext::…` runs commands.
        None if is_short(&git.url) && !git.url.contains("::") => {}
        _ => return Err(bad("its protocol is none of https, http, ssh and git")),
    }
    if host(&git.url).is_some_and(|host| host.starts_with('-')) {
        return Err(bad("its host is none"));
    }
    check_reference(&git.reference)?;
    let subdirectory = &git.subdirectory;
    if subdirectory.split('/').any(|name| name == "..") || subdirectory.contains('\0') {
        return Err(GitError::Leaves(subdirectory.clone()));
    }
    if git.checksum.as_ref().is_some_and(|sum| sum.len() < 7 || sum.len() > 64 || !is_hex(sum)) {
        return Err(GitError::Checksum(git.checksum.clone().unwrap_or_default()));
    }
    Ok(())
}

/// git-check-ref-format(1), and no more than names a branch, a tag, a commit.
fn check_reference(reference: &str) -> Result<(), GitError> {
    let is_bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let bad = reference.starts_with('-')
        || reference.starts_with('+')
        || reference.starts_with('/')
        || reference.ends_with(['/', '.'])
        || reference.len() > 1024
        || ["..", "@{", "//"].iter().any(|part| reference.contains(part))
        || reference.split('/').any(|name| name.starts_with('.') || name.strip_suffix(".lock").is_some())
        || reference.chars().any(is_bad)
        || reference == "@";
    if bad { Err(GitError::Reference(reference.chars().take(200).collect())) } else { Ok(()) }
}

/// A whole commit's name.
pub(super) fn is_commit(reference: &str) -> bool {
    matches!(reference.len(), 40 | 64) && is_hex(reference)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once("://")?;
    let fits = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
    fits.then_some(scheme)
}

/// `user@host:path`, as scp(1) has it.
fn is_short(url: &str) -> bool {
    let Some((place, path)) = url.split_once(':') else { return false };
    let Some((user, host)) = place.split_once('@') else { return false };
    let word = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    word(user) && word(host) && !path.is_empty() && !path.starts_with("//")
}

fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

/// An address without its login, and the login: of `http` and `https`, which have passwords in them.
pub(super) fn split_login(url: &str) -> (String, Option<(String, String)>) {
    let Some((scheme @ ("http" | "https"), rest)) = url.split_once("://") else {
        return (url.to_owned(), None);
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((login, host)) = authority.rsplit_once('@') else { return (url.to_owned(), None) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    (format!("{scheme}://{host}{path}"), Some((decoded(user), decoded(password))))
}

/// An address as messages, logs and records have it.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Percent-encoding (RFC 3986, 2.1); what is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let value = digits.filter(|_| byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> (String, String, String) {
        let git = parse(text).unwrap().unwrap();
        (git.url, git.reference, git.subdirectory)
    }

    #[test]
    fn addresses_of_repositories_are_told_from_others() {
        let want = |url: &str, reference: &str, directory: &str| {
            (url.to_owned(), reference.to_owned(), directory.to_owned())
        };
        assert_eq!(parsed("https://h/a.git"), want("https://h/a.git", "", ""));
        assert_eq!(parsed("https://h/a.git#v1:sub/dir"), want("https://h/a.git", "v1", "sub/dir"));
        assert_eq!(parsed("https://h/a.git#:sub"), want("https://h/a.git", "", "sub"));
        assert_eq!(parsed("https://h/a.git?ref=a%2Fb&subdir=x"), want("https://h/a.git", "a/b", "x"));
        assert_eq!(parsed("git@h:me/a.git#main"), want("git@h:me/a.git", "main", ""));
        assert_eq!(parsed("ssh://git@h/a"), want("ssh://git@h/a", "", ""));
        assert_eq!(parsed("github.com/me/a#b"), want("https://github.com/me/a", "b", ""));
        for other in ["https://h/a.tar.gz", "dir", "./x@y:z", "/abs", "C:\\x", "a:b", "file:///x.git"] {
            assert_eq!(parse(other).ok().flatten(), None, "{other}");
        }
    }

    #[test]
    fn what_git_could_take_for_something_else_is_refused() {
        for text in [
            "https://h/a.git#--upload-pack=x",
            "https://h/a.git#-x",
            "https://h/a.git#a..b",
            "https://h/a.git#+a",
            "https://h/a.git#a b",
            "https://h/a.git#refs/*",
            "https://h/a.git#:../x",
            "https://h/a.git#:a/../../x",
            "https://h/a.git?ref=-x",
            "https://h/a.git?ref=a&what=b",
            "https://h/a.git?ref=a#b",
            "https://h/a.git?checksum=-x",
            "ssh://-oProxyCommand=x/a",
            "https://h/a b.git",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for url in ["ext::sh -c x", "ext::x", "-u", "file:///x", "/x", "a@b:c::d", "foo://x"] {
            let git = Git {
                url: url.to_owned(),
                reference: String::new(),
                subdirectory: String::new(),
                keep_git_dir: false,
                checksum: None,
            };
            assert!(check(&git, false).is_err(), "{url}");
        }
    }

    #[test]
    fn logins_are_not_shown() {
        assert_eq!(shown("https://me:secret@h/a.git"), "https://h/a.git");
        let (url, login) = split_login("https://me:s%40cret@h/a.git");
        assert_eq!((&*url, login), ("https://h/a.git", Some(("me".to_owned(), "s@cret".to_owned()))));
        assert_eq!(split_login("ssh://git@h/a").0, "ssh://git@h/a");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,40}", rest in "(https://)?[a-z@:/#?%=&.-]{0,30}") {
            for text in [&text, &rest] {
                parse(text).ok();
                shown(text);
                split_login(text);
            }
        }
    }
}
