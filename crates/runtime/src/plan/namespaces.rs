//! The plan of the namespaces: which are made, which are joined, and by whom.
//!
//! One clone makes all that can be made together. The child itself joins what is joined by path, but for a PID
//! namespace, which only children enter, and for a user namespace: what is joined before it needs rights outside of it,
//! what is made with it must belong to it. For those there is a go-between, which joins and then clones the child as
//! its sibling.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{Linux, NamespaceKind, TimeOffset};
use rustix::fs::OFlags;
use rustix::io::Errno;
use sys::process::namespaces as bits;

use super::tree::Copying;
use super::users::{self, Maps};
use super::{PlanError, open};

/// The namespaces of a container.
#[derive(Debug, Default)]
pub(crate) struct NamespacePlan {
    /// `CLONE_NEW*` bits for the clone.
    pub(crate) made: u64,
    /// The ids of the new user namespace.
    pub(crate) users: Option<Maps>,
    /// Its processes may be traced while they are made: by an ordinary user, who made them and could otherwise not
    /// write their maps. A root's may not: root's user has all rights over the new namespace, and with it whatever
    /// shares that user and sees the process, but has not the rights of root (CVE-2016-9962).
    pub(crate) traceable: bool,
    /// The mount namespace is of another owner than the host's, and the parent copies the host's mounts where they are
    /// locked for such a one; an ordinary user has no right to.
    pub(crate) parent_copies: bool,
    /// A new time namespace, and what is written to its `timens_offsets`.
    pub(crate) time: Option<Vec<u8>>,
    /// A cgroup namespace is made, or joined, once the process is in its group.
    pub(crate) cgroup: CgroupNamespace,
    /// Those that are joined by path, the one of mounts last.
    pub(crate) joined: Vec<Joined>,
    /// A go-between joins them.
    pub(crate) between: bool,
    /// Whose the mount namespace is that the root is built in.
    pub(crate) mounts: MountNamespace,
}

/// A namespace that is joined.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) kind: NamespaceKind,
    pub(crate) path: PathBuf,
    pub(crate) namespace: OwnedFd,
}

/// The view of cgroups.
#[derive(Debug, Default)]
pub(crate) enum CgroupNamespace {
    /// The runtime's, or one that was joined with the others.
    #[default]
    Shared,
    New,
    Joined(OwnedFd),
}

/// Whose a mount namespace is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountNamespace {
    /// The container's alone.
    New,
    /// Somebody's: the mounts are made in it, and its root stays as it is.
    Joined,
    /// The runtime's: nothing is mounted there.
    #[default]
    Shared,
}

pub(super) fn plan(linux: &Linux) -> Result<NamespacePlan, PlanError> {
    use NamespaceKind as K;
    let mut plan = NamespacePlan::default();
    let mut seen = Vec::new();
    let (mut user, mut cgroup) = (None, None);
    for namespace in &linux.namespaces {
        if seen.contains(&namespace.kind) {
            let value = format!("{} is listed twice", name(namespace.kind));
            return Err(PlanError::Invalid { field: "namespaces", value });
        }
        seen.push(namespace.kind);
        // An empty path means none to those who write the file.
        if let Some(path) = namespace.path.as_deref().filter(|p| !p.as_os_str().is_empty()) {
            // One that we are in already needs no joining. Of users and of clocks it would even be an error.
            let Some(joined) = open_namespace(namespace.kind, path)? else { continue };
            match namespace.kind {
                K::User => user = Some(joined),
                K::Cgroup => cgroup = Some(joined),
                _ => plan.joined.push(joined),
            }
            continue;
        }
        match namespace.kind {
            K::Cgroup => plan.cgroup = CgroupNamespace::New,
            K::Time => plan.time = Some(Vec::new()),
            kind => plan.made |= bit(kind),
        }
    }
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if plan.made & bits::USER != 0 {
        plan.users = Some(users::plan(linux)?);
        plan.traceable = !rustix::process::geteuid().is_root();
    } else if mapped && !seen.contains(&K::User) {
        // Those of one that is joined may be told once more.
        let value = "there is no user namespace for them".to_owned();
        return Err(PlanError::Invalid { field: "id mappings", value });
    }
    if !linux.time_offsets.is_empty() {
        let Some(time) = &mut plan.time else {
            let value = "there is no new time namespace for them".to_owned();
            return Err(PlanError::Invalid { field: "time offsets", value });
        };
        *time = time_offsets(&linux.time_offsets)?;
    }
    let joins = |kind| plan.joined.iter().any(|j| j.kind == kind);
    plan.mounts = match () {
        () if plan.made & bits::MOUNT != 0 => MountNamespace::New,
        () if joins(K::Mount) => MountNamespace::Joined,
        () => MountNamespace::Shared,
    };
    plan.between = user.is_some()
        || joins(K::Pid)
        || plan.made & bits::USER != 0 && !(plan.joined.is_empty() && cgroup.is_none());
    match cgroup {
        // In a user namespace we might not join it later.
        Some(cgroup) if plan.between => plan.joined.push(cgroup),
        Some(cgroup) => plan.cgroup = CgroupNamespace::Joined(cgroup.namespace),
        None => {}
    }
    plan.joined.extend(user);
    plan.parent_copies = plan.copying() == Copying::Inside && rustix::process::geteuid().is_root();
    // After the one of mounts, paths are others.
    plan.joined.sort_by_key(|j| j.kind == K::Mount);
    Ok(plan)
}

