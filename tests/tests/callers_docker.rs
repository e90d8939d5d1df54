//! `dhow-runtime` as the default runtime of Docker's daemon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use harness::callers::{Machine, Runs, ends_with, installed, is_almighty, runtime};
use harness::image::Image;
use harness::{Invocation, Process, Terminal, eventually};

/// dockerd on a machine of its own, with the image `busybox`. Its containers' cgroups lie below one with the machine's
/// name.
struct Docker {
    machine: Machine,
    daemon: Process,
}

/// Where this Docker has a runtime keep its containers, whatever its name.
const STATE: &str = "exec/runtime-runc/moby";

impl Docker {
    #[track_caller]
    fn new() -> Self {
        for program in ["containerd", "containerd-shim-runc-v2", "docker", "docker-init", "iptables"] {
            installed(program);
        }
        let machine = Machine::new("docker");
        let file = |name| machine.file(name);
        let daemon = machine
            .program(installed("dockerd"))
            .args(&["--host", &format!("unix://{}", file("sock")), "--pidfile", &file("pid")])
            .args(&["--data-root", &file("root"), "--exec-root", &file("exec"), "--log-level", "warn"])
            .arg("--add-runtime")
            .arg(format!("dhow={}", runtime()))
            .args(&["--default-runtime", "dhow", "--cgroup-parent", &format!("/{}", machine.name())])
            .args(&["--exec-opt", "native.cgroupdriver=cgroupfs", "--userland-proxy=false"])
            .spawn();
        let mut docker = Self { machine, daemon };
        let deadline = std::time::Instant::now() + harness::patience(30);
        while docker.docker(&["version"]).output().code != 0 {
            let alive = docker.daemon.is_running() && std::time::Instant::now() < deadline;
            assert!(alive, "dockerd does not come up: {}", docker.daemon.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
        let archive = Image::busybox("busybox:latest").docker_archive();
        docker.docker(&["load"]).input(archive).ok();
        docker
    }

    fn equip(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        let host = format!("unix://{}", self.machine.file("sock"));
        invocation
            .arg(installed("docker"))
            .args(&["--host", &host])
            .args(args)
            .env("HOME", self.machine.path())
    }

    fn docker(&self, args: &[&str]) -> Invocation {
        self.equip(Invocation::new("env"), args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.docker(args).ok()
    }

    /// `docker run --rm` without network.
    fn run(&self, args: &[&str]) -> Invocation {
        self.docker(&[&["run", "--rm", "--network", "none"], args].concat())
    }

    #[track_caller]
    fn runs(&self, check: impl FnOnce(&Runs<'_>)) {
        check(&Runs { machine: &self.machine, run: &|args| self.run(args) });
    }

    #[track_caller]
    fn detached(&self, name: &str, args: &[&str]) -> String {
        self.ok(&[&["run", "--detach", "--network", "none", "--name", name], args].concat())
    }

    #[track_caller]
    fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&["inspect", "--format", format, name])
    }

    #[track_caller]
    fn await_log(&self, name: &str, text: &str) {
        eventually(text, || self.ok(&["logs", name]).contains(text).then_some(()));
    }

    /// A file of a container's group on v1; none on v2, where they have other names.
    fn limit(&self, controller: &str, id: &str, file: &str) -> Option<String> {
        let root = format!("/sys/fs/cgroup/{controller}");
        if !std::path::Path::new(&root).exists() {
            return None;
        }
        let path = format!("{root}/{}/{id}/{file}", self.machine.name());
        Some(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned())
    }

    #[track_caller]
    fn assert_limits(&self, id: &str, limits: &[(&str, &str, &str)]) {
        for (controller, file, value) in limits {
            let limit = self.limit(controller, id, file);
            assert!(limit.as_ref().is_none_or(|limit| limit == value), "{file}: {limit:?}");
        }
    }

    /// All containers go, and nothing of them stays.
    #[track_caller]
    fn clean(&self) {
        let ids = self.ok(&["ps", "--all", "--quiet"]);
        for id in ids.lines() {
            self.ok(&["rm", "--force", "--volumes", id]);
        }
        self.machine.nothing_left(|| {
            let mut left = self.machine.mounts(&self.machine.file("root/overlay2/"));
            left.extend(self.machine.mounts(&self.machine.file("root/containers/")));
            left.extend(self.machine.cgroups());
            for directory in [STATE, "exec/containerd/daemon/io.containerd.runtime.v2.task/moby"] {
                let entries = std::fs::read_dir(self.machine.file(directory)).into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
                left.extend(names.filter(|name| !name.starts_with('.')).map(|name| format!("state {name}")));
            }
            left
        });
    }
}

#[test]
fn run_ends_as_the_command_does() {
    let docker = Docker::new();
    assert_eq!(docker.ok(&["info", "--format", "{{.DefaultRuntime}}"]), "dhow");
    docker.runs(|runs| runs.end_as_their_commands_do());
    let absent = ends_with(127, docker.run(&["busybox", "/non/existent"]));
    assert!(
        absent.contains("exec: \"/non/existent\": stat /non/existent: no such file or directory")
            || absent.contains("exec: \"/non/existent\": no such file or directory"),
        "{absent}"
    );
    let file = docker.machine.file("pid:/tmp");
    let mixed = ends_with(125, docker.run(&["--volume", &file, "busybox", "true"]));
    assert!(mixed.contains("Are you trying to mount a directory onto a file"), "{mixed}");
    docker.clean();
}

#[test]
fn what_a_container_may_is_what_docker_says() {
    let docker = Docker::new();
    docker.runs(|runs| {
        runs.have_the_rights_they_are_given(&["--ulimit", "nofile=1000"], "1000");
        runs.have_their_mounts();
        runs.see_what_they_are_given();
    });
    // the daemon makes it
    assert_eq!(docker.run(&["--workdir", "/made", "busybox", "pwd"]).ok(), "/made");
    docker.clean();
}

#[test]
fn a_container_in_the_background_is_managed() {
    let mut docker = Docker::new();
    let script =
        "trap 'echo term; exit 7' TERM; trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done";
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let id = docker.detached("box", &[&limits[..], &["busybox", "sh", "-c", script]].concat());
    docker.await_log("box", "up");
    let list = Invocation::new(runtime()).args(&["--root", &docker.machine.file(STATE), "list", "--quiet"]);
    assert_eq!(list.ok(), id, "it is ours");
    let before = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("pids", "pids.max", "50"),
    ];
    docker.assert_limits(&id, &before);
    docker.ok(&[
        "update",
        "--memory",
        "96m",
        "--memory-swap",
        "-1",
        "--cpus",
        "0.7",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "40",
        "box",
    ]);
    let after = [
        ("memory", "memory.limit_in_bytes", "100663296"),
        ("cpu", "cpu.cfs_quota_us", "70000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "40"),
    ];
    docker.assert_limits(&id, &after);
    let stats =
        docker.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}}", "box"]);
    let stats: Vec<_> = stats.split('|').collect();
    assert!(stats[0].ends_with("/ 96MiB") && !stats[0].starts_with("0B"), "{stats:?}");
    assert!(["1", "2"].contains(&stats[1]) && stats[2].ends_with('%'), "{stats:?}");
    if docker.limit("blkio", &id, "cgroup.procs").is_some() {
        // Docker looks where the process is: without a group of its own it would show the machine's
        docker.ok(&["exec", "box", "dd", "if=/dev/zero", "of=/zeros", "bs=1M", "count=3", "conv=fsync"]);
        let stats = docker.ok(&["stats", "--no-stream", "--format", "{{.BlockIO}}", "box"]);
        assert!(stats.starts_with("0B / 3.") && stats.ends_with("MB"), "{stats}");
    }
    let top = docker.ok(&["top", "box", "-o", "pid,args"]);
    assert!(top.contains("trap"), "{top}");

