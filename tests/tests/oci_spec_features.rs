//! features.md and features-linux.md: what the runtime says it knows, it knows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, features, has, inside, kernel, push, without_namespace};
use serde_json::{Value, json};

/// A list of the features; none where it is not there.
fn list(pointer: &str) -> Vec<&'static str> {
    let list = features().pointer(pointer).and_then(Value::as_array);
    list.map(|list| list.iter().map(|one| one.as_str().unwrap()).collect()).unwrap_or_default()
}

// "Specification version": the most is not less than the least.
#[test]
fn the_versions_are_in_order() {
    let version = |name: &str| -> Vec<u32> {
        let text = features()[name].as_str().unwrap();
        let core = text.split(['-', '+']).next().unwrap();
        core.split('.').map(|number| number.parse().unwrap()).collect()
    };
    let (min, max) = (version("ociVersionMin"), version("ociVersionMax"));
    assert_eq!((min.len(), max.len()), (3, 3));
    assert!(min <= max, "{min:?} {max:?}");
}

// "Specification version": no property that the specification does not have; and none that is null.
#[test]
fn there_are_no_other_properties() {
    let known = |object: &Value, names: &[&str]| {
        for (name, value) in object.as_object().unwrap() {
            assert!(names.contains(&&**name), "{name}");
            assert!(!value.is_null(), "{name}");
        }
    };
    let top = [
        "ociVersionMin",
        "ociVersionMax",
        "hooks",
        "mountOptions",
        "linux",
        "annotations",
        "potentiallyUnsafeConfigAnnotations",
    ];
    known(features(), &top);
    let linux = &features()["linux"];
    let all = [
        "namespaces",
        "capabilities",
        "cgroup",
        "seccomp",
        "apparmor",
        "selinux",
        "intelRdt",
        "memoryPolicy",
        "mountExtensions",
        "netDevices",
    ];
    known(linux, &all);
    let parts: [(&str, &[&str]); 8] = [
        ("cgroup", &["v1", "v2", "systemd", "systemdUser", "rdma"]),
        ("seccomp", &["enabled", "actions", "operators", "archs", "knownFlags", "supportedFlags"]),
        ("apparmor", &["enabled"]),
        ("selinux", &["enabled"]),
        ("intelRdt", &["enabled", "schemata", "monitoring"]),
        ("memoryPolicy", &["modes", "flags"]),
        ("mountExtensions", &["idmap"]),
        ("netDevices", &["enabled"]),
    ];
    for (part, names) in parts {
        if !linux[part].is_null() {
            known(&linux[part], names);
        }
    }
}

// "Annotations": a map from strings that are not empty to strings.
#[test]
fn the_annotations_are_a_map_of_strings() {
    if let Some(annotations) = features().get("annotations") {
        for (key, value) in annotations.as_object().unwrap() {
            assert!(!key.is_empty() && value.is_string(), "{key}: {value}");
        }
    }
}

// "Hooks": each is supported.
#[test]
fn the_hooks_are_supported() {
    let runtime = Runtime::new();
    let log = runtime.scratch().join("log");
    std::fs::write(&log, "").unwrap();
    let stages = list("/hooks");
    assert!(stages.len() >= 6, "{stages:?}");
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        push(spec, "/mounts", json!({"destination": log, "source": log, "options": ["bind"]}));
        spec["hooks"] = json!({});
        for stage in &stages {
            let script = format!("echo {stage} >> {}", log.display());
            spec["hooks"][stage] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        }
    });
    runtime.said_by(&bundle);
    let log = std::fs::read_to_string(log).unwrap();
    for stage in stages {
        assert!(log.lines().any(|line| line == stage), "{stage}: {log}");
    }
}

// "Mount Options": each is recognized.
#[test]
fn the_mount_options_are_recognized() {
    if !can(&["specification 1.1"]) {
        // the reference lists some that it hands to the file system
        return;
    }
    let runtime = Runtime::new();
    let source = runtime.scratch().join("source");
    std::fs::create_dir(&source).unwrap();
    let options = list("/mountOptions");
    assert!(options.len() >= 55, "{options:?}");
    for option in options {
        let bind = option.starts_with('r')
            || ["bind", "private", "shared", "slave", "unbindable", "idmap"].contains(&option);
        let bundle = Bundle::running(&["true"]).edit(|spec| {
            let mut mount =
                json!({"destination": "/mnt", "type": "tmpfs", "source": "x", "options": [option]});
            if bind && !["ro", "rw", "relatime", "remount"].contains(&option) {
                mount = json!({"destination": "/mnt", "source": source, "options": ["rbind", option]});
            }
            if option == "remount" {
                push(spec, "/mounts", json!({"destination": "/mnt", "type": "tmpfs", "source": "x"}));
            }
            if ["idmap", "ridmap"].contains(&option) {
                let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
                mount["uidMappings"] = map.clone();
                mount["gidMappings"] = map;
            }
            push(spec, "/mounts", mount);
        });
        let output = runtime.run_to_end(&bundle);
        assert_eq!(output.code, 0, "{option}: {output:#?}");
    }
}

