//! `dhow update`: in the kernel at once, and in the record for the next start.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::{Dhow, eventually};
use serde_json::json;

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A file of a container's group.
fn group(dhow: &Dhow, id: &str, controller: &str, v1: &str, v2: &str) -> String {
    let root = if is_v2() { "/sys/fs/cgroup".to_owned() } else { format!("/sys/fs/cgroup/{controller}") };
    let path = format!("{root}/{}/{id}/{}", dhow.global_name(), if is_v2() { v2 } else { v1 });
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

fn memory(dhow: &Dhow, id: &str) -> String {
    group(dhow, id, "memory", "memory.limit_in_bytes", "memory.max")
}

fn pids(dhow: &Dhow, id: &str) -> String {
    group(dhow, id, "pids", "pids.max", "pids.max")
}

#[test]
fn a_running_container_has_its_new_limits_at_once_and_after_its_next_start() {
    let dhow = Dhow::new("update");
    let id =
        dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "-m", "64m", "busybox", "sleep", "600"]);
    assert_eq!(memory(&dhow, &id), (64 << 20).to_string());
    let flags = ["--memory", "100m", "--cpus", "0.5", "-c", "512", "--pids-limit", "77"];
    assert_eq!(dhow.ok(&[&["update"], &flags[..], &["box"]].concat()), "box");
    let check = || {
        assert_eq!(memory(&dhow, &id), (100 << 20).to_string());
        assert_eq!(pids(&dhow, &id), "77");
        let quota = group(&dhow, &id, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert_eq!(quota.split(' ').next(), Some("50000"));
        let shares = group(&dhow, &id, "cpu", "cpu.shares", "cpu.weight");
        assert_eq!(shares, if is_v2() { "59" } else { "512" });
    };
    check();
    let config = &dhow.inspect("box")["HostConfig"];
    assert_eq!((&config["Memory"], &config["PidsLimit"]), (&json!(100 << 20), &json!(77)));
    assert_eq!((&config["NanoCpus"], &config["CpuShares"]), (&json!(500_000_000), &json!(512)));
    // once by its monitor, which had been told other limits; once by a new one
    dhow.ok(&["restart", "-t", "0", "box"]);
    check();
    dhow.ok(&["stop", "-t", "0", "box"]);
    let root = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let directory = Path::new(root).join(dhow.global_name()).join(&id);
    eventually("the end of its group", || (!directory.exists()).then_some(()));
    dhow.ok(&["start", "box"]);
    check();
}

#[test]
fn several_containers_running_or_not() {
    let dhow = Dhow::new("update-many");
    dhow.ok(&["create", "--name", "one", "busybox", "true"]);
    let b = dhow.ok(&["run", "-d", "--network", "none", "--name", "two", "busybox", "sleep", "600"]);
    let output = dhow.run(&["update", "--pids-limit", "50", "one", "nosuch", "two"]);
    assert_eq!((output.code, &*output.stdout), (1, "one\ntwo\n"));
    assert!(output.stderr.contains("nosuch"), "{}", output.stderr);
    assert_eq!(dhow.inspect("one")["HostConfig"]["PidsLimit"], json!(50));
    assert_eq!(pids(&dhow, &b), "50");
    dhow.ok(&["update", "--pids-limit", "-1", "two"]);
    assert_eq!(pids(&dhow, &b), "max");
    dhow.ok(&["update", "--restart", "on-failure:3", "one"]);
    assert_eq!(dhow.inspect("one")["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], json!(3));
}

#[test]
fn what_is_refused_changes_neither_the_kernel_nor_the_record() {
    let dhow = Dhow::new("update-bad");
    let id = dhow.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "-m",
        "64m",
        "--memory-swap",
        "80m",
        "--pids-limit",
        "60",
        "busybox",
        "sleep",
        "600",
    ]);
    let before = dhow.inspect("box")["HostConfig"].clone();
    let refused = |code, flags: &[&str], words: &str| {
        let error = dhow.fails(code, &[&["update"], flags, &["box"]].concat());
        assert!(error.contains(words), "{flags:?}: {error}");
        assert_eq!(
            (memory(&dhow, &id), pids(&dhow, &id)),
            ((64 << 20).to_string(), "60".to_owned()),
            "{flags:?}"
        );
        assert_eq!(dhow.inspect("box")["HostConfig"], before, "{flags:?}");
    };
    refused(125, &[], "nothing is to be changed");
    refused(125, &["--memory", "lots"], "want a size");
    refused(1, &["--memory", "5m"], "least is 6m");
    // swap stays what it was asked to be
    refused(1, &["--memory", "100m"], "below the memory limit");
    refused(1, &["--cpuset-cpus", "4000"], "are not to be had");
    refused(1, &["--cpus", "1", "--cpu-quota", "5000"], "--cpu-quota");
    // what only the kernel refuses, after it took others
    let realtime = ["--pids-limit", "70", "--memory-reservation", "32m", "--cpu-rt-runtime", "5000"];
    let output = dhow.run(&[&["update"], &realtime[..], &["box"]].concat());
    if output.code != 0 {
        assert_eq!((memory(&dhow, &id), pids(&dhow, &id)), ((64 << 20).to_string(), "60".to_owned()));
        assert_eq!(dhow.inspect("box")["HostConfig"], before);
    }
    assert_eq!(dhow.ok(&["update", "--memory", "100m", "--memory-swap", "120m", "box"]), "box");
    assert_eq!(memory(&dhow, &id), (100 << 20).to_string());
}

#[test]
fn a_limit_below_what_is_in_use_kills_nobody() {
    let dhow = Dhow::new("update-low");
    // forty megabytes in a file in memory
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2> /dev/null; echo full; exec sleep 600";
    let id = dhow.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "busybox",
        "sh",
        "-c",
        fill,
    ]);
    eventually("its memory's use", || dhow.ok(&["logs", "box"]).contains("full").then_some(()));
    let error = dhow.fails(1, &["update", "--memory", "20m", "--memory-swap", "64m", "box"]);
    assert!(error.contains("memory limit"), "{error}");
    assert_eq!(memory(&dhow, &id), (64 << 20).to_string());
    assert_eq!(dhow.ok(&["exec", "box", "echo", "alive"]), "alive");
}

/// The group of all containers is made by whoever is first there, which may be an update.
#[test]
fn processors_may_be_chosen_first_by_an_update() {
    let dhow = Dhow::new("update-cpuset");
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sleep", "600"]);
    dhow.ok(&["update", "--cpuset-cpus", "0", "box"]);
    dhow.ok(&["restart", "-t", "0", "box"]);
    let line = dhow.ok(&["exec", "box", "grep", "Cpus_allowed_list", "/proc/self/status"]);
    assert!(line.ends_with("\t0"), "{line}");
    dhow.ok(&["run", "--rm", "--network", "none", "--cpuset-cpus", "0", "busybox", "true"]);
}
