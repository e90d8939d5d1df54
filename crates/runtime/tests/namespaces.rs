//! Namespaces: made, joined by path, shared, in every combination that the kernel allows. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::fs;

use std::path::PathBuf;

use oci::runtime::{Linux, Mount, Namespace, NamespaceKind, TimeOffset};
use runtime::{Bundle, Manner, Running};
use scratch::{Scratch, pipe, run, stdio, wait};

const ALL: [(NamespaceKind, &str); 7] = [
    (NamespaceKind::Mount, "mnt"),
    (NamespaceKind::Pid, "pid"),
    (NamespaceKind::Network, "net"),
    (NamespaceKind::Ipc, "ipc"),
    (NamespaceKind::Uts, "uts"),
    (NamespaceKind::Cgroup, "cgroup"),
    (NamespaceKind::Time, "time"),
];

fn linux(bundle: &mut Bundle) -> &mut Linux {
    bundle.spec.linux.as_mut().unwrap()
}

/// Sets the namespaces: `None` makes one.
fn set(bundle: &mut Bundle, list: &[(NamespaceKind, Option<PathBuf>)]) {
    linux(bundle).namespaces =
        list.iter().map(|(kind, path)| Namespace { kind: *kind, path: path.clone() }).collect();
}

fn links(pid: &str) -> Vec<String> {
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string();
    ALL.iter().map(|(_, name)| link(name)).collect()
}

const SHOW: &str = "for n in mnt pid net ipc uts cgroup time; do busybox readlink /proc/self/ns/$n; done";

fn shown(bundle: &Bundle) -> Vec<String> {
    let (code, text) = run(bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
    assert_eq!(code, 0, "{text}");
    text.lines().map(str::to_owned).collect()
}

/// A container that others join.
struct Other {
    running: Running,
    _scratch: Scratch,
}

impl Other {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let mut bundle = scratch.bundle(&["busybox", "sleep", "1000"]);
        set(&mut bundle, &ALL.map(|(kind, _)| (kind, None)));
        let plan = runtime::plan(&bundle).unwrap();
        let running = runtime::launch(plan, stdio(pipe().1), &mut |_| Ok(())).unwrap();
        Self { running, _scratch: scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/{}/ns/{name}", self.running.pid).into()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        rustix::process::pidfd_send_signal(&self.running.pidfd, rustix::process::Signal::KILL).ok();
        wait(&self.running);
    }
}

/// Linux 6.15.
fn trees_attached_nowhere_take_mounts() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.trim().parse().unwrap_or(0));
    let takes = (numbers.next(), numbers.next()) >= (Some(6), Some(15));
    if !takes {
        eprintln!("skip: only a container with a mount namespace has mounts before Linux 6.15");
    }
    takes
}

#[test]
fn each_can_be_made_shared_or_joined() {
    let other = Other::new("ns-other");
    let ours = links("self");
    let theirs = links(&other.running.pid.to_string());
    // With mounts always made, every way for each of the others.
    for (n, (kind, name)) in ALL.iter().enumerate().skip(1) {
        for way in ["made", "shared", "joined", "joined alone"] {
            let scratch = Scratch::new(&format!("ns-{name}-{}", way.replace(' ', "-")));
            let mut bundle = scratch.bundle(&["sh", "-c", SHOW]);
            bundle.spec.hostname = None;
            // A sysfs needs the network namespace that it shows to be ours, which it is all the same.
            let mut list = vec![(NamespaceKind::Mount, None)];
            list.extend(
                ALL.iter()
                    .skip(1)
                    .filter(|(k, _)| k != kind && way != "joined alone")
                    .map(|(k, _)| (*k, None)),
            );
            match way {
                "made" => list.push((*kind, None)),
                "shared" => {}
                _ => list.push((*kind, Some(other.path(name)))),
            }
            set(&mut bundle, &list);
            let seen = shown(&bundle);
            let of_kind = &seen[n];
            match way {
                "made" => assert!(*of_kind != ours[n] && *of_kind != theirs[n], "{name} {way}"),
                "shared" => assert_eq!(*of_kind, ours[n], "{name} {way}"),
                _ => assert_eq!(*of_kind, theirs[n], "{name} {way}"),
            }
            for (m, (_, other_name)) in ALL.iter().enumerate().filter(|(m, _)| *m != n) {
                let new = m == 0 || way != "joined alone";
                assert_eq!(seen[m] != ours[m], new, "{name} {way}: {other_name}");
            }
        }
    }
}

#[test]
fn all_of_another_can_be_joined_at_once() {
    let other = Other::new("ns-all-other");
    let scratch = Scratch::new("ns-all");
    let mut bundle = scratch.bundle(&["sh", "-c", &format!("{SHOW}; busybox tr '\\0' _ </proc/1/cmdline")]);
    bundle.spec.hostname = None;
    let mut list = vec![(NamespaceKind::Mount, None)];
    list.extend(ALL.iter().skip(1).map(|(kind, name)| (*kind, Some(other.path(name)))));
    set(&mut bundle, &list);
    let mut seen = shown(&bundle);
    assert_eq!(seen.pop().unwrap(), "busybox_sleep_1000_", "its processes are seen");
    let theirs = links(&other.running.pid.to_string());
    assert_ne!(seen[0], theirs[0]);
    assert_eq!(seen[1..], theirs[1..]);
    assert_eq!(links("self"), links("thread-self"), "we have joined nothing ourselves");
}

