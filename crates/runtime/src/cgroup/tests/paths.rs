//! Groups at paths of others' choosing, and what is done to groups in use, on this machine's own hierarchies.

use oci::runtime::{BlockIo, DeviceRule};

use super::*;

/// A group at a path, gone at the end with what was made for it.
struct At {
    hierarchy: Hierarchy,
    location: Location,
    top: String,
}

impl At {
    fn new(name: &str) -> Self {
        let top = format!("dhow-test-at-{name}-{}", std::process::id());
        let location = Location::Path(format!("/{top}/pod/one").into());
        Self { hierarchy: Hierarchy::detect().unwrap(), location, top }
    }

    fn plan(&self, resources: &Resources) -> Result<GroupPlan, Error> {
        GroupPlan::new(&self.hierarchy, &self.location, Some(resources))
    }

    fn create(&self, resources: &Resources) -> Group {
        self.plan(resources).unwrap().create().unwrap()
    }

    fn root(&self, controller: Controller) -> std::path::PathBuf {
        self.hierarchy.mount(controller).unwrap()
    }
}

impl Drop for At {
    fn drop(&mut self) {
        let group = Group::existing(&self.hierarchy, &self.location);
        group.kill().ok();
        group.remove().ok();
        let base = Path::new("/sys/fs/cgroup");
        for place in std::fs::read_dir(base).unwrap().map(|e| e.unwrap().path()).chain([base.to_owned()]) {
            for below in ["pod", ""] {
                std::fs::remove_dir(place.join(&self.top).join(below)).ok();
            }
        }
    }
}

/// Children that sleep, reaped at the end so that no zombie counts as alive.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn new(group: &Group, count: usize) -> Self {
        let children: Vec<_> = (0..count).map(|_| shell(group, "sleep 100")).collect();
        Self(children)
    }

    fn reap(self) -> Vec<std::process::ExitStatus> {
        self.0.into_iter().map(|mut child| child.wait().unwrap()).collect()
    }
}

fn memory(limit: i64, swap: i64) -> Resources {
    let memory = Memory { limit: Some(limit), swap: Some(swap), ..Memory::default() };
    Resources { memory: Some(memory), ..Resources::default() }
}

#[test]
fn a_path_is_made_level_by_level_and_goes_with_the_group() {
    let at = At::new("levels");
    // What is there before stays.
    let kept = at.root(Controller::Memory).join(&at.top);
    std::fs::create_dir(&kept).unwrap();
    let group = at.create(&limits());
    let paths = group.paths();
    assert!(paths.values().all(|path| path.ends_with(format!("{}/pod/one", at.top))), "{paths:?}");
    if !at.hierarchy.is_v2() {
        for name in ["devices", "pids", "memory", "cpu", "cpuacct", "freezer", "blkio"] {
            assert!(paths[name].is_dir(), "{name}");
        }
        assert!(!paths.contains_key("cpuset"));
    }
    assert_eq!(group.limits().memory, Some(64 << 20));
    let (ok, text) = run(&group, "cat /proc/self/cgroup");
    assert!(ok && text.matches(&format!("/{}/pod/one", at.top)).count() >= paths.len(), "{text}");
    // A later process knows all that it needs.
    let record = serde_json::to_string(&group.record()).unwrap();
    let later = Group::from_record(&serde_json::from_str(&record).unwrap());
    assert_eq!(later.paths(), paths);
    assert_eq!(later.limits(), group.limits());
    later.remove().unwrap();
    assert!(paths.values().all(|path| !path.exists()));
    let pids = at.root(Controller::Pids).join(&at.top);
    assert!(kept.exists() && !pids.join("pod").exists());
    assert_eq!(pids.exists(), pids == kept);
}

