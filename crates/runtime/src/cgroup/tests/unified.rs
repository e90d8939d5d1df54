//! The same on v2: where the machine is hybrid, on the hierarchy of v2 beside those of v1, which has few controllers
//! but all that belongs to the group itself.

use oci::runtime::{DeviceRule, HugepageLimit};

use super::*;

/// A group on v2, gone at the end. `None` where there is no v2 at all.
struct OnV2 {
    hierarchy: Hierarchy,
    location: Location,
    top: std::path::PathBuf,
}

impl OnV2 {
    fn new(name: &str) -> Option<Self> {
        let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let root = Path::new(places.into_iter().find(|p| Path::new(p).join("cgroup.controllers").exists())?);
        let name = format!("dhow-test-v2-{name}-{}", std::process::id());
        let hierarchy = Hierarchy::v2(root.to_owned()).unwrap();
        Some(Self {
            hierarchy,
            location: Location::Path(Path::new(&name).join("one")),
            top: root.join(&name),
        })
    }

    fn create(&self, resources: &Resources) -> Group {
        GroupPlan::new(&self.hierarchy, &self.location, Some(resources)).unwrap().create().unwrap()
    }

    fn has(&self, controller: Controller) -> bool {
        self.hierarchy.mount(controller).is_some()
    }
}

impl Drop for OnV2 {
    fn drop(&mut self) {
        let group = Group::existing(&self.hierarchy, &self.location);
        group.kill().ok();
        group.remove().ok();
        std::fs::remove_dir(&self.top).ok();
    }
}

fn pid_limit(limit: i64) -> Resources {
    Resources { pids: Some(Pids { limit }), ..Resources::default() }
}

#[test]
fn it_freezes_and_is_killed_frozen() {
    let Some(at) = OnV2::new("freeze") else { return };
    let group = at.create(&Resources::default());
    let mut child = shell(&group, "sleep 100");
    assert_eq!(group.processes(), [child.id()]);
    group.freeze().unwrap();
    assert!(group.frozen());
    let events = std::fs::read_to_string(at.top.join("one/cgroup.events")).unwrap();
    assert!(events.contains("frozen 1"), "{events}");
    group.thaw().unwrap();
    assert!(!group.frozen());
    group.freeze().unwrap();
    let waiter = std::thread::spawn(move || child.wait().unwrap());
    group.kill().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&waiter.join().unwrap()), Some(9));
    group.remove().unwrap();
    assert!(!at.top.exists());
}

#[test]
fn a_device_program_takes_the_place_of_the_old_one() {
    let Some(at) = OnV2::new("devices") else { return };
    let rules = |minor| {
        vec![DeviceRule {
            allow: true,
            kind: Some("c".to_owned()),
            major: Some(1),
            minor: Some(minor),
            access: Some("rw".to_owned()),
        }]
    };
    let group = at.create(&Resources { devices: rules(11), ..Resources::default() });
    let directory = group.open_v2().unwrap().unwrap();
    let count = || sys::bpf::attached_device_filters(directory.as_fd()).unwrap().len();
    assert_eq!(count(), 1);
    let kernel_log = |group: &Group| run(group, ": </dev/kmsg && : </dev/null").0;
    if Path::new("/dev/kmsg").exists() {
        assert!(kernel_log(&group));
    }
    group.update_in(&at.hierarchy, &Resources { devices: rules(12), ..Resources::default() }).unwrap();
    assert_eq!(count(), 1);
    assert!(!kernel_log(&group));
    assert!(run(&group, ": </dev/null").0);
    let everything = vec![DeviceRule { allow: true, ..DeviceRule::default() }];
    group.update_in(&at.hierarchy, &Resources { devices: everything, ..Resources::default() }).unwrap();
    assert_eq!(count(), 0);
    // Without rules, they stay as they are.
    group.update_in(&at.hierarchy, &Resources { devices: rules(11), ..Resources::default() }).unwrap();
    group.update_in(&at.hierarchy, &Resources::default()).unwrap();
    assert_eq!(count(), 1);
}

