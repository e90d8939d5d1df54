//! `dhow-runtime` as the runtime of containerd, through `ctr`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::callers::{ends_with, is_almighty, runtime};
use harness::containerd::Containerd;
use harness::image::Image;
use harness::{Invocation, Terminal, eventually};
use serde_json::Value;

const IMAGE: &str = "docker.io/library/busybox:latest";

/// What these tests do with it.
trait Calls {
    fn running<'a>(flags: &[&'a str], runtime: &'a str, name: &'a str, command: &[&'a str]) -> Vec<&'a str>;
    fn run(&self, flags: &[&str], name: &str, command: &[&str]) -> Invocation;
    fn exec(&self, flags: &[&str], name: &str, command: &[&str]) -> Invocation;
    fn await_status(&self, name: &str, status: &str);
    fn delete(&self, name: &str, code: i32);
    fn clean(&self);
}

/// containerd with an image.
#[track_caller]
fn with_image() -> Containerd {
    let containerd = Containerd::start();
    let archive = containerd.machine().file("image.tar");
    std::fs::write(&archive, Image::busybox(IMAGE).docker_archive()).unwrap();
    containerd.ok(&["image", "import", &archive]);
    containerd
}

impl Calls for Containerd {
    /// `ctr run` with our runtime: its flags, and what to run.
    fn running<'a>(flags: &[&'a str], runtime: &'a str, name: &'a str, command: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--runc-binary", runtime][..], flags, &[IMAGE, name], command].concat()
    }

    fn run(&self, flags: &[&str], name: &str, command: &[&str]) -> Invocation {
        self.ctr(&Self::running(flags, &runtime(), name, command))
    }

    fn exec(&self, flags: &[&str], name: &str, command: &[&str]) -> Invocation {
        self.ctr(&[&["task", "exec"], flags, &[name], command].concat())
    }

    /// As `ctr task ls` has it.
    #[track_caller]
    fn await_status(&self, name: &str, status: &str) {
        eventually(status, || {
            let list = self.ok(&["task", "ls"]);
            let line = list.lines().find(|line| line.starts_with(&format!("{name} ")))?.to_owned();
            line.ends_with(status).then_some(())
        });
    }

    /// Removes it; its task must have ended with this code.
    #[track_caller]
    fn delete(&self, name: &str, code: i32) {
        self.await_status(name, "STOPPED");
        let said = ends_with(0, self.ctr(&["task", "delete", name]));
        assert!(code == 0 || said.contains(&format!("non-zero exit code {code}")), "{said}");
        self.ok(&["container", "delete", name]);
    }

    /// There is no container any more, and nothing of any.
    #[track_caller]
    fn clean(&self) {
        assert_eq!(self.ok(&["container", "ls", "--quiet"]), "");
        self.machine().nothing_left(|| {
            let mut left = self.machine().mounts(&self.machine().file("state"));
            left.extend(self.machine().cgroups());
            let script = format!("ls /run/containerd/runc/* {}/*/*", self.machine().file("state"));
            let state = self.machine().program("sh").args(&["-c", &script]).output().stdout;
            let headings = |line: &&str| !line.is_empty() && !line.ends_with(':');
            let known = [self.machine().name(), "runtime", "task", "sock"];
            let names = state.lines().filter(headings).filter(|line| !known.contains(line));
            left.extend(names.map(|name| format!("state {name}")));
            left
        });
    }
}

#[test]
fn run_ends_as_the_command_does() {
    let containerd = with_image();
    let run = |command: &[&str]| containerd.run(&["--rm"], "r", command);
    assert_eq!(run(&["echo", "hi"]).ok(), "hi");
    ends_with(42, run(&["sh", "-c", "exit 42"]));
    let missing = ends_with(1, run(&["nonexistent"]));
    assert!(missing.contains("OCI runtime create failed: "), "{missing}");
    assert!(missing.contains("exec: \"nonexistent\": executable file not found in $PATH"), "{missing}");
    let text = ends_with(1, run(&["/etc/not-executable"]));
    assert!(text.contains("exec: \"/etc/not-executable\": permission denied"), "{text}");
    let script = "pwd; echo $A; touch /x; grep -E 'CapEff|NoNew' /proc/self/status; \
                  grep ' /m ' /proc/mounts; cat /proc/self/uid_map";
    let flags = ["--rm", "--read-only", "--env", "A=b", "--cwd", "/tmp"];
    let mount = ["--mount", "type=tmpfs,dst=/m,options=size=1m", "--cap-add", "CAP_SYS_TIME"];
    let users = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];
    let output = containerd.run(&[&flags[..], &mount].concat(), "r", &["sh", "-c", script]).output();
    assert_eq!(output.stderr, "touch: /x: Read-only file system\n");
    for line in ["/tmp\nb\nCapEff:\t00000000aa0425fb\nNoNewPrivs:\t1\n", " /m tmpfs rw,", "size=1024k"] {
        assert!(output.stdout.contains(line), "{line:?} in {}", output.stdout);
    }
    let seen = containerd.run(&[&["--rm"], &users[..]].concat(), "r", &["cat", "/proc/self/uid_map"]).ok();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    let seen = containerd.run(&["--rm", "--privileged"], "r", &["grep", "CapEff", "/proc/self/status"]).ok();
    assert!(is_almighty(&seen), "{seen}");
    let flags = ["--rm", "--seccomp", "--no-pivot", "--device", "/dev/fuse", "--cap-drop", "CAP_CHOWN"];
    let script = "ls /dev/fuse; grep -E 'CapEff|Seccomp:' /proc/self/status";
    let seen = containerd.run(&flags, "r", &["sh", "-c", script]).ok();
    assert_eq!(seen, "/dev/fuse\nCapEff:\t00000000a80425fa\nSeccomp:\t2");
    let killed = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    ends_with(137, containerd.run(&["--rm", "--memory-limit", "8388608"], "r", &["sh", "-c", killed]));
    containerd.clean();
}

