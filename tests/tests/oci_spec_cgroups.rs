//! config-linux.md, "Control groups": where the group lies, whose it is, and its limits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, cgroup_v2, inside, push, refused};
use serde_json::{Value, json};

/// The directory of a process' group that has this controller.
fn group(pid: u32, controller: &str) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let (root, path) = match cgroup_v2() {
        Some(root) => (root.to_owned(), groups.lines().find_map(|line| line.strip_prefix("0::"))),
        None => (
            Path::new("/sys/fs/cgroup").join(controller),
            groups.lines().find_map(|line| line.split_once(&format!(":{controller}:")).map(|(_, path)| path)),
        ),
    };
    let path = path.unwrap_or_else(|| panic!("no {controller} in {groups}"));
    root.join(path.trim_start_matches('/'))
}

/// A container that sleeps, with these edits.
fn sleeping(runtime: &Runtime, edit: impl FnOnce(&mut Value)) -> String {
    let id = runtime.id("box");
    runtime.create(&Bundle::running(&["sleep", "1000"]).edit(edit), &id);
    id
}

// "Cgroups Path": an absolute one is relative to where cgroups are mounted, and it is always the same place.
#[test]
fn an_absolute_path_is_below_the_mount() {
    let runtime = Runtime::new();
    let path = format!("/{}", runtime.id("group"));
    for _ in 0..2 {
        let id = sleeping(&runtime, |spec| spec["linux"]["cgroupsPath"] = json!(path));
        let seen = group(runtime.pid(&id), "pids");
        let root = cgroup_v2().map_or_else(|| PathBuf::from("/sys/fs/cgroup/pids"), Path::to_owned);
        assert_eq!(seen, root.join(&path[1..]));
        assert!(seen.join("cgroup.procs").exists());
        runtime.ok(&["delete", "--force", &id]);
        assert!(!seen.exists());
    }
}

// "Cgroups Path": a relative one is always the same place, too.
#[test]
fn a_relative_path_is_always_the_same_place() {
    let runtime = Runtime::new();
    let path = runtime.id("group");
    let places: Vec<PathBuf> = (0..2)
        .map(|_| {
            let id = sleeping(&runtime, |spec| spec["linux"]["cgroupsPath"] = json!(path));
            let seen = group(runtime.pid(&id), "pids");
            runtime.ok(&["delete", "--force", &id]);
            seen
        })
        .collect();
    assert!(places[0].ends_with(&path) && places[0] == places[1], "{places:?}");
}

// "Cgroups Path": one that is not valid is an error. What is valid depends on who manages the groups.
#[test]
fn a_path_that_is_not_valid_is_an_error() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!("/this/is/no/unit");
    });
    let id = runtime.id("box");
    let output = runtime.with_files(&["--systemd-cgroup", "create", "--bundle", bundle.argument(), &id]);
    assert_ne!(output.code, 0, "{output:#?}");
    refused("it is no path", |spec| spec["linux"]["cgroupsPath"] = json!(["a"]));
}

// "Control groups": a group that is not fit is an error, if the runtime looks; if not, the container runs.
#[test]
fn a_frozen_group_is_an_error_or_thawed() {
    let runtime = Runtime::new();
    let name = runtime.id("group");
    let (directory, file, frozen) = match cgroup_v2() {
        Some(root) => (root.join(&name), "cgroup.freeze", "1"),
        None => (Path::new("/sys/fs/cgroup/freezer").join(&name), "freezer.state", "FROZEN"),
    };
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join(file), frozen).unwrap();
    let bundle = Bundle::running(&["echo", "on"])
        .edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/{name}")));
    let output =
        runtime.command(&["run", "--bundle", bundle.argument(), &runtime.id("box")]).limit(30).output();
    assert!(output.code != 0 || output.stdout == "on\n", "{output:#?}");
    // whose it is is nobody's word here
    std::fs::write(directory.join(file), if frozen == "1" { "0" } else { "THAWED" }).ok();
    std::fs::remove_dir(&directory).ok();
}

