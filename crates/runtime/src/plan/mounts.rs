//! The plan of the mounts: options parsed into attributes and parameters, sources of bind mounts cloned.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci::runtime::{Linux, Mount, NamespaceKind};
use sys::mount::{Change, attributes, propagation};

use super::idmap::{MapIds, Mappings};
use super::options::{Options, Parameters};
use super::tree::{Copying, HostTree};
use super::{NamespacePlan, PlanError, c_string, inside, root};
use crate::bundle::Inside;

/// One mount, ready to be made.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Where, as the specification says it: an allegation, resolved inside the root.
    pub(crate) destination: PathBuf,
    pub(crate) place: Place,
    pub(crate) source: MountSource,
    /// Attributes that a new mount is made with.
    pub(crate) attributes: u64,
    /// What is changed of it before it is attached, in this order.
    pub(crate) changes: Vec<Change>,
    /// Becomes read-only only when all is mounted: mount points are made in it, or the devices, or it is `/proc`. Of a
    /// remount all [`changes`](Self::changes) wait as long.
    pub(crate) readonly_later: bool,
    /// Mapped ids of a new file system, or of a tree that the parent copies; of one that is copied they are mapped.
    pub(crate) map_ids: Option<MapIds>,
    /// What the child holds for a later step: the mount, or where it belongs.
    pub(crate) held: Option<OwnedFd>,
}

/// The destinations that are not like the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Dev,
    /// `/dev/pts`, where the terminal is from.
    Terminals,
    Proc,
    /// A file of `/proc` that may be replaced: FUSE file systems tell containers of their limits there.
    ProcFile,
    Other,
}

#[derive(Debug)]
pub(crate) enum MountSource {
    /// A new file system.
    Filesystem {
        kind: CString,
        parameters: Parameters,
        /// Takes the permission bits of a directory that it covers: a tmpfs that is not told any.
        takes_mode: bool,
        /// Takes copies of what the directory holds that it covers.
        copy_up: bool,
    },
    /// A copy of a tree of the host's mounts, attached nowhere yet.
    Bind { tree: HostTree, directory: bool },
    /// What is mounted there already is changed; with parameters its file system too.
    Remount { parameters: Parameters },
    /// The container's view of its cgroups; made once it is in its group. `unified`: of v2, also where the
    /// machine has v1 beside it.
    Cgroup { unified: bool },
}

impl MountPlan {
    /// True for a tmpfs on `/dev`, which gets the default devices.
    pub(crate) fn is_dev(&self) -> bool {
        self.place == Place::Dev && self.is_kind("tmpfs")
    }

    /// True for a mount of this file system type.
    pub(crate) fn is_kind(&self, name: &str) -> bool {
        matches!(&self.source, MountSource::Filesystem { kind, .. } if kind.as_bytes() == name.as_bytes())
    }

    /// What its file system is told.
    pub(crate) fn parameters(&self) -> &[(CString, Option<CString>)] {
        match &self.source {
            MountSource::Filesystem { parameters, .. } | MountSource::Remount { parameters } => parameters,
            MountSource::Bind { .. } | MountSource::Cgroup { .. } => &[],
        }
    }
}

/// What all mounts of a container have in common.
struct Common<'a> {
    linux: &'a Linux,
    /// The SELinux context of new file systems.
    label: Option<CString>,
    /// The propagation of bind mounts that say none.
    default: u64,
    /// The container has a user namespace: what it mounts must not be seen outside.
    user_namespace: bool,
    /// Where the host's mounts are copied, and whether the parent does so.
    copying: Copying,
    parent_copies: bool,
    /// What sources are inside of, by destination.
    inside: &'a BTreeMap<PathBuf, Inside>,
}

pub(super) fn plan(
    mounts: &[Mount],
    inside: &BTreeMap<PathBuf, Inside>,
    linux: &Linux,
    namespaces: &NamespacePlan,
) -> Result<Vec<MountPlan>, PlanError> {
    let (default, _) = root_propagation(linux)?;
    let common = Common {
        linux,
        label: mount_label(linux)?,
        default: if default == propagation::UNBINDABLE { propagation::PRIVATE } else { default },
        copying: namespaces.copying(),
        parent_copies: namespaces.parent_copies,
        inside,
        user_namespace: linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User),
    };
    let mut mappings = Mappings::default();
    mounts.iter().map(|mount| plan_one(mount, &common, &mut mappings)).collect()
}

