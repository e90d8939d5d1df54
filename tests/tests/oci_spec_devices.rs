//! config-linux.md, "Devices", "Default Devices", "Allowed Device list".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::Terminal;
use harness::oci::{Bundle, Runtime};
use harness::spec::{can, inside, push};
use serde_json::{Value, json};

// "Default Devices": null, zero, full, random, urandom, tty; ptmx is that of the container's own devpts.
#[test]
fn the_default_devices_are_there() {
    let script = "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done; \
                  readlink /dev/ptmx || stat -c '%n %t:%T' /dev/ptmx; \
                  echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
                  (echo x > /dev/full) 2>/dev/null || echo full";
    let said = inside(script, |_| {});
    let lines: Vec<&str> = said.lines().collect();
    for (line, (name, number)) in lines.iter().zip([
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ]) {
        assert_eq!(*line, format!("/dev/{name} character special file {number} 666"));
    }
    assert!(["pts/ptmx", "/dev/pts/ptmx", "/dev/ptmx 5:2"].contains(&lines[6]), "{said}");
    assert_eq!(lines[7..], ["3", "3", "full"]);
}

// "Default Devices": also where /dev is nobody's mount, and where it was filled before.
#[test]
fn the_default_devices_are_there_without_a_mount() {
    let script = "for d in null zero full random urandom tty; do stat -c '%t:%T' /dev/$d; done";
    let said = inside(script, |spec| {
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    });
    assert_eq!(said, "1:3\n1:5\n1:7\n1:8\n1:9\n5:0");
}

// "Default Devices": /dev/console is the terminal, where there is one.
#[test]
fn the_console_is_the_terminal() {
    let runtime = Runtime::new();
    let script = "test -t 0 && stat -c '%t:%T' /dev/console \"$(readlink -f /proc/self/fd/0)\"; \
                  grep -c ' /dev/console ' /proc/self/mountinfo; echo the end";
    let bundle = Bundle::script(script).edit(|spec| spec["process"]["terminal"] = json!(true));
    let id = runtime.id("box");
    let args = ["run", "--bundle", bundle.argument(), &id];
    let mut terminal = Terminal::of(|invocation| runtime.on(invocation, &args));
    terminal.expect("the end");
    let said = terminal.screen();
    assert_eq!(terminal.wait(), 0, "{said}");
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert_eq!(lines[0], lines[1], "one and the same device: {said}");
    assert!(lines[0].starts_with("88:"), "{said}");
    assert_eq!(lines[2], "1");
    // and without one there is none
    assert_eq!(inside("ls /dev/console 2>/dev/null || echo none", |_| {}), "none");
}

fn device(path: &str, kind: &str, major: u32, minor: u32) -> Value {
    json!({"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o640, "uid": 3, "gid": 4})
}

// "Devices": those that are listed are there, with their numbers, mode and owner, and wherever they are to be.
#[test]
fn the_devices_that_are_listed_are_there() {
    let script = "stat -c '%F %t:%T %a %u %g' /dev/mine /dev/block /dev/pipe /dev/deep/er /opt/elsewhere";
    let said = inside(script, |spec| {
        spec["linux"]["devices"] = json!([
            device("/dev/mine", "c", 10, 229),
            device("/dev/block", "b", 7, 33),
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600, "uid": 0, "gid": 0},
            device("/dev/deep/er", "u", 10, 200),
            device("/opt/elsewhere", "c", 10, 1),
        ]);
    });
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "character special file a:e5 640 3 4",
            "block special file 7:21 640 3 4",
            "fifo 0:0 600 0 0",
            "character special file a:c8 640 3 4",
            "character special file a:1 640 3 4",
        ]
    );
}

// "Devices", `path`: something else that lies there is an error; the device itself is none.
#[test]
fn something_else_in_a_devices_place_is_an_error() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]).file("/opt/device", "not a device").edit(|spec| {
        spec["linux"]["devices"] = json!([device("/opt/device", "c", 10, 229)]);
    });
    if can(&["specification 1.1"]) {
        runtime.refuses(&bundle, "a file lies there");
        assert_eq!(std::fs::read_to_string(bundle.rootfs().join("opt/device")).unwrap(), "not a device");
    }
    std::fs::remove_file(bundle.rootfs().join("opt/device")).unwrap();
    runtime.said_by(&bundle);
    // it has made it, or bound it over a file; in both cases it does it again
    runtime.said_by(&bundle);
}

/// A device of number 10 that is none of the default ones, and that anybody may open who is let.
fn minor() -> u32 {
    let known = std::fs::read_to_string("/proc/misc").unwrap();
    let lines = known.lines().filter_map(|line| line.trim().split_once(' '));
    let (minor, _) = lines
        .filter(|(_, name)| ["fuse", "loop-control", "hpet", "tun"].contains(&name.trim()))
        .min_by_key(|(_, name)| *name != "fuse")
        .expect("the kernel has one of them");
    minor.parse().unwrap()
}

/// What a container with these rules may do with /dev/mine: a line for each attempt.
fn allowed(rules: &Value, attempts: &str) -> Vec<String> {
    let said = inside(attempts, |spec| {
        spec["linux"]["resources"]["devices"] = rules.clone();
        let few = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        spec["process"]["capabilities"] = json!({"bounding": few, "effective": few, "permitted": few});
        push(
            spec,
            "/linux/devices",
            json!({"path": "/dev/mine", "type": "c", "major": 10, "minor": minor(), "fileMode": 0o666}),
        );
    });
    said.lines().map(str::to_owned).collect()
}

const READ: &str = "(exec 3< /dev/mine) 2>/dev/null && echo read || echo -;";
const WRITE: &str = "(exec 3> /dev/mine) 2>/dev/null && echo write || echo -;";

// "Allowed Device list": entries are applied in the listed order: the last one that matches counts.
#[test]
fn rules_of_devices_are_applied_in_the_listed_order() {
    let all = format!("{READ}{WRITE}");
    let none = json!({"allow": false, "access": "rwm"});
    let rule = |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 10, "minor": minor(), "access": access});
    for (rules, expected) in [
        (json!([none]), ["-", "-"]),
        (json!([none, rule(true, "rwm")]), ["read", "write"]),
        (json!([none, rule(true, "r")]), ["read", "-"]),
        (json!([none, rule(true, "w"), rule(true, "m")]), ["-", "write"]),
        (json!([none, rule(true, "rwm"), rule(false, "w")]), ["read", "-"]),
        (json!([rule(true, "rwm"), none]), ["-", "-"]),
        (json!([none, rule(false, "rw"), {"allow": true, "type": "c", "access": "rw"}]), ["read", "write"]),
        (json!([none, {"allow": true, "access": "rwm"}, rule(false, "r")]), ["-", "write"]),
        (json!([none, {"allow": true, "type": "b", "access": "rwm"}]), ["-", "-"]),
        (json!([none, {"allow": true, "type": "c", "major": 10, "access": "r"}]), ["read", "-"]),
    ] {
        assert_eq!(allowed(&rules, &all), expected, "{rules}");
    }
}

// "Allowed Device list": and the default devices can be used all the same.
#[test]
fn default_devices_can_be_used_where_nothing_is_allowed() {
    let none = json!([{"allow": false, "access": "rwm"}]);
    let script = "echo x > /dev/null && head -c 1 /dev/zero | wc -c && head -c 1 /dev/urandom | wc -c";
    assert_eq!(allowed(&none, script), ["1", "1"]);
}