#[test]
fn a_joined_network_is_the_one_that_sysfs_shows() {
    let other = Other::new("ns-sysfs-other");
    let scratch = Scratch::new("ns-sysfs");
    let mut bundle = scratch.bundle(&["busybox", "ls", "/sys/class/net"]);
    let mut list: Vec<_> = ALL.iter().map(|(kind, _)| (*kind, None)).collect();
    list[2].1 = Some(other.path("net"));
    set(&mut bundle, &list);
    assert_eq!(shown(&bundle), ["lo"]);
}

#[test]
fn without_a_mount_namespace_nothing_is_mounted_at_the_host() {
    if !trees_attached_nowhere_take_mounts() {
        return;
    }
    let scratch = Scratch::new("ns-no-mount");
    let mut bundle = scratch.bundle(&[
        "sh",
        "-c",
        "busybox readlink /proc/self/ns/mnt; busybox ls / /dev; busybox cat /proc/mounts",
    ]);
    let list: Vec<_> = ALL.iter().skip(1).map(|(kind, _)| (*kind, None)).collect();
    set(&mut bundle, &list);
    let before = fs::read_to_string("/proc/self/mounts").unwrap();
    let seen = shown(&bundle);
    assert_eq!(seen[0], links("self")[0]);
    assert!(seen.iter().any(|l| l == "bin") && seen.iter().any(|l| l == "null"), "{seen:?}");
    assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), before);
}

#[test]
fn in_a_joined_mount_namespace_the_root_is_built_and_that_of_others_stays() {
    let holder = Other::new("ns-mnt-other");
    // A namespace that looks like ours.
    let scratch = Scratch::new("ns-mnt");
    let mut child = std::process::Command::new("unshare").args(["-m", "sleep", "100"]).spawn().unwrap();
    let path = PathBuf::from(format!("/proc/{}/ns/mnt", child.id()));
    // By then it is there, and private.
    let unshared = || fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "sleep\n";
    assert!((0..2000).any(|_| unshared() || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        false
    }));
    let mut bundle = scratch.bundle(&["sh", "-c", "busybox readlink /proc/self/ns/mnt; busybox ls /"]);
    let mut list: Vec<_> = ALL.iter().map(|(kind, _)| (*kind, None)).collect();
    list[0].1 = Some(path.clone());
    set(&mut bundle, &list);
    let mounts = || fs::read_to_string(format!("/proc/{}/mounts", child.id())).unwrap();
    let before = mounts();
    let (mut read, write) = pipe();
    let running = runtime::launch(runtime::plan(&bundle).unwrap(), stdio(write), &mut |_| Ok(())).unwrap();
    let text = scratch::read_all(&mut read);
    let seen: Vec<_> = text.lines().collect();
    wait(&running);
    assert_ne!(mounts(), before);
    // Once more on top of it, which fails when all is mounted: that goes, and the first one stays.
    let first = mounts();
    bundle.spec.process.as_mut().unwrap().args = vec!["no-such".to_owned()];
    run(&bundle).unwrap_err();
    assert_eq!(mounts(), first, "a start that fails is undone");
    let left = running.foreign.unwrap();
    left.detach().unwrap();
    assert_eq!(mounts(), before, "all is taken down");
    left.detach().unwrap();
    assert_eq!(mounts(), before, "and nothing else");
    let root = fs::read_dir(format!("/proc/{}/root/work", child.id())).is_ok();
    let theirs = fs::read_link(&path).unwrap().display().to_string();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, [&*theirs, "bin", "dev", "etc", "proc", "sys", "tmp"]);
    assert!(root, "its root has not been changed");
    drop(holder);
}

#[test]
fn the_root_can_be_moved_instead_of_pivoted() {
    let scratch = Scratch::new("ns-no-pivot");
    let mut bundle = scratch.bundle(&["sh", "-c", "busybox ls /; busybox ls /..; busybox cat /proc/mounts"]);
    bundle.manner = Manner { no_pivot: true, ..Manner::default() };
    let seen = shown(&bundle);
    let once = ["bin", "dev", "etc", "proc", "sys", "tmp"];
    assert_eq!(seen[..12], [once, once].concat());
    assert!(!seen.iter().any(|l| l.contains("ext4")), "{seen:?}");
}

#[test]
fn clocks_differ_by_their_offsets() {
    let scratch = Scratch::new("ns-time");
    let mut bundle = scratch.bundle(&["busybox", "cat", "/proc/uptime"]);
    linux(&mut bundle).namespaces.push(Namespace { kind: NamespaceKind::Time, path: None });
    let offset = TimeOffset { secs: 1_000_000, nanosecs: 0 };
    linux(&mut bundle).time_offsets.insert("boottime".to_owned(), offset);
    let uptime = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
    let ours = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    let theirs = uptime(&shown(&bundle)[0]);
    assert!((ours + 1_000_000..ours + 1_000_600).contains(&theirs), "{ours} {theirs}");
    // One that would be before the machine was switched on.
    let offset = TimeOffset { secs: -1_000_000_000, nanosecs: 0 };
    linux(&mut bundle).time_offsets.insert("monotonic".to_owned(), offset);
    let error = base::failure::chain(&*run(&bundle).unwrap_err());
    assert!(error.contains("cannot make a time namespace"), "{error}");
}

