//! Attacks: being somebody else, or having more rights, than was meant.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::Invocation;
use harness::attack::{almighty, mount, with_users};
use harness::oci::{Bundle, Runtime};
use harness::spec::cgroup_v2;
use serde_json::{Value, json};

/// A container that sleeps.
fn sleeping(runtime: &Runtime, bundle: &Bundle) -> String {
    bundle.change(|spec| spec["process"]["args"] = json!(["sleep", "1000"]));
    let id = runtime.id("box");
    runtime.start_detached(bundle, &id);
    id
}

/// A line of `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim_start_matches(':').trim()
}

/// CVE-2024-40635, CVE-2016-3697: numbers that wrap around, or mean "as it is" to setresuid(2).
#[test]
fn users_in_a_configuration_do_not_wrap() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["id", "-u"]);
    let odd = [
        json!(4_294_967_295_u64),
        json!(4_294_967_296_u64),
        json!(18_446_744_073_709_551_615_u64),
        json!(-1),
        json!(-4_294_967_295_i64),
        json!(1.5),
        json!(1e3),
        json!("0"),
        json!("1000"),
        json!([0]),
    ];
    for value in &odd {
        for field in ["uid", "gid", "additionalGids"] {
            bundle.change(|spec| {
                spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
                spec["process"]["user"][field] =
                    if field == "additionalGids" { json!([value]) } else { value.clone() };
            });
            let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
            assert!(output.code != 0 && output.stdout.is_empty(), "{field} {value}: {output:#?}");
        }
    }
    bundle.change(|spec| spec["process"]["user"] = json!({"uid": 4_294_967_294_u64, "gid": 1}));
    assert_eq!(runtime.ok(&["run", "--bundle", bundle.text(), &runtime.id("box")]), "4294967294");
}

/// CVE-2026-30892: `-u 1` was read as 0. CVE-2026-46680: a number is never a name.
#[test]
fn users_of_exec_are_plain_numbers() {
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    // Names that are numbers, of root.
    let passwd = "root:x:0:0::/:/bin/sh\n1:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n";
    std::fs::write(bundle.rootfs().join("etc/passwd"), passwd).unwrap();
    std::fs::write(bundle.rootfs().join("etc/group"), "root:x:0:\n1:x:0:\n").unwrap();
    let id = &sleeping(&runtime, &bundle);
    for (user, expected) in [
        ("1", "1 0"),
        ("1000", "1000 0"),
        ("1:1", "1 1"),
        ("01", "1 0"),
        ("4294967294:4294967294", "4294967294 4294967294"),
    ] {
        assert_eq!(runtime.ok(&["exec", "-u", user, id, "sh", "-c", "echo $(id -u) $(id -g)"]), expected);
    }
    for user in [
        "0x0",
        "+0",
        "+1",
        "-0",
        "-1",
        " 1",
        "1 ",
        "1:2:3",
        "1:",
        ":1",
        ":",
        "1:+1",
        "1: 1",
        "root",
        "1.0",
        "1e3",
        "1\n0",
        "4294967295",
        "1:4294967295",
        "4294967296",
        "18446744073709551616",
        "٣",
    ] {
        let output = runtime.run(&["exec", "-u", user, id, "id", "-u"]);
        assert!(output.code != 0 && output.stdout.is_empty(), "{user:?}: {output:#?}");
    }
    for group in ["+1", "-1", " 1", "4294967295", "4294967296", "root", "0x1"] {
        let output = runtime.run(&["exec", "-g", group, id, "id", "-u"]);
        assert!(output.code != 0 && output.stdout.is_empty(), "{group:?}: {output:#?}");
    }
}

