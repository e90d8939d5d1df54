//! Names of volumes. They become names of directories, so that they are checked wherever they come from.

use crate::{Error, Result};

/// The file system's.
const LONGEST: usize = 255;

/// Docker's rule (`[a-zA-Z0-9][a-zA-Z0-9_.-]+`), and no longer than a file's name may be.
pub fn check(name: &str) -> Result<()> {
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && (2..=LONGEST).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::Name(name.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers_and_never_paths() {
        for good in ["data", "a1", "A_b.c-d", "0.", &"a".repeat(255)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            ".",
            "..",
            "../x",
            "a/b",
            "/x",
            ".hidden",
            "-x",
            "a b",
            "a\0b",
            "ä2",
            "a\n",
            &"a".repeat(256),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_a_name_is_one_component(text in "[./a-z_\\-]{0,6}") {
            if check(&text).is_ok() {
                let path = std::path::Path::new(&text);
                proptest::prop_assert_eq!(path.components().count(), 1);
                proptest::prop_assert!(!text.starts_with('.'));
            }
        }
    }
}
