//! Attacks: words of a configuration, or of what goes into one, that are taken for more than they are.
//!
//! Callers put into `config.json` what they were told by others: settings of a pod, annotations of an image. What is not
//! understood is an error, never "off"; and nothing outside of that file is an order at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::oci::{Bundle, Runtime, write_executable};
use serde_json::{Value, json};

/// A container with this change is refused, and its command never runs.
#[track_caller]
fn refused(what: &str, change: impl FnOnce(&mut Value)) -> String {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["echo", "it ran"]).edit(change);
    let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
    assert!(output.code != 0 && !output.stdout.contains("it ran"), "{what}: {output:#?}");
    assert_eq!(runtime.left(), Vec::<String>::new(), "{what}");
    output.stderr
}

/// CVE-2022-0811: a setting of the machine smuggled in the value, or the name, of one that is the container's.
#[test]
fn settings_of_the_machine_cannot_be_smuggled() {
    let core_pattern = || std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = core_pattern();
    for (key, value) in [
        ("kernel.core_pattern", "|/bin/evil"),
        ("kernel/core_pattern", "|/bin/evil"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/bin/evil"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/bin/evil"),
        ("kernel.shm_rmid_forced\nkernel.core_pattern", "|/bin/evil"),
        ("net.ipv4.ip_forward=1\nkernel.core_pattern", "|/bin/evil"),
        ("net/../kernel/core_pattern", "|/bin/evil"),
        ("net.ipv4.../../kernel/core_pattern", "|/bin/evil"),
        ("net/ipv4/../../kernel/core_pattern", "|/bin/evil"),
        ("net.ipv4./.kernel.core_pattern", "|/bin/evil"),
        ("/proc/sys/kernel/core_pattern", "|/bin/evil"),
        ("fs.mqueue./../kernel/core_pattern", "|/bin/evil"),
        ("net", "1"),
        ("", "1"),
        ("net.\u{0}", "1"),
        ("kernel.modprobe", "/bin/evil"),
        ("kernel.sysrq", "1"),
        ("vm.overcommit_memory", "1"),
        ("fs.suid_dumpable", "2"),
    ] {
        refused(key, |spec| spec["linux"]["sysctl"] = json!({key: value}));
        assert_eq!(core_pattern(), before, "{key}");
    }
    // One that needs a namespace which the container shares with the host.
    refused("the host's network", |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
}

/// GHSA-7236-3392-c5c6: what is not known switched seccomp off.
#[test]
fn an_unknown_word_of_a_filter_is_no_permission() {
    let filter = || {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
        })
    };
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["mkdir", "/tmp/x"]).edit(|spec| spec["linux"]["seccomp"] = filter());
    let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
    assert!(output.code == 1 && output.stderr.contains("Operation not permitted"), "it works: {output:#?}");
    for (pointer, value) in [
        ("/defaultAction", json!("SCMP_ACT_NONSENSE")),
        ("/defaultAction", json!("")),
        ("/defaultAction", json!("unconfined")),
        ("/defaultAction", json!(null)),
        ("/defaultAction", json!("scmp_act_allow")),
        ("/architectures", json!(["SCMP_ARCH_NONSENSE"])),
        ("/syscalls/0/action", json!("SCMP_ACT_NONSENSE")),
        ("/syscalls/0/action", json!("")),
        ("/syscalls/0/names", json!([])),
        ("/syscalls/0/args", json!([{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])),
        ("/syscalls/0/args", json!([{"index": 0, "value": 0, "op": "SCMP_CMP_NONSENSE"}])),
        ("/syscalls/0/args", json!([{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])),
        ("/flags", json!(["SECCOMP_FILTER_FLAG_NONSENSE"])),
        ("/syscalls", json!("none")),
    ] {
        refused(&format!("{pointer} {value}"), |spec| {
            let mut filter = filter();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            filter.pointer_mut(parent).unwrap()[name] = value.clone();
            spec["linux"]["seccomp"] = filter;
        });
    }
}

/// The same for every other list of words.
#[test]
fn an_unknown_word_is_an_error() {
    type Change = dyn Fn(&mut Value);
    let unknown: [(&str, &Change); 12] = [
        ("namespace", &|spec| spec["linux"]["namespaces"][0]["type"] = json!("nonsense")),
        ("namespace in capitals", &|spec| spec["linux"]["namespaces"][0]["type"] = json!("PID")),
        ("namespace without a type", &|spec| spec["linux"]["namespaces"][0] = json!({})),
        ("namespace twice", &|spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "pid"}));
        }),
        ("namespace of another kind", &|spec| {
            spec["linux"]["namespaces"][0]["path"] = json!("/proc/self/ns/uts");
        }),
        ("namespace that is none", &|spec| spec["linux"]["namespaces"][0]["path"] = json!("/etc/passwd")),
        ("rlimit", &|spec| {
            spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]);
        }),
        ("rlimit without its prefix", &|spec| {
            spec["process"]["rlimits"] = json!([{"type": "NOFILE", "soft": 1, "hard": 1}]);
        }),
        ("propagation", &|spec| spec["linux"]["rootfsPropagation"] = json!("nonsense")),
        ("device", &|spec| {
            let device = json!({"path": "/dev/x", "type": "nonsense", "major": 1, "minor": 3});
            spec["linux"]["devices"] = json!([device]);
        }),
        ("device rule", &|spec| {
            spec["linux"]["resources"]["devices"] = json!([{"allow": false, "type": "x", "access": "rwm"}]);
        }),
        ("access", &|spec| {
            spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "nonsense"}]);
        }),
    ];
    for (what, change) in unknown {
        refused(what, change);
    }
}