// runtime.md, "Create": the limits are applied.
#[test]
fn limits_are_applied() {
    let runtime = Runtime::new();
    let id = sleeping(&runtime, |spec| {
        spec["linux"]["resources"] = json!({
            "pids": {"limit": 123},
            "memory": {"limit": 64 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
        });
    });
    let pid = runtime.pid(&id);
    let read = |controller: &str, file: &str| {
        std::fs::read_to_string(group(pid, controller).join(file)).unwrap().trim().to_owned()
    };
    assert_eq!(read("pids", "pids.max"), "123");
    if cgroup_v2().is_some() {
        assert_eq!(read("memory", "memory.max"), (64 << 20).to_string());
        assert_eq!(read("memory", "memory.low"), (32 << 20).to_string());
        assert_eq!(read("cpu", "cpu.max"), "50000 100000");
        assert_eq!(read("cpuset", "cpuset.cpus"), "0");
        let weight: u32 = read("cpu", "cpu.weight").parse().unwrap();
        assert!((1..100).contains(&weight), "half of the default: {weight}");
    } else {
        assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(read("memory", "memory.soft_limit_in_bytes"), (32 << 20).to_string());
        assert_eq!(read("cpu", "cpu.shares"), "512");
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(read("cpu", "cpu.cfs_period_us"), "100000");
        assert_eq!(read("cpuset", "cpuset.cpus"), "0");
    }
}

// "Memory", `checkBeforeUpdate`: a limit below what is in use is refused, and the old one stays.
#[test]
fn a_limit_below_what_is_in_use_is_refused() {
    if !can(&["specification 1.1"]) {
        return;
    }
    let runtime = Runtime::new();
    // what lies in memory without a file behind it cannot be dropped
    let script = "head -c 50000000 /dev/zero > /mnt/held; echo held; sleep 1000";
    let bundle = Bundle::script(script).edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 256 << 20, "swap": 256 << 20});
        push(spec, "/mounts", json!({"destination": "/mnt", "type": "tmpfs", "source": "x"}));
    });
    let id = &runtime.id("box");
    runtime.start_detached(&bundle, id);
    harness::eventually("its memory", || runtime.said().contains("held").then_some(()));
    let file = match cgroup_v2() {
        Some(_) => group(runtime.pid(id), "memory").join("memory.max"),
        None => group(runtime.pid(id), "memory").join("memory.limit_in_bytes"),
    };
    let before = std::fs::read_to_string(&file).unwrap();
    let resources = runtime.scratch().join("resources.json");
    let lower = json!({"memory": {"limit": 10 << 20, "swap": 10 << 20, "checkBeforeUpdate": true}});
    std::fs::write(&resources, lower.to_string()).unwrap();
    let output = runtime.run(&["update", "--resources", resources.to_str().unwrap(), id]);
    assert_ne!(output.code, 0, "{output:#?}");
    assert_eq!(runtime.status(id), "running");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

// "Unified": values are written, of controllers that are enabled for them, known to the runtime or not.
#[test]
fn values_of_the_unified_hierarchy_are_written() {
    if !can(&["cgroup v2", "specification 1.1"]) {
        return;
    }
    let runtime = Runtime::new();
    let id = sleeping(&runtime, |spec| {
        spec["linux"]["resources"]["unified"] = json!({
            "pids.max": "77", "memory.high": "50331648", "cpu.weight": "42", "memory.oom.group": "1",
        });
    });
    let group = group(runtime.pid(&id), "");
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    assert_eq!(read("pids.max"), "77");
    assert_eq!(read("memory.high"), "50331648");
    assert_eq!(read("cpu.weight"), "42");
    assert_eq!(read("memory.oom.group"), "1");
    let controllers = read("cgroup.controllers");
    for controller in ["pids", "memory", "cpu"] {
        assert!(controllers.split(' ').any(|one| one == controller), "{controllers}");
    }
}

// "Unified": a controller that there is not, or that cannot be enabled, is an error.
#[test]
fn a_controller_that_there_is_not_is_an_error() {
    if !can(&["specification 1.1"]) {
        return;
    }
    refused("there is no such controller", |spec| {
        spec["linux"]["resources"]["unified"] = json!({"nonesuch.max": "1"});
    });
    refused("it is no file of a group", |spec| {
        spec["linux"]["resources"]["unified"] = json!({"../escape": "1"});
    });
}

// "Unified": where the hierarchies are v1's, its values cannot be written.
#[test]
fn the_unified_hierarchy_must_be_there() {
    if can(&["cgroup v1", "specification 1.1"]) {
        refused("the controller is v1's", |spec| {
            spec["linux"]["resources"]["unified"] = json!({"memory.high": "50331648"});
        });
    }
}

// "Unified": what is of v1 and has no counterpart is an error.
#[test]
fn what_cannot_be_converted_is_an_error() {
    if !can(&["cgroup v2", "specification 1.1"]) {
        return;
    }
    for resources in [
        json!({"memory": {"swappiness": 50}}),
        json!({"memory": {"disableOOMKiller": true}}),
        json!({"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 100_000}}),
        json!({"network": {"classID": 1_048_577}}),
    ] {
        refused(&resources.to_string(), |spec| spec["linux"]["resources"] = resources.clone());
    }
}

// "Cgroup ownership": a group may be handed to the container's user; files that there are not are no error.
#[test]
fn a_group_is_handed_over_whatever_files_it_has() {
    if !can(&["cgroup v2", "specification 1.1"]) {
        return;
    }
    let runtime = Runtime::new();
    let id = sleeping(&runtime, |spec| {
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/sys/fs/cgroup" {
                mount["options"] = json!(["nosuid", "noexec", "nodev", "relatime"]);
            }
        }
        push(spec, "/linux/namespaces", json!({"type": "user"}));
        spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    });
    use std::os::unix::fs::MetadataExt;
    let group = group(runtime.pid(&id), "");
    let delegated = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    if group.metadata().unwrap().uid() != 100_000 {
        // it need not be, but ours is
        assert!(std::env::var_os("DHOW_TEST_RUNTIME").is_some(), "{group:?}");
        return;
    }
    for entry in std::fs::read_dir(&group).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let theirs = entry.metadata().unwrap().uid() == 100_000;
        assert_eq!(theirs, delegated.lines().any(|line| line == name), "{name}");
    }
}

