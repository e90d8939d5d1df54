//! `-v HOST:CONTAINER[:OPTIONS]`.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use state::options::BindMount;

/// A directory or file of the host's for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume(pub(crate) BindMount);

/// Not a mount.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAMount {
    /// Not even the form.
    #[error("want HOST_PATH:CONTAINER_PATH[:OPTIONS], such as /srv/data:/data:ro")]
    Form,
    /// A named or anonymous volume.
    #[error(
        "`{0}` would be a named volume: they come later; for a directory of the host write a path (./{0})"
    )]
    Named(String),
    /// A path in the container that is not absolute, or its root.
    #[error("`{0}` is not a path in the container: want an absolute one below /")]
    Destination(String),
    /// An option that is not known.
    #[error("`{0}` is not an option of a mount")]
    Option(String),
    /// Two options that exclude each other.
    #[error("`{0}` contradicts another option")]
    Contradiction(String),
    /// A relative path, and no directory it is relative to.
    #[error("the working directory cannot be found")]
    NoDirectory,
}

impl FromStr for Volume {
    type Err = NotAMount;
    fn from_str(text: &str) -> Result<Self, NotAMount> {
        let mut parts = text.split(':');
        let (source, to, options) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(source), Some(to), options, None) if !source.is_empty() && !to.is_empty() => {
                (source, to, options)
            }
            _ => return Err(NotAMount::Form),
        };
        let mut mount = BindMount {
            source: self::source(source)?,
            destination: destination(to)?,
            read_only: false,
            propagation: None,
        };
        let mut mode = None;
        for option in options.unwrap_or_default().split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" | "rw" => {
                    if mode.replace(option).is_some() {
                        return Err(NotAMount::Contradiction(option.to_owned()));
                    }
                    mount.read_only = option == "ro";
                }
                "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => {
                    if mount.propagation.replace(option.to_owned()).is_some() {
                        return Err(NotAMount::Contradiction(option.to_owned()));
                    }
                }
                // Of Docker Desktop's file sharing: no meaning on Linux, as in Docker.
                "consistent" | "cached" | "delegated" => {}
                _ => return Err(NotAMount::Option(option.to_owned())),
            }
        }
        Ok(Self(mount))
    }
}

/// A path of the host: absolute, or relative to the working directory with a `.` in front.
pub(super) fn source(text: &str) -> Result<PathBuf, NotAMount> {
    if !text.starts_with(['/', '.']) {
        return Err(NotAMount::Named(text.to_owned()));
    }
    let absolute = std::path::absolute(text).map_err(|_| NotAMount::NoDirectory)?;
    // `..` is resolved as text, as Docker does.
    let mut clean = PathBuf::new();
    for component in absolute.components() {
        if component == Component::ParentDir {
            clean.pop();
        } else {
            clean.push(component);
        }
    }
    Ok(clean)
}

/// A path in the container: absolute, not the root.
pub(super) fn destination(text: &str) -> Result<PathBuf, NotAMount> {
    let path = Path::new(text);
    let names = path.components().filter(|c| matches!(c, Component::Normal(_))).count();
    let climbs = path.components().any(|c| c == Component::ParentDir);
    if !path.is_absolute() || names == 0 || climbs {
        return Err(NotAMount::Destination(text.to_owned()));
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_forms() {
        let Volume(mount) = "/srv/../data/:/x//y:ro,rslave".parse().unwrap();
        let expected = BindMount {
            source: "/data".into(),
            destination: "/x/y".into(),
            read_only: true,
            propagation: Some("rslave".into()),
        };
        assert_eq!(mount, expected);
        let Volume(relative) = "./a:/b".parse().unwrap();
        assert_eq!(relative.source, std::env::current_dir().unwrap().join("a"));
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        assert_eq!("data:/data".parse::<Volume>(), Err(NotAMount::Named("data".into())));
        for bad in [
            "",
            "/data",
            ":/x",
            "/x:",
            "/a:b",
            "/a:/",
            "/a:/../x",
            "/a:/b:bla",
            "/a:/b:ro,rw",
            "/a:/b:ro:x",
            "/a:/b:shared,slave",
        ] {
            assert!(bad.parse::<Volume>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z:./,]{0,30}") {
            let _ = text.parse::<Volume>();
        }
    }
}
