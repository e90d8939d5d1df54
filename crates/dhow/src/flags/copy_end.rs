//! `CONTAINER:PATH`, a path of the host, or `-`: the two ends of `cp`.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use engine::CopyEnd;

/// What was written, before the streams are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// `CONTAINER:PATH`.
    Container(String, PathBuf),
    /// A path of the host.
    Local(PathBuf),
    /// `-`.
    Stream,
}

/// A colon stands between container and path. It may be part of a name of the host's, too: then that begins with a slash,
/// a dot, or like `C:\`.
pub(crate) fn parse(text: &OsStr) -> Written {
    let bytes = text.as_bytes();
    if bytes == b"-" {
        return Written::Stream;
    }
    let local =
        matches!(bytes, [b'/' | b'.', ..]) || matches!(bytes, [b'a'..=b'z' | b'A'..=b'Z', b':', b'\\', ..]);
    let colon = bytes.iter().position(|&b| b == b':').filter(|_| !local);
    let name = colon.and_then(|colon| std::str::from_utf8(&bytes[..colon]).ok());
    match (name, colon) {
        (Some(name), Some(colon)) if !name.is_empty() => {
            Written::Container(name.to_owned(), PathBuf::from(OsStr::from_bytes(&bytes[colon + 1..])))
        }
        _ => Written::Local(PathBuf::from(text)),
    }
}

impl Written {
    /// The end itself; `-` is this stream.
    pub(crate) fn open<E>(self, stream: impl FnOnce() -> Result<File, E>) -> Result<CopyEnd, E> {
        Ok(match self {
            Self::Container(name, path) => CopyEnd::Container { name, path },
            Self::Local(path) => CopyEnd::Local(path),
            Self::Stream => CopyEnd::Archive(stream()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_colon_divides_unless_the_path_says_otherwise() {
        for (text, expected) in [
            ("web:/etc", Written::Container("web".to_owned(), "/etc".into())),
            ("web:a:b", Written::Container("web".to_owned(), "a:b".into())),
            ("web:", Written::Container("web".to_owned(), "".into())),
            ("/abs/path:with", Written::Local("/abs/path:with".into())),
            ("./a:b", Written::Local("./a:b".into())),
            ("../a:b", Written::Local("../a:b".into())),
            (".hidden:b", Written::Local(".hidden:b".into())),
            (r"C:\a", Written::Local(r"C:\a".into())),
            (":a", Written::Local(":a".into())),
            ("relative/path", Written::Local("relative/path".into())),
            ("-", Written::Stream),
            ("", Written::Local("".into())),
        ] {
            assert_eq!(parse(OsStr::new(text)), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_one_of_the_three(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Written::Local(path) = parse(OsStr::from_bytes(&bytes)) {
                prop_assert_eq!(path.as_os_str().as_bytes(), &bytes[..]);
            }
        }
    }
}
