//! Where a container's group lies, and what may be a name there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, check_name};

/// Where a container's group lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Location {
    /// Dhow's own engine: below the instance's group, which holds all containers together.
    Instance(Placement),
    /// The specification's `cgroupsPath` (config-linux.md, "Cgroups Path"), made by us in the file system. A relative
    /// path is ours to interpret: it, too, is below the root of each hierarchy.
    Path(PathBuf),
    /// A transient scope that systemd makes: `SLICE:PREFIX:NAME`.
    Systemd {
        /// The slice it is in, such as `machine.slice`; empty: `system.slice`, or `user.slice` for a user.
        slice: String,
        /// What stands before the name; may be empty.
        prefix: String,
        /// The container's name.
        name: String,
        /// The user's own systemd, not the machine's: rootless.
        user: bool,
    },
}

/// A container of Dhow's own engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The instance's group, which holds all containers together: `Instance::global_name()`.
    pub parent: String,
    /// The container's own: its id.
    pub name: String,
    /// Bytes of the machine's memory that all containers together must leave; none: 5 %, at least 512 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reserve: Option<u64>,
}

impl From<Placement> for Location {
    fn from(placement: Placement) -> Self {
        Self::Instance(placement)
    }
}

impl Location {
    /// From `SLICE:PREFIX:NAME`, as `--systemd-cgroup` has it in `cgroupsPath`.
    pub fn systemd(path: &str, user: bool) -> Result<Self, Error> {
        let mut parts = path.split(':');
        let (Some(slice), Some(prefix), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Invalid { reason: "the cgroup's path is not like SLICE:PREFIX:NAME" });
        };
        let location =
            Self::Systemd { slice: slice.to_owned(), prefix: prefix.to_owned(), name: name.to_owned(), user };
        location.below_root()?;
        Ok(location)
    }

    /// The group's path below the root of each hierarchy: relative, of plain names only. For a user's systemd: below
    /// the group of that.
    pub(super) fn below_root(&self) -> Result<PathBuf, Error> {
        match self {
            Self::Instance(placement) => {
                check_name(&placement.parent)?;
                check_name(&placement.name)?;
                Ok(Path::new(&placement.parent).join(&placement.name))
            }
            Self::Path(path) => plain(path),
            Self::Systemd { .. } => {
                let (slice, scope) = self.units()?.unwrap_or_default();
                Ok(expand_slice(&slice)?.join(scope))
            }
        }
    }

    /// The names of systemd's slice and scope; `None` where systemd is not asked.
    pub(super) fn units(&self) -> Result<Option<(String, String)>, Error> {
        let Self::Systemd { slice, prefix, name, user } = self else { return Ok(None) };
        let scope =
            if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let slice = match (slice.as_str(), user) {
            ("", false) => "system.slice".to_owned(),
            ("", true) => "user.slice".to_owned(),
            (given, _) => given.to_owned(),
        };
        if name.is_empty() || !is_unit(&scope) || !is_unit(&slice) {
            return Err(Error::Invalid { reason: "the cgroup's path has no good names for systemd" });
        }
        Ok(Some((slice, scope)))
    }
}

/// What systemd takes as a unit's name: at most 255 bytes of letters, digits and `:-_.\@`.
fn is_unit(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    !name.starts_with('.') && name.len() <= 255 && name.bytes().all(good)
}

/// `a-b.slice` lies in `a.slice`; `-.slice` is the root (systemd.slice(5)).
fn expand_slice(slice: &str) -> Result<PathBuf, Error> {
    let wrong = Error::Invalid { reason: "the slice's name is not like a-b.slice" };
    let Some(stem) = slice.strip_suffix(".slice") else { return Err(wrong) };
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut end = 0;
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(wrong);
        }
        end += part.len();
        path.push(format!("{}.slice", &stem[..end]));
        end += 1;
    }
    Ok(path)
}

/// A path of plain names, made relative. Nothing in it leads up or elsewhere, and the root is not a container's.
fn plain(path: &Path) -> Result<PathBuf, Error> {
    let mut below = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) if is_plain(name) => below.push(name),
            _ => return Err(Error::Invalid { reason: "the cgroup's path has other than plain names" }),
        }
    }
    if below.as_os_str().is_empty() {
        return Err(Error::Invalid { reason: "the cgroup's path names no group" });
    }
    if below.as_os_str().len() > 3000 {
        return Err(Error::Invalid { reason: "the cgroup's path is too long" });
    }
    Ok(below)
}

fn is_plain(name: &OsStr) -> bool {
    name.len() <= 255 && !name.as_bytes().iter().any(|b| b.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Result<PathBuf, Error> {
        Location::Path(text.into()).below_root()
    }

    #[test]
    fn paths_are_plain_and_below_the_root() {
        assert_eq!(path("/a/b c").unwrap(), Path::new("a/b c"));
        assert_eq!(path("kubepods//pod1/./x").unwrap(), Path::new("kubepods/pod1/x"));
        for bad in ["", "/", "//", "..", "/a/../b", "a/..", "./a", "a\0b", "a\nb", &"x".repeat(300)] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scopes_lie_in_their_slices() {
        let below = |text: &str, user| Location::systemd(text, user).and_then(|l| l.below_root());
        assert_eq!(
            below("machine.slice:libpod:abc", false).unwrap(),
            Path::new("machine.slice/libpod-abc.scope")
        );
        assert_eq!(
            below("a-b-c.slice:p:n", false).unwrap(),
            Path::new("a.slice/a-b.slice/a-b-c.slice/p-n.scope")
        );
        assert_eq!(below("::n", false).unwrap(), Path::new("system.slice/n.scope"));
        assert_eq!(below(":p:n", true).unwrap(), Path::new("user.slice/p-n.scope"));
        assert_eq!(below("-.slice:p:n", false).unwrap(), Path::new("p-n.scope"));
        for bad in [
            "a.slice:b",
            "a:b:c",
            "a.slice:b:",
            "a--b.slice:p:n",
            "-a.slice:p:n",
            "a/b.slice:p:n",
            "../x.slice:p:n",
            "a.slice:p/..:n",
            "a.slice:p:n:o",
            ".slice:p:n",
            "a.slice:p:n m",
        ] {
            assert!(below(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn locations_are_kept_as_json() {
        let placement = Placement { parent: "dhow".into(), name: "x".into(), memory_reserve: None };
        for location in
            [placement.into(), Location::Path("/a/b".into()), Location::systemd("a.slice:b:c", true).unwrap()]
        {
            let text = serde_json::to_string(&location).unwrap();
            assert_eq!(serde_json::from_str::<Location>(&text).unwrap(), location);
        }
    }

    proptest! {
        #[test]
        fn no_path_leads_out(text in "[a./:\\-]{0,20}") {
            for location in [Some(Location::Path(text.clone().into())), Location::systemd(&text, false).ok()]
                .into_iter()
                .flatten()
            {
                if let Ok(below) = location.below_root() {
                    prop_assert!(below.components().all(|c| matches!(c, Component::Normal(_))), "{:?}", below);
                }
            }
        }
    }
}