    docker.ok(&["pause", "box"]);
    assert_eq!(docker.inspect("box", "{{.State.Status}}"), "paused");
    docker.assert_limits(&id, &[("freezer", "freezer.state", "FROZEN")]);
    ends_with(1, docker.docker(&["exec", "box", "true"]));
    docker.ok(&["unpause", "box"]);
    docker.ok(&["kill", "--signal", "USR1", "box"]);
    docker.await_log("box", "usr1");

    docker.ok(&["restart", "--time", "5", "box"]);
    assert_eq!(docker.inspect("box", "{{.State.Status}}"), "running");
    eventually("both starts in the log", || {
        (docker.ok(&["logs", "box"]) == "up\nusr1\nterm\nup").then_some(())
    });
    docker.ok(&["stop", "--time", "5", "box"]);
    assert_eq!(docker.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    docker.ok(&["start", "box"]);
    docker.ok(&["kill", "box"]);
    assert_eq!(docker.ok(&["wait", "box"]), "137");

    let init = docker.detached("initial", &["--init", "busybox", "sleep", "1000"]);
    assert_eq!(docker.ok(&["exec", "initial", "cat", "/proc/1/comm"]), "docker-init");
    docker.ok(&["stop", "--time", "5", &init]);
    assert_eq!(docker.inspect("initial", "{{.State.ExitCode}}"), "143", "the signal was passed on");
    let health = ["--health-cmd", "test -e /tmp/ok", "--health-interval", "100ms", "--health-retries", "1"];
    docker.detached("healthy", &[&health[..], &["busybox", "sleep", "1000"]].concat());
    let is = |status: &str| {
        eventually(status, || {
            (docker.inspect("healthy", "{{.State.Health.Status}}") == status).then_some(())
        });
    };
    is("unhealthy");
    docker.ok(&["exec", "healthy", "touch", "/tmp/ok"]);
    is("healthy");
    docker.ok(&["create", "--name", "new", "--network", "none", "busybox", "echo", "created"]);
    assert_eq!(docker.ok(&["start", "--attach", "new"]), "created");
    let again = [
        "run",
        "--detach",
        "--network",
        "none",
        "--name",
        "again",
        "--restart",
        "always",
        "busybox",
        "sleep",
        "1000",
    ];
    docker.ok(&again);
    let pid = docker.inspect("again", "{{.State.Pid}}");
    docker.machine.sh(&format!("kill -9 {pid}"));
    eventually("another start", || {
        (docker.inspect("again", "{{.RestartCount}} {{.State.Status}}") == "1 running").then_some(())
    });
    docker.clean();

    // the daemon ends its containers when it ends
    docker.detached("last", &["busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]);
    assert!(!docker.machine.cgroups().is_empty());
    docker.machine.sh(&format!("kill $(cat {})", docker.machine.file("pid")));
    eventually("the daemon's end", || (!docker.daemon.is_running()).then_some(()));
    docker.machine.nothing_left(|| docker.machine.cgroups());
}

#[test]
fn exec_terminals_and_networks() {
    let docker = Docker::new();
    // on the bridge: its namespace is set up by a hook of Docker's
    let http = "mkdir -p /www && echo served >/www/index.html && exec httpd -f -p 80 -h /www";
    docker.ok(&["run", "--detach", "--name", "web", "--publish", "8080:80", "busybox", "sh", "-c", http]);
    let address = docker.inspect("web", "{{.NetworkSettings.IPAddress}}");
    for (host, port) in [(&*address, 80), ("127.0.0.1", 8080)] {
        eventually("the page", || (docker.machine.fetch(host, port) == "served").then_some(()));
    }
    let joined = ["run", "--rm", "--network", "container:web", "--pid", "container:web", "busybox"];
    assert_eq!(docker.ok(&[&joined[..], &["wget", "-qO", "-", "http://127.0.0.1/"]].concat()), "served");
    assert_eq!(docker.ok(&[&joined[..], &["cat", "/proc/1/comm"]].concat()), "httpd");

    let exec = ["exec", "--user", "1000:13", "--env", "A=b", "--workdir", "/tmp", "web"];
    let seen = docker.docker(&exec).args(&["sh", "-c", "id -u; id -g; echo $A; pwd"]).ok();
    assert_eq!(seen, "1000\n13\nb\n/tmp");
    assert_eq!(docker.docker(&["exec", "-i", "web", "cat"]).input("typed").ok(), "typed");
    ends_with(5, docker.docker(&["exec", "web", "sh", "-c", "exit 5"]));
    // this Docker does not tell one from the other: with any runtime
    let missing = ends_with(126, docker.docker(&["exec", "web", "nonexistent"]));
    assert!(missing.contains("executable file not found in $PATH"), "{missing}");
    ends_with(126, docker.docker(&["exec", "web", "/etc/not-executable"]));
    docker.ok(&["exec", "--detach", "web", "sh", "-c", "echo done >/tmp/detached"]);
    eventually("the detached command", || {
        (docker.docker(&["exec", "web", "cat", "/tmp/detached"]).output().stdout == "done\n").then_some(())
    });
    let privileged = ["exec", "--privileged", "web", "grep", "CapEff", "/proc/self/status"];
    assert!(is_almighty(&docker.ok(&privileged)));

    let mut terminal = Terminal::of(|invocation| {
        docker.equip(invocation, &["run", "-it", "--network", "none", "--name", "shell", "busybox", "sh"])
    });
    terminal.expect("# ");
    terminal.press(b"tty\n");
    terminal.expect("/dev/pts/0");
    harness::callers::sized(&mut terminal);
    harness::callers::enlarge(&mut terminal);
    let mut second = Terminal::of(|invocation| docker.equip(invocation, &["exec", "-it", "shell", "sh"]));
    second.expect("# ");
    second.press(b"tty; exit 3\n");
    second.expect("/dev/pts/1");
    assert_eq!(second.wait(), 3);
    // detached from, and attached to again
    terminal.press(&[16]);
    std::thread::sleep(Duration::from_millis(100));
    terminal.press(&[17]);
    assert_eq!(terminal.wait(), 0);
    assert_eq!(docker.inspect("shell", "{{.State.Status}}"), "running");
    let mut terminal = Terminal::of(|invocation| docker.equip(invocation, &["attach", "shell"]));
    eventually("the shell", || {
        terminal.press(b"\n");
        std::thread::sleep(Duration::from_millis(50));
        terminal.screen().contains("# ").then_some(())
    });
    terminal.press(b"exit 4\n");
    assert_eq!(terminal.wait(), 4);
    docker.clean();
}
