//! Wherever a start fails, nothing of it is left; and wherever a container is, it is in its group. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use base::Failure;
use oci::runtime::{IdMapping, Namespace, NamespaceKind, User};
use runtime::cgroup::{Group, Hierarchy, Location};
use runtime::{Bundle, Held, LaunchError, Manner, RootSource, Steps};
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use scratch::{Scratch, pipe, stdio, wait};

/// Where a start is made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fails {
    Born,
    Mounted,
    KilledWhenBorn,
    KilledWhenMounted,
    Command,
    Held,
}

struct Failing(Fails, u32);

impl Failing {
    fn at(&mut self, pid: u32, error: Fails, kill: Fails) -> Result<(), Box<dyn Failure>> {
        self.1 = pid;
        if self.0 == kill {
            kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
        }
        if self.0 == error {
            return Err(Box::new(base::fs::read(&PathBuf::from("/no/such")).unwrap_err()));
        }
        Ok(())
    }
}

impl Steps for Failing {
    fn born(&mut self, pid: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        self.at(pid, Fails::Born, Fails::KilledWhenBorn)
    }

    fn mounted(&mut self, pid: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        self.at(pid, Fails::Mounted, Fails::KilledWhenMounted)
    }
}

/// The ways of being born: alone, with other ids, as the child of a go-between.
const WAYS: [&str; 3] = ["plain", "users", "joined"];

/// A PID namespace with one process.
struct Other {
    holder: std::process::Child,
    init: u32,
}

impl Other {
    fn new() -> Self {
        let holder = std::process::Command::new("unshare").args(["-p", "-f", "sleep", "100"]).spawn();
        let mut other = Self { holder: holder.unwrap(), init: 0 };
        let children = format!("/proc/{0}/task/{0}/children", other.holder.id());
        while other.init == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            other.init = fs::read_to_string(&children).unwrap().trim().parse().unwrap_or(0);
        }
        other
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        kill_process(Pid::from_raw(self.init as i32).unwrap(), Signal::KILL).ok();
        self.holder.wait().ok();
    }
}

fn bundle(scratch: &Scratch, way: &str, init: u32, args: &[&str]) -> (Bundle, Location) {
    let mut bundle = scratch.bundle(args);
    // As the directory is called, which no other test has.
    let name = scratch.path("m").parent().unwrap().file_name().unwrap().to_owned();
    let location = Location::Path(PathBuf::from("/").join(name));
    bundle.cgroup = Some(location.clone());
    let linux = bundle.spec.linux.as_mut().unwrap();
    match way {
        "users" => {
            let mapping = IdMapping { container_id: 0, host_id: 100_000, size: 1000 };
            linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
            (linux.uid_mappings, linux.gid_mappings) = (vec![mapping], vec![mapping]);
            linux.masked_paths = Vec::new();
            bundle.root = RootSource::Directory(scratch.path("lower"));
            bundle.spec.mounts.retain(|m| m.destination.to_str() == Some("/proc"));
            bundle.spec.process.as_mut().unwrap().user = User::default();
            for below in ["lower", "lower/dev"] {
                std::os::unix::fs::chown(scratch.path(below), Some(100_000), Some(100_000)).unwrap();
            }
        }
        "joined" => {
            // That of another container, which only a child of a go-between enters.
            let path = Some(format!("/proc/{init}/ns/pid").into());
            linux.namespaces.retain(|n| n.kind != NamespaceKind::Pid);
            linux.namespaces.push(Namespace { kind: NamespaceKind::Pid, path });
        }
        _ => {}
    }
    (bundle, location)
}

#[test]
fn nothing_is_left_of_a_start_that_fails() {
    let other = Other::new();
    for way in WAYS {
        use Fails::{Born, Command, Held as AtHeld, KilledWhenBorn, KilledWhenMounted, Mounted};
        for fails in [Born, Mounted, KilledWhenBorn, KilledWhenMounted, Command, AtHeld] {
            let scratch = Scratch::new(&format!("undo-{way}-{fails:?}"));
            let command = if matches!(fails, Command | AtHeld) { "no-such" } else { "sh" };
            let (bundle, location) = bundle(&scratch, way, other.init, &[command, "-c", "busybox echo ran"]);
            let mut plan = runtime::plan(&bundle).unwrap().with_mounted_step();
            if fails == AtHeld {
                plan = plan.held(Held::listen(&scratch.path("socket")).unwrap());
            }
            let (mut read, write) = pipe();
            let mut steps = Failing(fails, 0);
            let error = runtime::launch(plan, stdio(write), &mut steps).unwrap_err();
            let expected = match fails {
                Born | Mounted => matches!(error, LaunchError::Meanwhile(_)),
                KilledWhenBorn | KilledWhenMounted => matches!(error, LaunchError::Handshake(_)),
                Command | AtHeld => matches!(error, LaunchError::Child { .. }),
            };
            assert!(expected, "{way} {fails:?}: {error}");
            assert_eq!(scratch::read_all(&mut read), "", "{way} {fails:?}");
            assert!(!fs::exists(format!("/proc/{}", steps.1)).unwrap(), "{way} {fails:?}");
            let group = Group::existing(&Hierarchy::detect().unwrap(), &location);
            assert!(!group.exists(), "{way} {fails:?}");
            assert_eq!(fs::read_dir(scratch.path("m")).unwrap().count(), 0);
        }
    }
    drop(other);
    assert!(rustix::process::wait(WaitOptions::NOHANG).is_err(), "no child is left");
}