fn plan_one(mount: &Mount, common: &Common<'_>, mappings: &mut Mappings) -> Result<MountPlan, PlanError> {
    let invalid = |what: &str| PlanError::Invalid {
        field: "mount",
        value: format!("{} {what}", mount.destination.display()),
    };
    if mount.destination.as_os_str().is_empty() {
        return Err(invalid("a destination is empty"));
    }
    let options = Options::parse(&mount.options)?;
    let kind = mount.kind.as_deref().unwrap_or_default();
    let map_ids = mappings.of(mount, options.map_ids, common.linux)?;
    let mut planned = MountPlan {
        destination: mount.destination.clone(),
        place: place_of(&mount.destination),
        attributes: options.attributes().set,
        source: MountSource::Cgroup { unified: kind == "cgroup2" },
        changes: Vec::new(),
        readonly_later: false,
        map_ids: None,
        held: None,
    };
    if options.remount {
        planned.changes = remount_changes(&options);
        planned.readonly_later = planned.place == Place::Dev;
        let mut parameters = Vec::new();
        if !options.bind {
            parameters = superblock(&options);
            parameters.extend(options.parameters);
        }
        planned.source = MountSource::Remount { parameters };
    } else if options.bind || kind == "bind" {
        let tree = bind(mount, options.recursive, common)?;
        planned.changes = bind_changes(&options, common);
        if common.parent_copies {
            planned.map_ids = map_ids;
        } else if let Some(MapIds { namespace, recursive }) = map_ids {
            sys::mount::map_ids(tree.fd.as_fd(), namespace.as_fd(), recursive)
                .map_err(|source| PlanError::MapIds { destination: mount.destination.clone(), source })?;
        }
        let stat = rustix::fs::fstat(&tree.fd).map_err(|e| bind_failed(mount, e.into()))?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        planned.source = MountSource::Bind { tree, directory: kind == rustix::fs::FileType::Directory };
    } else if kind == "cgroup" || kind == "cgroup2" {
    } else if kind.is_empty() {
        return Err(invalid("has neither a type nor a bind option"));
    } else {
        planned.map_ids = map_ids;
        planned.changes = new_changes(&options);
        new_filesystem(mount, kind, options, common, &mut planned)?;
    }
    Ok(planned)
}

fn new_filesystem(
    mount: &Mount,
    kind: &str,
    options: Options,
    common: &Common<'_>,
    planned: &mut MountPlan,
) -> Result<(), PlanError> {
    let readonly = planned.attributes & attributes::RDONLY != 0;
    let (copy_up, tmpfs) = (options.copy_up, kind == "tmpfs");
    let takes_mode = tmpfs && !options.parameters.iter().any(|(key, _)| key.as_bytes() == b"mode");
    let mut parameters = superblock(&options);
    let mut own = options.parameters;
    if let Some(source) = mount.source.as_deref().filter(|s| !s.as_os_str().is_empty()) {
        let source = c_string("mount", source.as_os_str().as_bytes())?;
        own.insert(0, (c"source".to_owned(), Some(source)));
    }
    if kind == "overlay" {
        own = own.into_iter().flat_map(split_layers).collect();
    }
    if parameters.is_empty() {
        parameters = own;
    } else {
        parameters.append(&mut own);
    }
    // Some hold something of the host that only a read-only superblock may be made of. Ours are made anew or are views
    // of the kernel, for which the mount's attribute says it.
    if readonly && !matches!(kind, "proc" | "sysfs" | "tmpfs" | "ramfs" | "devpts" | "mqueue" | "devtmpfs") {
        parameters.push((c"ro".to_owned(), None));
    }
    // Neither proc nor sysfs can be labelled.
    if let Some(label) = common.label.as_ref().filter(|_| !matches!(kind, "proc" | "sysfs")) {
        parameters.push((c"context".to_owned(), Some(label.clone())));
    }
    // And /proc is written to by us until the command runs.
    if readonly && matches!(kind, "tmpfs" | "proc") {
        planned.attributes &= !attributes::RDONLY;
        planned.readonly_later = true;
    }
    let kind = c_string("mount", kind)?;
    planned.source = MountSource::Filesystem { kind, parameters, takes_mode, copy_up: copy_up && tmpfs };
    Ok(())
}

