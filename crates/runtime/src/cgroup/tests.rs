//! Real groups on this machine, whichever version it has. Each test has an instance name of its own.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci::runtime::{Cpu, Memory, Pids, Resources};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sys::process::{Cloned, clone};

use super::hierarchy::{Controller, Layout};
use super::*;
use crate::skip::can;

mod paths;
mod scopes;
mod unified;

/// An instance's groups, swept away at the end, whatever happens.
struct Place {
    hierarchy: Hierarchy,
    placement: Placement,
}

impl Place {
    fn new(name: &str) -> Self {
        let hierarchy = Hierarchy::detect().unwrap();
        let parent = format!("dhow-test-{name}-{}", std::process::id());
        Self { hierarchy, placement: Placement { parent, name: "one".to_owned(), memory_reserve: None } }
    }

    fn plan(&self, resources: &Resources) -> GroupPlan {
        GroupPlan::new(&self.hierarchy, &self.placement.clone().into(), Some(resources)).unwrap()
    }

    fn create(&self, resources: &Resources) -> Group {
        self.plan(resources).create().unwrap()
    }

    fn existing(&self) -> Group {
        Group::existing(&self.hierarchy, &self.placement.clone().into())
    }

    fn path(&self, controller: Controller) -> std::path::PathBuf {
        let root = self.hierarchy.mount(controller).unwrap();
        root.join(&self.placement.parent).join(&self.placement.name)
    }
}

/// A shell that waits for a line before it does what it is told, joined.
fn shell(group: &Group, script: &str) -> Child {
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    group.join(child.id()).unwrap();
    child
}