impl NamespacePlan {
    /// Whether the child cannot reach the host's groups by itself: it has other ids, or other paths.
    pub(crate) fn is_estranged(&self) -> bool {
        self.is_told() || self.mounts == MountNamespace::Joined
    }

    /// Whether the child waits for [`crate::handshake::Message::Mapped`] before all else.
    pub(crate) fn is_told(&self) -> bool {
        self.between || self.users.is_some()
    }

    /// Where the host's mounts are copied.
    pub(crate) fn copying(&self) -> Copying {
        match self.mounts {
            _ if !self.has(NamespaceKind::User) => Copying::Here,
            MountNamespace::New => Copying::Inside,
            // In a namespace like it, which is made for that.
            MountNamespace::Joined if rustix::process::geteuid().is_root() => Copying::Inside,
            // A copy is of no use to it that lies in another one's.
            MountNamespace::Joined | MountNamespace::Shared => Copying::HereOrInside,
        }
    }

    /// The network namespace that the child will have joined at some time before Go.
    pub(crate) fn joined_network(&self) -> Option<BorrowedFd<'_>> {
        let network = self.joined.iter().find(|j| j.kind == NamespaceKind::Network);
        network.map(|j| j.namespace.as_fd())
    }

    /// Whether there is a namespace of this kind that is not the runtime's.
    pub(crate) fn has(&self, kind: NamespaceKind) -> bool {
        let made = match kind {
            NamespaceKind::Time => self.time.is_some(),
            NamespaceKind::Cgroup => !matches!(self.cgroup, CgroupNamespace::Shared),
            kind => self.made & bit(kind) != 0,
        };
        made || self.joined.iter().any(|j| j.kind == kind)
    }
}

fn bit(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Pid => bits::PID,
        NamespaceKind::Network => bits::NETWORK,
        NamespaceKind::Mount => bits::MOUNT,
        NamespaceKind::Ipc => bits::IPC,
        NamespaceKind::Uts => bits::UTS,
        NamespaceKind::User => bits::USER,
        NamespaceKind::Cgroup => bits::CGROUP,
        NamespaceKind::Time => bits::TIME,
    }
}

/// As the specification calls it.
fn name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "network",
        NamespaceKind::Mount => "mount",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

/// Its name in `/proc/PID/ns`.
fn file_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        other => name(other),
    }
}

/// Opens a namespace, which must be of this kind. `None`: it is ours.
fn open_namespace(kind: NamespaceKind, path: &Path) -> Result<Option<Joined>, PlanError> {
    use base::fs::At;
    let invalid = |what: &str| PlanError::Invalid {
        field: "namespaces",
        value: format!("{} is {what}", path.display()),
    };
    if !path.is_absolute() {
        return Err(invalid("not an absolute path"));
    }
    // Not to wait for a FIFO.
    let namespace = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    match sys::namespace::kind(namespace.as_fd()) {
        Ok(found) if found == bit(kind) => {}
        Ok(_) => return Err(invalid(&format!("not a {} namespace, but one of another kind", name(kind)))),
        Err(_) => return Err(invalid("not a namespace")),
    }
    let theirs = rustix::fs::fstat(&namespace).at("look at", path)?;
    let own = format!("/proc/self/ns/{}", file_name(kind));
    let ours = match rustix::fs::stat(&own) {
        Err(Errno::NOENT) => None,
        other => Some(other.at("look at", &own)?),
    };
    if ours.is_some_and(|o| (o.st_dev, o.st_ino) == (theirs.st_dev, theirs.st_ino)) {
        return Ok(None);
    }
    Ok(Some(Joined { kind, path: path.to_owned(), namespace }))
}