/// A list of an overlay's directories that is too long for one parameter goes to the kernel one by one (6.7). What is
/// written with backslashes or is about data-only layers is left for it to take or to refuse.
fn split_layers((key, value): (CString, Option<CString>)) -> Parameters {
    let list = value.as_ref().map_or(&b""[..], |v| v.as_bytes());
    let plain = !list.contains(&b'\\') && !list.windows(2).any(|pair| pair == b"::");
    if key.as_bytes() != b"lowerdir" || list.len() < root::LONGEST_PARAMETER || !plain {
        return vec![(key, value)];
    }
    if !root::kernel_at_least(6, 7) {
        return vec![(key, value)];
    }
    // A piece of a C string has no zero.
    let layers = list.split(|&b| b == b':').filter_map(|layer| CString::new(layer).ok());
    layers.map(|layer| (c"lowerdir+".to_owned(), Some(layer))).collect()
}

/// The parameters that any file system takes.
fn superblock(options: &Options) -> Parameters {
    options.superblock.iter().filter_map(|name| Some((CString::new(*name).ok()?, None))).collect()
}

fn bind(mount: &Mount, recursive: bool, common: &Common<'_>) -> Result<HostTree, PlanError> {
    let path = mount.source.as_deref().ok_or(PlanError::Missing("source of a bind mount"))?;
    let tree = match common.inside.get(&mount.destination) {
        Some(inside) => inside::tree(inside, path, recursive, common.copying),
        None => HostTree::new(path, recursive, common.copying),
    };
    tree.map_err(|e| bind_failed(mount, e))
}

fn bind_failed(mount: &Mount, source: std::io::Error) -> PlanError {
    PlanError::BindSource {
        path: mount.source.clone().unwrap_or_default(),
        destination: mount.destination.clone(),
        source,
    }
}

/// What makes a copy of the host's mounts the container's: propagation, then attributes, in as few calls as it takes.
///
/// The copies begin in the peer groups of their originals, so that `slave` and `shared` mean the host.
fn bind_changes(options: &Options, common: &Common<'_>) -> Vec<Change> {
    use propagation::{PRIVATE, SHARED, SLAVE};
    let deep = options.recursive;
    let mut wanted: Vec<(u64, bool)> = Vec::with_capacity(1);
    if common.user_namespace {
        // What root of a user namespace mounts is not for the host: it may hear, but not speak.
        wanted.push((SLAVE, deep));
    }
    match options.propagation.first() {
        None => wanted.push((common.default, deep)),
        // The option is about the topmost mount; those below must not stay the host's peers.
        Some((kind, false)) if deep && *kind != SHARED => {
            wanted.push((if *kind == SLAVE { SLAVE } else { PRIVATE }, true));
        }
        Some(_) => {}
    }
    wanted.extend(options.propagation.iter().map(|(kind, recursive)| (*kind, *recursive && deep)));
    wanted.dedup_by(|next, before| next.0 == before.0 && (before.1 || !next.1));
    let mut changes: Vec<Change> =
        wanted.into_iter().map(|(kind, recursive)| propagate(kind, recursive)).collect();
    if deep {
        add(&mut changes, true, options.all);
        add(&mut changes, false, options.own);
    } else {
        add(&mut changes, false, options.attributes());
    }
    changes
}

/// A new file system is private: only where it shall be otherwise there is something to do.
fn new_changes(options: &Options) -> Vec<Change> {
    let kinds = options.propagation.iter().map(|(kind, _)| *kind);
    kinds.skip_while(|kind| *kind == propagation::PRIVATE).map(|kind| propagate(kind, false)).collect()
}

/// What is not named stays as it is, as with mount(8).
fn remount_changes(options: &Options) -> Vec<Change> {
    let mut changes: Vec<Change> =
        options.propagation.iter().map(|(kind, recursive)| propagate(*kind, *recursive)).collect();
    add(&mut changes, true, options.all);
    add(&mut changes, false, options.own);
    changes
}

fn propagate(kind: u64, recursive: bool) -> Change {
    Change { propagation: kind, recursive, ..Change::default() }
}

/// Adds attributes to a change of the same reach, which saves a call.
fn add(changes: &mut Vec<Change>, recursive: bool, attributes: super::options::Attributes) {
    if attributes.is_nothing() {
        return;
    }
    let same = changes.iter_mut().find(|c| c.recursive == recursive && c.set == 0 && c.clear == 0);
    if let Some(change) = same {
        (change.set, change.clear) = (attributes.set, attributes.clear);
    } else {
        changes.push(Change { set: attributes.set, clear: attributes.clear, recursive, ..Change::default() });
    }
}

