//! From a [`Bundle`] to a [`LaunchPlan`]: everything that parses, allocates, looks up or may fail politely.

mod mounts;
mod process;
mod root;

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::{Failure, Kind};
use oci::runtime::{Namespace, NamespaceKind, Spec};
use rustix::fs::{CWD, Mode, OFlags};
use sys::process::namespaces;

pub(crate) use mounts::{MountPlan, MountSource};
pub(crate) use process::{MOST_GROUPS, ProcessPlan, UserPlan, Who, plan_joining};
pub(crate) use root::{RootPlan, RootSourcePlan};

use crate::bundle::Bundle;
use crate::cgroup::{self, GroupPlan, Hierarchy};

/// Everything that a container's start needs, ready to be walked with system calls.
#[derive(Debug)]
pub struct LaunchPlan {
    /// `CLONE_NEW*` bits, without the cgroup namespace, which is made once the process is in its group.
    pub(crate) namespaces: u64,
    /// A cgroup namespace of its own.
    pub(crate) cgroup_namespace: bool,
    /// Namespaces joined, not made.
    pub(crate) joined: Vec<(NamespaceKind, OwnedFd)>,
    pub(crate) root: RootPlan,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) readonly: Vec<PathBuf>,
    pub(crate) hostname: Option<CString>,
    /// Paths below `/proc/sys` and their values.
    pub(crate) sysctls: Vec<(CString, Vec<u8>)>,
    pub(crate) process: ProcessPlan,
    pub(crate) group: Option<GroupPlan>,
    pub(crate) v2: bool,
    pub(crate) init: bool,
    pub(crate) netlink: Vec<u8>,
    pub(crate) netlink_replies: usize,
}

/// Why a bundle cannot become a container. Nothing has been touched yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The specification lacks something that a start needs.
    #[error("the specification has no {0}")]
    Missing(&'static str),
    /// A value of the specification makes no sense.
    #[error("the specification's {field} is invalid: {value}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// The specification asks for what this runtime does not do.
    #[error("the specification asks for {0}, which this runtime does not support")]
    Unsupported(String),
    /// The source of a bind mount.
    #[error("cannot use {} as the source of the mount on {}", path.display(), destination.display())]
    BindSource {
        /// On the host.
        path: PathBuf,
        /// In the container.
        destination: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of ours or of the host.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// The groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::Error),
}

impl Failure for PlanError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) | Self::Invalid { .. } => Kind::Invalid,
            Self::Unsupported(_) => Kind::Unsupported,
            Self::BindSource { source, .. } => base::failure::kind_of_io(source),
            Self::File(e) => e.kind(),
            Self::Cgroup(e) => e.kind(),
            Self::Seccomp(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Cgroup(e) => e.hints(),
            Self::Seccomp(e) => e.hints(),
            _ => Vec::new(),
        }
    }
}

/// Makes the plan. Opens what it names on the host (bind sources, namespaces, the filter), changes nothing.
pub fn plan(bundle: &Bundle) -> Result<LaunchPlan, PlanError> {
    let spec = &bundle.spec;
    let process = spec.process.as_ref().ok_or(PlanError::Missing("process"))?;
    let linux = spec.linux.clone().unwrap_or_default();
    let root = root::plan(&bundle.root, spec)?;
    let (flags, cgroup_namespace, joined) = namespaces_of(&linux.namespaces)?;
    let (group, v2) = match &bundle.cgroup {
        Some(placement) => {
            let hierarchy = Hierarchy::detect()?;
            let group = GroupPlan::new(&hierarchy, placement, linux.resources.as_ref())?;
            (Some(group), hierarchy.is_v2())
        }
        None => (None, false),
    };
    Ok(LaunchPlan {
        namespaces: flags,
        cgroup_namespace,
        joined,
        root,
        mounts: mounts::plan(&spec.mounts)?,
        masked: linux.masked_paths,
        readonly: linux.readonly_paths,
        hostname: hostname_of(spec)?,
        sysctls: sysctls_of(&linux.sysctl)?,
        process: process::plan(process, linux.seccomp.as_ref(), bundle.seccomp.as_deref())?,
        group,
        v2,
        init: bundle.init,
        netlink: Vec::new(),
        netlink_replies: 0,
    })
}

