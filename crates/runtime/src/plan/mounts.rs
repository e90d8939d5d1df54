//! The plan of the mounts: options parsed into attributes and parameters, sources of bind mounts cloned.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::runtime::Mount;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use sys::mount::{Change, attributes};

use super::{PlanError, c_string};

/// One mount, ready to be made.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Where, as the specification says it: an allegation, resolved inside the root.
    pub(crate) destination: PathBuf,
    pub(crate) source: MountSource,
    /// Attributes and propagation.
    pub(crate) change: Change,
}

#[derive(Debug)]
pub(crate) enum MountSource {
    /// A new file system: its type and parameters.
    Filesystem { kind: CString, parameters: Vec<(CString, Option<CString>)> },
    /// A copy of a tree of the host's mounts, made before the clone, while the host's paths mean what the user
    /// meant; it is attached nowhere yet.
    Bind { tree: OwnedFd, directory: bool },
    /// The container's view of its cgroups; made once it is in its group.
    Cgroup,
}

impl MountPlan {
    /// True for a tmpfs on `/dev`, which gets the default devices.
    pub(crate) fn is_dev(&self) -> bool {
        self.destination == Path::new("/dev")
            && matches!(&self.source, MountSource::Filesystem { kind, .. } if kind.as_bytes() == b"tmpfs")
    }

    /// True for a mount of this file system type.
    pub(crate) fn is_kind(&self, name: &str) -> bool {
        matches!(&self.source, MountSource::Filesystem { kind, .. } if kind.as_bytes() == name.as_bytes())
    }
}

pub(super) fn plan(mounts: &[Mount]) -> Result<Vec<MountPlan>, PlanError> {
    mounts.iter().map(plan_one).collect()
}

fn plan_one(mount: &Mount) -> Result<MountPlan, PlanError> {
    if !mount.destination.is_absolute() {
        let value = format!("destination {} is not absolute", mount.destination.display());
        return Err(PlanError::Invalid { field: "mount", value });
    }
    let options = Options::parse(&mount.options)?;
    let kind = mount.kind.as_deref().unwrap_or(if options.bind { "bind" } else { "" });
    let source = if options.bind || kind == "bind" {
        bind(mount, options.recursive)?
    } else if kind == "cgroup" || kind == "cgroup2" {
        MountSource::Cgroup
    } else if kind.is_empty() {
        let value = format!("{} has neither a type nor a bind option", mount.destination.display());
        return Err(PlanError::Invalid { field: "mount", value });
    } else {
        let mut parameters = options.parameters;
        if let Some(source) = &mount.source {
            parameters
                .insert(0, (c"source".to_owned(), Some(c_string("mount", source.as_os_str().as_bytes())?)));
        }
        MountSource::Filesystem { kind: c_string("mount", kind)?, parameters }
    };
    let mut change = options.change;
    // A new tree starts with the propagation of what it was copied from: private, unless asked for otherwise.
    if change.propagation == 0 {
        change.propagation = PRIVATE;
    }
    // `ro` of a recursive bind is meant for all of it; a writable submount would be a surprise.
    change.recursive = matches!(source, MountSource::Bind { .. }) && options.recursive;
    Ok(MountPlan { destination: mount.destination.clone(), source, change })
}

fn bind(mount: &Mount, recursive: bool) -> Result<MountSource, PlanError> {
    let path = mount.source.as_deref().ok_or(PlanError::Missing("source of a bind mount"))?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let failed = |source: std::io::Error| PlanError::BindSource {
        path: path.to_owned(),
        destination: mount.destination.clone(),
        source,
    };
    let tree = open_tree(CWD, path, flags).map_err(|e| failed(e.into()))?;
    let stat = rustix::fs::fstat(&tree).map_err(|e| failed(e.into()))?;
    let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    Ok(MountSource::Bind { tree, directory })
}

const SHARED: u64 = 1 << 20;
const SLAVE: u64 = 1 << 19;
const PRIVATE: u64 = 1 << 18;
const UNBINDABLE: u64 = 1 << 17;

#[derive(Debug, Default)]
struct Options {
    bind: bool,
    recursive: bool,
    change: Change,
    parameters: Vec<(CString, Option<CString>)>,
}

impl Options {
    fn parse(list: &[String]) -> Result<Self, PlanError> {
        use attributes as a;
        let mut options = Self::default();
        for option in list {
            let (set, clear) = match &**option {
                "ro" => (a::RDONLY, 0),
                "rw" => (0, a::RDONLY),
                "nosuid" => (a::NOSUID, 0),
                "suid" => (0, a::NOSUID),
                "nodev" => (a::NODEV, 0),
                "dev" => (0, a::NODEV),
                "noexec" => (a::NOEXEC, 0),
                "exec" => (0, a::NOEXEC),
                "nodiratime" => (a::NODIRATIME, 0),
                "diratime" => (0, a::NODIRATIME),
                "nosymfollow" => (a::NOSYMFOLLOW, 0),
                "symfollow" => (0, a::NOSYMFOLLOW),
                "noatime" => (a::NOATIME, a::ATIME_MASK),
                "strictatime" => (a::STRICTATIME, a::ATIME_MASK),
                "relatime" | "atime" => (0, a::ATIME_MASK),
                "defaults" => (0, 0),
                "bind" => {
                    options.bind = true;
                    (0, 0)
                }
                "rbind" => {
                    (options.bind, options.recursive) = (true, true);
                    (0, 0)
                }
                other => {
                    if let Some(propagation) = propagation(other) {
                        options.change.propagation = propagation;
                    } else {
                        let (key, value) = match other.split_once('=') {
                            Some((key, value)) => (key, Some(c_string("mount option", value)?)),
                            None => (other, None),
                        };
                        options.parameters.push((c_string("mount option", key)?, value));
                    }
                    continue;
                }
            };
            // The last of two that contradict each other wins, as with mount(8).
            options.change.set = options.change.set & !clear | set;
            options.change.clear = options.change.clear & !set | clear;
        }
        Ok(options)
    }
}

fn propagation(option: &str) -> Option<u64> {
    Some(match option {
        "private" | "rprivate" => PRIVATE,
        "slave" | "rslave" => SLAVE,
        "shared" | "rshared" => SHARED,
        "unbindable" | "runbindable" => UNBINDABLE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Options {
        Options::parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_last_of_contradicting_options_wins() {
        assert_eq!(parse(&["ro", "rw"]).change.set, 0);
        assert_eq!(parse(&["rw", "ro", "nosuid"]).change.set, attributes::RDONLY | attributes::NOSUID);
        assert_eq!(parse(&["rslave", "rprivate"]).change.propagation, PRIVATE);
    }

    #[test]
    fn what_is_no_flag_is_a_parameter() {
        let options = parse(&["size=64m", "mode=1777", "newinstance"]);
        assert_eq!(options.parameters.len(), 3);
        assert_eq!(options.parameters[2], (c"newinstance".to_owned(), None));
    }

    #[test]
    fn a_relative_destination_and_a_missing_source_are_refused() {
        let mount = |destination: &str, source: &str| Mount {
            destination: destination.into(),
            source: Some(source.into()),
            options: vec!["rbind".to_owned()],
            ..Mount::default()
        };
        assert!(matches!(plan_one(&mount("x", "/")), Err(PlanError::Invalid { .. })));
        assert!(matches!(plan_one(&mount("/x", "/no/such")), Err(PlanError::BindSource { .. })));
    }
}
