//! `dhow-runtime --systemd-cgroup`: groups that systemd makes. `cargo xtask vm --systemd oci_systemd` has a machine for
//! it; where systemd is not process 1 there is little to show.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use harness::oci::{Bundle, Runtime};
use harness::spec::{cgroup_v2, skip};
use harness::{Invocation, eventually};
use serde_json::{Value, json};

/// Whether systemd is process 1, with pure cgroup v2, and can be reached.
fn systemd() -> bool {
    let there = std::fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd")
        && Path::new("/run/dbus/system_bus_socket").exists()
        && cgroup_v2().is_some();
    if !there {
        skip("this machine", "systemd on cgroup v2 alone");
    }
    there
}

/// A container whose group systemd makes.
struct Contained {
    runtime: Runtime,
    id: String,
    _bundle: Bundle,
}

impl Contained {
    /// Its process sleeps. `path` is what comes before the id in `cgroupsPath`.
    fn sleeping(path: &str, edit: impl FnOnce(&mut Value)) -> Self {
        let runtime = Runtime::new();
        let id = runtime.id("box");
        let bundle = Bundle::running(&["sleep", "1000"])
            .edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!("{path}{id}")))
            .edit(edit);
        runtime.quietly(&["--systemd-cgroup", "create", "--bundle", bundle.path().to_str().unwrap(), &id]);
        runtime.ok(&["start", &id]);
        Self { runtime, id, _bundle: bundle }
    }

    fn scope(&self) -> String {
        format!("test-{}.scope", self.id)
    }

    /// What systemd knows of it.
    fn shows(&self, property: &str) -> String {
        show(&self.scope(), property)
    }

    /// Its process' group.
    fn group(&self) -> PathBuf {
        group(self.runtime.pid(&self.id))
    }

    fn reads(&self, file: &str) -> String {
        std::fs::read_to_string(self.group().join(file)).unwrap().trim().to_owned()
    }
}

fn show(unit: &str, property: &str) -> String {
    Invocation::new("systemctl").args(&["show", "--value", "--property", property, unit]).ok()
}

fn group(pid: u32) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    Path::new("/sys/fs/cgroup").join(path)
}

#[test]
fn a_container_is_a_scope_in_its_slice() {
    if !systemd() {
        return;
    }
    let slice = format!("dhowtest{}-a-b.slice", std::process::id());
    let container = Contained::sleeping(&format!("{slice}:test:"), |_| {});
    let scope = container.scope();
    for (property, value) in [
        ("ActiveState", "active"),
        ("Slice", &*slice),
        ("Delegate", "yes"),
        ("Transient", "yes"),
        ("MemoryAccounting", "yes"),
        ("TasksAccounting", "yes"),
        ("Description", &*format!("container {}", container.id)),
    ] {
        assert_eq!(container.shows(property), value, "{property}");
    }
    let top = slice.split('-').next().unwrap();
    let path = format!("/{top}.slice/{top}-a.slice/{slice}/{scope}");
    assert_eq!(container.shows("ControlGroup"), path, "slices lie in one another");
    assert_eq!(container.group(), Path::new("/sys/fs/cgroup").join(&path[1..]));

    // a further command is in it, too, also one that is told where
    let said = container.runtime.ok(&["exec", &container.id, "cat", "/proc/self/cgroup"]);
    assert_eq!(said, "0::/", "as seen from its own namespace");
    let (runtime, id) = (&container.runtime, &container.id);
    std::fs::create_dir(container.group().join("sub")).unwrap();
    let said = runtime.ok(&["exec", "--cgroup", "sub", id, "cat", "/proc/self/cgroup"]);
    assert_eq!(said, "0::/sub");

    runtime.ok(&["kill", id, "KILL"]);
    runtime.await_status(id, "stopped");
    runtime.ok(&["delete", id]);
    assert_eq!(container.shows("LoadState"), "not-found", "systemd has forgotten it");
    assert!(!Path::new("/sys/fs/cgroup").join(&path[1..]).exists());
    Invocation::new("systemctl").args(&["stop", &format!("{top}.slice")]).ok();
}