/// Of the groups of v1 at one path one is in use, and another is not there.
#[test]
fn what_was_there_stays_where_a_group_cannot_be_made() {
    let at = At::new("theirs");
    if at.hierarchy.is_v2() {
        // There is but one.
        return;
    }
    let mut paths = at.create(&Resources::default()).paths();
    let missing = paths.remove("devices").unwrap();
    std::fs::remove_dir(&missing).unwrap();
    let mut busy = Command::new("sleep").arg("100").spawn().unwrap();
    std::fs::write(paths["blkio"].join("cgroup.procs"), busy.id().to_string()).unwrap();
    let error = at.plan(&Resources::default()).unwrap().create().unwrap_err();
    busy.kill().unwrap();
    busy.wait().unwrap();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(paths.values().all(|path| path.exists()), "somebody else's");
    assert!(!missing.exists(), "ours");
}

#[test]
fn a_group_in_use_is_not_taken_over() {
    let at = At::new("in-use");
    let group = at.create(&Resources::default());
    // An empty one is, as a start that failed may leave it.
    at.create(&Resources::default());
    let sleepers = Sleepers::new(&group, 1);
    let error = at.plan(&Resources::default()).unwrap().create().unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(group.exists(), "somebody else's group stays");
    group.signal_all(9).unwrap();
    sleepers.reap();
}

#[test]
fn frozen_processes_stand_still_go_on_and_can_be_killed() {
    let at = At::new("freeze");
    let group = at.create(&Resources::default());
    freeze_and_kill(&group);
    // One of Dhow's own is not in the freezer until it is paused.
    let place = Place::new("freeze");
    let group = place.create(&Resources::default());
    freeze_and_kill(&place.existing());
    group.remove().unwrap();
}