fn place_of(destination: &Path) -> Place {
    /// What LXCFS and its like put in place, and what FIPS needs.
    const REPLACEABLE: [&str; 11] = [
        "proc/cpuinfo",
        "proc/diskstats",
        "proc/meminfo",
        "proc/stat",
        "proc/swaps",
        "proc/uptime",
        "proc/loadavg",
        "proc/slabinfo",
        "proc/net/dev",
        "proc/sys/kernel/ns_last_pid",
        "proc/sys/crypto/fips_enabled",
    ];
    if is(destination, "dev") {
        Place::Dev
    } else if is(destination, "dev/pts") {
        Place::Terminals
    } else if is(destination, "proc") {
        Place::Proc
    } else if REPLACEABLE.iter().any(|path| is(destination, path)) {
        Place::ProcFile
    } else {
        Place::Other
    }
}

/// Whether a path means `plain` below the root, as it is written.
pub(super) fn is(path: &Path, plain: &str) -> bool {
    let names = || path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    if names().all(|c| c != Component::ParentDir) {
        return names().eq(Path::new(plain).components());
    }
    clean(path).eq(Path::new(plain))
}

/// Whether a path means something in the directory `plain` below the root, or below it.
pub(super) fn is_below(path: &Path, plain: &str) -> bool {
    let path = clean(path);
    path.starts_with(plain) && path != Path::new(plain)
}

/// A path from the root, as it is written: without dots.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean
}

/// `rootfsPropagation` as its kind and whether it is recursive; private where it is not said.
pub(super) fn root_propagation(linux: &Linux) -> Result<(u64, bool), PlanError> {
    let Some(name) = linux.rootfs_propagation.as_deref().filter(|name| !name.is_empty()) else {
        return Ok((propagation::PRIVATE, true));
    };
    let kind = match name.strip_prefix('r').unwrap_or(name) {
        "shared" => propagation::SHARED,
        "slave" => propagation::SLAVE,
        "private" => propagation::PRIVATE,
        "unbindable" => propagation::UNBINDABLE,
        _ => {
            return Err(PlanError::Invalid { field: "rootfsPropagation", value: format!("`{name}`") });
        }
    };
    Ok((kind, name.starts_with('r')))
}

/// The label of new file systems.
pub(super) fn mount_label(linux: &Linux) -> Result<Option<CString>, PlanError> {
    let label = crate::selinux::label(linux.mount_label.as_deref())?;
    label.map(|label| c_string("mountLabel", label)).transpose()
}

#[cfg(test)]
mod tests {
    use propagation::{PRIVATE, SHARED, SLAVE, UNBINDABLE};

    use super::*;

    static NOTHING: BTreeMap<PathBuf, Inside> = BTreeMap::new();