#[test]
fn without_a_path_it_is_in_the_systems_slice() {
    if !systemd() {
        return;
    }
    let runtime = Runtime::new();
    let id = runtime.id("box");
    let bundle = Bundle::running(&["sh", "-c", "sleep 1000"]);
    let path = bundle.path().to_str().unwrap();
    runtime.quietly(&["--systemd-cgroup", "run", "-d", "--bundle", path, &id]);
    assert_eq!(
        group(runtime.pid(&id)),
        Path::new("/sys/fs/cgroup/system.slice").join(format!("dhow-{id}.scope"))
    );
    runtime.ok(&["delete", "--force", &id]);
    assert_eq!(show(&format!("dhow-{id}.scope"), "LoadState"), "not-found");
}

#[test]
fn run_in_the_foreground_takes_the_scope_away() {
    if !systemd() {
        return;
    }
    let runtime = Runtime::new();
    let id = runtime.id("box");
    let bundle = Bundle::running(&["sh", "-c", "echo hello; exit 3"]);
    let path = bundle.path().to_str().unwrap();
    for _ in 0..2 {
        let output = runtime.run(&["--systemd-cgroup", "run", "--bundle", path, &id]);
        assert_eq!((output.code, output.stdout.as_str()), (3, "hello\n"), "{output:#?}");
        assert_eq!(show(&format!("dhow-{id}.scope"), "LoadState"), "not-found");
    }
}

#[test]
fn limits_are_systemds_and_the_kernels() {
    if !systemd() {
        return;
    }
    let container = Contained::sleeping(":test:", |spec| {
        spec["linux"]["resources"] = json!({
            "devices": [{"allow": false, "access": "rwm"}],
            "memory": {"limit": 100 << 20, "reservation": 50 << 20, "swap": 150 << 20},
            "pids": {"limit": 50},
            "cpu": {"shares": 512, "quota": 25_000, "period": 50_000, "cpus": "0", "mems": "0"},
            "unified": {"memory.high": "90000000"},
        });
    });
    let both = |file: &str, value: &str, property: &str, shown: &str| {
        assert_eq!(container.reads(file), value, "{file}");
        assert_eq!(container.shows(property), shown, "{property}");
    };
    let check = || {
        both("memory.max", "104857600", "MemoryMax", "104857600");
        both("memory.low", "52428800", "MemoryLow", "52428800");
        both("memory.swap.max", "52428800", "MemorySwapMax", "52428800");
        // the kernel keeps whole pages
        both("memory.high", "89997312", "MemoryHigh", "90000000");
        both("pids.max", "50", "TasksMax", "50");
        both("cpu.max", "25000 50000", "CPUQuotaPerSecUSec", "500ms");
        both("cpuset.cpus", "0", "AllowedCPUs", "0");
        both("cpuset.mems", "0", "AllowedMemoryNodes", "0");
        assert_eq!(container.reads("cpu.weight"), container.shows("CPUWeight"));
    };
    check();
    // and they stay when systemd thinks again
    Invocation::new("systemctl").args(&["daemon-reload"]).limit(120).ok();
    check();
    let null = ["exec", &container.id, "sh", "-c", "echo x > /dev/null"];
    container.runtime.ok(&null);
    let made = "mknod /dev/loop7 b 7 7 && head -c 1 /dev/loop7";
    let output = container.runtime.run(&["exec", &container.id, "sh", "-c", made]);
    assert!(output.stderr.contains("not permitted"), "device rules hold: {output:#?}");
}