fn run(group: &Group, script: &str) -> (bool, String) {
    use std::io::Write as _;
    let mut child = shell(group, script);
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

impl Drop for Place {
    fn drop(&mut self) {
        let group = self.existing();
        group.kill().ok();
        group.remove().ok();
        let swept = sweep_parent(&self.hierarchy, &self.placement.parent);
        if !std::thread::panicking() {
            assert!(swept.unwrap());
        }
    }
}

fn limits() -> Resources {
    Resources {
        memory: Some(Memory { limit: Some(64 << 20), swap: Some(64 << 20), ..Memory::default() }),
        cpu: Some(Cpu { quota: Some(50_000), period: Some(100_000), ..Cpu::default() }),
        pids: Some(Pids { limit: 20 }),
        ..Resources::default()
    }
}

#[test]
fn limits_are_in_force_and_nothing_stays() {
    let place = Place::new("limits");
    let plan = place.plan(&limits());
    assert_eq!(plan.warnings(), [""; 0]);
    let group = plan.create().unwrap();
    let read = group.limits();
    assert_eq!(read.memory, Some(64 << 20));
    assert_eq!((read.pids, read.cpu_quota, read.cpu_period), (Some(20), Some(50_000), Some(100_000)));
    assert_eq!(place.existing().limits(), read);

    let parent = parent_limits(&place.hierarchy, &place.placement.parent);
    let memory = parent.memory.unwrap();
    let total = machine_memory();
    // Rounded down to pages.
    assert!(memory < total && memory >= total / 2 - 4096, "{memory} of {total}");
    assert!(parent.pids.is_some());

    // Making it again, as a restart does, is fine, and so is removing it twice.
    place.create(&limits());
    group.remove().unwrap();
    group.remove().unwrap();
    assert!(!place.path(Controller::Pids).exists());
    assert!(sweep_parent(&place.hierarchy, &place.placement.parent).unwrap());
    assert!(!place.path(Controller::Pids).parent().unwrap().exists());
}

fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|l| l.starts_with("MemTotal:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn too_many_processes_are_refused() {
    let place = Place::new("pids");
    let resources = Resources { pids: Some(Pids { limit: 3 }), ..Resources::default() };
    let group = place.create(&resources);
    let (ok, text) = run(&group, "sleep 5 & sleep 5 & sleep 5 & sleep 5 & wait");
    assert!(!ok && text.to_lowercase().contains("fork"), "{text}");
}

#[test]
fn a_greedy_process_dies_and_it_is_known_why() {
    let place = Place::new("oom");
    let group = place.create(&limits());
    assert!(!group.oom_killed());
    let (ok, _) = run(&group, "head -c 200m /dev/zero | tail >/dev/null");
    assert!(!ok);
    assert!(group.oom_killed());
    assert!(place.existing().oom_killed());
}

#[test]
fn only_harmless_devices_open() {
    let place = Place::new("devices");
    let group = place.create(&Resources::default());
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("loop");
    // Making a node is allowed, using it is not.
    let script =
        format!("mknod {0} b 7 0 && head -c 1 /dev/zero >/dev/null && ! head -c 1 {0}", node.display());
    let (ok, text) = run(&group, &script);
    assert!(ok && text.contains("not permitted"), "{text}");
    group.remove().unwrap();

    let rule = oci::runtime::DeviceRule { allow: true, ..oci::runtime::DeviceRule::default() };
    let group = place.create(&Resources { devices: vec![rule], ..Resources::default() });
    let (_, text) = run(&group, &format!("head -c 1 {}", node.display()));
    assert!(!text.contains("not permitted"), "{text}");
}

#[test]
fn killing_reaches_nested_groups_and_removing_takes_them_along() {
    let place = Place::new("kill");
    let group = place.create(&Resources::default());
    let nested = place.path(Controller::Pids).join("inner/most");
    std::fs::create_dir_all(&nested).unwrap();
    let mut children: Vec<_> = (0..4).map(|_| shell(&group, "sleep 100")).collect();
    std::fs::write(nested.join("cgroup.procs"), children[0].id().to_string()).unwrap();
    assert!(!sweep_parent(&place.hierarchy, &place.placement.parent).unwrap());

    // Who has been killed stays a zombie until it is waited for, which must not count as alive for ever.
    let waiter = std::thread::spawn(move || {
        for child in &mut children {
            let status = child.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        }
    });
    group.kill().unwrap();
    waiter.join().unwrap();
    group.kill().unwrap();
    group.remove().unwrap();
    assert!(!nested.exists());
    // What never was is as good as killed and removed.
    place.existing().kill().unwrap();
    place.existing().remove().unwrap();
}

/// A child that joins by itself (v1) or is born there (v2), and waits.
fn joined_child(plan: &GroupPlan, group: &Group) -> (u32, OwnedFd) {
    let directory = group.open_v2().unwrap();
    match clone(0, directory.as_ref().map(|d| d.as_fd())).unwrap() {
        Cloned::Child => {
            if directory.is_none() && plan.join_self().is_err() {
                sys::process::exit_now(1);
            }
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    }
}

fn groups_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

#[test]
fn a_child_joins_without_waiting() {
    let place = Place::new("join");
    let plan = place.plan(&limits());
    let group = plan.create().unwrap();
    let (pid, pidfd) = joined_child(&plan, &group);
    let expected = match &place.hierarchy.0 {
        Layout::V2 { .. } => 1,
        Layout::V1 { mounts, systemd, .. } => mounts.len() + usize::from(systemd.is_some()),
    };
    let suffix = format!("/{}/one", place.placement.parent);
    let deadline = Instant::now() + Duration::from_secs(10);
    while groups_of(pid).lines().filter(|l| l.ends_with(&suffix)).count() < expected {
        assert!(Instant::now() < deadline, "{}", groups_of(pid));
        std::thread::sleep(Duration::from_millis(1));
    }
    pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    group.remove().unwrap();
}

#[test]
fn a_cpuset_is_joined_where_it_is_asked_for() {
    let place = Place::new("cpuset");
    if !can(place.hierarchy.mount(Controller::Cpuset).is_some(), "cpuset") {
        return;
    }
    let cpu = |cpus: &str| Resources {
        cpu: Some(Cpu { cpus: Some(cpus.to_owned()), ..Cpu::default() }),
        ..Resources::default()
    };
    let group = place.create(&cpu("0"));
    let (ok, text) = run(&group, "grep Cpus_allowed_list /proc/self/status");
    assert!(ok && text.trim_end().ends_with("\t0"), "{text}");
    group.remove().unwrap();
    let error = place.plan(&cpu("900")).create().unwrap_err();
    assert!(matches!(&error, Error::Limit { limit, .. } if limit == "set of CPUs"), "{error}");
    assert!(!place.path(Controller::Cpuset).exists());
}

#[test]
fn many_start_and_sweep_at_once() {
    let place = Place::new("race");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let place = &place;
            scope.spawn(move || {
                let placement = Placement { name: format!("c{n}"), ..place.placement.clone() };
                for _ in 0..20 {
                    let plan =
                        GroupPlan::new(&place.hierarchy, &placement.clone().into(), Some(&limits())).unwrap();
                    let group = plan.create().unwrap();
                    group.remove().unwrap();
                    sweep_parent(&place.hierarchy, &placement.parent).unwrap();
                }
            });
        }
    });
}