/// CVE-2022-24769, CVE-2022-27649, CVE-2022-27650, CVE-2022-29162, CVE-2016-8867: nothing is inheritable or ambient that the
/// configuration does not name, whatever the caller has.
#[test]
fn no_capability_is_inherited() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["cat", "/proc/self/status"]);
    let caller = || {
        let all = Invocation::new("setpriv");
        all.args(&["--inh-caps=+chown,+kill,+sys_admin", "--ambient-caps=+chown,+kill,+sys_admin"])
    };
    let status = caller().args(&["cat", "/proc/self/status"]).ok();
    assert!(field(&status, "CapInh") != "0000000000000000" && field(&status, "CapAmb") != "0000000000000000");
    for uid in [0, 1000] {
        bundle.change(|spec| {
            almighty(spec);
            spec["process"]["user"] = json!({"uid": uid, "gid": uid});
            spec["process"]["args"] = json!(["cat", "/proc/self/status"]);
        });
        let id = runtime.id("box");
        let status = runtime.on(caller(), &["run", "--bundle", bundle.text(), &id]).ok();
        let check = |status: &str| {
            assert_eq!(field(status, "CapInh"), "0000000000000000", "{status}");
            assert_eq!(field(status, "CapAmb"), "0000000000000000", "{status}");
            if uid != 0 {
                assert_eq!(field(status, "CapEff"), "0000000000000000", "{status}");
                assert_eq!(field(status, "CapPrm"), "0000000000000000", "{status}");
            }
        };
        check(&status);
        let id = sleeping(&runtime, &bundle);
        check(&runtime.on(caller(), &["exec", &id, "cat", "/proc/self/status"]).ok());
        let args = ["exec", "--cap", "CAP_NET_RAW", &id, "cat", "/proc/self/status"];
        check(&runtime.on(caller(), &args).ok());
        runtime.ok(&["delete", "--force", &id]);
    }
    // What is not in the bounding set is in none.
    bundle.change(|spec| {
        spec["process"]["args"] = json!(["cat", "/proc/self/status"]);
        spec["process"]["user"] = json!({"uid": 0, "gid": 0});
        spec["process"]["capabilities"] = json!({});
    });
    let status = runtime.on(caller(), &["run", "--bundle", bundle.text(), &runtime.id("none")]).ok();
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&status, name), "0000000000000000", "{status}");
    }
}

/// CVE-2022-36109, CVE-2023-25173, CVE-2022-2989: the groups are those of the configuration, neither the caller's nor an
/// image's.
#[test]
fn groups_are_those_of_the_configuration() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["id", "-G"]);
    std::fs::write(bundle.rootfs().join("etc/group"), "root:x:0:\nwheel:x:10:app,root\n").unwrap();
    std::fs::write(bundle.rootfs().join("etc/passwd"), "root:x:0:0::/:\napp:x:1000:0::/:\n").unwrap();
    let caller = || Invocation::new("setpriv").args(&["--groups=4,20,27"]);
    assert!(caller().args(&["id", "-G"]).ok().contains("27"));
    for (user, expected) in [
        (json!({"uid": 1000, "gid": 1000}), "1000"),
        (json!({"uid": 0, "gid": 0}), "0"),
        (json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6]}), "1000 5 6"),
    ] {
        bundle.change(|spec| {
            spec["process"]["user"] = user;
            spec["process"]["args"] = json!(["id", "-G"]);
        });
        let args = ["run", "--bundle", bundle.text(), &runtime.id("box")];
        assert_eq!(runtime.on(caller(), &args).ok(), expected);
        let id = sleeping(&runtime, &bundle);
        assert_eq!(runtime.on(caller(), &["exec", &id, "id", "-G"]).ok(), expected);
        runtime.ok(&["delete", "--force", &id]);
    }
}

