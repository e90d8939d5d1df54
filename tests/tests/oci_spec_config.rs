//! bundle.md; of config.md: "Specification version", "Root", "Annotations", "Extensibility", "Valid values" and what
//! `create` applies of the rest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, features, inside, never_runs, refused};
use serde_json::{Value, json};

// bundle.md, "Container Format": config.json lies in the bundle's directory, and has that name.
#[test]
fn a_bundle_is_a_directory_with_a_config_json() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["echo", "found"]);
    assert_eq!(runtime.said_by(&bundle), "found");
    let other = bundle.path().join("Config.json");
    std::fs::rename(bundle.config(), &other).unwrap();
    runtime.refuses(&bundle, "it has another name");
    std::fs::create_dir(bundle.path().join("sub")).unwrap();
    std::fs::rename(other, bundle.path().join("sub/config.json")).unwrap();
    runtime.refuses(&bundle, "it lies elsewhere");
}

// bundle.md, "Container Format"; config.md, "Root", `path`: relative to the bundle, or absolute; with anything beside it.
#[test]
fn the_root_is_found_from_the_bundle() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["cat", "/name"]).file("/name", "relative");
    assert_eq!(runtime.said_by(&bundle), "relative");
    let moved = bundle.path().join("another name");
    std::fs::rename(bundle.rootfs(), &moved).unwrap();
    std::fs::write(moved.join("name"), "absolute").unwrap();
    let bundle = bundle.edit(|spec| spec["root"]["path"] = json!(moved));
    assert_eq!(runtime.said_by(&bundle), "absolute");
}

// config.md, "Root", `path`: there is a directory.
#[test]
fn a_root_that_is_no_directory_is_an_error() {
    refused("there is nothing", |spec| spec["root"]["path"] = json!("nothing"));
    refused("it is a file", |spec| spec["root"]["path"] = json!("config.json"));
    refused("it is not said", |spec| {
        spec.as_object_mut().unwrap().remove("root");
    });
}

// config.md, "Root", `readonly`: nothing can be written; without it, it can.
#[test]
fn a_read_only_root_cannot_be_written_to() {
    let script = "touch /file 2>/dev/null && echo written || echo not; touch /dev/file && echo dev";
    assert_eq!(inside(script, |spec| spec["root"]["readonly"] = json!(true)), "not\ndev");
    let runtime = Runtime::new();
    let bundle = Bundle::script(script).edit(|spec| {
        spec["root"].as_object_mut().unwrap().remove("readonly");
    });
    assert_eq!(runtime.said_by(&bundle), "written\ndev");
    assert!(bundle.rootfs().join("file").exists());
}

// config.md, "Specification version": SemVer, of a version that is known.
#[test]
fn the_version_is_a_semantic_one() {
    if !can(&["specification 1.1"]) {
        // the reference does not look at it
        return;
    }
    for bad in [
        json!(""),
        json!("1"),
        json!("1.0"),
        json!("one"),
        json!("v1.0.0"),
        json!("01.0.0"),
        json!(1),
        Value::Null,
    ] {
        refused(&format!("version {bad}"), |spec| spec["ociVersion"] = bad.clone());
    }
    refused("another major version", |spec| spec["ociVersion"] = json!("2.0.0"));
}

// features.md, "Specification version": what is said to be the least and the most is accepted; config.md: and between.
#[test]
fn the_versions_that_are_said_are_accepted() {
    let (min, max) = (&features()["ociVersionMin"], &features()["ociVersionMax"]);
    for version in [min, max, &json!("1.0.2"), &json!("1.0.0-rc1")] {
        let said = inside("echo yes", |spec| spec["ociVersion"] = version.clone());
        assert_eq!(said, "yes", "{version}");
    }
    for version in ["1.1.0", "1.2.1", "1.3.0"] {
        if can(&[&format!("specification {}", &version[..3])]) {
            assert_eq!(inside("echo yes", |spec| spec["ociVersion"] = json!(version)), "yes", "{version}");
        }
    }
}

// config.md, "Annotations": a map from strings, none of them empty, to strings, which may be.
#[test]
fn annotations_are_a_map_of_strings() {
    let wrong = [
        json!(["a"]),
        json!("a=b"),
        json!({"a": 1}),
        json!({"a": true}),
        json!({"a": ["b"]}),
        json!({"a": {}}),
    ];
    for wrong in wrong {
        refused(&format!("annotations {wrong}"), |spec| spec["annotations"] = wrong.clone());
    }
    for right in [json!({}), json!({"org.example.key": ""}), json!({"no dots": "x", "ключ": "значение"})]
    {
        let runtime = Runtime::new();
        let bundle = Bundle::running(&["true"]).edit(|spec| spec["annotations"] = right.clone());
        let id = &runtime.id("box");
        runtime.create(&bundle, id);
        let state = runtime.state(id);
        if right.as_object().unwrap().is_empty() {
            assert!(state["annotations"].is_null() || state["annotations"] == right, "{state}");
        } else {
            for (key, value) in right.as_object().unwrap() {
                assert_eq!(&state["annotations"][key], value, "{state}");
            }
        }
    }
}