impl LaunchPlan {
    /// Adds a batch of rtnetlink requests, which the child sends inside its network namespace, and the number of
    /// acknowledgements that they bring.
    pub fn with_netlink(mut self, batch: Vec<u8>, replies: usize) -> Self {
        self.netlink = batch;
        self.netlink_replies = replies;
        self
    }

    /// What this machine lacks and nobody asked for: lines for the user.
    pub fn warnings(&self) -> &[String] {
        self.group.as_ref().map_or(&[], GroupPlan::warnings)
    }
}

/// A C string of bytes that come from a specification.
pub(crate) fn c_string(field: &'static str, bytes: impl Into<Vec<u8>>) -> Result<CString, PlanError> {
    CString::new(bytes).map_err(|e| PlanError::Invalid { field, value: format!("{e}") })
}

type Joined = Vec<(NamespaceKind, OwnedFd)>;

fn namespaces_of(list: &[Namespace]) -> Result<(u64, bool, Joined), PlanError> {
    let (mut flags, mut cgroup, mut joined) = (0, false, Vec::new());
    for namespace in list {
        if let Some(path) = &namespace.path {
            if matches!(namespace.kind, NamespaceKind::Pid | NamespaceKind::User | NamespaceKind::Mount) {
                return Err(PlanError::Unsupported(format!(
                    "joining a {:?} namespace by path",
                    namespace.kind
                )));
            }
            joined.push((namespace.kind, open(path, OFlags::RDONLY)?));
            continue;
        }
        flags |= match namespace.kind {
            NamespaceKind::Pid => namespaces::PID,
            NamespaceKind::Network => namespaces::NETWORK,
            NamespaceKind::Mount => namespaces::MOUNT,
            NamespaceKind::Ipc => namespaces::IPC,
            NamespaceKind::Uts => namespaces::UTS,
            NamespaceKind::Cgroup => {
                cgroup = true;
                0
            }
            NamespaceKind::User | NamespaceKind::Time => {
                return Err(PlanError::Unsupported(format!("a new {:?} namespace", namespace.kind)));
            }
        };
    }
    // Without a mount namespace of its own a container would build its root in the host's.
    if flags & namespaces::MOUNT == 0 {
        return Err(PlanError::Missing("mount namespace"));
    }
    Ok((flags, cgroup, joined))
}

fn hostname_of(spec: &Spec) -> Result<Option<CString>, PlanError> {
    let Some(name) = &spec.hostname else { return Ok(None) };
    if name.len() > 64 {
        return Err(PlanError::Invalid {
            field: "hostname",
            value: format!("`{name}` is longer than 64 bytes"),
        });
    }
    Ok(Some(c_string("hostname", name.as_bytes())?))
}

/// A key's dots become slashes, and nothing else of it is trusted: no `..`, no slash of its own
/// (CVE-2022-0811 smuggled a setting in another's value).
fn sysctls_of(
    list: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<(CString, Vec<u8>)>, PlanError> {
    let mut sysctls = Vec::new();
    for (key, value) in list {
        let good = !key.is_empty()
            && key.split('.').all(|part| !part.is_empty())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && !value.contains(['\n', '\0']);
        if !good {
            return Err(PlanError::Invalid { field: "sysctl", value: format!("`{key}={value}`") });
        }
        sysctls.push((
            c_string("sysctl", format!("sys/{}", key.replace('.', "/")))?,
            value.clone().into_bytes(),
        ));
    }
    Ok(sysctls)
}

/// Opens a path of the host.
pub(crate) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, PlanError> {
    use base::fs::At;
    Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).at("open", path)?)
}