/// Lines of `timens_offsets`: time_namespaces(7).
fn time_offsets(offsets: &BTreeMap<String, TimeOffset>) -> Result<Vec<u8>, PlanError> {
    let mut text = String::new();
    for (clock, offset) in offsets {
        let invalid = |what: String| PlanError::Invalid { field: "time offsets", value: what };
        if !matches!(&**clock, "monotonic" | "boottime") {
            return Err(invalid(format!("`{clock}` is no clock that has one")));
        }
        if offset.nanosecs > 999_999_999 {
            return Err(invalid(format!("{} ns of `{clock}` are more than a second", offset.nanosecs)));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{clock} {} {}", offset.secs, offset.nanosecs);
    }
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use oci::runtime::{IdMapping, Namespace};

    use super::*;

    fn linux(list: &[(NamespaceKind, Option<&str>)]) -> Linux {
        Linux {
            namespaces: list
                .iter()
                .map(|(kind, path)| Namespace { kind: *kind, path: path.map(PathBuf::from) })
                .collect(),
            ..Linux::default()
        }
    }

    fn invalid(linux: &Linux) -> String {
        match plan(linux).unwrap_err() {
            PlanError::Invalid { value, .. } => value,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn one_clone_makes_what_can_be_made_together() {
        use NamespaceKind::*;
        let plan = plan(&linux(&[(Mount, None), (Pid, None), (Cgroup, None), (Time, None)])).unwrap();
        assert_eq!(plan.made, bits::MOUNT | bits::PID);
        assert!(matches!(plan.cgroup, CgroupNamespace::New) && plan.time == Some(Vec::new()));
        assert!(!plan.between && plan.joined.is_empty());
        assert!(plan.has(Time) && plan.has(Cgroup) && plan.has(Pid) && !plan.has(Ipc) && !plan.has(User));
    }

    #[test]
    fn what_is_listed_twice_or_is_of_another_kind_is_an_error() {
        use NamespaceKind::*;
        assert!(invalid(&linux(&[(Pid, None), (Pid, None)])).contains("pid is listed twice"));
        assert!(invalid(&linux(&[(Uts, Some("/proc/self/ns/ipc"))])).contains("not a uts namespace"));
        assert!(invalid(&linux(&[(Uts, Some("/dev/null"))])).contains("not a namespace"));
        assert!(invalid(&linux(&[(Uts, Some("proc/self/ns/uts"))])).contains("not an absolute path"));
        assert!(matches!(plan(&linux(&[(Uts, Some("/no/such"))])), Err(PlanError::File(_))));
    }

    #[test]
    fn ones_own_is_shared() {
        use NamespaceKind::*;
        let plan =
            plan(&linux(&[(User, Some("/proc/self/ns/user")), (Pid, Some("/proc/self/ns/pid"))])).unwrap();
        assert!(!plan.between && plan.joined.is_empty() && plan.made == 0 && !plan.has(User));
        assert_eq!(plan.mounts, MountNamespace::Shared);
    }

    #[test]
    fn mappings_and_offsets_need_their_namespaces() {
        let with_ids =
            Linux { uid_mappings: vec![IdMapping { size: 1, ..IdMapping::default() }], ..Linux::default() };
        assert!(invalid(&with_ids).contains("no user namespace"));
        let offsets = BTreeMap::from([("boottime".to_owned(), TimeOffset { secs: -7, nanosecs: 5 })]);
        let mut with_offsets = Linux { time_offsets: offsets, ..Linux::default() };
        assert!(invalid(&with_offsets).contains("no new time namespace"));
        with_offsets.namespaces = linux(&[(NamespaceKind::Time, None)]).namespaces;
        assert_eq!(plan(&with_offsets).unwrap().time.unwrap(), b"boottime -7 5\n");
        with_offsets.time_offsets.insert("realtime".to_owned(), TimeOffset::default());
        assert!(invalid(&with_offsets).contains("`realtime` is no clock"));
    }
}