// config.md, "Annotations": a key is not empty.
#[test]
fn an_annotation_has_a_name() {
    if can(&["specification 1.1"]) {
        refused("an empty key", |spec| spec["annotations"] = json!({"": "value"}));
    }
}

// config.md, "Annotations": unknown keys are ignored, those of the specification's own namespace too.
#[test]
fn unknown_annotations_are_ignored() {
    let said = inside("echo yes", |spec| {
        spec["annotations"] = json!({
            "org.opencontainers.unheard.of": "x", "run.oci.unknown": "y", "org.systemd.other": "z",
            "org.opencontainers.image.os": "linux", "org.opencontainers.image.stopSignal": "SIGTERM",
        });
    });
    assert_eq!(said, "yes");
}

// config.md, "Extensibility": unknown properties are ignored, wherever they are.
#[test]
fn unknown_properties_are_ignored() {
    let said = inside("echo yes", |spec| {
        let unknown = json!({"deep": [1, {"x": null}], "flag": true});
        for parent in [
            "",
            "/process",
            "/process/user",
            "/process/capabilities",
            "/root",
            "/linux",
            "/linux/resources",
            "/linux/namespaces/0",
            "/linux/resources/devices/0",
            "/mounts/0",
            "/process/rlimits/0",
        ] {
            let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("{parent}"));
            parent["somethingUnheardOf"] = unknown.clone();
        }
        spec["windows"] = json!({"layerFolders": ["C:\\"]});
        spec["solaris"] = json!({"milestone": "svc:/x"});
        spec["vm"] = json!({"kernel": {"path": "/x"}});
        spec["zos"] = json!({});
        spec["hooks"] = json!({"unheardOf": [{"path": "/bin/false"}]});
    });
    assert_eq!(said, "yes");
}

// config.md, "Valid values": what is not valid, or not supported, is an error and not passed over.
#[test]
fn invalid_values_are_errors() {
    let cases: &[(&str, Value)] = &[
        ("/process/terminal", json!("yes")),
        ("/process/args", json!("sh")),
        ("/process/args", json!([])),
        ("/process/args", json!([1])),
        ("/process/env", json!("PATH=/bin")),
        ("/process/user/uid", json!("root")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/gid", json!(5_000_000_000_u64)),
        ("/process/rlimits", json!([{"type": "RLIMIT_NONESUCH", "soft": 1, "hard": 1}])),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": -5, "hard": 1}])),
        ("/process/oomScoreAdj", json!(5000)),
        ("/root/readonly", json!("true")),
        ("/mounts", json!({})),
        ("/hostname", json!(5)),
        ("/linux/namespaces", json!([{"type": "nonesuch"}])),
        ("/linux/rootfsPropagation", json!("sideways")),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}])),
        ("/linux/resources/devices", json!([{"allow": true, "type": "z", "access": "rwm"}])),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NONESUCH"})),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NONESUCH"]}),
        ),
        ("/linux/resources/memory", json!({"limit": "1g"})),
        ("/linux/resources/pids", json!({"limit": "many"})),
    ];
    for (pointer, value) in cases {
        never_runs(&format!("{pointer}: {value}"), |spec| set(spec, pointer, value.clone()));
    }
    if !can(&["specification 1.3"]) {
        return;
    }
    let newer: &[(&str, Value)] = &[
        ("/linux/resources/devices", json!([{"allow": true, "access": "xyz"}])),
        ("/linux/personality", json!({"domain": "LINUX64"})),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_NONESUCH"})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "none"})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONESUCH"]})),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONESUCH"]}),
        ),
        ("/linux/timeOffsets", json!({"realtime": {"secs": 1}})),
        ("/process/scheduler", json!({"policy": "SCHED_NONESUCH"})),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONESUCH"]})),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_NONESUCH", "priority": 1})),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 9})),
        ("/process/consoleSize", json!({"height": -1, "width": 80})),
    ];
    for (pointer, value) in newer {
        never_runs(&format!("{pointer}: {value}"), |spec| set(spec, pointer, value.clone()));
    }
}

fn set(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is there"))[name] = value;
}

// runtime.md, "Create": all properties are applied. config.md, "Hostname", "Domainname".
#[test]
fn the_names_are_applied() {
    assert_eq!(inside("hostname", |spec| spec["hostname"] = json!("mrs-dalloway")), "mrs-dalloway");
    if can(&["specification 1.1"]) {
        let said =
            inside("cat /proc/sys/kernel/domainname", |spec| spec["domainname"] = json!("foobarbaz.test"));
        assert_eq!(said, "foobarbaz.test");
    }
}