fn freeze_and_kill(group: &Group) {
    let mut counter = Command::new("/bin/sh")
        .args(["-c", "read go; while :; do echo x; sleep 0.01; done"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    group.join(counter.id()).unwrap();
    let sleepers = Sleepers::new(group, 3);
    assert!(!group.frozen());
    group.freeze().unwrap();
    group.freeze().unwrap();
    assert!(group.frozen());
    let state = std::fs::read_to_string(format!("/proc/{}/wchan", counter.id())).unwrap_or_default();
    assert_eq!(group.processes().len(), 4, "{state}");
    group.thaw().unwrap();
    group.thaw().unwrap();
    assert!(!group.frozen());
    {
        use std::io::{Read as _, Write as _};
        counter.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut byte = [0];
        counter.stdout.take().unwrap().read_exact(&mut byte).unwrap();
    }
    group.freeze().unwrap();
    let waiter = std::thread::spawn(move || {
        counter.wait().unwrap();
        sleepers.reap()
    });
    let began = Instant::now();
    group.kill().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    for status in waiter.join().unwrap() {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
    assert!(!group.frozen() && group.processes().is_empty());
}

#[test]
fn a_signal_reaches_all() {
    let at = At::new("signal");
    let group = at.create(&Resources::default());
    let sleepers = Sleepers::new(&group, 5);
    group.signal_all(15).unwrap();
    for status in sleepers.reap() {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    }
    assert!(group.signal_all(99).is_ok(), "nobody is left to refuse it");
}

#[test]
fn limits_go_up_and_down_in_any_order() {
    let at = At::new("update");
    let group = at.create(&memory(32 << 20, 48 << 20));
    let swap = group.limits().memory_and_swap.is_some();
    for (limit, total) in [(64, 96), (16, 16), (128, 128), (128, 256), (32, 200), (300, 300), (8, 9)] {
        group.update(&memory(limit << 20, total << 20)).unwrap();
        let now = group.limits();
        assert_eq!(now.memory, Some((limit << 20) as u64), "{limit} {total}");
        if swap {
            assert_eq!(now.memory_and_swap, Some((total << 20) as u64), "{limit} {total}");
        }
    }
    // Swap alone is beside the memory that is limited already.
    let swap_only = Memory { swap: Some(64 << 20), ..Memory::default() };
    group.update(&Resources { memory: Some(swap_only), ..Resources::default() }).unwrap();
    assert_eq!(group.limits().memory, Some(8 << 20));
    group.update(&memory(-1, -1)).unwrap();
    assert_eq!((group.limits().memory, group.limits().memory_and_swap), (None, None));

    let cpu = |quota, period| {
        group
            .update(&Resources { cpu: Some(Cpu { quota, period, ..Cpu::default() }), ..Resources::default() })
            .map(|()| (group.limits().cpu_quota, group.limits().cpu_period))
    };
    assert_eq!(cpu(Some(50_000), None).unwrap(), (Some(50_000), Some(100_000)));
    assert_eq!(cpu(None, Some(200_000)).unwrap(), (Some(50_000), Some(200_000)), "the quota stays");
    assert_eq!(cpu(Some(20_000), None).unwrap(), (Some(20_000), Some(200_000)), "the period stays");
    assert_eq!(cpu(Some(-1), None).unwrap(), (None, None));
    let error = cpu(Some(10), None).unwrap_err();
    assert!(matches!(&error, Error::Limit { limit, .. } if limit == "CPU limit"), "{error}");

    group.update(&Resources { pids: Some(Pids { limit: 7 }), ..Resources::default() }).unwrap();
    assert_eq!(group.limits().pids, Some(7));
    group.remove().unwrap();
    assert!(group.update(&memory(1 << 20, 1 << 20)).is_err(), "what is gone cannot be updated");
}

#[test]
fn a_burst_may_be_raised_with_the_quota() {
    let at = At::new("burst");
    let burst = at.hierarchy.is_v2() || at.root(Controller::Cpu).join("cpu.cfs_burst_us").exists();
    if !can(burst, "bursts of processor time") {
        return;
    }
    let cpu = |quota, burst| Resources {
        cpu: Some(Cpu { quota: Some(quota), burst: Some(burst), ..Cpu::default() }),
        ..Resources::default()
    };
    let group = at.create(&cpu(20_000, 20_000));
    group.update(&cpu(50_000, 50_000)).unwrap();
    group.update(&cpu(10_000, 10_000)).unwrap();
    assert_eq!(group.limits().cpu_quota, Some(10_000));
}

#[test]
fn what_the_group_uses_cannot_be_taken_from_it() {
    let at = At::new("busy");
    let group = at.create(&memory(256 << 20, 256 << 20));
    let mut child = shell(&group, "head -c 100m /dev/zero | { tail; sleep 1000; }");
    {
        use std::io::Write as _;
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
    }
    // Long, for an emulated machine.
    let deadline = Instant::now() + Duration::from_mins(3);
    while group.stats().memory.usage.usage < 64 << 20 {
        assert!(Instant::now() < deadline, "{:?}", group.stats().memory.usage);
        std::thread::sleep(Duration::from_millis(20));
    }
    let memory = Memory {
        limit: Some(8 << 20),
        swap: Some(8 << 20),
        check_before_update: Some(true),
        ..Memory::default()
    };
    let error = group.update(&Resources { memory: Some(memory), ..Resources::default() }).unwrap_err();
    assert!(matches!(&error, Error::Limit { limit, .. } if limit == "memory limit"), "{error}");
    assert!(!group.oom_killed());
    group.signal_all(9).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_hierarchy_is_joined_when_an_update_needs_it() {
    let at = At::new("late");
    let separate = !at.hierarchy.is_v2() && at.hierarchy.mount(Controller::Cpuset).is_some();
    if !can(separate, "cpuset of cgroup v1") {
        return;
    }
    let group = at.create(&Resources::default());
    let sleepers = Sleepers::new(&group, 2);
    let cpu = Cpu { cpus: Some("0".to_owned()), ..Cpu::default() };
    group.update(&Resources { cpu: Some(cpu), ..Resources::default() }).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", sleepers.0[1].id())).unwrap();
    assert!(status.lines().any(|line| line == "Cpus_allowed_list:\t0"), "{status}");
    assert!(Group::existing(&at.hierarchy, &at.location).paths().contains_key("cpuset"));
    group.signal_all(9).unwrap();
    sleepers.reap();
    group.remove().unwrap();
    assert!(!at.root(Controller::Cpuset).join(&at.top).exists());
}

#[test]
fn devices_can_be_taken_back_while_they_are_used() {
    let at = At::new("devices");
    let node = |major, minor| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node");
        let kind = rustix::fs::FileType::CharacterDevice;
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, rustix::fs::makedev(major, minor)).unwrap();
        (directory, path)
    };
    // The kernel's log: a character device that is none of the defaults.
    let (_directory, kmsg) = node(1, 11);
    let allow = DeviceRule {
        allow: true,
        kind: Some("c".to_owned()),
        major: Some(1),
        minor: Some(11),
        access: Some("rw".to_owned()),
    };
    let deny = DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    let group = at.create(&Resources { devices: vec![deny.clone(), allow], ..Resources::default() });
    let opens = || run(&group, &format!(": <{} && : </dev/null", kmsg.display()));
    let (ok, text) = opens();
    assert!(ok, "{text}");
    group.update(&Resources { devices: vec![deny], ..Resources::default() }).unwrap();
    let (ok, text) = opens();
    assert!(!ok && text.contains("not permitted"), "{text}");
    let (ok, text) = run(&group, "cat /dev/null");
    assert!(ok, "{text}");
}

#[test]
fn what_is_used_is_counted() {
    let at = At::new("stats");
    let resources = Resources { block_io: Some(at_most_of_the_root_disk()), ..limits() };
    let group = match at.plan(&resources).unwrap().create() {
        Ok(group) => group,
        // A root on no block device of its own cannot be throttled.
        Err(Error::Limit { .. }) => at.create(&limits()),
        Err(error) => panic!("{error}"),
    };
    let (ok, text) = run(
        &group,
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; head -c 8m /dev/zero | tail >/dev/null",
    );
    assert!(ok, "{text}");
    let sleepers = Sleepers::new(&group, 2);
    let stats = group.stats();
    assert!(stats.cpu.total > 1_000_000, "{:?}", stats.cpu);
    assert!(stats.cpu.user + stats.cpu.kernel > 0 || stats.cpu.total < 30_000_000, "{:?}", stats.cpu);
    assert_eq!((stats.pids.current, stats.pids.limit), (2, Some(20)));
    assert!(stats.memory.usage.usage > 0 && stats.memory.usage.maximum >= 8 << 20, "{:?}", stats.memory);
    assert_eq!(stats.memory.usage.limit, Some(64 << 20));
    assert!(stats.memory.details.len() > 10 && stats.memory.hierarchical);
    if !at.hierarchy.is_v2() {
        assert!(!stats.cpu.per_cpu.is_empty());
        assert_eq!(stats.cpu.per_cpu.iter().sum::<u64>(), stats.cpu.total);
    }
    group.signal_all(9).unwrap();
    sleepers.reap();
    group.remove().unwrap();
    assert_eq!(group.stats().pids.current, 0, "what is gone uses nothing");
}

fn at_most_of_the_root_disk() -> BlockIo {
    let device = rustix::fs::stat("/").unwrap().st_dev;
    let entry = oci::runtime::ThrottleDevice {
        major: rustix::fs::major(device).into(),
        minor: rustix::fs::minor(device).into(),
        rate: 1 << 30,
    };
    BlockIo { throttle_read_bps_device: vec![entry], ..BlockIo::default() }
}

#[test]
fn parts_of_a_group_are_named_by_plain_paths() {
    let at = At::new("parts");
    let group = at.create(&Resources::default());
    let part = group.subgroup("inner/most").unwrap();
    for path in part.paths().values() {
        assert!(path.ends_with(format!("{}/pod/one/inner/most", at.top)));
        std::fs::create_dir_all(path).unwrap();
    }
    assert_eq!(group.subgroup("/").unwrap().paths(), group.paths());
    assert!(group.subgroup("../other").is_err() && group.subgroup("nothing:x").is_err());
    let sleepers = Sleepers::new(&part, 1);
    assert_eq!(group.processes().len(), 1);
    if !at.hierarchy.is_v2() {
        let one = group.subgroup("pids,memory:inner").unwrap().paths();
        assert!(one["pids"].ends_with("one/inner") && one["cpu"].ends_with("pod/one"));
    }
    group.signal_all(9).unwrap();
    sleepers.reap();
    group.remove().unwrap();
}