// "IntelRdt": without a resctrl file system it is an error to ask for it.
#[test]
fn without_resctrl_its_classes_are_an_error() {
    if harness::spec::has("resctrl") || !can(&["specification 1.3"]) {
        return;
    }
    for wanted in [
        json!({"closID": "guaranteed"}),
        json!({"l3CacheSchema": "L3:0=7f0"}),
        json!({"memBwSchema": "MB:0=20"}),
        json!({}),
    ] {
        refused(&wanted.to_string(), |spec| spec["linux"]["intelRdt"] = wanted.clone());
    }
}

// "IntelRdt": the process is in the class of service that is named after the container, and that goes with it.
#[test]
fn a_class_of_service_is_made_and_removed() {
    if !can(&["resctrl", "specification 1.3"]) {
        return;
    }
    let runtime = Runtime::new();
    let schemata = std::fs::read_to_string("/sys/fs/resctrl/schemata").unwrap();
    let lines: Vec<&str> = schemata.lines().map(str::trim).collect();
    let id = sleeping(&runtime, |spec| {
        spec["linux"]["intelRdt"] = json!({"schemata": lines, "enableMonitoring": true});
    });
    let class = Path::new("/sys/fs/resctrl").join(&id);
    let has = |file: PathBuf| {
        let tasks = std::fs::read_to_string(file).unwrap();
        tasks.lines().any(|line| line == runtime.pid(&id).to_string())
    };
    assert!(has(class.join("tasks")));
    assert!(has(class.join("mon_groups").join(&id).join("tasks")));
    runtime.ok(&["delete", "--force", &id]);
    assert!(!class.exists());
    // and who asks for nothing changes nothing
    let before = std::fs::read_dir("/sys/fs/resctrl").unwrap().count();
    assert_eq!(inside("echo on", |_| {}), "on");
    assert_eq!(std::fs::read_dir("/sys/fs/resctrl").unwrap().count(), before);
}

// "IntelRdt", `memBwSchema`, `schemata`: what is no line of a schema is an error, with resctrl and without.
#[test]
fn what_is_no_schema_is_an_error() {
    if !can(&["specification 1.3"]) {
        return;
    }
    for wanted in [
        json!({"memBwSchema": "L3:0=7f"}),
        json!({"memBwSchema": "MB:0=20\nMB:1=30"}),
        json!({"schemata": ["L3:0=f\nMB:0=20"]}),
        json!({"schemata": "L3:0=f"}),
    ] {
        refused(&wanted.to_string(), |spec| spec["linux"]["intelRdt"] = wanted.clone());
    }
}

// runtime.md, "Create": "Huge page limits".
#[test]
fn huge_pages_are_limited() {
    if !can(&["huge page groups"]) {
        return;
    }
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").unwrap();
    let kilobytes: u64 = sizes
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .min()
        .expect("there are huge pages of some size");
    let size = if kilobytes.is_multiple_of(1024) {
        format!("{}MB", kilobytes >> 10)
    } else {
        format!("{kilobytes}KB")
    };
    let runtime = Runtime::new();
    let limit = kilobytes << 12;
    let id = sleeping(&runtime, |spec| {
        spec["linux"]["resources"]["hugepageLimits"] = json!([{"pageSize": size, "limit": limit}]);
    });
    let group = group(runtime.pid(&id), "hugetlb");
    let name = if cgroup_v2().is_some() { "max" } else { "limit_in_bytes" };
    let value = std::fs::read_to_string(group.join(format!("hugetlb.{size}.{name}"))).unwrap();
    assert_eq!(value.trim(), limit.to_string());
}

// runtime.md, "Create": "RDMA".
#[test]
fn rdma_is_limited() {
    if !can(&["RDMA groups"]) {
        return;
    }
    // there is hardly ever a device; a limit of one that there is not is an error
    if std::fs::read_dir("/sys/class/infiniband").is_ok_and(|mut devices| devices.next().is_some()) {
        let runtime = Runtime::new();
        let device = std::fs::read_dir("/sys/class/infiniband").unwrap().flatten().next().unwrap();
        let device = device.file_name().into_string().unwrap();
        let id = sleeping(&runtime, |spec| {
            spec["linux"]["resources"]["rdma"] = json!({&device: {"hcaHandles": 3, "hcaObjects": 100}});
        });
        let value = std::fs::read_to_string(group(runtime.pid(&id), "rdma").join("rdma.max")).unwrap();
        assert!(value.contains("hca_handle=3") && value.contains("hca_object=100"), "{value}");
    } else {
        refused("there is no such device", |spec| {
            spec["linux"]["resources"]["rdma"] = json!({"nonesuch0": {"hcaHandles": 3}});
        });
    }
}