// runtime.md, "Create": config-linux.md, "Sysctl".
#[test]
fn kernel_parameters_are_applied() {
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni";
    let said = inside(script, |spec| {
        spec["linux"]["sysctl"] =
            json!({"net.ipv4.ip_forward": "1", "net.core.somaxconn": "256", "kernel.shmmni": "77"});
    });
    assert_eq!(said, "1\n256\n77");
}

// runtime.md, "Create": config-linux.md, "Rootfs Mount Propagation".
#[test]
fn the_roots_propagation_is_applied() {
    if !can(&["specification 1.3"]) {
        // the reference forgets one kind and fails at another
        return;
    }
    let optional = "grep ' / / ' /proc/self/mountinfo || awk '$5 == \"/\"' /proc/self/mountinfo";
    for (propagation, expected) in
        [("shared", Some("shared:")), ("slave", None), ("private", None), ("unbindable", Some("unbindable"))]
    {
        let said = inside(optional, |spec| spec["linux"]["rootfsPropagation"] = json!(propagation));
        let fields = said.split(" - ").next().unwrap();
        match expected {
            Some(expected) => assert!(fields.contains(expected), "{propagation}: {said}"),
            None => assert!(
                !fields.contains("shared:") && !fields.contains("unbindable"),
                "{propagation}: {said}"
            ),
        }
    }
}

// runtime.md, "Create": config-linux.md, "Personality".
#[test]
fn the_personality_is_applied() {
    if !can(&["specification 1.1"]) {
        return;
    }
    let machine =
        |domain: &str| inside("uname -m", |spec| spec["linux"]["personality"] = json!({"domain": domain}));
    let ours = rustix::system::uname();
    assert_eq!(machine("LINUX"), ours.machine().to_str().unwrap());
    if ours.machine().to_bytes() == b"x86_64" {
        assert_eq!(machine("LINUX32"), "i686");
    }
}

// runtime.md, "Create": config-linux.md, "Memory policy".
#[test]
fn the_memory_policy_is_applied() {
    if !can(&["specification 1.3", "NUMA"]) {
        return;
    }
    let policy = |policy: Value| {
        inside("cut -d' ' -f2 /proc/self/numa_maps | head -1", |spec| {
            spec["linux"]["memoryPolicy"] = policy;
        })
    };
    assert_eq!(policy(json!({"mode": "MPOL_DEFAULT"})), "default");
    assert_eq!(policy(json!({"mode": "MPOL_BIND", "nodes": "0"})), "bind:0");
    assert_eq!(policy(json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"})), "interleave:0");
    assert_eq!(policy(json!({"mode": "MPOL_LOCAL"})), "local");
    let fixed = policy(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}));
    assert_eq!(fixed, "bind=static:0");
    never_runs("nodes that must not be there", |spec| {
        spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND"});
    });
}

// config-linux.md, "Masked Paths": they are absolute, and cannot be read.
#[test]
fn masked_paths_cannot_be_read() {
    let said = inside("cat /proc/version; ls -d /proc/version", |spec| {
        spec["linux"]["maskedPaths"] = json!(["/proc/version", "/not/there"]);
    });
    assert_eq!(said, "/proc/version");
    let runtime = Runtime::new();
    let script = "cat /etc/secret; ls -A /etc/hidden; touch /etc/hidden/x 2>/dev/null || echo ro";
    let bundle =
        Bundle::script(script).file("/etc/secret", "secret").file("/etc/hidden/file", "x").edit(|spec| {
            spec["linux"]["maskedPaths"] = json!(["/etc/secret", "/etc/hidden"]);
        });
    assert_eq!(runtime.said_by(&bundle), "ro");
    if can(&["specification 1.1"]) {
        refused("a relative path", |spec| spec["linux"]["maskedPaths"] = json!(["etc/secret"]));
    }
}

// config-linux.md, "Readonly Paths": they are absolute, and cannot be written to.
#[test]
fn read_only_paths_cannot_be_written_to() {
    let script = "for f in /etc/there/file /proc/sys/kernel/hostname; do (echo x > $f) 2>/dev/null && echo written; done; cat /etc/there/file";
    let runtime = Runtime::new();
    let bundle = Bundle::script(script).file("/etc/there/file", "kept").edit(|spec| {
        spec["linux"]["readonlyPaths"] = json!(["/etc/there", "/proc/sys", "/not/there"]);
    });
    assert_eq!(runtime.said_by(&bundle), "kept");
    if can(&["specification 1.1"]) {
        refused("a relative path", |spec| spec["linux"]["readonlyPaths"] = json!(["etc/there"]));
    }
}