    fn common(linux: &Linux) -> Common<'_> {
        Common {
            linux,
            label: None,
            default: PRIVATE,
            user_namespace: false,
            copying: Copying::Here,
            parent_copies: false,
            inside: &NOTHING,
        }
    }

    fn changes(list: &[&str]) -> Vec<(u64, u64, bool)> {
        let linux = Linux::default();
        let options = Options::parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap();
        bind_changes(&options, &common(&linux)).iter().map(|c| (c.propagation, c.set, c.recursive)).collect()
    }

    #[test]
    fn a_bind_takes_as_few_calls_as_it_can() {
        assert_eq!(changes(&["bind", "rprivate", "ro"]), [(PRIVATE, attributes::RDONLY, false)]);
        assert_eq!(changes(&["rbind", "rprivate", "rro"]), [(PRIVATE, attributes::RDONLY, true)]);
        assert_eq!(changes(&["rbind"]), [(PRIVATE, 0, true)]);
    }

    #[test]
    fn read_only_without_an_r_is_for_the_topmost_mount_alone() {
        assert_eq!(
            changes(&["rbind", "rprivate", "ro"]),
            [(PRIVATE, 0, true), (0, attributes::RDONLY, false)]
        );
        assert_eq!(
            changes(&["rbind", "rslave", "rnosuid", "ro"]),
            [(SLAVE, attributes::NOSUID, true), (0, attributes::RDONLY, false)]
        );
    }

    #[test]
    fn what_lies_below_does_not_stay_the_hosts_peer() {
        assert_eq!(changes(&["rbind", "private"]), [(PRIVATE, 0, true)]);
        assert_eq!(changes(&["rbind", "slave"]), [(SLAVE, 0, true)]);
        assert_eq!(changes(&["rbind", "unbindable"]), [(PRIVATE, 0, true), (UNBINDABLE, 0, false)]);
        assert_eq!(changes(&["rbind", "rslave", "shared"]), [(SLAVE, 0, true), (SHARED, 0, false)]);
    }

    #[test]
    fn a_user_namespaces_mounts_are_never_the_hosts_peers() {
        let linux = Linux::default();
        let options = Options::parse(&["rbind".to_owned(), "rshared".to_owned()]).unwrap();
        let changes = bind_changes(&options, &Common { user_namespace: true, ..common(&linux) });
        let kinds: Vec<_> = changes.iter().map(|c| c.propagation).collect();
        assert_eq!(kinds, [SLAVE, SHARED]);
    }

    fn one(mount: &Mount) -> Result<MountPlan, PlanError> {
        plan_one(mount, &common(&Linux::default()), &mut Mappings::default())
    }

    fn mount(destination: &str, kind: &str, options: &[&str]) -> Mount {
        Mount {
            destination: destination.into(),
            kind: Some(kind.to_owned()).filter(|k| !k.is_empty()),
            source: Some("/no/such".into()),
            options: options.iter().map(|s| (*s).to_owned()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(one(&mount("/x", "", &["rbind"])), Err(PlanError::BindSource { .. })));
        assert!(matches!(one(&mount("/x", "", &["ro"])), Err(PlanError::Invalid { .. })));
        assert!(matches!(one(&mount("", "tmpfs", &[])), Err(PlanError::Invalid { .. })));
        // Nothing to map with.
        assert!(matches!(one(&mount("/x", "", &["bind", "idmap"])), Err(PlanError::Invalid { .. })));
        let half =
            Mount { uid_mappings: vec![oci::runtime::IdMapping::default()], ..mount("/x", "tmpfs", &[]) };
        assert!(matches!(one(&half), Err(PlanError::Invalid { .. })));
    }

    #[test]
    fn a_read_only_file_system_is_one_where_that_matters() {
        let ro = |kind: &str| {
            let planned = one(&mount("/x", kind, &["ro", "sync"])).unwrap();
            let names: Vec<_> =
                planned.parameters().iter().map(|(k, _)| k.to_str().unwrap().to_owned()).collect();
            (planned.attributes & attributes::RDONLY != 0, planned.readonly_later, names)
        };
        assert_eq!(ro("ext4"), (true, false, vec!["sync".into(), "source".into(), "ro".into()]));
        assert_eq!(ro("tmpfs"), (false, true, vec!["sync".into(), "source".into()]));
        assert_eq!(ro("sysfs"), (true, false, vec!["sync".into(), "source".into()]));
        assert_eq!(ro("proc"), (false, true, vec!["sync".into(), "source".into()]));
    }

    proptest::proptest! {
        #[test]
        fn no_mount_is_a_reason_to_panic(
            destination in ".{0,40}",
            kind in "(proc|tmpfs|cgroup|ext4|.{0,8})?",
            options in proptest::collection::vec("(r?bind|remount|r?idmap|ro|r?shared|size=.{0,9}|.{0,20})", 0..6),
        ) {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            one(&mount(&destination, &kind, &options)).map(drop).unwrap_or_default();
        }
    }

    #[test]
    fn special_places_are_known_however_they_are_written() {
        for path in ["/dev", "/dev/", "//dev/.", "dev", "/a/../dev"] {
            assert_eq!(place_of(Path::new(path)), Place::Dev, "{path}");
        }
        assert_eq!(place_of(Path::new("/dev/./pts/")), Place::Terminals);
        assert_eq!(place_of(Path::new("/proc/net/dev")), Place::ProcFile);
        assert_eq!(place_of(Path::new("/proc/version")), Place::Other);
    }

    #[test]
    fn root_propagation_has_eight_names() {
        let of = |name: &str| {
            root_propagation(&Linux { rootfs_propagation: Some(name.to_owned()), ..Linux::default() })
        };
        assert_eq!(of("rslave").unwrap(), (SLAVE, true));
        assert_eq!(of("shared").unwrap(), (SHARED, false));
        assert_eq!(of("").unwrap(), (PRIVATE, true));
        assert!(of("rrslave").is_err() && of("r").is_err());
    }
}
