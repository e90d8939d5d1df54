//! `dhow-runtime` as the runtime of Podman.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::callers::{Machine, Runs, ends_with, installed, is_almighty, runtime};
use harness::image::{Image, PATH};
use harness::{Invocation, Terminal, eventually};

/// Podman on a machine of its own, with the image `busybox`.
struct Podman {
    machine: Machine,
}

/// What only a machine's root without bounds may raise.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

impl Podman {
    #[track_caller]
    fn new() -> Self {
        installed("podman");
        installed("conmon");
        let podman = Self { machine: Machine::new("podman") };
        // By their names alone Podman knows who writes its log as JSON.
        let config = "[engine]\nruntime_supports_json = [\"dhow-runtime\"]\nevents_logger = \"file\"\n";
        std::fs::write(podman.machine.path().join("containers.conf"), config).unwrap();
        let archive = podman.machine.path().join("image.tar");
        std::fs::write(&archive, Image::busybox("localhost/busybox:latest").docker_archive()).unwrap();
        podman.command(&["load", "--input", archive.to_str().unwrap()]).ok();
        podman
    }

    fn equip(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        let machine = &self.machine;
        machine
            .enter(invocation)
            .arg("env")
            .arg(format!("PATH={}:{PATH}", std::env::var("PATH").unwrap_or_default()))
            .arg("podman")
            .args(&["--root", &machine.file("store"), "--runroot", &machine.file("run")])
            .args(&["--cgroup-manager", "cgroupfs", "--runtime", &runtime()])
            .args(args)
            .env("CONTAINERS_CONF", machine.file("containers.conf"))
    }

    fn command(&self, args: &[&str]) -> Invocation {
        self.equip(Invocation::new("env"), args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    /// `run` or `create` with what all containers here have.
    fn making(&self, verb: &str, args: &[&str]) -> Invocation {
        let parent = format!("/{}", self.machine.name());
        let common = ["--network", "none", "--cgroup-parent", &parent];
        self.command(&[&[verb], &common[..], &LIMITS, args].concat())
    }

    fn run(&self, args: &[&str]) -> Invocation {
        self.making("run", &[&["--rm"], args].concat())
    }

    #[track_caller]
    fn runs(&self, check: impl FnOnce(&Runs<'_>)) {
        check(&Runs { machine: &self.machine, run: &|args| self.run(args) });
    }

    #[track_caller]
    fn detached(&self, name: &str, args: &[&str]) -> String {
        self.making("run", &[&["--detach", "--name", name], args].concat()).ok()
    }

    #[track_caller]
    fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&["inspect", "--format", format, name])
    }

    /// A file of a container's group.
    #[track_caller]
    fn limit(&self, controller: &str, id: &str, file: &str) -> String {
        let group = format!("/sys/fs/cgroup/{controller}/{}/libpod-{id}", self.machine.name());
        std::fs::read_to_string(format!("{group}/{file}")).unwrap().trim().to_owned()
    }

    /// Whether only v1 has the controllers' files where [`limit`](Self::limit) looks for them.
    fn has_v1() -> bool {
        std::path::Path::new("/sys/fs/cgroup/memory").exists()
    }

    /// All containers go, and nothing of them stays.
    #[track_caller]
    fn clean(&self) {
        self.ok(&["rm", "--all", "--force", "--time", "0"]);
        self.machine.nothing_left(|| {
            let mut left = self.machine.mounts(&self.machine.file("store/overlay/"));
            left.extend(self.machine.cgroups().into_iter().filter(|group| !group.ends_with("/conmon")));
            let state = self.machine.sh("ls /run/dhow-runtime");
            left.extend(state.lines().map(|name| format!("state {name}")));
            left
        });
    }
}

#[test]
fn run_ends_as_the_command_does() {
    let podman = Podman::new();
    podman.runs(|runs| runs.end_as_their_commands_do());
    // Podman as it comes does not ask us for JSON, and reads what we print
    let plain =
        |words: &[&str]| podman.run(&[&["busybox"], words].concat()).env("CONTAINERS_CONF", "/dev/null");
    ends_with(127, plain(&["nonexistent"]));
    ends_with(126, plain(&["/etc/not-executable"]));
    podman.clean();
}

#[test]
fn what_a_container_may_is_what_podman_says() {
    let podman = Podman::new();
    podman.runs(|runs| {
        runs.have_the_rights_they_are_given(&[], "1024");
        runs.have_their_mounts();
        runs.see_what_they_are_given();
    });
    let seen = podman.run(&["--uidmap", "0:100000:1000", "busybox", "cat", "/proc/self/uid_map"]).ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "1000"]);
    podman.clean();
}