#[test]
fn controllers_are_handed_down_to_the_group() {
    let Some(at) = OnV2::new("levels") else { return };
    let resources = if at.has(Controller::Hugetlb) {
        let limit = HugepageLimit { page_size: "2048KB".to_owned(), limit: 4 << 20 };
        Resources { hugepage_limits: vec![limit], ..Resources::default() }
    } else {
        pid_limit(5)
    };
    let group = at.create(&resources);
    let controllers = std::fs::read_to_string(at.top.join("one/cgroup.controllers")).unwrap();
    assert_ne!(controllers.trim(), "");
    if at.has(Controller::Hugetlb) {
        let file = at.top.join("one/hugetlb.2MB.max");
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "4194304");
        assert_eq!(group.stats().hugepages["2MB"].usage, 0);
        let unified = [("hugetlb.2MB.max".to_owned(), "2097152".to_owned())].into();
        group.update_in(&at.hierarchy, &Resources { unified, ..Resources::default() }).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "2097152");
    }
    group.remove().unwrap();
}

#[test]
fn what_no_controller_can_do_is_refused_before_anything_is_made() {
    let Some(at) = OnV2::new("missing") else { return };
    let refused = |resources: &Resources| {
        let error = GroupPlan::new(&at.hierarchy, &at.location, Some(resources)).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    };
    refused(&Resources {
        unified: [("nonsense.max".to_owned(), "1".to_owned())].into(),
        ..Resources::default()
    });
    if !at.has(Controller::Memory) {
        let memory = Memory { limit: Some(1 << 20), ..Memory::default() };
        refused(&Resources { memory: Some(memory), ..Resources::default() });
        // Nobody asks for the limit of processes that is everybody's.
        assert!(GroupPlan::new(&at.hierarchy, &at.location, Some(&pid_limit(5))).is_ok());
    }
    assert!(!at.top.exists());
    let depth = [("cgroup.max.depth".to_owned(), "3".to_owned())].into();
    at.create(&Resources { unified: depth, ..Resources::default() });
    assert_eq!(std::fs::read_to_string(at.top.join("one/cgroup.max.depth")).unwrap().trim(), "3");
    let file = [("cgroup.no.such".to_owned(), "3".to_owned())].into();
    let plan = GroupPlan::new(
        &at.hierarchy,
        &at.location,
        Some(&Resources { unified: file, ..Resources::default() }),
    );
    assert!(matches!(plan.unwrap().create(), Err(Error::Missing { .. })));
}

#[test]
fn a_child_is_born_in_it_and_found_where_it_went() {
    let Some(at) = OnV2::new("born") else { return };
    let plan = GroupPlan::new(&at.hierarchy, &at.location, None).unwrap();
    assert!(!plan.needs_process());
    let group = plan.make_for(1).unwrap();
    plan.restrict().unwrap();
    let (pid, pidfd) = joined_child(&plan, &group);
    assert_eq!(group.processes(), [pid]);
    let inner = at.top.join("one/init");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("cgroup.procs"), pid.to_string()).unwrap();
    assert_eq!(group.place_of(pid).unwrap().paths()[""], inner);
    assert!(group.place_of(std::process::id()).is_none());
    pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    group.kill().unwrap();
    group.remove().unwrap();
}

#[test]
fn a_user_may_manage_what_is_below() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(at) = OnV2::new("owner") else { return };
    let plan = GroupPlan::new(&at.hierarchy, &at.location, None).unwrap().owned_by(4711);
    let group = plan.create().unwrap();
    let owner = |file: &str| std::fs::metadata(at.top.join("one").join(file)).unwrap().uid();
    assert_eq!((owner(""), owner("cgroup.procs"), owner("cgroup.subtree_control")), (4711, 4711, 4711));
    assert_eq!((owner("cgroup.freeze"), owner("cgroup.max.depth")), (0, 0));
    group.remove().unwrap();
}

#[test]
fn systemd_is_needed_where_it_is_to_make_the_group() {
    let Some(at) = OnV2::new("systemd") else { return };
    let location = Location::systemd("dhow-test.slice:dhow:x", false).unwrap();
    let plan = GroupPlan::new(&at.hierarchy, &location, None).unwrap();
    assert!(plan.needs_process() && plan.make().is_err());
    let annotations = [
        ("org.systemd.property.TimeoutStopUSec".to_owned(), "5".to_owned()),
        ("org.systemd.property.ExecStopPost".to_owned(), "[('/bin/sh', ['/bin/sh'], false)]".to_owned()),
    ];
    let plan = plan.with_annotations(&annotations.into()).unwrap();
    assert_eq!(plan.warnings().len(), 1, "{:?}", plan.warnings());
}
