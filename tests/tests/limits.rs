//! What `run` and `create` limit, share and hand out, seen from inside the container.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::image::Image;
use harness::{Dhow, eventually};
use serde_json::json;

/// Runs a shell script in a busybox without a network; it must succeed.
#[track_caller]
fn script(dhow: &Dhow, flags: &[&str], script: &str) -> String {
    dhow.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
}

/// It must be refused before anything is made, with these words.
#[track_caller]
fn refused(dhow: &Dhow, flags: &[&str], words: &str) {
    let network: &[&str] = if flags.contains(&"--network") { &[] } else { &["--network", "none"] };
    let error = dhow.fails(125, &[&["run", "--rm"], network, flags, &["busybox", "true"]].concat());
    assert!(error.contains(words), "{flags:?}: {error}");
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The file of a controller as the container sees it: v1's or v2's.
fn file(controller: &str, v1: &str, v2: &str) -> String {
    if is_v2() { format!("/sys/fs/cgroup/{v2}") } else { format!("/sys/fs/cgroup/{controller}/{v1}") }
}

/// The same on the host, for what a container does not see.
fn on_host(dhow: &Dhow, name: &str, controller: &str, v1: &str, v2: &str) -> String {
    let id = dhow.inspect(name)["Id"].as_str().unwrap().to_owned();
    let root = if is_v2() { "/sys/fs/cgroup".to_owned() } else { format!("/sys/fs/cgroup/{controller}") };
    let file = if is_v2() { v2 } else { v1 };
    let path = format!("{root}/{}/{id}/{file}", dhow.global_name());
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

/// Whether a v1 hierarchy is mounted or v2 has the controller.
fn has(controller: &str) -> bool {
    if is_v2() {
        let name = if controller == "blkio" { "io" } else { controller };
        std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .unwrap()
            .split_whitespace()
            .any(|c| c == name)
    } else {
        Path::new("/sys/fs/cgroup").join(controller).is_dir()
    }
}

#[test]
fn memory_swap_and_reservation_are_in_the_cgroup() {
    let dhow = Dhow::new("limit-memory");
    let cat = |v1: &str, v2: &str| format!("cat {}", file("memory", v1, v2));
    let limit = cat("memory.limit_in_bytes", "memory.max");
    assert_eq!(script(&dhow, &["-m", "64m"], &limit), (64 << 20).to_string());
    let reservation = cat("memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(script(&dhow, &["--memory-reservation", "32m"], &reservation), (32 << 20).to_string());
    let swap = cat("memory.memsw.limit_in_bytes", "memory.swap.max");
    if is_v2() && !Path::new("/proc/swaps").exists()
        || !is_v2() && !Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
    {
        return;
    }
    // v1 counts both together, v2 swap alone
    let of = |both: u64, alone: u64| if is_v2() { alone << 20 } else { both << 20 }.to_string();
    assert_eq!(script(&dhow, &["-m", "64m"], &swap), of(128, 64));
    assert_eq!(script(&dhow, &["-m", "64m", "--memory-swap", "80m"], &swap), of(80, 16));
    assert_eq!(script(&dhow, &["-m", "64m", "--memory-swap", "64m"], &swap), of(64, 0));
    let unlimited = script(&dhow, &["-m", "64m", "--memory-swap", "-1"], &swap);
    assert!(unlimited == "max" || unlimited.parse::<u64>().unwrap() > 1 << 60, "{unlimited}");
}

#[test]
fn what_only_version_1_has_is_given_there_and_refused_elsewhere() {
    let dhow = Dhow::new("limit-v1");
    if is_v2() {
        refused(&dhow, &["--memory-swappiness", "10"], "swappiness");
        refused(&dhow, &["-m", "64m", "--oom-kill-disable"], "OOM killer");
        return;
    }
    let show =
        "cat /sys/fs/cgroup/memory/memory.swappiness; head -1 /sys/fs/cgroup/memory/memory.oom_control";
    let flags = ["-m", "64m", "--memory-swappiness", "10", "--oom-kill-disable"];
    assert_eq!(script(&dhow, &flags, show), "10\noom_kill_disable 1");
}

#[test]
fn processor_time_and_sets_are_in_the_cgroup() {
    let dhow = Dhow::new("limit-cpu");
    let quota = |flags: &[&str]| {
        let show = if is_v2() {
            "cat /sys/fs/cgroup/cpu.max".to_owned()
        } else {
            "cd /sys/fs/cgroup/cpu; echo $(cat cpu.cfs_quota_us cpu.cfs_period_us)".to_owned()
        };
        script(&dhow, flags, &show)
    };
    assert_eq!(quota(&["--cpus", "1.5"]), "150000 100000");
    assert_eq!(quota(&["--cpu-period", "50000", "--cpu-quota", "25000"]), "25000 50000");
    assert_eq!(quota(&["--cpu-quota", "30000"]), "30000 100000");
    let shares = format!("cat {}", file("cpu", "cpu.shares", "cpu.weight"));
    assert_eq!(script(&dhow, &["-c", "512"], &shares), if is_v2() { "59" } else { "512" });
    if has("cpuset") {
        let allowed = "grep Cpus_allowed_list /proc/self/status | cut -f 2";
        assert_eq!(script(&dhow, &["--cpuset-cpus", "0"], allowed), "0");
        assert_eq!(script(&dhow, &["--cpuset-cpus", "0", "--cpuset-mems", "0"], allowed), "0");
    }
}

#[test]
fn limits_that_make_no_sense_are_refused_and_leave_nothing() {
    let dhow = Dhow::new("limit-bad");
    for (flags, words) in [
        (&["-m", "5m"][..], "least is 6m"),
        (&["-m", "64m", "--memory-swap", "32m"], "below the memory limit"),
        (&["--memory-swap", "64m"], "memory is not"),
        (&["-m", "64m", "--memory-reservation", "65m"], "below the memory reservation"),
        (&["--cpus", "1", "--cpu-quota", "1000"], "--cpu-quota"),
        (&["--cpu-period", "10"], "1000 to 1000000"),
        (&["--cpuset-cpus", "4000"], "are not to be had"),
        (&["--cpuset-cpus", "a"], "want numbers"),
        (&["--blkio-weight", "5"], "10 to 1000"),
        (&["--oom-score-adj", "2000"], "-1000 to 1000"),
        (&["--sysctl", "kernel.core_pattern=x"], "namespaces"),
        (&["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"], "host's"),
        (&["--device", "/dev/nosuch"], "/dev/nosuch"),
        (&["--device", "/etc/passwd"], "no device"),
        (&["--device-read-bps", "/dev/null:1mb"], "no block device"),
        (&["--device-cgroup-rule", "x"], "TYPE MAJOR:MINOR"),
        (&["--ipc", "container:nosuch"], "nosuch"),
        (&["--uts", "host", "--hostname", "x"], "--hostname"),
        (&["--cgroup-parent", "../x"], "plain names"),
        (&["--group-add", "-1"], "invalid group"),
        (&["--platform", "linux/riscv64", "--pull", "never"], "linux/riscv64"),
    ] {
        refused(&dhow, flags, words);
    }
    assert_eq!(dhow.ok(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn processes_have_the_limits_and_the_score_that_were_asked_for() {
    let dhow = Dhow::new("limit-process");
    let flags = ["--ulimit", "nofile=100:200", "--ulimit", "core=0"];
    assert_eq!(script(&dhow, &flags, "ulimit -Sn; ulimit -Hn; ulimit -c"), "100\n200\n0");
    assert_eq!(script(&dhow, &["--oom-score-adj", "700"], "cat /proc/self/oom_score_adj"), "700");
    // a further command has them too
    dhow.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "box",
        "--ulimit",
        "nofile=100",
        "busybox",
        "sleep",
        "600",
    ]);
    assert_eq!(dhow.ok(&["exec", "box", "sh", "-c", "ulimit -n"]), "100");
    assert_eq!(
        dhow.inspect("box")["HostConfig"]["Ulimits"],
        json!([{"Name": "nofile", "Soft": 100, "Hard": 100}])
    );
}

#[test]
fn further_groups_are_looked_up_in_the_container() {
    let dhow = Dhow::new("limit-groups");
    assert_eq!(
        script(&dhow, &["-u", "1234", "--group-add", "wheel", "--group-add", "4321"], "id -G"),
        "0 10 4321"
    );
    assert!(script(&dhow, &["--group-add", "wheel"], "id -G").split(' ').any(|g| g == "10"));
    refused(&dhow, &["--group-add", "nosuchgroup"], "nosuchgroup");
}

#[test]
fn shared_memory_has_its_size_and_kernel_settings_their_values() {
    let dhow = Dhow::new("limit-shm");
    let size = "df -k /dev/shm | tail -1 | awk '{print $2}'";
    assert_eq!(script(&dhow, &[], size), "65536");
    assert_eq!(script(&dhow, &["--shm-size", "1m"], size), "1024");
    assert_eq!(
        script(&dhow, &["--ipc", "none"], "test -d /dev/shm && grep -c ' /dev/shm ' /proc/mounts || true"),
        "0"
    );
    let flags = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=1234"];
    assert_eq!(script(&dhow, &flags, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"), "1\n1234");
}

#[test]
fn devices_are_there_and_can_be_used_as_far_as_allowed() {
    let dhow = Dhow::new("limit-device");
    let found = ["/dev/fuse", "/dev/loop-control"].into_iter().find(|path| std::fs::File::open(path).is_ok());
    if let Some(path) = found {
        let number = std::os::unix::fs::MetadataExt::rdev(&std::fs::metadata(path).unwrap());
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let opens =
            "(true < /dev/it) 2> /dev/null && echo read; (true > /dev/it) 2> /dev/null && echo write; true";
        let of = |access: &str| script(&dhow, &["--device", &format!("{path}:/dev/it{access}")], opens);
        assert_eq!((of(""), of(":r"), of(":w")), ("read\nwrite".into(), "read".into(), "write".into()));
        // without it, the node alone does not help
        let make =
            format!("mknod /tmp/it c {major} {minor}; (true < /tmp/it) 2> /dev/null && echo read; true");
        assert_eq!(script(&dhow, &[], &make), "");
        let rule = format!("c {major}:{minor} r");
        assert_eq!(script(&dhow, &["--device-cgroup-rule", &rule], &make), "read");
    }
    let directory = dhow.scratch().join("devices");
    std::fs::create_dir(&directory).unwrap();
    let made =
        std::process::Command::new("mknod").arg(directory.join("nothing")).args(["c", "1", "3"]).status();
    assert!(made.unwrap().success());
    let of = format!("{}:/dev/mine", directory.display());
    assert_eq!(script(&dhow, &["--device", &of], "echo x > /dev/mine/nothing && ls /dev/mine"), "nothing");
}

#[test]
fn a_privileged_container_has_all_rights_and_devices() {
    let dhow = Dhow::new("limit-privileged");
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = ours.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
    let own = script(&dhow, &["--privileged"], "grep -E 'CapEff|Seccomp:' /proc/self/status | cut -f 2");
    assert_eq!(own, format!("{bounding}\n0"));
    // nothing is masked, and the kernel's files can be written to
    let show = "grep -E ' (/sys|/proc/sys|/proc/kcore) ' /proc/mounts | grep -c -w ro; ls /dev | wc -l";
    let shown = script(&dhow, &["--privileged"], show);
    let (readonly, devices) = shown.split_once('\n').unwrap();
    assert_eq!(readonly, "0");
    assert!(devices.parse::<u32>().unwrap() > 13, "{devices}");
    script(&dhow, &["--privileged"], "mkdir -p /mnt/x; mount -t tmpfs x /mnt/x");
    assert_eq!(
        script(&dhow, &[], "mkdir -p /mnt/x; mount -t tmpfs x /mnt/x 2> /dev/null || echo refused"),
        "refused"
    );
}

#[test]
fn namespaces_of_the_host_are_shared() {
    let dhow = Dhow::new("limit-host");
    let inode =
        |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for (flag, kind) in [("--ipc", "ipc"), ("--pid", "pid"), ("--uts", "uts"), ("--cgroupns", "cgroup")] {
        let show = format!("readlink /proc/self/ns/{kind}");
        assert_eq!(script(&dhow, &[flag, "host"], &show), inode(kind), "{flag}");
        assert_ne!(script(&dhow, &[], &show), inode(kind), "{flag}");
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(script(&dhow, &["--uts", "host"], "hostname"), name.trim());
    assert_eq!(
        script(&dhow, &["--domainname", "example.test"], "cat /proc/sys/kernel/domainname"),
        "example.test"
    );
    // its processes end with it, although no namespace ends
    let id = dhow.ok(&[
        "run",
        "-d",
        "--pid",
        "host",
        "--network",
        "none",
        "--name",
        "pp",
        "busybox",
        "sh",
        "-c",
        "sleep 601 & sleep 600",
    ]);
    dhow.ok(&["kill", "pp"]);
    let left = || -> Vec<String> {
        let procs = if is_v2() { "/sys/fs/cgroup".to_owned() } else { "/sys/fs/cgroup/pids".to_owned() };
        let path = format!("{procs}/{}/{id}/cgroup.procs", dhow.global_name());
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    eventually("the end of all its processes", || left().is_empty().then_some(()));
}

#[test]
fn namespaces_of_another_container_are_joined() {
    let dhow = Dhow::new("limit-join");
    let run = |flags: &[&str], script: &str| {
        let args = [&["run", "-d", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat();
        dhow.ok(&args)
    };
    run(&["--name", "shared", "--ipc", "shareable"], "echo hello > /dev/shm/word; exec sleep 600");
    run(&["--name", "alone"], "exec sleep 600");
    let of = |kind: &str| {
        let link = format!("/proc/{}/ns/{kind}", dhow.pid("shared"));
        std::fs::read_link(link).unwrap().display().to_string()
    };
    let joined = |flag: &str, show: &str| script(&dhow, &[flag, "container:shared"], show);
    eventually("the word", || {
        let said = dhow.run(&["exec", "shared", "cat", "/dev/shm/word"]);
        (said.code == 0 && said.stdout == "hello\n").then_some(())
    });
    assert_eq!(
        joined("--ipc", "readlink /proc/self/ns/ipc; cat /dev/shm/word"),
        format!("{}\nhello", of("ipc"))
    );
    // and back: it is one memory
    joined("--ipc", "echo answer > /dev/shm/answer");
    assert_eq!(dhow.ok(&["exec", "shared", "cat", "/dev/shm/answer"]), "answer");
    assert_eq!(
        joined("--pid", "readlink /proc/self/ns/pid; cat /proc/1/comm"),
        format!("{}\nsleep", of("pid"))
    );
    refused(&dhow, &["--ipc", "container:alone"], "keeps that to itself");
    dhow.ok(&["stop", "-t", "0", "shared"]);
    refused(&dhow, &["--pid", "container:shared"], "does not run");
}

#[test]
fn a_cgroup_parent_holds_the_container_and_goes_with_it() {
    let dhow = Dhow::new("limit-parent");
    let parent = format!("{}-parent", dhow.global_name());
    let id = dhow.ok(&[
        "run",
        "-d",
        "--cgroup-parent",
        &parent,
        "--network",
        "none",
        "--name",
        "box",
        "-m",
        "64m",
        "busybox",
        "sleep",
        "600",
    ]);
    let root = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
    let group = Path::new(root).join(&parent).join(&id);
    let limit =
        std::fs::read_to_string(group.join(if is_v2() { "memory.max" } else { "memory.limit_in_bytes" }));
    assert_eq!(limit.unwrap().trim(), (64 << 20).to_string());
    assert_eq!(dhow.ok(&["exec", "box", "echo", "here"]), "here");
    dhow.ok(&["pause", "box"]);
    dhow.ok(&["unpause", "box"]);
    dhow.ok(&["rm", "-f", "box"]);
    eventually("the group's end", || (!Path::new(root).join(&parent).exists()).then_some(()));
}

#[test]
fn names_and_ports_are_as_said() {
    let dhow = Dhow::empty("limit-names");
    dhow.load(&Image::busybox("busybox").with("ExposedPorts", json!({"80/tcp": {}})));
    let flags = [
        "--add-host",
        "db:192.0.2.7",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "a.test",
        "--dns-option",
        "ndots:3",
    ];
    let show = "tail -1 /etc/hosts; cat /etc/resolv.conf | grep -E 'nameserver|search|options'";
    assert_eq!(
        script(&dhow, &flags, show),
        "192.0.2.7\tdb\nnameserver 192.0.2.53\nsearch a.test\noptions ndots:3"
    );
    dhow.ok(&["run", "-d", "-P", "--expose", "81", "--name", "box", "busybox", "sleep", "600"]);
    let shown = dhow.inspect("box");
    let ports = shown["NetworkSettings"]["Ports"].as_object().unwrap();
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["80/tcp", "81/tcp"]);
    assert_eq!(shown["Config"]["ExposedPorts"], json!({"80/tcp": {}, "81/tcp": {}}));
    assert_eq!(shown["HostConfig"]["PublishAllPorts"], json!(true));
    let gateway =
        dhow.ok(&["run", "--rm", "--add-host", "me=host-gateway", "busybox", "tail", "-1", "/etc/hosts"]);
    assert_eq!(gateway, format!("{}\tme", shown["NetworkSettings"]["Gateway"].as_str().unwrap()));
}

#[test]
fn rates_of_disks_are_in_the_cgroup() {
    let dhow = Dhow::new("limit-disk");
    if !has("blkio") {
        return;
    }
    let disk = std::fs::read_dir("/sys/block").unwrap().flatten().find_map(|entry| {
        let path = Path::new("/dev").join(entry.file_name());
        let number = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        path.exists().then(|| (path.display().to_string(), number.trim().to_owned()))
    });
    let Some((disk, number)) = disk else { return };
    let rate = format!("{disk}:1mb");
    dhow.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--device-read-bps",
        &rate,
        "--name",
        "box",
        "busybox",
        "sleep",
        "600",
    ]);
    let told = on_host(&dhow, "box", "blkio", "blkio.throttle.read_bps_device", "io.max");
    assert!(told.starts_with(&number) && told.contains("1048576"), "{told}");
    let shown = dhow.inspect("box");
    assert_eq!(shown["HostConfig"]["BlkioDeviceReadBps"], json!([{"Path": disk, "Rate": 1_048_576}]));
}

#[test]
fn labels_come_from_files_and_what_has_no_meaning_is_said() {
    let dhow = Dhow::new("limit-labels");
    let file = dhow.scratch().join("labels");
    std::fs::write(&file, "# ours\na=file\nb\n").unwrap();
    dhow.ok(&[
        "create",
        "--name",
        "box",
        "--label-file",
        file.to_str().unwrap(),
        "--label",
        "a=flag",
        "busybox",
        "true",
    ]);
    assert_eq!(dhow.inspect("box")["Config"]["Labels"], json!({"a": "flag", "b": ""}));
    refused(&dhow, &["--gpus", "all"], "has no meaning here");
    let output = dhow.run(&["create", "--kernel-memory", "100m", "busybox", "true"]);
    assert!(output.code == 0 && output.stderr.contains("has no meaning any more"), "{output:?}");
}