#[test]
fn whoever_they_are_they_are_in_their_group() {
    let other = Other::new();
    for way in WAYS {
        let scratch = Scratch::new(&format!("group-{way}"));
        let (bundle, location) = bundle(&scratch, way, other.init, &["busybox", "sleep", "100"]);
        let (_, write) = pipe();
        let running =
            runtime::launch(runtime::plan(&bundle).unwrap(), stdio(write), &mut |_| Ok(())).unwrap();
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", running.pid)).unwrap();
        rustix::process::pidfd_send_signal(&running.pidfd, Signal::KILL).unwrap();
        wait(&running);
        running.group.unwrap().remove().unwrap();
        let Location::Path(path) = location else { panic!() };
        let pids = groups
            .lines()
            .find(|l| l.contains(":pids:") || l.starts_with("0::") && !groups.contains(":pids:"));
        assert!(pids.unwrap().ends_with(path.to_str().unwrap()), "{way}: {groups}");
    }
}

/// Looks where the process is when hooks run.
struct Looking(String);

impl Steps for Looking {
    fn born(&mut self, _: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        Ok(())
    }

    fn mounted(&mut self, pid: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        self.0 = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        Ok(())
    }
}

/// Hooks look for the group in `/proc/PID/cgroup`, and set what they know of there.
#[test]
fn they_are_in_their_group_when_hooks_run() {
    let other = Other::new();
    for way in WAYS {
        for hinders in [false, true] {
            let scratch = Scratch::new(&format!("group-hooks-{way}-{hinders}"));
            let (mut bundle, location) =
                bundle(&scratch, way, other.init, &["busybox", "test", "-c", "/dev/full"]);
            if hinders {
                // The node is made all the same, by us.
                let rule = oci::runtime::DeviceRule {
                    kind: Some("c".into()),
                    major: Some(1),
                    minor: Some(7),
                    access: Some("rwm".into()),
                    ..oci::runtime::DeviceRule::default()
                };
                let resources = oci::runtime::Resources { devices: vec![rule], ..Default::default() };
                bundle.spec.linux.as_mut().unwrap().resources = Some(resources);
            }
            let mut looking = Looking(String::new());
            let plan = runtime::plan(&bundle).unwrap().with_mounted_step();
            let running = runtime::launch(plan, stdio(pipe().1), &mut looking).unwrap();
            let code = wait(&running);
            let group = running.group.unwrap();
            let names = group.paths().into_keys().filter(|name| !name.is_empty());
            for name in names {
                let line = looking
                    .0
                    .lines()
                    .find(|l| l.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == name)));
                let Location::Path(path) = &location else { panic!() };
                assert!(line.unwrap().ends_with(path.to_str().unwrap()), "{way} {name}: {}", looking.0);
            }
            group.remove().unwrap();
            assert_eq!(code, 0, "{way} {hinders}");
        }
    }
}

#[test]
fn who_makes_a_container_and_dies_leaves_no_child_on_its_way() {
    // The maker runs this test again, and is killed while its child mounts.
    if let Ok(path) = std::env::var("MAKER") {
        let scratch = Scratch::new("maker");
        let mut bundle = scratch.bundle(&["busybox", "sleep", "100"]);
        bundle.manner = Manner { tied: false, ..Manner::default() };
        let plan = runtime::plan(&bundle).unwrap().held(Held::listen(&scratch.path("socket")).unwrap());
        let mut born = |pid: u32| {
            fs::write(&path, format!("{pid} {}", scratch.path("").display())).unwrap();
            std::thread::sleep(std::time::Duration::from_mins(1));
            Ok(())
        };
        runtime::launch(plan, stdio(pipe().1), &mut born).unwrap();
        return;
    }
    let scratch = Scratch::new("maker-of");
    let path = scratch.path("pid");
    let mut maker = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "who_makes_a_container_and_dies_leaves_no_child_on_its_way"])
        .env("MAKER", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let text = loop {
        match fs::read_to_string(&path) {
            Ok(text) if text.contains('/') => break text,
            _ => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    let (pid, left) = text.split_once(' ').unwrap();
    maker.kill().unwrap();
    maker.wait().unwrap();
    let gone = || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!((0..2000).any(|_| gone() || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        false
    }));
    fs::remove_dir_all(left).unwrap();
}
