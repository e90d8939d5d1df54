//! The plan of the container's view of its cgroups: which hierarchies, under which names.
//!
//! On v1 there are as many as the host has mounted. With a cgroup namespace each is mounted anew, and what is seen
//! begins at the container's group. Without one its groups are bound: only once the child is in them it is known
//! where they lie (`/proc/self/cgroup`), so that what is here is how to find them.

use std::ffi::CString;
use std::path::Path;

use oci::runtime::{IdMapping, Mount};
use sys::mount::attributes;

use super::{CgroupNamespace, LaunchPlan, MountPlan, MountSource, PlanError, UserPlan, c_string};

/// The view.
#[derive(Debug)]
pub(crate) enum CgroupView {
    /// v2's one hierarchy.
    Unified,
    /// The four hierarchies of v1 that programs look into for their limits, by their names.
    Few,
    /// All that v1 has.
    All(Vec<HierarchyPlan>),
}

/// One of v1's hierarchies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HierarchyPlan {
    /// Its directory, as on the host: `cpu,cpuacct`.
    pub(crate) name: CString,
    /// As `/proc/self/cgroup` has them: `cpu,cpuacct`, `name=systemd`.
    pub(crate) controllers: Vec<u8>,
    /// The same as parameters of the file system.
    pub(crate) parameters: Vec<(CString, Option<CString>)>,
    /// Other names by which it is known: `cpu`, `cpuacct`.
    pub(crate) links: Vec<CString>,
    /// Where the host has it, and which part of the hierarchy it shows there.
    pub(crate) mount: Vec<u8>,
    pub(crate) root: Vec<u8>,
}

/// Decides. `small`: it is our own engine's container, whose view is kept small since its start is hot; without a
/// cgroup namespace that would be a view of all groups of the machine.
pub(super) fn plan(mounts: &[Mount], v2: bool, small: bool) -> Result<CgroupView, PlanError> {
    let asked = mounts.iter().any(|mount| mount.kind.as_deref() == Some("cgroup"));
    if v2 || !asked {
        return Ok(CgroupView::Unified);
    }
    if small {
        return Ok(CgroupView::Few);
    }
    let table = base::fs::read(Path::new("/proc/self/mountinfo"))?;
    let groups = base::fs::read(Path::new("/proc/self/cgroup"))?;
    let found = hierarchies(&table, &groups)?;
    Ok(if found.is_empty() { CgroupView::Unified } else { CgroupView::All(found) })
}

/// Matches the lines of `/proc/self/cgroup` (`4:cpu,cpuacct:/path`) with those of the mount table.
fn hierarchies(table: &[u8], groups: &[u8]) -> Result<Vec<HierarchyPlan>, PlanError> {
    let mut found: Vec<HierarchyPlan> = Vec::new();
    for line in groups.split(|&b| b == b'\n') {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (Some(_), Some(controllers)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            continue;
        }
        let all = || controllers.split(|&b| b == b',');
        let here = table.split(|&b| b == b'\n').filter_map(mount_of).find(|mount| {
            all().all(|controller| mount.options.split(|&b| b == b',').any(|o| o == controller))
        });
        let Some(here) = here else { continue };
        // A name with a space or the like is written in octal: none of these is.
        let name = here.point.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let mut parameters = Vec::new();
        if controllers.starts_with(b"name=") {
            parameters.push((c"none".to_owned(), None));
        }
        for controller in all() {
            parameters.push(match controller.strip_prefix(b"name=") {
                Some(value) => (c"name".to_owned(), Some(c_string("cgroup", value)?)),
                None => (c_string("cgroup", controller)?, None),
            });
        }
        let links = all().filter(|c| *c != name && !c.starts_with(b"name="));
        found.push(HierarchyPlan {
            name: c_string("cgroup", name)?,
            controllers: controllers.to_vec(),
            parameters,
            links: links.map(|c| c_string("cgroup", c)).collect::<Result<_, _>>()?,
            mount: here.point.to_vec(),
            root: here.root.to_vec(),
        });
    }
    Ok(found)
}

struct Mounted<'a> {
    root: &'a [u8],
    point: &'a [u8],
    options: &'a [u8],
}

/// `36 35 98:0 /root /mount/point options… - type source super,options` (proc_pid_mountinfo(5)).
fn mount_of(line: &[u8]) -> Option<Mounted<'_>> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    (*fields.get(dash + 1)? == b"cgroup").then_some(())?;
    Some(Mounted { root: fields.get(3)?, point: fields.get(4)?, options: fields.get(dash + 3)? })
}

