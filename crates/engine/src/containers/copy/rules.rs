//! Docker's rules of where a copy goes, and the paths that they are about.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct What {
    pub(super) directory: bool,
    /// Its path ends in `/.`: what is in it, not itself.
    pub(super) contents: bool,
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Directory,
    Other,
    Nothing,
}

/// Where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    /// Into the directory that is there, under its own name.
    Into,
    /// What is in it, into the directory that is there.
    Over,
    /// Under the destination's name.
    As,
}

/// Why it goes nowhere. The words are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rule {
    #[error("cannot copy directory")]
    DirectoryOverFile,
    #[error("no such directory")]
    NoDirectory,
}

/// `asserted`: the destination's path ends like a directory's.
pub(super) fn decide(what: What, there: There, asserted: bool) -> Result<Goes, Rule> {
    match there {
        There::Directory if what.contents => Ok(Goes::Over),
        There::Directory => Ok(Goes::Into),
        There::Other if what.directory => Err(Rule::DirectoryOverFile),
        There::Nothing if what.directory => Ok(Goes::As),
        _ if asserted => Err(Rule::NoDirectory),
        _ => Ok(Goes::As),
    }
}

/// The path ends in `/.`, or is that.
pub(super) fn is_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

/// The path can only mean a directory.
pub(super) fn asserts_directory(path: &Path) -> bool {
    is_contents(path) || path.as_os_str().as_bytes().ends_with(b"/")
}

/// What comes before the last name of a path, and that; slashes at the end mean nothing. The name is empty for the root.
pub(super) fn split(path: &Path) -> (&Path, &[u8]) {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
    let cut = bytes[..end].iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let above = if cut == 0 { b"." } else { &bytes[..cut] };
    (Path::new(OsStr::from_bytes(above)), &bytes[cut..end])
}

/// The name that something is copied under: the last one of its path after `.` and `..` are taken out. `.` for a root.
pub(super) fn name(absolute: &Path) -> Vec<u8> {
    use std::path::Component as C;
    let mut names: Vec<&OsStr> = Vec::new();
    for part in absolute.components() {
        match part {
            C::Normal(name) => names.push(name),
            C::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names.last().map_or_else(|| b".".to_vec(), |name| name.as_bytes().to_vec())
}

/// Where a symlink in the directory `above` leads.
pub(super) fn behind(above: &Path, target: &[u8]) -> PathBuf {
    above.join(OsStr::from_bytes(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table in Docker's documentation of `docker container cp`.
    #[test]
    fn the_table_is_dockers() {
        let file = What { directory: false, contents: false };
        let directory = What { directory: true, contents: false };
        let contents = What { directory: true, contents: true };
        for (what, there, asserted, expected) in [
            (file, There::Nothing, false, Ok(Goes::As)),
            (file, There::Nothing, true, Err(Rule::NoDirectory)),
            (file, There::Other, false, Ok(Goes::As)),
            (file, There::Other, true, Err(Rule::NoDirectory)),
            (file, There::Directory, false, Ok(Goes::Into)),
            (directory, There::Nothing, false, Ok(Goes::As)),
            (directory, There::Nothing, true, Ok(Goes::As)),
            (directory, There::Other, false, Err(Rule::DirectoryOverFile)),
            (directory, There::Directory, true, Ok(Goes::Into)),
            (contents, There::Nothing, false, Ok(Goes::As)),
            (contents, There::Other, false, Err(Rule::DirectoryOverFile)),
            (contents, There::Directory, false, Ok(Goes::Over)),
        ] {
            assert_eq!(decide(what, there, asserted), expected, "{what:?} {there:?} {asserted}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let parts = |path: &'static str| {
            let (above, name) = split(Path::new(path));
            (above.to_str().unwrap(), std::str::from_utf8(name).unwrap())
        };
        assert_eq!(parts("/a/b"), ("/a/", "b"));
        assert_eq!(parts("a//"), (".", "a"));
        assert_eq!(parts("/a/."), ("/a/", "."));
        assert_eq!(parts("/"), (".", ""));
        let called = |path: &str| String::from_utf8(name(Path::new(path))).unwrap();
        assert_eq!(
            (&*called("/a/b/"), &*called("/a/b/.."), &*called("/"), &*called("/../x/.")),
            ("b", "a", ".", "x")
        );
        assert!(
            is_contents(Path::new("a/.")) && is_contents(Path::new(".")) && !is_contents(Path::new("a/b."))
        );
        assert!(asserts_directory(Path::new("a/")) && !asserts_directory(Path::new("..")));
    }

    proptest! {
        #[test]
        fn a_name_is_one_name(path in "[a/.]{0,20}") {
            let path = Path::new("/").join(path);
            let name = name(&path);
            prop_assert!(!name.is_empty() && !name.contains(&b'/') && name != b"..");
            prop_assert!(!split(&path).1.contains(&b'/'));
        }
    }
}
