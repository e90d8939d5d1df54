//! `dhow system enable`: containers that come back with the machine, and end in order when it goes down, by a real systemd.
//! `cargo xtask vm --systemd system_unit` has a machine for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use harness::spec::{cgroup_v2, skip};
use harness::{Dhow, Invocation, eventually};

/// Whether systemd is process 1.
fn systemd() -> bool {
    let there = std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd")
        && Path::new("/run/systemd/system").is_dir()
        && cgroup_v2().is_some();
    if !there {
        skip("this machine", "systemd on cgroup v2 alone");
    }
    there
}

fn systemctl(args: &[&str]) -> String {
    Invocation::new("systemctl").args(args).limit(120).ok()
}

fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

/// The names of those that run.
fn running(dhow: &Dhow) -> Vec<String> {
    let mut names: Vec<String> =
        dhow.ok(&["ps", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn state(dhow: &Dhow, name: &str) -> serde_json::Value {
    dhow.inspect(name)["State"].clone()
}

/// What a boot finds of an instance: nothing of what was in memory.
fn forget_run_root(dhow: &Dhow) {
    eventually("the monitors to end", || {
        let live = std::fs::read_dir(dhow.run_root().join("containers")).ok()?;
        (live.count() == 0).then_some(())
    });
    std::fs::remove_dir_all(dhow.run_root()).unwrap();
}

#[test]
fn the_unit_starts_what_comes_back_and_ends_all_in_order() {
    if !systemd() {
        return;
    }
    let dhow = Dhow::new("unit");
    let unit = format!("{}.service", dhow.global_name());
    let file = Path::new("/etc/systemd/system").join(&unit);
    let run = |name: &str, policy: &str, more: &[&str], script: &str| {
        let flags = ["run", "-d", "--name", name, "--network", "none", "--restart", policy];
        dhow.ok(&[&flags[..], more, &["busybox", "sh", "-c", script]].concat());
    };
    // Made before the unit is: it does not touch them.
    let heeds = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    run("always", "always", &[], heeds);
    let pid = dhow.pid("always");
    assert!(dhow.ok(&["system", "enable"]).contains(file.to_str().unwrap()));
    assert_eq!(systemctl(&["is-enabled", &unit]), "enabled");
    assert_eq!(
        (show(&unit, "ActiveState"), show(&unit, "SubState")),
        ("active".to_owned(), "exited".to_owned())
    );
    assert_eq!(dhow.pid("always"), pid);
    // What whoever looks at it reads.
    let status = systemctl(&["status", "--no-pager", &unit]);
    for words in ["Dhow's containers", "active (exited)", "enabled", "status=0/SUCCESS"] {
        assert!(status.contains(words), "no {words:?} in {status}");
    }
    // It goes down before the network does, and is waited for as long as containers may take.
    assert!(show(&unit, "After").contains("network-online.target"));
    assert!(show(&unit, "Before").contains("shutdown.target"));
    assert_eq!(show(&unit, "TimeoutStopUSec"), "infinity");

    run("unless", "unless-stopped", &[], heeds);
    run("stopped", "unless-stopped", &[], heeds);
    run("both", "always", &[], heeds);
    run("no", "no", &[], heeds);
    run("well", "on-failure", &[], heeds);
    run("ill", "on-failure", &[], "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done");
    run(
        "slow",
        "always",
        &["--stop-timeout", "60"],
        "trap 'sleep 4; exit 0' TERM; echo up; while :; do sleep 0.1; done",
    );
    run("stubborn", "always", &["--stop-timeout", "2"], "trap '' TERM; echo up; while :; do sleep 0.1; done");
    dhow.ok(&["create", "--name", "never", "--network", "none", "--restart", "always", "busybox", "true"]);
    for name in ["unless", "stopped", "both", "no", "well", "ill", "slow", "stubborn"] {
        eventually("it to be up", || dhow.ok(&["logs", name]).contains("up").then_some(()));
    }
    dhow.ok(&["stop", "stopped", "both"]);

    // The machine goes down: all are asked, at once, and each is given its time.
    let begun = Instant::now();
    systemctl(&["stop", &unit]);
    let took = begun.elapsed();
    assert_eq!(running(&dhow), Vec::<String>::new());
    for (name, code) in
        [("always", 0), ("unless", 0), ("no", 0), ("well", 0), ("ill", 9), ("slow", 0), ("stubborn", 137)]
    {
        assert_eq!(state(&dhow, name)["ExitCode"], code, "{name}");
    }
    assert!(dhow.ok(&["logs", "always"]).ends_with("asked"));
    assert!(took >= Duration::from_secs(4), "{took:?}: the slow one was not waited for");
    assert!(took < Duration::from_mins(1), "{took:?}");

    // And comes up.
    forget_run_root(&dhow);
    systemctl(&["start", &unit]);
    assert_eq!(running(&dhow), ["always", "both", "ill", "slow", "stubborn", "unless"]);
    // Whoever keeps them is none of the unit's, which has none: it can end without them.
    let monitor = std::fs::read_to_string(format!("/proc/{}/cgroup", dhow.monitor_pid("always"))).unwrap();
    assert!(!monitor.contains(".service"), "{monitor}");
    assert_eq!(show(&unit, "SubState"), "exited");

    // The unit goes, and nobody is asked to.
    let pid = dhow.pid("always");
    dhow.ok(&["system", "disable"]);
    assert!(!file.exists());
    assert_eq!(dhow.pid("always"), pid);
    let enabled = Invocation::new("systemctl").args(&["is-enabled", &unit]).output();
    assert_ne!(enabled.code, 0, "{enabled:?}");
    let all = ["always", "unless", "stopped", "both", "no", "well", "ill", "slow", "stubborn", "never"];
    dhow.ok(&[&["rm", "-f"][..], &all].concat());
    // What is left of it in systemd's memory.
    Invocation::new("systemctl").args(&["stop", &unit]).output();
}