#[test]
fn update_tells_systemd() {
    if !systemd() {
        return;
    }
    let container = Contained::sleeping("system.slice:test:", |spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 100 << 20});
    });
    let (runtime, id) = (&container.runtime, &container.id);
    let words = "update --memory 64M --pids-limit 20 --cpu-quota 50000 --cpu-period 100000 --cpuset-cpus 0";
    runtime.ok(&[&words.split(' ').collect::<Vec<_>>()[..], &[id]].concat());
    let check = || {
        for (file, value, property, shown) in [
            ("memory.max", "67108864", "MemoryMax", "67108864"),
            ("pids.max", "20", "TasksMax", "20"),
            ("cpu.max", "50000 100000", "CPUQuotaPerSecUSec", "500ms"),
            ("cpuset.cpus", "0", "AllowedCPUs", "0"),
        ] {
            assert_eq!((container.reads(file), container.shows(property)), (value.into(), shown.into()));
        }
    };
    check();
    Invocation::new("systemctl").args(&["daemon-reload"]).limit(120).ok();
    check();
    let resources = json!({"pids": {"limit": -1}, "unified": {"memory.high": "10240000"}}).to_string();
    runtime.command(&["update", "--resources", "-", id]).input(&resources).ok();
    assert_eq!((container.reads("pids.max"), container.shows("TasksMax")), ("max".into(), "infinity".into()));
    assert_eq!(
        (container.reads("memory.high"), container.shows("MemoryHigh")),
        ("10240000".into(), "10240000".into())
    );
    let stats: Value = serde_json::from_str(&runtime.ok(&["events", "--stats", id])).unwrap();
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(64 << 20), "{stats}");
}

#[test]
fn it_pauses_and_lists_its_processes() {
    if !systemd() {
        return;
    }
    let container = Contained::sleeping("machine.slice:test:", |_| {});
    let (runtime, id) = (&container.runtime, &container.id);
    let pids: Vec<u32> = serde_json::from_str(&runtime.ok(&["ps", "--format", "json", id])).unwrap();
    assert_eq!(pids, [runtime.pid(id)]);
    runtime.ok(&["pause", id]);
    assert_eq!((runtime.status(id), container.reads("cgroup.freeze")), ("paused".into(), "1".into()));
    runtime.ok(&["resume", id]);
    assert_eq!((runtime.status(id), container.reads("cgroup.freeze")), ("running".into(), "0".into()));
    // what is paused can be deleted, although systemd waits for its processes
    runtime.ok(&["pause", id]);
    runtime.ok(&["delete", "--force", id]);
    assert_eq!(container.shows("LoadState"), "not-found");
}

#[test]
fn a_scope_that_is_in_use_is_an_error_and_stays() {
    if !systemd() {
        return;
    }
    let first = Contained::sleeping(":test:", |_| {});
    let other = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"])
        .edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!(":test:{}", first.id)));
    let (path, id) = (bundle.path().to_str().unwrap(), other.id("second"));
    let output = other.with_files(&["--systemd-cgroup", "create", "--bundle", path, &id]);
    assert_eq!(output.code, 1, "{output:#?}");
    assert!(output.stderr.contains(&first.scope()), "the message names it: {output:#?}");
    assert!(other.fails(1, &["state", &id]).contains("does not exist"));
    assert_eq!(
        (first.shows("ActiveState"), first.runtime.status(&first.id)),
        ("active".into(), "running".into())
    );
    first.runtime.ok(&["exec", &first.id, "true"]);
}

#[test]
fn a_scope_that_failed_does_not_stand_in_the_way() {
    if !systemd() {
        return;
    }
    // Its container was killed for want of memory, and nobody has deleted it: systemd remembers a failed scope.
    let container = Contained::sleeping(":test:", |_| {});
    let (runtime, id) = (&container.runtime, &container.id);
    runtime.ok(&["kill", id, "KILL"]);
    runtime.await_status(id, "stopped");
    runtime.ok(&["delete", id]);
    let fail = "systemd-run --quiet --scope --unit UNIT --property OOMPolicy=kill --property MemoryMax=20M \
        --property MemorySwapMax=0 sh -c 'tail /dev/zero'";
    let fail = fail.replace("UNIT", &container.scope());
    Invocation::new("sh").args(&["-c", &fail]).output();
    let before = container.shows("ActiveState");
    let bundle =
        Bundle::running(&["true"]).edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!(":test:{id}")));
    runtime.ok(&["--systemd-cgroup", "run", "--bundle", bundle.path().to_str().unwrap(), id]);
    assert_eq!((before.as_str(), container.shows("LoadState").as_str()), ("failed", "not-found"));
}