// "Namespaces": each is recognized.
#[test]
fn the_namespaces_are_recognized() {
    for kind in list("/linux/namespaces") {
        if kind == "time" && !has("time namespaces") {
            continue;
        }
        let said = inside("echo on", |spec| {
            without_namespace(spec, kind);
            push(spec, "/linux/namespaces", json!({"type": kind}));
            if kind == "user" {
                let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                spec["linux"]["uidMappings"] = map.clone();
                spec["linux"]["gidMappings"] = map;
            }
        });
        assert_eq!(said, "on", "{kind}");
    }
}

// "Capabilities": each is recognized: it may be one that cannot be had, but none that is unknown.
#[test]
fn the_capabilities_are_recognized() {
    if !can(&["specification 1.1"]) {
        // the reference fails where it has not all of them itself
        return;
    }
    let runtime = Runtime::new();
    let all = list("/linux/capabilities");
    assert!(all.len() >= 41, "{all:?}");
    let bundle = Bundle::script("sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status").edit(|spec| {
        spec["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    });
    let output = runtime.run_to_end(&bundle);
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(!output.stderr.contains("unknown"), "{output:#?}");
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
    assert_eq!(output.stdout.trim(), ours, "all that we have");
}

/// Runs with this filter.
fn filters(what: &str, seccomp: Value) {
    assert_eq!(inside("echo on", |spec| spec["linux"]["seccomp"] = seccomp), "on", "{what}");
}

// "Seccomp": actions, operators, architectures and flags are recognized, and supported flags work.
#[test]
fn the_words_of_seccomp_are_recognized() {
    if !can(&["specification 1.1"]) {
        // the reference cannot mix architectures of another byte order with ours
        return;
    }
    let runtime = Runtime::new();
    let rule = |action: &str| json!({"names": ["quotactl"], "action": action});
    let with = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    for action in list("/linux/seccomp/actions") {
        if action == "SCMP_ACT_NOTIFY" {
            // there has to be somebody to tell
            let path = runtime.scratch().join("agent");
            let _agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let mut seccomp = with(rule(action));
            seccomp["listenerPath"] = json!(path);
            filters(action, seccomp);
        } else {
            filters(action, with(rule(action)));
        }
    }
    for op in list("/linux/seccomp/operators") {
        let mut rule = rule("SCMP_ACT_ERRNO");
        rule["args"] = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": op}]);
        filters(op, with(rule));
    }
    for arch in list("/linux/seccomp/archs") {
        let mut seccomp = with(rule("SCMP_ACT_ERRNO"));
        seccomp["architectures"] = json!([arch]);
        filters(arch, seccomp);
    }
    let flags = list("/linux/seccomp/knownFlags");
    for flag in list("/linux/seccomp/supportedFlags") {
        assert!(flags.contains(&flag), "{flag} is not known");
        // one that needs a listener
        if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" {
            let path = runtime.scratch().join(flag);
            let _agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
            if kernel() >= (5, 19) {
                let mut seccomp = with(rule("SCMP_ACT_NOTIFY"));
                seccomp["listenerPath"] = json!(path);
                seccomp["flags"] = json!([flag]);
                filters(flag, seccomp);
            }
        } else {
            let mut seccomp = with(rule("SCMP_ACT_ERRNO"));
            seccomp["flags"] = json!([flag]);
            filters(flag, seccomp);
        }
    }
}

// "MemoryPolicy": modes and flags are recognized.
#[test]
fn the_words_of_memory_policies_are_recognized() {
    if !can(&["specification 1.3", "NUMA"]) {
        return;
    }
    let modes = list("/linux/memoryPolicy/modes");
    assert!(modes.len() >= 7, "{modes:?}");
    let run = |what: &str, policy: Value| {
        assert_eq!(inside("echo on", |spec| spec["linux"]["memoryPolicy"] = policy), "on", "{what}");
    };
    for mode in modes {
        let without_nodes = ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode);
        if mode == "MPOL_WEIGHTED_INTERLEAVE" && kernel() < (6, 9) {
            continue;
        }
        run(mode, if without_nodes { json!({"mode": mode}) } else { json!({"mode": mode, "nodes": "0"}) });
    }
    for flag in list("/linux/memoryPolicy/flags") {
        run(flag, json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}));
    }
}

// "MountExtensions": whoever knows the mappings of mounts says so.
#[test]
fn mapped_mounts_are_spoken_of() {
    if can(&["specification 1.2"]) {
        assert_eq!(features()["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }
}