#[test]
fn a_container_in_the_background_is_managed() {
    let podman = Podman::new();
    let script =
        "trap 'echo term; exit 7' TERM; trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done";
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let id = podman.detached("c", &[&limits[..], &["busybox", "sh", "-c", script]].concat());
    let logs = |text: &str| {
        eventually(text, || podman.ok(&["logs", "c"]).contains(text).then_some(()));
    };
    logs("up");
    assert_eq!(podman.inspect("c", "{{.OCIRuntime}}"), runtime());
    let limit = |controller, file| podman.limit(controller, &id, file);
    if Podman::has_v1() {
        assert_eq!(limit("memory", "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(limit("cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(limit("pids", "pids.max"), "50");
    }
    podman.ok(&["update", "--memory", "96m", "--cpus", "0.7", "--cpuset-cpus", "0", "c"]);
    if Podman::has_v1() {
        assert_eq!(limit("memory", "memory.limit_in_bytes"), (96 << 20).to_string());
        assert_eq!(limit("cpu", "cpu.cfs_quota_us"), "70000");
        assert_eq!(limit("cpuset", "cpuset.cpus"), "0");
    }
    let stats = podman.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}}", "c"]);
    let stats: Vec<_> = stats.split('|').collect();
    assert!(stats[0].ends_with("/ 67.11MB") && !stats[0].starts_with("0B"), "{stats:?}");
    assert!(["1", "2"].contains(&stats[1]) && stats[2].ends_with('%'), "{stats:?}");
    let top = podman.ok(&["top", "c", "pid", "args"]);
    assert!(top.contains("\n1 ") && top.contains("trap"), "{top}");

    podman.ok(&["pause", "c"]);
    assert_eq!(podman.inspect("c", "{{.State.Status}}"), "paused");
    if Podman::has_v1() {
        assert_eq!(limit("freezer", "freezer.state"), "FROZEN");
    }
    podman.ok(&["unpause", "c"]);
    podman.ok(&["kill", "--signal", "USR1", "c"]);
    logs("usr1");

    podman.ok(&["restart", "--time", "5", "c"]);
    assert_eq!(podman.inspect("c", "{{.State.Status}}"), "running");
    eventually("both starts in the log", || {
        (podman.ok(&["logs", "c"]) == "up\nusr1\nterm\nup").then_some(())
    });
    podman.ok(&["stop", "--time", "5", "c"]);
    assert_eq!(podman.inspect("c", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    podman.ok(&["start", "c"]);
    podman.ok(&["kill", "c"]);
    assert_eq!(podman.ok(&["wait", "c"]), "137");
    podman.clean();
}

#[test]
fn exec_joins_a_container() {
    let podman = Podman::new();
    podman.detached("c", &["busybox", "sleep", "1000"]);
    let seen = podman
        .command(&["exec", "--user", "1000:13", "--env", "A=b", "--workdir", "/tmp", "c"])
        .args(&["sh", "-c", "id -u; id -g; echo $A; pwd; cat /proc/1/comm"])
        .ok();
    assert_eq!(seen, "1000\n13\nb\n/tmp\nsleep");
    assert_eq!(podman.command(&["exec", "-i", "c", "cat"]).input("typed").ok(), "typed");
    ends_with(5, podman.command(&["exec", "c", "sh", "-c", "exit 5"]));
    let missing = ends_with(127, podman.command(&["exec", "c", "nonexistent"]));
    assert!(missing.contains("executable file not found in $PATH"), "{missing}");
    let text = ends_with(126, podman.command(&["exec", "c", "/etc/not-executable"]));
    assert!(text.contains("permission denied"), "{text}");
    let nowhere = ends_with(127, podman.command(&["exec", "--workdir", "/nope", "c", "true"]));
    assert!(nowhere.contains("no such file or directory"), "{nowhere}");
    podman.ok(&["exec", "--detach", "c", "sh", "-c", "echo done >/tmp/detached"]);
    eventually("the detached command", || {
        (podman.command(&["exec", "c", "cat", "/tmp/detached"]).output().stdout == "done\n").then_some(())
    });
    let privileged = ["exec", "--privileged", "c", "grep", "CapEff", "/proc/self/status"];
    assert!(is_almighty(&podman.ok(&privileged)));
    podman.clean();
}

#[test]
fn terminals_are_real() {
    let podman = Podman::new();
    let parent = format!("/{}", podman.machine.name());
    let common = ["--network", "none", "--cgroup-parent", &parent, "--name", "c"];
    let run = [&["run", "-it"], &common[..], &LIMITS, &["busybox", "sh"]].concat();
    let mut terminal = Terminal::of(|invocation| podman.equip(invocation, &run));
    terminal.expect("# ");
    terminal.press(b"tty\n");
    terminal.expect("/dev/pts/0");
    harness::callers::sized(&mut terminal);
    harness::callers::enlarge(&mut terminal);
    let mut second = Terminal::of(|invocation| podman.equip(invocation, &["exec", "-it", "c", "sh"]));
    second.expect("# ");
    second.press(b"tty; exit 3\n");
    second.expect("/dev/pts/1");
    assert_eq!(second.wait(), 3);
    // detached from, and attached to again
    terminal.press(&[16]);
    std::thread::sleep(std::time::Duration::from_millis(100));
    terminal.press(&[17]);
    assert_eq!(terminal.wait(), 0);
    assert_eq!(podman.inspect("c", "{{.State.Status}}"), "running");
    let mut terminal = Terminal::of(|invocation| podman.equip(invocation, &["attach", "c"]));
    eventually("the shell", || {
        terminal.press(b"\n");
        std::thread::sleep(std::time::Duration::from_millis(50));
        terminal.screen().contains("# ").then_some(())
    });
    terminal.press(b"exit 4\n");
    terminal.wait();
    assert_eq!(podman.ok(&["wait", "c"]), "4");
    podman.clean();
}

#[test]
fn init_health_and_shared_namespaces() {
    let podman = Podman::new();
    let init = installed("docker-init");
    let with_init = ["--init", "--init-path", init.to_str().unwrap()];
    podman.detached("c", &[&with_init[..], &["busybox", "sleep", "1000"]].concat());
    // Podman calls it catatonit, whatever it is
    assert!(podman.ok(&["exec", "c", "cat", "/proc/1/cmdline"]).contains("sleep"));
    assert_ne!(podman.ok(&["exec", "c", "cat", "/proc/1/comm"]), "sleep");
    podman.ok(&["stop", "--time", "5", "c"]);
    assert_eq!(podman.inspect("c", "{{.State.ExitCode}}"), "143", "the signal was passed on");

    let health = ["--health-cmd", "test -e /tmp/ok", "--health-interval", "disable"];
    podman.detached("d", &[&health[..], &["--hostname", "one", "busybox", "sleep", "1000"]].concat());
    ends_with(1, podman.command(&["healthcheck", "run", "d"]));
    podman.ok(&["exec", "d", "touch", "/tmp/ok"]);
    podman.ok(&["healthcheck", "run", "d"]);
    let shared = ["--pid", "container:d", "--ipc", "container:d", "--uts", "container:d"];
    let script = "hostname; cat /proc/1/comm";
    let seen = podman.run(&[&shared[..], &["busybox", "sh", "-c", script]].concat()).ok();
    assert_eq!(seen, "one\nsleep");
    let parent = format!("/{}", podman.machine.name());
    let joined = ["run", "--rm", "--network", "container:d", "--cgroup-parent", &parent];
    assert!(
        podman.ok(&[&joined[..], &LIMITS, &["busybox", "ip", "link"]].concat()).contains("lo: <LOOPBACK")
    );
    podman.making("create", &["--name", "e", "busybox", "echo", "created"]).ok();
    assert_eq!(podman.inspect("e", "{{.State.Status}}"), "created");
    assert_eq!(podman.ok(&["start", "--attach", "e"]), "created");
    podman.ok(&["init", "e"]);
    assert_eq!(podman.inspect("e", "{{.State.Status}}"), "initialized");
    podman.clean();
}