/// CVE-2024-3154: an annotation set properties of systemd's unit. Without systemd it is nothing; and it is nothing else
/// either, whoever's words it uses.
#[test]
fn annotations_give_no_orders() {
    let runtime = Runtime::new();
    let mark = runtime.scratch().join("owned");
    let touch = format!("['/bin/touch', '{}']", mark.display());
    let bundle = Bundle::running(&["sh", "-c", "id -u; grep Seccomp: /proc/self/status; ls /dev/kvm"]);
    bundle.change(|spec| {
        spec["annotations"] = json!({
            "org.systemd.property.ExecStartPre": touch,
            "org.systemd.property.ExecStopPost": format!("[({touch}, true)]"),
            "org.systemd.property.User": "'nobody'",
            "run.oci.hooks.stdout": mark.to_str().unwrap(),
            "run.oci.hooks.stderr": mark.to_str().unwrap(),
            "run.oci.handler": "krun",
            "run.oci.seccomp.plugins": "/bin/evil.so",
            "run.oci.seccomp_fail_unknown_syscall": "0",
            "run.oci.seccomp_bpf_data": "AAAA",
            "run.oci.keep_original_groups": "1",
            "run.oci.pidfd_receiver": mark.to_str().unwrap(),
            "module.wasm.image/variant": "compat",
            "io.kubernetes.cri-o.Devices": "/dev/kvm",
            "cdi.k8s.io/x": "vendor.com/device=all",
            "org.criu.config": "/etc/criu.conf",
            "containerd.io/restart.loguri": "binary:///bin/touch?x",
        });
    });
    let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
    assert_eq!(output.stdout, "0\nSeccomp:\t0\n", "{output:#?}");
    assert!(!mark.exists());
}

/// Hooks are of the configuration. What an image has where some programs look for hooks, configurations or commands of
/// their own is a file like any other.
#[test]
fn an_image_brings_no_orders() {
    let runtime = Runtime::new();
    let mark = runtime.scratch().join("owned");
    let bundle = Bundle::running(&["true"]);
    let script = format!("#!/bin/sh\ntouch {} /owned\n", mark.display());
    let hook = json!({
        "version": "1.0.0", "hook": {"path": "/bin/evil"}, "when": {"always": true},
        "stages": ["prestart", "createRuntime", "poststop"],
    });
    let mut theirs = bundle.spec();
    theirs["process"]["args"] = json!(["/bin/evil"]);
    theirs["hooks"] = json!({"createRuntime": [{"path": bundle.rootfs().join("bin/evil")}]});
    for (path, content) in [
        ("bin/evil", &*script),
        ("sbin/init", &script),
        ("bin/newuidmap", &script),
        ("etc/containers/oci/hooks.d/evil.json", &hook.to_string()),
        ("usr/share/containers/oci/hooks.d/evil.json", &hook.to_string()),
        ("config.json", &theirs.to_string()),
        ("etc/ld.so.preload", "/bin/evil.so\n"),
        ("etc/nsswitch.conf", "passwd: evil\n"),
    ] {
        write_executable(&bundle.rootfs().join(path), content.as_bytes());
    }
    let id = &runtime.id("box");
    // Also from within it, as callers that change into the root do.
    let args = ["run", "--bundle", bundle.text(), id];
    runtime.command(&args).current_dir(bundle.rootfs()).ok();
    runtime.create(&bundle, id);
    runtime.ok(&["start", id]);
    runtime.ok(&["delete", "--force", id]);
    assert!(!mark.exists() && !bundle.rootfs().join("owned").exists());
}

