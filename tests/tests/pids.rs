//! No process more: in the group of whoever calls, in the container's own, by a bomb. What cannot be done says which limit
//! it is, and nobody else is harmed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::image::Image;
use harness::registry::{Login, Registry};
use harness::tar::Tar;
use harness::{Dhow, Invocation, Output, eventually};

/// A group that limits processes, where we can have one.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        let path = root.join(format!("dhow-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        if !path.join("pids.max").exists() {
            std::fs::write(root.join("cgroup.subtree_control"), "+pids").unwrap();
        }
        Self(path)
    }

    /// A command of an instance in it, which has room for so many processes and threads beside its first.
    fn run(&self, dhow: &Dhow, room: u32, args: &[&str]) -> Output {
        // What has ended before, and waits for whoever reaps it, counts still.
        eventually("the group to be empty", || {
            (std::fs::read_to_string(self.0.join("pids.current")).unwrap().trim() == "0").then_some(())
        });
        std::fs::write(self.0.join("pids.max"), (room + 1).to_string()).unwrap();
        let script = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", self.0.display());
        let dash = Invocation::new("sh").args(&["-c", &script, "-"]);
        let output = dhow.on(dash, args).output();
        std::fs::write(self.0.join("pids.max"), "max").unwrap();
        output
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        eventually("the group to go", || std::fs::remove_dir(&self.0).ok());
    }
}

/// It worked, or says which limit stands in the way.
#[track_caller]
fn is_clear(group: &Group, output: &Output, what: &str) {
    if output.code == 0 {
        return;
    }
    let said = &output.stderr;
    assert!(said.contains("Resource temporarily unavailable"), "{what}: {output:#?}");
    let name = group.0.file_name().unwrap().to_str().unwrap();
    let hint = said.lines().find(|line| line.starts_with("  hint: ") && line.contains(name));
    assert!(
        hint.is_some_and(|hint| hint.contains("pids.max") && hint.contains("TasksMax")),
        "{what}: {output:#?}"
    );
    let lines = said.lines().filter(|line| !line.starts_with("  hint: ")).count();
    assert!(lines <= 2, "{what}: {output:#?}");
}

#[test]
fn heavy_a_group_without_room_is_named_by_every_verb() {
    let dhow = Dhow::new("pidsgroup");
    let large = Image::busybox("large:1").with_layer(Tar::new().file("data", 0o644, vec![b'x'; 3 << 20]));
    let archive = dhow.scratch().join("large.tar");
    std::fs::write(&archive, large.docker_archive()).unwrap();
    let archive = archive.to_str().unwrap();
    let registry = Registry::new(Login::None);
    registry.add(&large, "1");
    let pulled = format!("{}/large:1", registry.host());
    for name in ["one", "two", "other"] {
        dhow.ok(&["run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000"]);
    }
    let saved = dhow.scratch().join("saved.tar").display().to_string();
    let group = Group::new("verbs");
    for room in 0..4 {
        let pid = dhow.pid("other");
        for what in [
            &["run", "--rm", "--network", "none", "busybox", "true"][..],
            &["exec", "other", "true"],
            &["load", "-q", "-i", archive],
            &["pull", "-q", &pulled],
            &["import", archive, "imported:1"],
            &["commit", "other", "committed:1"],
            &["cp", "/etc/hostname", "other:/copied"],
            &["restart", "-t", "0", "one", "two"],
            &["save", "-o", &saved, "busybox"],
            &["export", "-o", &saved, "other"],
            &["ps", "-a"],
            &["stats", "--no-stream"],
            &["system", "check"],
            &["stop", "-t", "0", "one", "two"],
            &["system", "stop"],
        ] {
            let output = group.run(&dhow, room, what);
            is_clear(&group, &output, &format!("{room} left: {what:?}"));
            // What makes room itself always works.
            assert!(output.code == 0 || what[0] != "ps" && !what.contains(&"stop"), "{output:#?}");
            if what[0] == "run" {
                assert_eq!(output.code == 0, room >= 2, "{room} left: {output:#?}");
            }
            dhow.run(&["rmi", "large:1", &pulled, "imported:1", "committed:1"]);
            if what == ["stop", "-t", "0", "one", "two"] {
                assert_eq!(dhow.pid("other"), pid, "{room} left");
            }
        }
        dhow.ok(&["start", "one", "two", "other"]);
    }
}

#[test]
fn a_container_at_its_own_limit_harms_nobody_and_can_be_given_more() {
    let dhow = Dhow::new("pidsown");
    let script = "for n in 1 2 3; do sleep 1000 & done; echo full; wait";
    dhow.ok(&["run", "-d", "--name", "other", "--network", "none", "busybox", "sleep", "1000"]);
    let full = ["run", "-d", "--name", "full", "--network", "none", "--pids-limit", "4", "busybox"];
    dhow.ok(&[&full[..], &["sh", "-c", script]].concat());
    eventually("it to be full", || dhow.ok(&["logs", "full"]).contains("full").then_some(()));
    // On v1 whoever comes from outside is let in, and cannot fork; on v2 nobody is born there any more.
    let output = dhow.run(&["exec", "full", "sh", "-c", "sleep 0 & wait; echo in"]);
    if output.code == 126 {
        assert!(output.stderr.contains("Resource temporarily unavailable"), "{output:#?}");
        assert!(output.stderr.contains("dhow update --pids-limit"), "{output:#?}");
    } else {
        assert!(output.stderr.contains("fork"), "{output:#?}");
    }
    assert_eq!(dhow.ok(&["exec", "other", "echo", "fine"]), "fine");
    dhow.ok(&["update", "--pids-limit", "20", "full"]);
    assert_eq!(dhow.ok(&["exec", "full", "sh", "-c", "sleep 0 & wait; echo in"]), "in");
    dhow.ok(&["rm", "-f", "full", "other"]);
}

#[test]
fn heavy_bombs_end_when_they_are_told_to() {
    let dhow = Dhow::new("pidsbomb");
    dhow.ok(&["run", "-d", "--name", "other", "--network", "none", "busybox", "sleep", "1000"]);
    let bomb = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; bomb; done";
    for (name, flags) in [
        ("small", &["--pids-limit", "100"][..]),
        // Nobody was asked: the default holds it.
        ("whole", &[]),
        // As a probe of its health, and with nobody who reaps.
        ("probe", &["--pids-limit", "100", "--health-cmd", bomb, "--health-interval", "200ms", "--init"]),
    ] {
        let run = ["run", "-d", "--name", name, "--network", "none", "--cpus", "0.5"];
        let command = if name == "probe" { "sleep 1000" } else { bomb };
        dhow.ok(&[&run[..], flags, &["busybox", "sh", "-c", command]].concat());
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(dhow.ok(&["exec", "other", "echo", "fine"]), "fine");
        assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "fine"]), "fine");
        let begun = Instant::now();
        dhow.ok(&["stop", "-t", "0", name]);
        dhow.ok(&["rm", name]);
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
    }
    dhow.ok(&["rm", "-f", "other"]);
}
