//! `dhow-runtime` where cgroup v2 is the only hierarchy: what the kernel does otherwise there. `cargo xtask vm
//! oci_cgroup2` has a machine for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, push};
use harness::{Invocation, eventually};
use serde_json::{Value, json};

/// A container that runs this: its bundle, its id, and the directory of its group.
fn running(runtime: &Runtime, args: &[&str], edit: impl FnOnce(&mut Value)) -> (Bundle, String, PathBuf) {
    let id = runtime.id("box");
    let bundle = Bundle::running(args)
        .edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", runtime.id("above"))))
        .edit(edit);
    runtime.start_detached(&bundle, &id);
    let group = Path::new("/sys/fs/cgroup").join(runtime.id("above")).join(&id);
    (bundle, id, group)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn group_of(pid: u32) -> PathBuf {
    let groups = read(format!("/proc/{pid}/cgroup"));
    Path::new("/sys/fs/cgroup").join(groups.strip_prefix("0::/").unwrap())
}

#[test]
fn processes_are_born_in_their_group() {
    if !can(&["cgroup v2"]) {
        return;
    }
    let runtime = Runtime::new();
    let traced = |args: &[&str]| {
        let log = runtime.scratch().join("trace");
        let strace =
            Invocation::new("strace").args(&["-f", "-qq", "-e", "trace=clone3,write,openat", "-o"]).arg(&log);
        let said = runtime.on(strace, args).limit(120).ok();
        (said, read(&log))
    };
    let (_bundle, id, group) = running(&runtime, &["sleep", "1000"], |_| {});
    let bundle = Bundle::running(&["cat", "/proc/self/cgroup"]);
    for args in [
        &["run", "--bundle", bundle.path().to_str().unwrap(), &runtime.id("other")][..],
        &["exec", &id, "cat", "/proc/self/cgroup"],
    ] {
        let (said, trace) = traced(args);
        assert_eq!(said, "0::/", "{args:?}");
        assert!(trace.contains("CLONE_INTO_CGROUP"), "{args:?}: {trace}");
        assert!(!trace.contains("cgroup.procs"), "nobody is moved: {args:?}: {trace}");
    }
    assert_eq!(read(group.join("cgroup.procs")), runtime.pid(&id).to_string());
}

#[test]
fn a_command_goes_where_it_is_told() {
    if !can(&["cgroup v2"]) {
        return;
    }
    let runtime = Runtime::new();
    // as systemd does in a container: everybody into a group of their own, and controllers for these
    let script = "mkdir /sys/fs/cgroup/init /sys/fs/cgroup/other; echo 1 > /sys/fs/cgroup/init/cgroup.procs; \
        echo +memory +pids > /sys/fs/cgroup/cgroup.subtree_control && echo ready; sleep 1000 & wait";
    let (_bundle, id, group) = running(&runtime, &["sh", "-c", script], |spec| {
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"].as_array_mut().unwrap().retain(|option| option != "ro");
            }
        }
    });
    eventually("its groups", || runtime.said().contains("ready").then_some(()));
    let place = ["cat", "/proc/self/cgroup"];
    let exec = |flags: &[&str]| runtime.ok(&[&["exec"], flags, &[&id], &place].concat());
    assert_eq!(exec(&[]), "0::/init", "its own may have no processes any more");
    assert_eq!(exec(&["--cgroup", "/other"]), "0::/other");
    let missing = runtime.fails(255, &["exec", "--cgroup", "missing", &id, "true"]);
    assert!(missing.contains("cannot open the cgroup") && missing.contains("/missing"), "{missing}");
    // all of them are found, limited, frozen and killed together
    runtime.quietly(&["exec", "-d", "--cgroup", "other", &id, "sleep", "1001"]);
    let mut pids: Vec<u32> = serde_json::from_str(&runtime.ok(&["ps", "--format", "json", &id])).unwrap();
    pids.sort_unstable();
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert_eq!(group_of(pids[2]), group.join("other"));
    runtime.ok(&["pause", &id]);
    assert_eq!(read(group.join("cgroup.freeze")), "1");
    assert!(read(group.join("other/cgroup.events")).contains("frozen 1"));
    runtime.ok(&["resume", &id]);
    runtime.ok(&["update", "--pids-limit", "3", &id]);
    assert_eq!(read(group.join("pids.max")), "3");
    runtime.ok(&["kill", "--all", &id, "KILL"]);
    runtime.await_status(&id, "stopped");
    runtime.ok(&["delete", &id]);
    assert!(!group.exists(), "with all that is below it");
    assert!(!group.parent().unwrap().exists(), "and what was made above it");
}

