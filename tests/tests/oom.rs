//! Memory runs out: in a container, in a command of an `exec`, in all containers together. Who is killed is told as that,
//! and nobody else is harmed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;

use harness::{Dhow, eventually};
use serde_json::Value;

/// Takes memory until somebody stops it.
const HOG: &str = "tail /dev/zero";

fn state(dhow: &Dhow, name: &str) -> Value {
    dhow.inspect(name)["State"].clone()
}

fn events(dhow: &Dhow, name: &str) -> String {
    let filter = format!("container={name}");
    dhow.ok(&["events", "--since", "1h", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"])
}

fn with_other(name: &str) -> (Dhow, u32) {
    let dhow = Dhow::new(name);
    dhow.ok(&["run", "-d", "--name", "other", "--network", "none", "busybox", "sleep", "1000"]);
    let pid = dhow.pid("other");
    (dhow, pid)
}

#[test]
fn a_container_that_takes_too_much_is_killed_and_told_as_that() {
    let (dhow, other) = with_other("oom");
    let run = ["run", "--network", "none", "-m", "24m"];
    let output =
        dhow.run(&[&run[..], &["--name", "hog", "busybox", "sh", "-c", &format!("exec {HOG}")]].concat());
    assert_eq!(output.code, 137, "{output:#?}");
    let state = state(&dhow, "hog");
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()), "{state:#}");
    assert_eq!(events(&dhow, "hog").lines().collect::<Vec<_>>(), ["create", "start", "oom", "die"]);
    // One of its processes alone, and its first one says so as it likes.
    let output = dhow
        .run(&[&run[..], &["--name", "child", "busybox", "sh", "-c", &format!("{HOG}; echo $?")]].concat());
    assert_eq!((output.code, output.stdout.trim()), (0, "137"), "{output:#?}");
    // It ended well, whatever happened to a child of its.
    let child = self::state(&dhow, "child");
    assert_eq!((&child["ExitCode"], &child["OOMKilled"]), (&0.into(), &true.into()));
    // One that comes back does, again and again.
    let back = [
        &["--name", "back", "-d", "--restart", "on-failure:2", "busybox", "sh", "-c"][..],
        &["exec tail /dev/zero"],
    ];
    dhow.ok(&[&run[..], &back.concat()].concat());
    eventually("it to give up", || (self::state(&dhow, "back")["Status"] == "exited").then_some(()));
    let state = self::state(&dhow, "back");
    assert_eq!(
        (&state["OOMKilled"], &dhow.inspect("back")["RestartCount"]),
        (&true.into(), &2.into()),
        "{state:#}"
    );
    assert_eq!(events(&dhow, "back").lines().filter(|action| *action == "oom").count(), 3);
    assert_eq!(dhow.pid("other"), other);
    assert_eq!(dhow.ok(&["exec", "other", "echo", "fine"]), "fine");
    dhow.ok(&["rm", "-f", "hog", "child", "back", "other"]);
}

#[test]
fn a_command_that_takes_too_much_leaves_its_container_alone() {
    let (dhow, other) = with_other("oomexec");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "-m", "24m", "busybox", "sleep", "1000"]);
    let pid = dhow.pid("box");
    let output = dhow.run(&["exec", "box", "sh", "-c", &format!("exec {HOG}")]);
    assert_eq!(output.code, 137, "{output:#?}");
    assert_eq!((dhow.pid("box"), dhow.pid("other")), (pid, other));
    assert_eq!(state(&dhow, "box")["OOMKilled"], true, "one of its processes was");
    assert_eq!(dhow.ok(&["exec", "box", "echo", "fine"]), "fine");
    // A probe of its health is none of its own either.
    let probe = [
        "--health-cmd",
        HOG,
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
        "--health-timeout",
        "20s",
    ];
    let run = ["run", "-d", "--name", "ill", "--network", "none", "-m", "24m"];
    dhow.ok(&[&run[..], &probe, &["busybox", "sleep", "1000"]].concat());
    eventually("the probe to be killed", || {
        (state(&dhow, "ill")["Health"]["Status"] == "unhealthy").then_some(())
    });
    assert_eq!(state(&dhow, "ill")["Health"]["Log"][0]["ExitCode"], 137);
    assert_eq!(state(&dhow, "ill")["Running"], true);
    dhow.ok(&["stop", "-t", "0", "box"]);
    dhow.ok(&["rm", "-f", "box", "ill", "other"]);
}

/// The limit of the group of all containers of an instance.
fn parent_limit(dhow: &Dhow) -> PathBuf {
    let name = dhow.global_name();
    let v1 = PathBuf::from("/sys/fs/cgroup/memory").join(name).join("memory.limit_in_bytes");
    if v1.exists() { v1 } else { PathBuf::from("/sys/fs/cgroup").join(name).join("memory.max") }
}

#[test]
fn where_all_together_take_too_much_the_greediest_goes_and_no_monitor() {
    let (dhow, other) = with_other("oomall");
    std::fs::write(parent_limit(&dhow), (64 << 20).to_string()).unwrap();
    let monitor = dhow.monitor_pid("other");
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "hog",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "exec tail /dev/zero",
    ]);
    assert_eq!(dhow.ok(&["wait", "hog"]), "137");
    let state = state(&dhow, "hog");
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()), "{state:#}");
    assert_eq!((dhow.pid("other"), dhow.monitor_pid("other")), (other, monitor));
    assert_eq!(dhow.ok(&["exec", "other", "echo", "fine"]), "fine");
    dhow.ok(&["rm", "-f", "hog", "other"]);
}
