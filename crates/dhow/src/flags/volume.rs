//! `-v [SOURCE:]CONTAINER[:OPTIONS]`: a directory of the host's where the source is a path, a volume where it is a name, and
//! a new volume where there is none.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use state::options::{BindMount, VolumeMount};

/// Something for the container that outlives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Volume {
    /// The host's.
    Bind(BindMount),
    /// A volume.
    Volume(VolumeMount),
}

/// Not a mount.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAMount {
    /// Not even the form.
    #[error("want [SOURCE:]CONTAINER_PATH[:OPTIONS], such as /srv/data:/data:ro or data:/data")]
    Form,
    /// Neither a path nor a name.
    #[error(
        "`{0}` is neither a path nor the name of a volume (letters, digits, `_`, `.` and `-`, at least two); for a \
         directory of the host write a path (./{0})"
    )]
    Source(String),
    /// A path in the container that is not absolute, or its root.
    #[error("`{0}` is not a path in the container: want an absolute one below /")]
    Destination(String),
    /// An option that is not known.
    #[error("`{0}` is not an option of such a mount")]
    Option(String),
    /// Two options that exclude each other.
    #[error("`{0}` contradicts another option")]
    Contradiction(String),
    /// A relative path, and no directory it is relative to.
    #[error("the working directory cannot be found")]
    NoDirectory,
}

/// What stands behind the second colon.
#[derive(Debug, Default)]
struct Options {
    read_only: bool,
    propagation: Option<String>,
    no_copy: bool,
}

impl FromStr for Volume {
    type Err = NotAMount;
    fn from_str(text: &str) -> Result<Self, NotAMount> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, to, mode) = match parts[..] {
            [to] => ("", to, ""),
            [source, to] if !source.is_empty() => (source, to, ""),
            [source, to, mode] if !source.is_empty() => (source, to, mode),
            _ => return Err(NotAMount::Form),
        };
        if to.is_empty() {
            return Err(NotAMount::Form);
        }
        let destination = destination(to)?;
        let Options { read_only, propagation, no_copy } = options(mode)?;
        let mode = mode.to_owned();
        if source.starts_with(['/', '.']) {
            if no_copy {
                return Err(NotAMount::Option("nocopy".to_owned()));
            }
            let source = self::source(source)?;
            return Ok(Self::Bind(BindMount {
                source,
                destination,
                read_only,
                propagation,
                mode,
                ..BindMount::default()
            }));
        }
        if let Some(propagation) = propagation {
            return Err(NotAMount::Option(propagation));
        }
        let name = name(source)?;
        Ok(Self::Volume(VolumeMount {
            name,
            destination,
            read_only,
            no_copy,
            mode,
            ..VolumeMount::default()
        }))
    }
}

fn options(text: &str) -> Result<Options, NotAMount> {
    let mut options = Options::default();
    let (mut mode, mut label, mut copy) = (None, None, None);
    for option in text.split(',').filter(|o| !o.is_empty()) {
        let slot = match option {
            "ro" | "rw" => {
                options.read_only = option == "ro";
                &mut mode
            }
            // Labels of SELinux, which we do not set: no meaning without it, as in Docker.
            "z" | "Z" => &mut label,
            "nocopy" => {
                options.no_copy = true;
                &mut copy
            }
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => {
                if options.propagation.replace(option.to_owned()).is_some() {
                    return Err(NotAMount::Contradiction(option.to_owned()));
                }
                continue;
            }
            // Of Docker Desktop's file sharing: no meaning on Linux, as in Docker.
            "consistent" | "cached" | "delegated" => continue,
            _ => return Err(NotAMount::Option(option.to_owned())),
        };
        if slot.replace(option).is_some() {
            return Err(NotAMount::Contradiction(option.to_owned()));
        }
    }
    Ok(options)
}

/// The name of a volume, or none. (The engine has the rule; here it is only told from a path that was meant.)
pub(super) fn name(text: &str) -> Result<String, NotAMount> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let named = text.len() > 1 && text.as_bytes()[0].is_ascii_alphanumeric() && text.bytes().all(good);
    if named || text.is_empty() { Ok(text.to_owned()) } else { Err(NotAMount::Source(text.to_owned())) }
}

/// A path of the host: absolute, or relative to the working directory with a `.` in front.
pub(super) fn source(text: &str) -> Result<PathBuf, NotAMount> {
    if !text.starts_with(['/', '.']) {
        return Err(NotAMount::Source(text.to_owned()));
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
        let expected = BindMount {
            source: "/data".into(),
            destination: "/x/y".into(),
            read_only: true,
            propagation: Some("rslave".into()),
            mode: "ro,Z,rslave".into(),
            ..BindMount::default()
        };
        assert_eq!("/srv/../data/:/x//y:ro,Z,rslave".parse(), Ok(Volume::Bind(expected)));
        let Ok(Volume::Bind(relative)) = "./a:/b".parse() else { panic!() };
        assert_eq!(relative.source, std::env::current_dir().unwrap().join("a"));
        let volume = |name: &str| VolumeMount {
            name: name.into(),
            destination: "/x".into(),
            ..VolumeMount::default()
        };
        assert_eq!("/x".parse(), Ok(Volume::Volume(volume(""))));
        assert_eq!("data:/x/".parse(), Ok(Volume::Volume(volume("data"))));
        let expected =
            VolumeMount { read_only: true, no_copy: true, mode: "ro,nocopy".into(), ..volume("d.1") };
        assert_eq!("d.1:/x:ro,nocopy".parse(), Ok(Volume::Volume(expected)));
    }

    #[test]
    fn what_cannot_be_given_is_refused() {
        assert_eq!("a/b:/data".parse::<Volume>(), Err(NotAMount::Source("a/b".into())));
        for bad in [
            "",
            "data",
            ":/x",
            "/x:",
            "a:/b",
            "-a:/b",
            "~/a:/b",
            "/a:b",
            "/a:/",
            "/",
            "/a:/../x",
            "/a:/b:bla",
            "/a:/b:nocopy",
            "data:/b:rshared",
            "/a:/b:ro,rw",
            "/a:/b:z,Z",
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
