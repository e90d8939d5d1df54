//! Where a container's cgroup lies: what the configuration says, who makes it, and whether it can be had.

use std::path::{Component, Path, PathBuf};

use oci::runtime::Spec;
use runtime::cgroup::{self, Hierarchy, Location, Possibility};

use crate::error::Error;
use crate::globals::{CgroupManager, Globals};

/// Where the container's cgroup lies; none: where its maker is.
pub(crate) fn location(globals: &Globals, id: &str, spec: &Spec) -> Result<Option<Location>, Error> {
    let path = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
    let rootless = globals.cgroups != CgroupManager::Disabled && globals.rootless();
    let location = locate(globals.cgroups, rootless, id, path)?;
    // As root of the machine we may make any, and need not look.
    let Some(location) = location else { return Ok(None) };
    if !rootless {
        return Ok(Some(location));
    }
    let hierarchy = Hierarchy::detect()?;
    let unnamed = path.is_none_or(|path| path.as_os_str().is_empty());
    let beside = || cgroup::beside_own(&hierarchy, id).unwrap_or_else(|| location.clone());
    let location = match &location {
        Location::Path(_) if unnamed => beside(),
        other => other.clone(),
    };
    let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    match cgroup::possibility(&hierarchy, &location, resources)? {
        Possibility::Possible => Ok(Some(location)),
        Possibility::DoWithout { reason } => {
            // Nobody asked for anything that is missing now.
            globals.report.debug(|| reason);
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn locate(
    manager: CgroupManager,
    user: bool,
    id: &str,
    path: Option<&Path>,
) -> Result<Option<Location>, Error> {
    let path = path.filter(|path| !path.as_os_str().is_empty());
    match manager {
        CgroupManager::Disabled => Ok(None),
        CgroupManager::CgroupFs => {
            // A path never leads above the root: `..` is taken from it as from any absolute path.
            let mut clean = PathBuf::from("/");
            for part in path.unwrap_or(Path::new(id)).components() {
                match part {
                    Component::Normal(name) => clean.push(name),
                    Component::ParentDir => drop(clean.pop()),
                    _ => {}
                }
            }
            if clean == Path::new("/") {
                clean.push(id);
            }
            Ok(Some(Location::Path(clean)))
        }
        CgroupManager::Systemd => {
            let text = path.map(|path| path.to_string_lossy().into_owned());
            let text = text.unwrap_or_else(|| format!(":dhow:{id}"));
            if text.split(':').count() != 3 {
                return Err(Error::Config(format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {text:?} instead"
                )));
            }
            Ok(Some(Location::systemd(&text, user)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_lie_where_the_configuration_says() {
        let at = |path: Option<&str>| match locate(CgroupManager::CgroupFs, false, "id", path.map(Path::new))
        {
            Ok(Some(Location::Path(path))) => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(at(None), "/id");
        assert_eq!(at(Some("")), "/id");
        assert_eq!(at(Some("/a/b")), "/a/b");
        assert_eq!(at(Some("a/b")), "/a/b");
        assert_eq!(at(Some("../../a/./b/../c")), "/a/c");
        assert_eq!(at(Some("/..")), "/id", "the root is nobody's container");
    }

    #[test]
    fn systemd_wants_three_parts() {
        let at = |user, path: Option<&str>| locate(CgroupManager::Systemd, user, "id", path.map(Path::new));
        let Ok(Some(Location::Systemd { slice, prefix, name, user })) =
            at(false, Some("machine.slice:libpod:x"))
        else {
            panic!()
        };
        assert_eq!((&*slice, &*prefix, &*name, user), ("machine.slice", "libpod", "x", false));
        assert!(
            matches!(at(true, None), Ok(Some(Location::Systemd { name, user: true, .. })) if name == "id")
        );
        for bad in ["/a/b", "a:b", "a:b:c:d"] {
            assert!(at(false, Some(bad)).is_err(), "{bad}");
        }
        assert!(locate(CgroupManager::Disabled, false, "id", Some(Path::new("/a"))).unwrap().is_none());
    }
}