/// Who on the host the container's group is given to: its user, where on v2 it has user and cgroup namespaces of its own
/// and sees its groups writable (config-linux.md, "Cgroup ownership"). Nobody where only root could.
pub(super) fn owner(plan: &LaunchPlan) -> Option<u32> {
    let maps = plan.namespaces.users.as_ref()?;
    let writable = |mount: &MountPlan| {
        matches!(mount.source, MountSource::Cgroup { .. }) && mount.attributes & attributes::RDONLY == 0
    };
    if !(plan.v2
        && matches!(plan.namespaces.cgroup, CgroupNamespace::New)
        && plan.mounts.iter().any(writable))
    {
        return None;
    }
    let inside = match plan.process.user {
        UserPlan::Numbers { uid, .. } => uid,
        // Looked up too late.
        UserPlan::LookUp { .. } => 0,
    };
    let outside = outside(&maps.uids.lines, inside)?;
    let caller = rustix::process::geteuid();
    (caller.is_root() || caller.as_raw() == outside).then_some(outside)
}

/// An id of the namespace, as it is outside.
fn outside(lines: &[IdMapping], id: u32) -> Option<u32> {
    lines.iter().find_map(|line| {
        let offset = id.checked_sub(line.container_id).filter(|offset| *offset < line.size)?;
        line.host_id.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_outside_is_found_by_its_line() {
        let line = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let lines = [line(0, 1000, 1), line(1, 100_000, 10)];
        assert_eq!(outside(&lines, 0), Some(1000));
        assert_eq!(outside(&lines, 10), Some(100_009));
        assert_eq!(outside(&lines, 11), None);
    }

    /// On any machine: what is planned does not ask which one it is.
    #[test]
    fn a_group_is_given_away_where_it_is_seen_writable_by_others() {
        use oci::runtime::{Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec, User};
        let planned = |kinds: &[NamespaceKind], v2: bool, options: &[&str]| {
            let mapping = IdMapping { container_id: 0, host_id: 100_000, size: 10 };
            let users = kinds.contains(&NamespaceKind::User);
            let mappings = if users { vec![mapping] } else { Vec::new() };
            let mount = Mount {
                destination: "/sys/fs/cgroup".into(),
                kind: Some("cgroup".to_owned()),
                options: options.iter().map(|s| (*s).to_owned()).collect(),
                ..Mount::default()
            };
            let linux = Linux {
                namespaces: kinds.iter().map(|kind| Namespace { kind: *kind, path: None }).collect(),
                uid_mappings: mappings.clone(),
                gid_mappings: mappings,
                ..Linux::default()
            };
            let process = Process {
                args: vec!["/bin/true".to_owned()],
                cwd: "/".into(),
                user: User { uid: 7, ..User::default() },
                ..Process::default()
            };
            let spec = Spec {
                root: Some(Root { path: "/".into(), readonly: false }),
                mounts: vec![mount],
                process: Some(process),
                linux: Some(linux),
                ..Spec::default()
            };
            let bundle = crate::Bundle {
                spec,
                root: crate::RootSource::Directory("/".into()),
                cgroup: None,
                seccomp: None,
                init: false,
                manner: crate::Manner::default(),
                inside: std::collections::BTreeMap::new(),
            };
            let mut plan = crate::plan(&bundle).unwrap();
            plan.v2 = v2;
            owner(&plan)
        };
        use NamespaceKind::{Cgroup, Mount as Mounts, User as Users};
        assert_eq!(planned(&[Mounts, Cgroup, Users], true, &["rw"]), Some(100_007));
        assert_eq!(planned(&[Mounts, Cgroup, Users], true, &["ro"]), None, "it cannot write there");
        assert_eq!(planned(&[Mounts, Users], true, &["rw"]), None, "it sees the host's");
        assert_eq!(planned(&[Mounts, Cgroup], true, &["rw"]), None, "it is root");
        assert_eq!(planned(&[Mounts, Cgroup, Users], false, &["rw"]), None, "v1 is not given away");
    }

    #[test]
    fn hierarchies_are_found_with_all_their_names() {
        let table = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = b"4:memory:/docker/x/y\n3:cpu,cpuacct:/\n2:name=systemd:/a\n1:pids:/\n0::/\n";
        let found = hierarchies(table, groups).unwrap();
        let names: Vec<_> = found.iter().map(|h| h.name.to_str().unwrap()).collect();
        assert_eq!(names, ["memory", "cpu,cpuacct", "systemd"]);
        assert_eq!(found[0].root, b"/docker/x");
        assert_eq!(found[1].links, [c"cpu".to_owned(), c"cpuacct".to_owned()]);
        assert_eq!(found[2].parameters[1], (c"name".to_owned(), Some(c"systemd".to_owned())));
        assert!(hierarchies(b"", b"").unwrap().is_empty());
    }
}