#[test]
fn a_task_is_managed() {
    let containerd = with_image();
    let script = "trap 'exit 7' TERM; while :; do sleep 0.05; done";
    let limits = ["--detach", "--memory-limit", "67108864", "--cpus", "0.5"];
    containerd.run(&limits, "c", &["sh", "-c", script]).ok();
    containerd.await_status("c", "RUNNING");
    // it is ours, where containerd keeps it
    let root = format!("/run/containerd/runc/{}", containerd.machine().name());
    let list = containerd.machine().program(runtime()).args(&["--root", &root, "list", "--quiet"]);
    assert_eq!(list.ok(), "c");
    let metrics = containerd.ok(&["task", "metrics", "--format", "json", "c"]);
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        assert_eq!(metrics["memory"]["usage"]["limit"], 64 << 20, "{metrics}");
        assert!(metrics["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{metrics}");
        assert!(metrics["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{metrics}");
        let quota = format!("/sys/fs/cgroup/cpu/{}/c/cpu.cfs_quota_us", containerd.machine().name());
        assert_eq!(std::fs::read_to_string(quota).unwrap(), "50000\n");
    }
    assert!(metrics["pids"]["current"].as_u64().unwrap() >= 1, "{metrics}");

    assert_eq!(containerd.exec(&["--exec-id", "e", "--cwd", "/tmp"], "c", &["pwd"]).ok(), "/tmp");
    assert_eq!(containerd.exec(&["--exec-id", "e"], "c", &["cat"]).input("typed").ok(), "typed");
    let user = ["--exec-id", "e", "--user", "1000:1000"];
    assert_eq!(containerd.exec(&user, "c", &["sh", "-c", "id -u; id -g"]).ok(), "1000\n1000");
    ends_with(5, containerd.exec(&["--exec-id", "e"], "c", &["sh", "-c", "exit 5"]));
    let missing = ends_with(1, containerd.exec(&["--exec-id", "e"], "c", &["nonexistent"]));
    assert!(missing.contains("OCI runtime exec failed: "), "{missing}");
    assert!(missing.contains("executable file not found in $PATH"), "{missing}");
    containerd.exec(&["--exec-id", "back", "--detach"], "c", &["sleep", "1000"]).ok();
    let processes = containerd.ok(&["task", "ps", "c"]);
    assert!(processes.contains("ExecID:back"), "{processes}");
    containerd.ok(&["task", "kill", "--signal", "KILL", "--exec-id", "back", "c"]);
    eventually("the command's end", || {
        (!containerd.exec(&["--exec-id", "e"], "c", &["ps"]).ok().contains("sleep 1000")).then_some(())
    });

    containerd.ok(&["task", "pause", "c"]);
    containerd.await_status("c", "PAUSED");
    ends_with(1, containerd.exec(&["--exec-id", "e"], "c", &["true"]));
    containerd.ok(&["task", "resume", "c"]);
    containerd.await_status("c", "RUNNING");
    containerd.ok(&["task", "kill", "--signal", "TERM", "c"]);
    containerd.delete("c", 7);

    // all of a container that has no PID namespace of its own
    let host = ["--detach", "--with-ns", "pid:/proc/1/ns/pid"];
    containerd.run(&host, "d", &["sh", "-c", "sleep 1000 & sleep 1000"]).ok();
    containerd.ok(&["task", "kill", "--all", "--signal", "KILL", "d"]);
    containerd.delete("d", 137);

    // whoever stays with a container is killed: containerd has the rest deleted
    containerd.run(&["--detach"], "f", &["sleep", "1000"]).ok();
    containerd
        .machine()
        .sh("for p in /proc/[0-9]*; do ! grep -q containerd-shim $p/comm || kill -9 ${p#/proc/}; done");
    eventually("containerd to notice", || containerd.ok(&["task", "ls", "--quiet"]).is_empty().then_some(()));
    containerd.ok(&["container", "delete", "f"]);
    containerd.machine().nothing_left(|| containerd.machine().cgroups());

    // whatever it is, by force
    containerd.run(&["--detach"], "e", &["sleep", "1000"]).ok();
    containerd.ok(&["task", "delete", "--force", "e"]);
    containerd.ok(&["container", "delete", "e"]);
    containerd.clean();
}

#[test]
fn terminals_are_real() {
    let containerd = with_image();
    let runtime = runtime();
    let run = Containerd::running(&["--tty"], &runtime, "c", &["sh"]);
    let mut terminal = Terminal::of(|invocation| containerd.equip(invocation, &run));
    terminal.expect("# ");
    terminal.press(b"tty\n");
    terminal.expect("/dev/pts/0");
    harness::callers::sized(&mut terminal);
    harness::callers::enlarge(&mut terminal);
    let exec = ["task", "exec", "--tty", "--exec-id", "e", "c", "sh"];
    let mut second = Terminal::of(|invocation| containerd.equip(invocation, &exec));
    second.expect("# ");
    second.press(b"tty; exit 3\n");
    second.expect("/dev/pts/1");
    assert_eq!(second.wait(), 3);
    terminal.press(b"exit 4\n");
    assert_eq!(terminal.wait(), 4);
    containerd.ok(&["container", "delete", "c"]);
    containerd.clean();
}