/// A `cgroupsPath` stays below the hierarchies' roots.
#[test]
fn a_cgroup_lies_below_the_root() {
    for path in [
        "../../../../tmp/NAME",
        "/../../../tmp/NAME",
        "a/../../../../../tmp/NAME",
        "/sys/fs/cgroup/../../../tmp/NAME",
    ] {
        let runtime = Runtime::new();
        let id = runtime.id("box");
        let path = path.replace("NAME", &id);
        let bundle = Bundle::running(&["cat", "/proc/self/cgroup"])
            .edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
        let output = runtime.run(&["run", "--bundle", bundle.text(), &id]);
        assert!(!Path::new("/tmp").join(&id).exists(), "{path}");
        assert!(!output.stdout.contains("/.."), "{output:#?}");
        assert_eq!(runtime.left(), Vec::<String>::new(), "{path}");
    }
    for path in ["a\nb", "a\u{0}b"] {
        refused(path, |spec| spec["linux"]["cgroupsPath"] = json!(path));
    }
}

/// An id is a name in a directory: nothing else than plain characters, in any command.
#[test]
fn an_id_is_no_path() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]);
    let victim = runtime.scratch().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("state.json"), "{}").unwrap();
    let root = runtime.root();
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::symlink(&victim, root.join("link")).unwrap();
    let long = "x".repeat(300);
    for id in ["../victim", "./../victim", "a/../../victim", "/", "..", ".", "", "a/b", "a\nb", "link", &long]
    {
        for args in [
            &["run", "--bundle", bundle.text(), id][..],
            &["create", "--bundle", bundle.text(), id],
            &["delete", id],
            &["state", id],
            &["start", id],
            &["kill", id, "KILL"],
            &["exec", id, "true"],
            &["update", "--memory", "64m", id],
        ] {
            assert_ne!(runtime.run(args).code, 0, "{args:?}");
        }
        runtime.run(&["delete", "--force", id]);
        assert_eq!(std::fs::read_to_string(victim.join("state.json")).unwrap(), "{}", "{id}");
    }
    std::fs::remove_file(root.join("link")).unwrap();
}

/// A `startContainer` hook is a program of the image: it is where the command will be, and may do no more.
#[test]
fn a_hook_of_the_image_is_kept_in_check_as_the_command_is() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    for (no_new_privileges, uid) in [(false, 0), (true, 0), (false, 1000), (true, 1000)] {
        let runtime = Runtime::new();
        let id = &runtime.id("box");
        let bundle = Bundle::running(&["/check", "/mnt/command"]).edit(|spec| {
            let process = &mut spec["process"];
            process["noNewPrivileges"] = json!(no_new_privileges);
            process["user"] = json!({"uid": uid, "gid": uid, "additionalGids": [7], "umask": 0o77});
            process["cwd"] = json!("/mnt");
            process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]);
            let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
            process["capabilities"] = sets.into_iter().map(|set| (set, json!(["CAP_KILL"]))).collect();
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
            });
            spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
            spec["hooks"] = json!({"startContainer": [{"path": "/check", "args": ["check", "/mnt/hook"], "env": ["PATH=/bin"]}]});
        });
        // The kernel's log.
        let node = bundle.rootfs().join("log");
        mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 11)).unwrap();
        let check = "#!/bin/sh\n\
            exec >$1 2>&1\n\
            cat /proc/self/cgroup\n\
            id; pwd; umask; ulimit -Sn; ulimit -Hn\n\
            grep -E '^(Seccomp|NoNewPrivs|Cap...)' /proc/self/status\n\
            mkdir /mnt/made && echo made\n\
            dd if=/log bs=1 count=1 && echo opened\n\
            true\n";
        let bundle = bundle.file("/check", check);
        rustix::fs::chmod(bundle.rootfs().join("mnt"), Mode::from_raw_mode(0o777)).unwrap();
        runtime.ok(&["run", "--bundle", bundle.text(), id]);
        let said = |name: &str| std::fs::read_to_string(bundle.rootfs().join("mnt").join(name)).unwrap();
        let (hook, command) = (said("hook"), said("command"));
        assert_eq!(hook, command);
        assert!(hook.contains("Seccomp:\t2"), "{hook}");
        assert!(hook.contains(&format!("uid={uid}")) && hook.contains("groups=7"), "{hook}");
        assert!(!hook.contains("\nmade") && !hook.contains("\nopened"), "{hook}");
    }
}

/// Nor does a hook that runs inside earlier take from the machine what the container may not.
#[test]
fn a_hook_inside_is_in_the_group() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    let seen = runtime.scratch().join("seen");
    let hook = |stage: &str, what: &str| {
        let script = format!("{what} >{}.{stage}", seen.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let of_state = "cat /proc/$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')/cgroup";
    let bundle = Bundle::running(&["cat", "/proc/self/cgroup"]).edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "cgroup");
        spec["hooks"] = json!({
            "createRuntime": hook("runtime", of_state),
            "createContainer": hook("container", "cat /proc/self/cgroup"),
        });
    });
    let command = runtime.ok(&["run", "--bundle", bundle.text(), id]);
    for stage in ["runtime", "container"] {
        let hook = std::fs::read_to_string(format!("{}.{stage}", seen.display())).unwrap();
        assert_eq!(hook.trim(), command.trim(), "{stage}");
    }
}
