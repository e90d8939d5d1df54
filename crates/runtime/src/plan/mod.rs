//! From a [`Bundle`] to a [`LaunchPlan`]: everything that parses, allocates, looks up or may fail politely.

mod attributes;
mod cgroups;
mod devices;
mod elsewhere;
mod idmap;
mod inside;
mod mounts;
mod namespaces;
mod options;
mod process;
mod root;
mod sysctl;
mod tree;
mod users;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::{Failure, Kind};
use oci::runtime::{NamespaceKind, NetDevice};
use rustix::fs::{CWD, Mode, OFlags};

pub(crate) use attributes::words as attribute_words;
pub use attributes::{MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, SCHEDULER_FLAGS, SCHEDULER_POLICIES};
pub(crate) use cgroups::{CgroupView, HierarchyPlan};
pub(crate) use devices::{DEFAULTS as DEFAULT_DEVICES, Dev, DevicePlan, DevicesPlan, FIRST as FIRST_DEVICE};
pub(crate) use idmap::MapIds;
pub(crate) use mounts::{MountPlan, MountSource, Place};
pub(crate) use namespaces::{CgroupNamespace, MountNamespace, NamespacePlan};
pub use options::mount_options;
pub(crate) use process::{
    Circumstances, MOST_READ_GROUPS, ProcessPlan, UserPlan, Who, plan as plan_process, setgroups_denied,
};
pub(crate) use root::{RootPlan, RootSourcePlan};
pub(crate) use tree::HostTree;
pub(crate) use users::{Map, Maps};

use crate::bundle::Bundle;
use crate::cgroup::{self, GroupPlan, Hierarchy};
use crate::handshake::Step;
use crate::net_devices::{self, Move};