#[test]
fn every_limit_has_its_file() {
    if !can(&["cgroup v2"]) {
        return;
    }
    let runtime = Runtime::new();
    let (_bundle, id, group) = running(&runtime, &["sleep", "1000"], |spec| {
        spec["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 1024, "quota": 20_000, "period": 50_000, "burst": 10_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 77},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
            "unified": {"memory.high": "50331648", "memory.oom.group": "1", "cgroup.max.descendants": "5"},
        });
    });
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
        ("cpu.max", "20000 50000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "77"),
        ("hugetlb.2MB.max", "4194304"),
        ("cgroup.max.descendants", "5"),
    ] {
        assert_eq!(read(group.join(file)), value, "{file}");
    }
    let resources = json!({
        "memory": {"limit": 80 << 20, "swap": -1},
        "cpu": {"idle": 1},
        "unified": {"memory.high": "max", "pids.max": "max"},
    });
    runtime.command(&["update", "--resources", "-", &id]).input(resources.to_string()).ok();
    for (file, value) in [
        ("memory.max", "83886080"),
        ("memory.swap.max", "max"),
        ("memory.high", "max"),
        ("cpu.idle", "1"),
        ("cpu.max", "20000 50000"),
        ("pids.max", "max"),
    ] {
        assert_eq!(read(group.join(file)), value, "{file}");
    }
}

#[test]
fn devices_are_a_program_that_an_update_replaces() {
    if !can(&["cgroup v2"]) {
        return;
    }
    let runtime = Runtime::new();
    let (_bundle, id, _) = running(&runtime, &["sleep", "1000"], |spec| {
        spec["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rm"},
        ]);
        push(spec, "/process/capabilities/bounding", json!("CAP_MKNOD"));
        push(spec, "/process/capabilities/effective", json!("CAP_MKNOD"));
        push(spec, "/process/capabilities/permitted", json!("CAP_MKNOD"));
    });
    let shell = |script: &str| runtime.run(&["exec", &id, "sh", "-c", script]);
    let allowed = shell("mknod /tmp/fuse c 10 229 && : < /tmp/fuse");
    assert_eq!(allowed.code, 0, "{allowed:#?}");
    assert_ne!(shell(": > /tmp/fuse").code, 0, "but to be written to it is not");
    // to make any device is allowed in every container, and of no use
    assert_ne!(shell("mknod /tmp/loop-control c 10 237 && : < /tmp/loop-control").code, 0);
    let rules = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "r"},
    ]});
    runtime.command(&["update", "--resources", "-", &id]).input(rules.to_string()).ok();
    assert_ne!(shell(": < /tmp/fuse").code, 0, "the rules from before are gone");
    assert_eq!(shell(": < /tmp/loop-control").code, 0);
    assert_eq!(shell("echo x > /dev/null").code, 0, "what every container has stays");
}

#[test]
fn statistics_are_counted() {
    if !can(&["cgroup v2"]) {
        return;
    }
    let runtime = Runtime::new();
    let work = "head -c 8000000 /dev/zero > /mnt/held; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; \
        echo done; sleep 1000";
    let (_bundle, id, group) = running(&runtime, &["sh", "-c", work], |spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 128 << 20});
        spec["linux"]["resources"]["cpu"] = json!({"quota": 50_000, "period": 100_000});
        push(spec, "/mounts", json!({"destination": "/mnt", "type": "tmpfs", "source": "x"}));
    });
    eventually("its work", || runtime.said().contains("done").then_some(()));
    let event: Value = serde_json::from_str(&runtime.ok(&["events", "--stats", &id])).unwrap();
    let number = |pointer: &str| {
        let value = event.pointer(&format!("/data{pointer}"));
        value.and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {event}"))
    };
    let counted = |file: &str, name: &str| -> u64 {
        let text = read(group.join(file));
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    };
    let total = number("/cpu/usage/total");
    assert!(
        total > 1_000_000 && total <= counted("cpu.stat", "usage_usec") * 1000,
        "in nanoseconds: {total}"
    );
    assert!(number("/cpu/usage/user") + number("/cpu/usage/kernel") <= total + 1_000_000);
    assert!(number("/cpu/throttling/periods") > 0);
    assert_eq!(number("/memory/usage/limit"), 128 << 20);
    assert!(number("/memory/usage/usage") >= 8_000_000);
    assert!(number("/memory/raw/shmem") >= 8_000_000 && number("/memory/raw/anon") > 0);
    assert_eq!(number("/memory/usage/failcnt"), 0);
    // the shell has become its last command
    assert_eq!(number("/pids/current"), 1);
    assert!(event["data"]["hugetlb"]["2MB"].is_object(), "{event}");
    for place in ["cpu", "memory", "blkio"] {
        let line = event.pointer(&format!("/data/{place}/psi/some/total"));
        assert_eq!(line.is_some(), group.join("cpu.pressure").exists(), "{place}: {event}");
    }
}

#[test]
fn a_kill_for_want_of_memory_is_told_of_also_if_it_is_the_end() {
    if !can(&["cgroup v2"]) {
        return;
    }
    let runtime = Runtime::new();
    let script = "while ! test -e /go; do sleep 0.1; done; exec tail /dev/zero";
    for _ in 0..3 {
        let (_bundle, id, group) = running(&runtime, &["sh", "-c", script], |spec| {
            spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
        });
        let events = runtime.spawn(&["events", "--interval", "100ms", &id]);
        events.expect("\"type\":\"stats\"");
        // It may be killed with the container.
        runtime.run(&["exec", &id, "touch", "/go"]);
        let output = events.wait();
        assert_eq!(output.code, 0, "{output:#?}");
        assert!(output.stdout.contains("\"type\":\"oom\""), "{output:#?}");
        assert!(read(group.join("memory.events")).contains("oom_kill 1"));
        runtime.ok(&["delete", &id]);
    }
}