#[test]
fn names_and_settings_are_those_of_the_container_alone() {
    let scratch = Scratch::new("ns-names");
    let script = "busybox cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname /proc/sys/kernel/shmmax";
    let mut bundle = scratch.bundle(&["sh", "-c", script]);
    bundle.spec.domainname = Some("example.org".to_owned());
    linux(&mut bundle).sysctl.insert("kernel.shmmax".to_owned(), "12345".to_owned());
    let host = fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    assert_eq!(shown(&bundle), ["inside", "example.org", "12345"]);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), host);

    let shared = |kind: NamespaceKind, change: fn(&mut Bundle)| {
        let mut bundle = scratch.bundle(&["sh"]);
        bundle.spec.hostname = None;
        linux(&mut bundle).namespaces.retain(|n| n.kind != kind);
        change(&mut bundle);
        runtime::plan(&bundle).map(|_| ()).unwrap_err().to_string()
    };
    let setting = |key: &'static str| -> fn(&mut Bundle) {
        match key {
            "net" => |b| drop(linux(b).sysctl.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned())),
            _ => |b| drop(linux(b).sysctl.insert("kernel.shmmax".to_owned(), "1".to_owned())),
        }
    };
    let no_network = shared(NamespaceKind::Network, setting("net"));
    assert!(no_network.contains("no network namespace of its own"), "{no_network}");
    assert!(shared(NamespaceKind::Ipc, setting("ipc")).contains("no ipc namespace of its own"));
    let no_name = shared(NamespaceKind::Uts, |b| b.spec.hostname = Some("x".to_owned()));
    assert!(no_name.contains("hostname") && no_name.contains("no uts namespace"), "{no_name}");
    let no_name = shared(NamespaceKind::Uts, |b| b.spec.domainname = Some("x".to_owned()));
    assert!(no_name.contains("domainname"), "{no_name}");
}

#[test]
fn a_namespace_that_is_gone_or_of_another_kind_is_named() {
    let scratch = Scratch::new("ns-wrong");
    let mut bundle = scratch.bundle(&["sh"]);
    bundle.spec.hostname = None;
    set(&mut bundle, &[(NamespaceKind::Mount, None), (NamespaceKind::Uts, Some("/proc/self/ns/net".into()))]);
    let error = runtime::plan(&bundle).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("/proc/self/ns/net is not a uts namespace"), "{error}");
    set(&mut bundle, &[(NamespaceKind::Mount, None), (NamespaceKind::Uts, Some("/proc/0/ns/uts".into()))]);
    let error = runtime::plan(&bundle).map(|_| ()).unwrap_err();
    assert!(base::failure::chain(&error).contains("/proc/0/ns/uts"));
}

#[test]
fn a_child_that_is_killed_on_its_way_leaves_nothing() {
    let other = Other::new("ns-kill-other");
    for (name, joined) in [("ns-killed", None), ("ns-killed-joined", Some(other.path("pid")))] {
        let scratch = Scratch::new(name);
        let mut bundle = scratch.bundle(&["sh", "-c", "busybox echo ran"]);
        let mut list: Vec<_> = ALL.iter().map(|(kind, _)| (*kind, None)).collect();
        list[1].1 = joined;
        set(&mut bundle, &list);
        let (mut read, write) = pipe();
        let mut born = 0;
        let mut kill = |pid| {
            born = pid;
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            Ok(())
        };
        let error = runtime::launch(runtime::plan(&bundle).unwrap(), stdio(write), &mut kill).unwrap_err();
        assert!(matches!(error, runtime::LaunchError::Handshake(_)), "{error}");
        assert_eq!(scratch::read_all(&mut read), "");
        assert!(!fs::exists(format!("/proc/{born}")).unwrap(), "it has been reaped");
        assert!(rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok(), "the other one is left");
    }
    drop(other);
}

#[test]
fn a_mount_in_a_shared_namespace_needs_no_mount_point_outside() {
    if !trees_attached_nowhere_take_mounts() {
        return;
    }
    let scratch = Scratch::new("ns-bind");
    fs::write(scratch.path("source"), "hello").unwrap();
    let mut bundle = scratch.bundle(&["busybox", "cat", "/new"]);
    linux(&mut bundle).namespaces.retain(|n| n.kind != NamespaceKind::Mount);
    bundle.spec.mounts.push(Mount {
        destination: "/new".into(),
        source: Some(scratch.path("source")),
        options: vec!["rbind".into()],
        ..Mount::default()
    });
    assert_eq!(shown(&bundle), ["hello"]);
    assert_eq!(fs::read_dir(scratch.path("m")).unwrap().count(), 0);
}