#[test]
fn annotations_set_what_is_harmless_and_nothing_else() {
    if !systemd() {
        return;
    }
    let runtime = Runtime::new();
    let id = runtime.id("box");
    let trap = runtime.scratch().join("trap");
    let touch = format!("[('/bin/touch', ['/bin/touch', '{}'], false)]", trap.display());
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(format!(":test:{id}"));
        spec["annotations"] = json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            // CVE-2024-3154
            "org.systemd.property.ExecStopPost": touch,
            "org.systemd.property.ExecStart": touch,
            "org.systemd.property.MemoryMax": "uint64 1",
        });
    });
    let output =
        runtime.with_files(&["--systemd-cgroup", "create", "--bundle", bundle.path().to_str().unwrap(), &id]);
    assert_eq!(output.code, 0, "{output:#?}");
    for name in ["ExecStopPost", "ExecStart", "MemoryMax"] {
        let ignored = format!("org.systemd.property.{name} is ignored");
        assert!(output.stderr.contains(&ignored), "{name}: {output:#?}");
    }
    let scope = format!("test-{id}.scope");
    assert_eq!(show(&scope, "TimeoutStopUSec"), "7s");
    assert_eq!(show(&scope, "CollectMode"), "inactive-or-failed");
    assert_eq!(show(&scope, "MemoryMax"), "infinity");
    runtime.ok(&["delete", "--force", &id]);
    assert!(!trap.exists(), "no command of the container's has run on the host");
    let bundle = bundle.edit(|spec| {
        spec["annotations"] = json!({"org.systemd.property.TimeoutStopUSec": "soon"});
    });
    let output =
        runtime.with_files(&["--systemd-cgroup", "create", "--bundle", bundle.path().to_str().unwrap(), &id]);
    assert_eq!(output.code, 1, "a value of another type: {output:#?}");
}

#[test]
fn a_killed_container_is_told_of() {
    if !systemd() {
        return;
    }
    let container = Contained::sleeping(":test:", |spec| {
        spec["process"]["args"] =
            json!(["sh", "-c", "while ! test -e /go; do sleep 0.1; done; tail /dev/zero; sleep 1000"]);
        spec["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
    });
    let (runtime, id) = (&container.runtime, &container.id);
    let events = runtime.spawn(&["events", "--interval", "200ms", id]);
    events.expect("\"type\":\"stats\"");
    runtime.ok(&["exec", id, "touch", "/go"]);
    events.expect("\"type\":\"oom\"");
    runtime.ok(&["delete", "--force", id]);
    assert_eq!(events.wait().code, 0);
    assert_eq!(container.shows("LoadState"), "not-found");
}

/// systemd stops scopes with the machine, or because somebody says so.
#[test]
fn stopping_the_scope_ends_the_container() {
    if !systemd() {
        return;
    }
    let container = Contained::sleeping(":test:", |spec| {
        spec["annotations"] = json!({"org.systemd.property.TimeoutStopSec": "2"});
    });
    let (runtime, id) = (&container.runtime, &container.id);
    Invocation::new("systemctl").args(&["stop", &container.scope()]).limit(120).ok();
    runtime.await_status(id, "stopped");
    runtime.ok(&["delete", id]);
}

// Where there is no bus, that is what is said, and nothing stays. So everywhere.
#[test]
fn without_systemd_it_is_an_error_that_says_so() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]);
    let nowhere = format!("unix:path={}", runtime.scratch().join("no-bus").display());
    let path = bundle.path().to_str().unwrap();
    let output = runtime
        .command(&["--systemd-cgroup", "run", "--bundle", path, &runtime.id("box")])
        .env("DBUS_SYSTEM_BUS_ADDRESS", &nowhere)
        .output();
    assert_eq!(output.code, 1, "{output:#?}");
    assert!(
        output.stderr.contains("cannot talk to systemd") && output.stderr.contains("no-bus"),
        "{output:#?}"
    );
    assert_eq!(runtime.left(), Vec::<String>::new());
}

/// A user's own systemd, with their bus.
struct User {
    unit: String,
    run: PathBuf,
}

/// `daemon`, who is on every machine and does nothing: systemd and D-Bus want one with a name.
const USER: u32 = 1;

