//! What clients name: repositories, tags, uploads. A value of these types can be part of a path on disk as it is.

use std::fmt;
use std::str::FromStr;

use base::{Digest, Id};
use image::reference::{check_path, check_tag};

/// The longest repository's name. The specification sets no limit; Docker's clients and registries do.
const MAX_NAME: usize = 255;

/// A repository: `team/app`. Components of lower-case letters and digits, with single separators between them
/// (specification: "Pulling manifests"), so none can be `.` or `..`, or empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

/// A tag: up to 128 letters, digits, `_`, `.`, `-`, of which the last two do not begin it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// How a manifest is asked for: `<reference>` of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// An upload in progress: 64 random hexadecimal digits, which only who began it knows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Id);

/// Why a text names nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not {what}: {why}")]
pub struct ParseNameError {
    text: String,
    what: &'static str,
    why: &'static str,
}

fn bad(text: &str, what: &'static str, why: &'static str) -> ParseNameError {
    ParseNameError { text: text.chars().take(100).collect(), what, why }
}

impl Repository {
    /// As clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a directory is called: `+`, which occurs in no name, stands for the slash.
    pub(super) fn file_name(&self) -> String {
        self.0.replace('/', "+")
    }

    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        name.replace('+', "/").parse().ok()
    }
}

impl FromStr for Repository {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        const WHAT: &str = "a repository's name";
        if text.is_empty() {
            return Err(bad(text, WHAT, "it is empty"));
        }
        if text.len() > MAX_NAME {
            return Err(bad(text, WHAT, "it has more than 255 characters"));
        }
        check_path(text).map_err(|why| bad(text, WHAT, why))?;
        Ok(Self(text.to_owned()))
    }
}

impl Tag {
    /// As clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        check_tag(text).map_err(|why| bad(text, "a tag", why))?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        if text.contains(':') {
            let wrong = |_| bad(text, "a digest", "want sha256: and 64 lower-case hexadecimal digits");
            return text.parse().map(Self::Digest).map_err(wrong);
        }
        text.parse().map(Self::Tag)
    }
}

impl UploadId {
    /// A new one.
    pub(super) fn random() -> std::io::Result<Self> {
        Id::random().map(Self)
    }

    /// As clients write it, and directories are called.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for UploadId {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        text.parse().map(Self).map_err(|_| bad(text, "an upload", "want 64 lower-case hexadecimal digits"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

shown!(Repository, Tag, UploadId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_the_specifications() {
        for good in ["a", "a/b", "a/b/c", "a.b_c__d-e--f/g", "0/1", "ghcr.io/team/app", &"a".repeat(255)] {
            assert_eq!(good.parse::<Repository>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/../b",
            "A",
            "a_",
            "a___b",
            "a+b",
            "a:b",
            "é",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
        for bad in ["", ".a", "-a", "a/b", "a b", "a\0", "..", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        assert!(matches!("v1".parse(), Ok(Name::Tag(_))));
        assert!(matches!(Digest::of(b"").to_string().parse(), Ok(Name::Digest(_))));
        assert!("sha256:totallywrong".parse::<Name>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_a_name_is_one_component_of_a_path(text in "[a-zA-Z0-9/+.:_\\-\\\\\u{0}é ]{0,40}") {
            let one = |name: &str| {
                std::path::Path::new(name).components().count() == 1
                    && !name.starts_with('.') && !name.contains(['/', '\0'])
            };
            if let Ok(repository) = text.parse::<Repository>() {
                let name = repository.file_name();
                prop_assert!(one(&name), "{}", name);
                prop_assert_eq!(Repository::from_file_name(&name), Some(repository));
            }
            if let Ok(tag) = text.parse::<Tag>() {
                prop_assert!(one(tag.as_str()));
            }
            if let Ok(id) = text.parse::<UploadId>() {
                prop_assert!(one(id.as_str()));
            }
        }
    }
}
