//! How this machine's control groups are mounted: v2 alone, v1 (one hierarchy per controller), or both at once
//! ("hybrid"), which for us is v1: the controllers are there.
//!
//! The conventional places are looked at first, which costs a few system calls of a microsecond; the list of
//! mounts is read only where they are empty.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{stat, statfs};

use super::Error;

/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC`.
const V1_MAGIC: i64 = 0x0027_e0eb;
const V2_MAGIC: i64 = 0x6367_7270;

const ROOT: &str = "/sys/fs/cgroup";

/// What a hierarchy controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Controller {
    Devices,
    Pids,
    Memory,
    Cpu,
    /// v1's accounting of processor time; part of `cpu` on v2.
    Cpuacct,
    Cpuset,
    Io,
    Freezer,
    Hugetlb,
    Rdma,
    /// v1 only.
    NetCls,
    /// v1 only.
    NetPrio,
    /// What every group of v2 has without a controller: the files that begin with `cgroup.`. Also stands for
    /// controllers that we know by name alone (`unified`).
    Core,
}

impl Controller {
    /// Its name on v1 (where `io` is called `blkio`).
    pub(super) const fn v1_name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Pids => "pids",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Io => "blkio",
            Self::Freezer => "freezer",
            Self::Hugetlb => "hugetlb",
            Self::Rdma => "rdma",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::Core => "cgroup",
        }
    }

    /// Its name in v2's `cgroup.controllers`.
    pub(super) const fn v2_name(self) -> &'static str {
        match self {
            Self::Io => "io",
            other => other.v1_name(),
        }
    }

    /// The one with this name on v1.
    pub(super) fn from_v1_name(name: &str) -> Option<Self> {
        ALWAYS.into_iter().chain(LATE).find(|c| c.v1_name() == name)
    }

    /// The one with this name in v2's lists.
    pub(super) fn from_v2_name(name: &str) -> Option<Self> {
        V2.into_iter().find(|c| c.v2_name() == name)
    }
}

/// v1's hierarchies that every container joins, and why: `devices` is a wall; `pids` and `memory` hold the limits
/// that keep the host alive; `cpu` and `cpuacct` are limit and account of processor time, which cannot be had
/// afterwards. Each costs 20 to 60 µs to make and 15 µs to join. `cpuset` is joined only where it is asked for
/// (30 µs more, and it wants its masks filled in first); `freezer` can be joined when somebody pauses.
pub(super) const ALWAYS: [Controller; 5] =
    [Controller::Devices, Controller::Pids, Controller::Memory, Controller::Cpu, Controller::Cpuacct];

/// v1's hierarchies that a container joins where something asks for it: a limit, or who pauses it.
pub(super) const LATE: [Controller; 7] = [
    Controller::Cpuset,
    Controller::Freezer,
    Controller::Io,
    Controller::Hugetlb,
    Controller::Rdma,
    Controller::NetCls,
    Controller::NetPrio,
];

/// v2's controllers that we have typed settings for.
const V2: [Controller; 7] = [
    Controller::Cpu,
    Controller::Io,
    Controller::Memory,
    Controller::Pids,
    Controller::Cpuset,
    Controller::Hugetlb,
    Controller::Rdma,
];

/// How this machine's control groups are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy(pub(super) Layout);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    V2 {
        root: PathBuf,
        /// What may be controlled below the root.
        controllers: Vec<Controller>,
        /// The same by the kernel's names, also those that we know nothing of.
        listed: String,
    },
    V1 {
        /// Each hierarchy once, with the first of its controllers that was found. Empty on a machine without
        /// any.
        mounts: Vec<(Controller, PathBuf)>,
        /// Where systemd runs: the hierarchies by which it knows which process belongs to which service. A
        /// container must leave the service it was started from, or it dies with it.
        systemd: Option<PathBuf>,
        /// The same, on v2: hybrid.
        unified: Option<PathBuf>,
    },
}

impl Hierarchy {
    /// Looks at the machine.
    pub fn detect() -> Result<Self, Error> {
        if has_magic(Path::new(ROOT), V2_MAGIC) {
            return Self::v2(PathBuf::from(ROOT));
        }
        let conventional = |c: Controller| {
            let path = Path::new(ROOT).join(c.v1_name());
            has_magic(&path, V1_MAGIC).then_some((c, path))
        };
        let mounts: Vec<_> = ALWAYS.into_iter().filter_map(conventional).collect();
        if !mounts.is_empty() {
            return Ok(Self::v1(mounts, Path::new(ROOT)));
        }
        let table = base::fs::read(Path::new("/proc/self/mountinfo"))?;
        let found = parse_mountinfo(&table);
        match found.v2 {
            Some(root) if found.v1.is_empty() => Self::v2(root),
            _ => {
                let root = found.v1.first().and_then(|(_, path)| path.parent()).unwrap_or(Path::new(ROOT));
                let root = root.to_owned();
                Ok(Self::v1(found.v1, &root))
            }
        }
    }

    pub(super) fn v2(root: PathBuf) -> Result<Self, Error> {
        let path = root.join("cgroup.controllers");
        let listed = base::fs::read_if_exists(&path)?.unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let controllers = listed.split_ascii_whitespace().filter_map(Controller::from_v2_name).collect();
        Ok(Self(Layout::V2 { root, controllers, listed }))
    }

    /// Whether v2 has the controller of this name, be it one that we know or not.
    pub(super) fn lists(&self, name: &str) -> bool {
        match &self.0 {
            Layout::V2 { listed, .. } => listed.split_ascii_whitespace().any(|n| n == name),
            Layout::V1 { .. } => false,
        }
    }

    fn v1(mounts: Vec<(Controller, PathBuf)>, root: &Path) -> Self {
        // `cpu` and `cpuacct` are often one hierarchy under two names.
        let mut seen = Vec::new();
        let mounts = mounts
            .into_iter()
            .filter(|(_, path)| match stat(path) {
                Ok(s) if seen.contains(&s.st_dev) => false,
                Ok(s) => {
                    seen.push(s.st_dev);
                    true
                }
                Err(_) => false,
            })
            .collect();
        let booted = rustix::fs::access("/run/systemd/system", rustix::fs::Access::EXISTS).is_ok();
        let place = |name: &str, magic| {
            let path = root.join(name);
            (booted && has_magic(&path, magic)).then_some(path)
        };
        Self(Layout::V1 { mounts, systemd: place("systemd", V1_MAGIC), unified: place("unified", V2_MAGIC) })
    }

    /// True on a machine with v2 alone, where a child can be cloned into its group.
    pub fn is_v2(&self) -> bool {
        matches!(self.0, Layout::V2 { .. })
    }

    /// `1` or `2`, as `docker info` has it.
    pub fn version(&self) -> u8 {
        if self.is_v2() { 2 } else { 1 }
    }

    /// Where v1's hierarchy of this name would be, beside the others; not looked at.
    pub(super) fn beside(mounts: &[(Controller, PathBuf)], controller: Controller) -> Option<PathBuf> {
        Some(mounts.first()?.1.parent()?.join(controller.v1_name()))
    }

    /// Where this controller can be used; `None` where it cannot.
    pub(super) fn mount(&self, controller: Controller) -> Option<PathBuf> {
        match &self.0 {
            Layout::V2 { root, controllers, .. } => {
                let has = match controller {
                    // A program in the kernel, or the group itself, does it without a controller.
                    Controller::Devices | Controller::Core | Controller::Freezer => true,
                    Controller::Cpuacct => controllers.contains(&Controller::Cpu),
                    other => controllers.contains(&other),
                };
                has.then(|| root.clone())
            }
            Layout::V1 { mounts, .. } => {
                if let Some((_, path)) = mounts.iter().find(|(c, _)| *c == controller) {
                    return Some(path.clone());
                }
                let path = Self::beside(mounts, controller)?;
                has_magic(&path, V1_MAGIC).then_some(path)
            }
        }
    }
}

fn has_magic(path: &Path, magic: i64) -> bool {
    statfs(path).is_ok_and(|s| {
        #[allow(clippy::useless_conversion, reason = "its type differs between architectures")]
        let kind = i64::from(s.f_type);
        kind == magic
    })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    v1: Vec<(Controller, PathBuf)>,
    v2: Option<PathBuf>,
}

/// `36 35 98:0 /root /mount/point options… - type source super,options` (proc_pid_mountinfo(5)).
fn parse_mountinfo(table: &[u8]) -> Found {
    let mut found = Found::default();
    for line in table.split(|&b| b == b'\n') {
        let fields: Vec<_> = line.split(|&b| b == b' ').collect();
        let Some(dash) = fields.iter().position(|f| *f == b"-") else { continue };
        let (Some(point), Some(kind)) = (fields.get(4), fields.get(dash + 1)) else { continue };
        let options = fields.get(dash + 3).copied().unwrap_or_default();
        match *kind {
            b"cgroup2" if found.v2.is_none() => found.v2 = Some(unescape(point)),
            b"cgroup" => {
                for controller in ALWAYS {
                    let named = options.split(|&b| b == b',').any(|o| o == controller.v1_name().as_bytes());
                    if named && !found.v1.iter().any(|(c, _)| *c == controller) {
                        found.v1.push((controller, unescape(point)));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Blanks and backslashes are written as `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = |b: u8| b.is_ascii_digit().then(|| u32::from(b - b'0')).filter(|d| *d < 8);
        if first == b'\\'
            && let [a, b, c, tail @ ..] = after
            && let (Some(a), Some(b), Some(c)) = (octal(*a), octal(*b), octal(*c))
        {
            bytes.push((a * 64 + b * 8 + c) as u8);
            rest = tail;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mount_tables_are_understood() {
        let hybrid = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /cg/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /cg/with\\040blank rw - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = parse_mountinfo(hybrid);
        assert_eq!(found.v2, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            found.v1,
            [
                (Controller::Cpu, "/cg/cpu,cpuacct".into()),
                (Controller::Cpuacct, "/cg/cpu,cpuacct".into()),
                (Controller::Memory, "/cg/with blank".into()),
            ]
        );
        assert_eq!(parse_mountinfo(b""), Found::default());
    }

    #[test]
    fn this_machine_has_groups() {
        let hierarchy = Hierarchy::detect().unwrap();
        assert!(hierarchy.mount(Controller::Pids).is_some(), "{hierarchy:?}");
        assert!(hierarchy.mount(Controller::Memory).is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_tables_never_panic(table in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse_mountinfo(&table);
        }
    }
}