impl User {
    /// There is no login here: a service is as good.
    fn systemd() -> Self {
        let run = PathBuf::from(format!("/run/user/{USER}"));
        std::fs::create_dir_all(&run).unwrap();
        std::os::unix::fs::chown(&run, Some(USER), Some(USER)).unwrap();
        let unit = format!("dhow-user-{}", std::process::id());
        let user = USER.to_string();
        Invocation::new("systemd-run")
            .args(&["--quiet", "--unit", &unit, "--uid", &user, "--gid", &user, "--service-type", "notify"])
            .args(&["--property", "Delegate=yes", "--property", "NotifyAccess=main"])
            .arg(format!("--setenv=XDG_RUNTIME_DIR={}", run.display()))
            .args(&["--setenv=HOME=/tmp", "--setenv=USER=somebody", "/lib/systemd/systemd", "--user"])
            .limit(120)
            .ok();
        eventually("the user's bus", || run.join("bus").exists().then_some(()));
        Self { unit, run }
    }

    fn invocation(&self) -> Invocation {
        let user = USER.to_string();
        Invocation::new("setpriv")
            .args(&["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
            .env("XDG_RUNTIME_DIR", &self.run)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        Invocation::new("systemctl").args(&["stop", &self.unit]).limit(120).output();
        std::fs::remove_dir_all(&self.run).ok();
    }
}

#[test]
fn an_ordinary_users_container_is_a_scope_of_their_own_systemd() {
    if !systemd() {
        return;
    }
    let user = User::systemd();
    let home = harness::real_directory("rootless");
    let program = home.path().join("dhow-runtime");
    std::fs::copy(harness::oci::program(), &program).unwrap();
    let bundle = Bundle::new();
    Invocation::new("chown")
        .args(&["-R", &format!("{USER}:{USER}")])
        .arg(bundle.path())
        .arg(home.path())
        .ok();
    Invocation::new("chmod").args(&["755"]).arg(home.path()).arg(bundle.path()).ok();
    let runtime = |args: &[&str]| {
        user.invocation().arg(&program).arg("--root").arg(home.path().join("root")).args(args)
    };
    let path = bundle.path().to_str().unwrap();
    std::fs::remove_file(bundle.config()).unwrap();
    runtime(&["spec", "--rootless", "--bundle", path]).ok();
    let bundle = bundle.edit(|spec| {
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sleep", "1000"]);
        spec["linux"]["cgroupsPath"] = json!(format!("user.slice:test:box{}", std::process::id()));
        spec["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 30}});
    });
    let mut create =
        runtime(&["--systemd-cgroup", "run", "-d", "--bundle", bundle.path().to_str().unwrap(), "box"])
            .into_command();
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    create.stdin(std::process::Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let status = create.status().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(home.path().join("log")).unwrap());
    let state: Value = serde_json::from_str(&runtime(&["state", "box"]).ok()).unwrap();
    let group = group(state["pid"].as_u64().unwrap() as u32);
    let scope = format!("test-box{}.scope", std::process::id());
    let own = show(&format!("{}.service", user.unit), "ControlGroup");
    assert_eq!(group, Path::new("/sys/fs/cgroup").join(&own[1..]).join("user.slice").join(&scope));
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    assert_eq!((read("memory.max"), read("pids.max")), ((64 << 20).to_string(), "30".to_owned()));
    let shows = |property: &str| {
        user.invocation()
            .args(&["systemctl", "--user", "show", "--value", "--property", property, &scope])
            .ok()
    };
    assert_eq!((shows("ActiveState"), shows("MemoryMax")), ("active".into(), (64 << 20).to_string()));
    runtime(&["update", "--pids-limit", "20", "box"]).ok();
    assert_eq!((read("pids.max"), shows("TasksMax")), ("20".into(), "20".into()));
    assert_eq!(runtime(&["exec", "box", "id", "-u"]).ok(), "0");
    runtime(&["pause", "box"]).ok();
    assert_eq!(read("cgroup.freeze"), "1");
    runtime(&["resume", "box"]).ok();
    runtime(&["delete", "--force", "box"]).ok();
    assert!(!group.exists());
    assert_eq!(shows("LoadState"), "not-found");
}