/// CVE-2023-25809: a container without a cgroup namespace of its own, in a user namespace, whose view of cgroups is
/// read-only, can write to none of them.
#[test]
fn cgroups_that_are_read_only_are_so_in_all_depths() {
    // Makes a group, and moves itself, wherever it can.
    let script = "for d in $(find /sys/fs/cgroup -maxdepth 4 -type d | head -200); do \
                  mkdir $d/owned 2>/dev/null && echo made $d; \
                  (echo 0 > $d/cgroup.procs) 2>/dev/null && echo joined $d; \
                  (echo 1 > $d/notify_on_release) 2>/dev/null && echo wrote $d; \
                  done; find /sys/fs/cgroup -type d | wc -l";
    for users in [true, false] {
        for namespace in [true, false] {
            let runtime = Runtime::new();
            let bundle = Bundle::running(&["sh", "-c", script]).edit(|spec| {
                almighty(spec);
                if !namespace {
                    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
                    namespaces.retain(|namespace| namespace["type"] != "cgroup");
                }
            });
            if users {
                with_users(&bundle);
            }
            let said = runtime.ok(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
            // With users of its own it may be that it sees none at all; of v2 it sees the one that it is in.
            let least = if users || cgroup_v2().is_some() { 1 } else { 2 };
            assert!(said.parse::<u32>().is_ok_and(|seen| seen >= least), "{users} {namespace}: {said}");
        }
    }
}

/// CVE-2018-10892, GHSA-7ww5-4wqc-m92c: what `spec` writes masks what tells of, or changes, the machine.
#[test]
fn the_kernels_windows_are_masked_by_default() {
    let spec: Value = Bundle::new().spec();
    let masked: Vec<&str> =
        spec["linux"]["maskedPaths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for path in [
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ] {
        assert!(masked.contains(&path), "{path}: {masked:?}");
    }
    let runtime = Runtime::new();
    let script = "ls -A /proc/acpi /sys/firmware; cat /proc/keys; echo x > /proc/sys/kernel/core_pattern";
    let bundle = Bundle::running(&["sh", "-c", script]);
    let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
    assert_eq!(output.stdout, "/proc/acpi:\n\n/sys/firmware:\n", "{output:#?}");
    assert!(output.stderr.contains("core_pattern: Read-only"), "{output:#?}");
    assert!(
        std::fs::read_dir("/sys/firmware").unwrap().count() > 0
            || Invocation::new("cat").arg("/proc/keys").ok() != ""
    );
}

/// A device node in an image is no device: the group's rules stand before it, with users of its own and without.
#[test]
fn a_device_node_of_an_image_cannot_be_opened() {
    let open = |path: &std::path::Path| std::fs::File::open(path).map(drop);
    for users in [false, true] {
        let runtime = Runtime::new();
        let bundle = Bundle::running(&["cat", "/node"]);
        let node = bundle.rootfs().join("node");
        let number = rustix::fs::makedev(1, 11);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &node,
            rustix::fs::FileType::CharacterDevice,
            0o666.into(),
            number,
        )
        .unwrap();
        open(&node).expect("on the host it is the kernel's log");
        if users {
            with_users(&bundle);
        }
        let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
        assert!(output.code != 0 && output.stdout.is_empty(), "users {users}: {output:#?}");
        assert!(output.stderr.contains("Operation not permitted"), "users {users}: {output:#?}");
    }
}

/// CVE-2021-21284: root of a container with users of its own is nobody on the host, also on a volume.
#[test]
fn root_of_a_user_namespace_is_nobody_outside() {
    let runtime = Runtime::new();
    let volume = runtime.scratch().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("roots"), "the host's").unwrap();
    let script = "echo owned > /vol/roots; chown 0 /vol/roots; chmod 4777 /vol/roots; rm /vol/roots; touch /vol/new; true";
    let bundle = Bundle::running(&["sh", "-c", script]).edit(|spec| {
        almighty(spec);
        mount(spec, "/vol", "bind", volume.to_str().unwrap(), &["rbind", "rw"]);
    });
    with_users(&bundle);
    runtime.ok(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
    assert_eq!(std::fs::read_to_string(volume.join("roots")).unwrap(), "the host's");
    assert!(!volume.join("new").exists());
}