/// Everything that a container's start needs, ready to be walked with system calls.
#[derive(Debug)]
pub struct LaunchPlan {
    pub(crate) namespaces: NamespacePlan,
    pub(crate) root: RootPlan,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: DevicesPlan,
    pub(crate) cgroup_view: CgroupView,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) readonly: Vec<PathBuf>,
    pub(crate) hostname: Option<CString>,
    pub(crate) domainname: Option<CString>,
    /// Paths below `/proc/sys` and their values.
    pub(crate) sysctls: Vec<(CString, Vec<u8>)>,
    pub(crate) process: ProcessPlan,
    pub(crate) group: Option<GroupPlan>,
    pub(crate) v2: bool,
    pub(crate) init: bool,
    pub(crate) netlink: Vec<u8>,
    pub(crate) netlink_replies: usize,
    pub(crate) warnings: Vec<String>,
    /// Network devices that move in.
    pub(crate) net_devices: Vec<Move>,
    /// The caller wants its turn when all is mounted.
    pub(crate) mounted_step: bool,
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
    /// A label on a machine without SELinux, in the words of runc.
    #[error("selinux label is specified in config, but selinux is disabled or not supported")]
    NoSelinux,
    /// Supplementary groups where a user maps no group but their own, in the words of runc.
    #[error(
        "cannot set any additional groups in a rootless container whose groups are not mapped by newgidmap: leave \
         process.user.additionalGids out, or map a range of /etc/subgid"
    )]
    NoGroups,
    /// Ids other than one's own can only be mapped by root, or by a program with the right to do so.
    #[error("cannot map ids for the user namespace: there is no `{0}` along the PATH")]
    NoMapper(String),
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
    /// The ids of a mount.
    #[error("cannot map the ids of the mount on {}", destination.display())]
    MapIds {
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
            Self::Unsupported(_) | Self::NoSelinux | Self::NoGroups | Self::NoMapper(_) => Kind::Unsupported,
            Self::MapIds { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => Kind::Unsupported,
            Self::BindSource { source, .. } | Self::MapIds { source, .. } => {
                base::failure::kind_of_io(source)
            }
            Self::File(e) => e.kind(),
            Self::Cgroup(e) => e.kind(),
            Self::Seccomp(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoMapper(name) => vec![format!("install the package with `{name}` (uidmap, shadow-utils)")],
            Self::Cgroup(e) => e.hints(),
            Self::Seccomp(e) => e.hints(),
            Self::MapIds { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => vec![
                "the mappings overlap, or the source's file system does not support mapped ids (mount_setattr(2) \
                 lists those that do)"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

/// Makes the plan. Opens what it names on the host (bind sources, namespaces, the filter), changes nothing.
pub fn plan(bundle: &Bundle) -> Result<LaunchPlan, PlanError> {
    let spec = &bundle.spec;
    let process = spec.process.as_ref().ok_or(PlanError::Missing("process"))?;
    let linux = spec.linux.clone().unwrap_or_default();
    let namespaces = namespaces::plan(&linux)?;
    let root = root::plan(&bundle.root, spec, &linux, namespaces.copying())?;
    let names = [("hostname", &spec.hostname), ("domainname", &spec.domainname)];
    let [hostname, domainname] = names.map(|(field, name)| name_of(field, name.as_deref(), &namespaces));
    let net_devices = net_devices_of(&linux.net_devices, &namespaces)?;
    let sysctls = sysctl::plan(&linux.sysctl, &namespaces)?;
    let (group, v2) = match &bundle.cgroup {
        Some(location) => {
            let hierarchy = Hierarchy::detect()?;
            let group = GroupPlan::new(&hierarchy, location, linux.resources.as_ref())?
                .with_annotations(&spec.annotations)?;
            (Some(group), hierarchy.is_v2())
        }
        None if spec.mounts.iter().any(|m| m.kind.as_deref() == Some("cgroup")) => {
            (None, Hierarchy::detect()?.is_v2())
        }
        None => (None, false),
    };
    let circumstances = Circumstances {
        linux: spec.linux.as_ref(),
        compiled: bundle.seccomp.as_deref(),
        foreign_users: linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User),
        own_proc: spec.mounts.iter().any(|m| m.kind.as_deref() == Some("proc")),
        joining: false,
        manner: bundle.manner,
    };
    let process = process::plan(process, circumstances)?;
    if !process.groups.is_empty() && namespaces.users.as_ref().is_some_and(Maps::deny_groups) {
        return Err(PlanError::NoGroups);
    }
    let small =
        matches!(bundle.cgroup, Some(cgroup::Location::Instance(_))) && namespaces.has(NamespaceKind::Cgroup);
    let mut plan = LaunchPlan {
        root,
        mounts: mounts::plan(&spec.mounts, &bundle.inside, &linux, &namespaces)?,
        devices: devices::plan(spec, &linux.devices)?,
        cgroup_view: cgroups::plan(&spec.mounts, v2, small)?,
        masked: linux.masked_paths,
        readonly: linux.readonly_paths,
        hostname: hostname?,
        domainname: domainname?,
        sysctls,
        warnings: process.warnings.iter().chain(group.iter().flat_map(|g| g.warnings())).cloned().collect(),
        process: ProcessPlan { traceable: namespaces.traceable, ..process },
        mounted_step: false,
        group,
        v2,
        init: bundle.init,
        netlink: Vec::new(),
        netlink_replies: 0,
        net_devices,
        namespaces,
    };
    let restricted = plan.group.as_ref().is_some_and(GroupPlan::restricts_last);
    plan.mounted_step = restricted && (v2 || plan.copies_up());
    if let Some(uid) = cgroups::owner(&plan) {
        plan.group = plan.group.map(|group| group.owned_by(uid));
    }
    Ok(plan)
}

/// How the process gets into its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joining {
    /// There is none, or systemd has put it there.
    Nothing,
    /// On v2 it is born there.
    Born,
    /// On v1, by itself, before all else.
    First,
    /// On v1, by itself, once it may go. Meanwhile the parent makes the groups.
    Last,
    /// On v1, by the parent: it is a stranger to the host's groups, or systemd makes them for it.
    Moved,
}

/// One of the trees of the host's mounts that a container gets.
#[derive(Debug)]
pub(crate) struct TreeOf<'a> {
    pub(crate) tree: &'a HostTree,
    pub(crate) map_ids: Option<&'a MapIds>,
    /// What fails if it cannot be had.
    pub(crate) step: Step,
    pub(crate) index: usize,
}

impl LaunchPlan {
    /// What of it has to be in the group before anything is mounted, where that is not for free.
    pub(crate) fn joins_early(&self) -> bool {
        // Hooks look for it there; and what is copied counts.
        self.mounted_step || self.copies_up()
    }

    fn copies_up(&self) -> bool {
        self.mounts.iter().any(|m| matches!(m.source, MountSource::Filesystem { copy_up: true, .. }))
    }

    pub(crate) fn joining(&self) -> Joining {
        let Some(group) = &self.group else { return Joining::Nothing };
        let namespaces = &self.namespaces;
        match (self.v2, group.needs_process()) {
            (true, true) => Joining::Nothing,
            (true, false) => Joining::Born,
            (false, true) if namespaces.is_estranged() || self.joins_early() => Joining::Moved,
            (false, false) if namespaces.is_told() => Joining::Moved,
            (false, false) if self.joins_early() => Joining::First,
            (false, false) if namespaces.is_estranged() => Joining::Moved,
            (false, _) => Joining::Last,
        }
    }

    /// All of them: the root's, then those of bind mounts.
    pub(crate) fn trees(&self) -> impl Iterator<Item = TreeOf<'_>> {
        let root = match &self.root.source {
            RootSourcePlan::Directory(tree) => {
                Some(TreeOf { tree, map_ids: None, step: Step::Root, index: 0 })
            }
            RootSourcePlan::Overlay { .. } | RootSourcePlan::OldOverlay { .. } => None,
        };
        root.into_iter().chain(self.mounts.iter().enumerate().filter_map(
            |(index, mount)| match &mount.source {
                MountSource::Bind { tree, .. } => {
                    Some(TreeOf { tree, map_ids: mount.map_ids.as_ref(), step: Step::Mount, index })
                }
                _ => None,
            },
        ))
    }

    /// Adds a batch of rtnetlink requests, which the child sends inside its network namespace, and the number of
    /// acknowledgements that they bring.
    pub fn with_netlink(mut self, batch: Vec<u8>, replies: usize) -> Self {
        self.netlink = batch;
        self.netlink_replies = replies;
        self
    }

    /// Holds the process just before it takes its rights and executes the command, until [`crate::Held::go`] is said
    /// over this listening socket, which [`crate::Held::listen`] has made.
    pub fn held(mut self, listener: OwnedFd) -> Self {
        self.process.held = Some(listener);
        self
    }

    /// Groups above the container's that are missing are noted in this file before they are made: whoever finds it when we
    /// have been killed can remove them ([`cgroup::remove_noted`]).
    pub fn with_notes(mut self, file: PathBuf) -> Self {
        if let Some(group) = &mut self.group {
            group.noted_in(file);
        }
        self
    }

    /// Has the container mark its group; how, is to be remembered by whoever may act on the group later
    /// ([`cgroup::Group::bears`]). None where it has no group, or where it cannot be marked.
    ///
    /// # Errors
    /// Only if the kernel gives no randomness.
    pub fn mark_group(&mut self) -> io::Result<Option<cgroup::Mark>> {
        let Some(group) = &mut self.group else { return Ok(None) };
        let mark = cgroup::Mark::new(self.v2)?;
        if let Some(mark) = &mark {
            group.marked(mark.clone());
        }
        Ok(mark)
    }

    /// [`crate::Steps::mounted`] is called, with the process in its group.
    pub fn with_mounted_step(mut self) -> Self {
        self.mounted_step = true;
        self
    }

    /// What cannot be had and is no reason to refuse: lines for the user. What this machine lacks and nobody asked
    /// for, and capabilities that cannot be granted.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// A C string of bytes that come from a specification.
pub(crate) fn c_string(field: &'static str, bytes: impl Into<Vec<u8>>) -> Result<CString, PlanError> {
    CString::new(bytes).map_err(|e| PlanError::Invalid { field, value: format!("{e}") })
}

/// A name of the machine or of its domain, which needs a namespace of its own to be set in.
fn name_of(
    field: &'static str,
    name: Option<&str>,
    namespaces: &NamespacePlan,
) -> Result<Option<CString>, PlanError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.len() > 64 {
        return Err(PlanError::Invalid { field, value: format!("`{name}` is longer than 64 bytes") });
    }
    if !namespaces.has(NamespaceKind::Uts) {
        let value = format!("`{name}`: the container has no uts namespace of its own");
        return Err(PlanError::Invalid { field, value });
    }
    Ok(Some(c_string(field, name.as_bytes())?))
}

fn net_devices_of(
    devices: &BTreeMap<String, NetDevice>,
    namespaces: &NamespacePlan,
) -> Result<Vec<Move>, PlanError> {
    let invalid = |value: String| PlanError::Invalid { field: "network devices", value };
    if let Some(name) = devices.keys().next()
        && !namespaces.has(NamespaceKind::Network)
    {
        return Err(invalid(format!("`{name}`: the container has no network namespace of its own")));
    }
    net_devices::plan(devices).map_err(invalid)
}

/// Opens a path of the host.
pub(crate) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, PlanError> {
    use base::fs::At;
    Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).at("open", path)?)
}