#[test]
fn monitors_stand_beside_the_limit() {
    let place = Place::new("monitors");
    let parent = &place.placement.parent;
    let directory = open_monitors_v2(&place.hierarchy, parent).unwrap();
    assert_eq!(directory.is_some(), place.hierarchy.is_v2());
    let Cloned::Parent { pid, pidfd } = clone(0, directory.as_ref().map(|d| d.as_fd())).unwrap() else {
        if directory.is_none() && join_monitors(&place.hierarchy, parent).is_err() {
            sys::process::exit_now(1);
        }
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    let name = format!("/{parent}-monitors");
    let deadline = Instant::now() + Duration::from_secs(10);
    let expected = if directory.is_some() { 1 } else { 2 };
    while groups_of(pid).lines().filter(|l| l.ends_with(&name)).count() < expected {
        assert!(Instant::now() < deadline, "{}", groups_of(pid));
        std::thread::sleep(Duration::from_millis(1));
    }
    sweep_parent(&place.hierarchy, parent).unwrap();
    assert!(groups_of(pid).contains(&name), "a monitor keeps its group");
    pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    sweep_parent(&place.hierarchy, parent).unwrap();
    let root = place.hierarchy.mount(Controller::Memory).unwrap();
    assert!(!root.join(&name[1..]).exists());
}

#[test]
fn names_lead_nowhere_else() {
    let hierarchy = Hierarchy::detect().unwrap();
    for name in ["", "..", "a/b", "/", ".", "a\0b", "dhow/../x", &"x".repeat(300)] {
        let placement =
            Placement { parent: "dhow-test".to_owned(), name: name.to_owned(), memory_reserve: None }.into();
        assert!(GroupPlan::new(&hierarchy, &placement, None).is_err(), "{name:?}");
        let nothing = Group::existing(&hierarchy, &placement);
        nothing.kill().unwrap();
        nothing.remove().unwrap();
        assert!(join_monitors(&hierarchy, name).is_err());
        assert!(sweep_parent(&hierarchy, name).is_err());
    }
    assert!(Path::new("/sys/fs/cgroup").exists());
}

#[test]
fn what_is_missing_is_an_error_or_a_warning() {
    let bare = Hierarchy(Layout::V1 { mounts: Vec::new(), systemd: None, unified: None });
    let placement =
        Placement { parent: "dhow-test-bare".to_owned(), name: "one".to_owned(), memory_reserve: None }
            .into();
    let error = GroupPlan::new(&bare, &placement, Some(&limits())).unwrap_err();
    assert!(matches!(&error, Error::Missing { limit, .. } if limit == "memory limit"));
    let resources = Resources { pids: Some(Pids { limit: 3 }), ..Resources::default() };
    let plan = GroupPlan::new(&bare, &placement, Some(&resources)).unwrap();
    assert_eq!(plan.warnings().len(), 2, "{:?}", plan.warnings());
    plan.create().unwrap().remove().unwrap();
}
