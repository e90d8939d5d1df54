//! config-linux.md, "Namespaces", "User namespace mappings", "Offset for Time Namespace".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, inside, push, refused, without_namespace};
use serde_json::{Value, json};

/// The types, and what /proc calls them.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn ours(name: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string()
}

fn possible(kind: &str) -> bool {
    kind != "time" || can(&["time namespaces", "specification 1.1"])
}

fn mappings(spec: &mut Value) {
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
}

// `path` not specified: a new namespace. A type that is not listed: the caller's.
#[test]
fn what_is_listed_is_new_and_what_is_not_is_the_callers() {
    for (kind, name) in KINDS {
        if !possible(kind) {
            continue;
        }
        let see = format!("readlink /proc/self/ns/{name}");
        let new = inside(&see, |spec| {
            without_namespace(spec, kind);
            push(spec, "/linux/namespaces", json!({"type": kind}));
            if kind == "user" {
                mappings(spec);
            }
        });
        assert!(new.starts_with(&format!("{name}:[")) && new != ours(name), "{kind}: {new}");
        // a container without a mount namespace has nowhere to mount; runtimes refuse that
        if kind != "mount" {
            let inherited = inside(&see, |spec| {
                without_namespace(spec, kind);
                if kind == "uts" {
                    spec.as_object_mut().unwrap().remove("hostname");
                }
                if kind == "network" {
                    // a new sysfs belongs to a network namespace of one's own
                    spec["mounts"]
                        .as_array_mut()
                        .unwrap()
                        .retain(|m| m["destination"] != "/sys" && m["destination"] != "/sys/fs/cgroup");
                }
            });
            assert_eq!(inherited, ours(name), "{kind}");
        }
    }
}

// `path`: the process is in that namespace.
#[test]
fn a_path_is_joined() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        if possible("time") {
            push(spec, "/linux/namespaces", json!({"type": "time"}));
        }
    });
    let other = runtime.id("other");
    runtime.create(&bundle, &other);
    let pid = runtime.pid(&other);
    for (kind, name) in KINDS {
        // the mount namespace of another container is of another root; the user namespace has a test of its own
        if ["mount", "user"].contains(&kind) || !possible(kind) {
            continue;
        }
        let path = format!("/proc/{pid}/ns/{name}");
        let bundle = Bundle::script(&format!("readlink /proc/self/ns/{name}")).edit(|spec| {
            without_namespace(spec, kind);
            push(spec, "/linux/namespaces", json!({"type": kind, "path": path}));
            if kind == "uts" {
                spec.as_object_mut().unwrap().remove("hostname");
            }
        });
        let expected = std::fs::read_link(&path).unwrap().display().to_string();
        let said = runtime.ok(&["run", "--bundle", bundle.argument(), &runtime.id(kind)]);
        assert_eq!(said, expected, "{kind}");
    }
}

// `path`, of the type `user`.
#[test]
fn a_user_namespace_is_joined() {
    if !can(&["specification 1.2"]) {
        return;
    }
    let runtime = Runtime::new();
    let users = |spec: &mut Value| {
        spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    };
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        push(spec, "/linux/namespaces", json!({"type": "user"}));
        users(spec);
    });
    let other = runtime.id("other");
    runtime.create(&bundle, &other);
    let path = format!("/proc/{}/ns/user", runtime.pid(&other));
    let bundle = Bundle::script("readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map").edit(|spec| {
        push(spec, "/linux/namespaces", json!({"type": "user", "path": path}));
    });
    let expected = std::fs::read_link(&path).unwrap().display().to_string();
    let said = runtime.ok(&["run", "--bundle", bundle.argument(), &runtime.id("guest")]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], [&*expected, "0"]);
    assert_eq!(lines[2].split_ascii_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
}

// `path`: one that is no namespace of that type is an error.
#[test]
fn a_path_of_another_type_is_an_error() {
    for (kind, name) in
        [("network", "uts"), ("uts", "ipc"), ("ipc", "net"), ("pid", "mnt"), ("cgroup", "net")]
    {
        refused(&format!("{kind} at ns/{name}"), |spec| {
            spec.as_object_mut().unwrap().remove("hostname");
            without_namespace(spec, kind);
            push(spec, "/linux/namespaces", json!({"type": kind, "path": format!("/proc/self/ns/{name}")}));
        });
    }
    for path in ["/etc/passwd", "/nowhere", "/proc/self/ns"] {
        refused(path, |spec| {
            without_namespace(spec, "network");
            push(spec, "/linux/namespaces", json!({"type": "network", "path": path}));
        });
    }
}

// `path`: it is absolute.
#[test]
fn a_relative_path_is_an_error() {
    refused("a relative path", |spec| {
        without_namespace(spec, "network");
        push(spec, "/linux/namespaces", json!({"type": "network", "path": "proc/self/ns/net"}));
    });
}

// The same type twice is an error.
#[test]
fn a_type_listed_twice_is_an_error() {
    for kind in ["pid", "network", "mount", "ipc", "uts", "cgroup"] {
        if kind == "cgroup" && !can(&["specification 1.1"]) {
            continue;
        }
        refused(&format!("{kind} twice"), |spec| push(spec, "/linux/namespaces", json!({"type": kind})));
    }
    refused("with a path and without", |spec| {
        push(spec, "/linux/namespaces", json!({"type": "network", "path": "/proc/self/ns/net"}));
    });
}

// "User namespace mappings".
#[test]
fn ids_are_mapped_as_configured() {
    let runtime = Runtime::new();
    let bundle = Bundle::script("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/made").edit(|spec| {
        push(spec, "/linux/namespaces", json!({"type": "user"}));
        spec["linux"]["uidMappings"] =
            json!([{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 50, "hostID": 5000, "size": 5}]);
        spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 2000, "size": 10}]);
        push(spec, "/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "x"}));
        // of this small mapping
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
        push(spec, "/mounts/2/options", json!("gid=0"));
    });
    let said = runtime.said_by(&bundle);
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(lines[..3], [vec!["0", "1000", "10"], vec!["50", "5000", "5"], vec!["0", "2000", "10"]]);
    assert_eq!(lines[3], ["0"]);
}

// "Offset for Time Namespace".
#[test]
fn clocks_are_offset_as_configured() {
    if !can(&["time namespaces", "specification 1.1"]) {
        return;
    }
    let said = inside("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime", |spec| {
        push(spec, "/linux/namespaces", json!({"type": "time"}));
        spec["linux"]["timeOffsets"] =
            json!({"monotonic": {"secs": 172_800, "nanosecs": 5}, "boottime": {"secs": 604_800}});
    });
    let words: Vec<&str> = said.split_ascii_whitespace().collect();
    assert_eq!(words[..6], ["monotonic", "172800", "5", "boottime", "604800", "0"]);
    assert!(words[6].parse::<u64>().unwrap() >= 604_800, "{said}");
}
