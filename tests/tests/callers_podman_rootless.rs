//! `dhow-runtime` as the runtime of an ordinary user's Podman, with subordinate ids and without cgroups.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::callers::{Machine, User, ends_with, installed};
use harness::image::Image;
use harness::{Invocation, Terminal};

struct Podman {
    machine: Machine,
    user: User,
}

impl Podman {
    #[track_caller]
    fn new() -> Self {
        for program in ["podman", "conmon", "newuidmap"] {
            installed(program);
        }
        let machine = Machine::new("rootless");
        let user = machine.user("tester:700000:65536\n");
        let podman = Self { machine, user };
        let archive = podman.user.home.join("image.tar");
        std::fs::write(&archive, Image::busybox("localhost/busybox:latest").docker_archive()).unwrap();
        podman.command(&["load", "--input", archive.to_str().unwrap()]).ok();
        podman
    }

    fn equip(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        let home = &self.user.home;
        let podman = self.user.become_in(&self.machine, invocation).arg("podman").current_dir("/");
        let stores =
            [home.join("store"), home.join("run/store")].map(|path| path.to_str().unwrap().to_owned());
        podman
            .args(&["--root", &stores[0], "--runroot", &stores[1], "--cgroup-manager", "cgroupfs"])
            .arg("--runtime")
            .arg(&self.user.runtime)
            .args(args)
    }

    fn command(&self, args: &[&str]) -> Invocation {
        self.equip(Invocation::new("env"), args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    fn run(&self, args: &[&str]) -> Invocation {
        self.command(&[&["run", "--network", "none"], args].concat())
    }
}

#[test]
fn an_ordinary_users_podman_has_it_all() {
    let podman = Podman::new();
    let id = podman.user.id.to_string();
    let map = podman.run(&["--rm", "busybox", "cat", "/proc/self/uid_map"]).ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &id, "1", "1", "700000", "65536"]);
    ends_with(9, podman.run(&["--rm", "busybox", "sh", "-c", "exit 9"]));
    ends_with(127, podman.run(&["--rm", "busybox", "nonexistent"]));
    ends_with(126, podman.run(&["--rm", "busybox", "/etc/not-executable"]));
    let confined =
        ["--rm", "--read-only", "--user", "app", "--cap-drop", "all", "--security-opt", "no-new-privileges"];
    let script = "id -u; touch /x; grep -E 'CapEff|NoNew' /proc/self/status";
    let output = podman.run(&[&confined[..], &["busybox", "sh", "-c", script]].concat()).output();
    assert_eq!(output.stdout, "1000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n", "{output:#?}");
    assert!(output.stderr.contains("touch: /x: Read-only file system"), "{output:#?}");
    assert_eq!(podman.run(&["--rm", "--userns", "keep-id", "busybox", "id", "-u"]).ok(), id);

    podman.run(&["--detach", "--name", "c", "busybox", "sleep", "1000"]).ok();
    assert_eq!(podman.ok(&["exec", "c", "cat", "/proc/1/comm"]), "sleep");
    assert_eq!(podman.ok(&["exec", "--user", "1000", "c", "id", "-u"]), "1000");
    let mut terminal = Terminal::of(|invocation| podman.equip(invocation, &["exec", "-it", "c", "sh"]));
    terminal.expect("# ");
    terminal.press(b"tty; exit 3\n");
    terminal.expect("/dev/pts/0");
    assert_eq!(terminal.wait(), 3);
    podman.ok(&["kill", "c"]);
    assert_eq!(podman.ok(&["wait", "c"]), "137");
    podman.ok(&["restart", "c"]);
    podman.ok(&["rm", "--force", "--time", "0", "c"]);
    podman.machine.nothing_left(|| {
        let state = std::fs::read_dir(podman.user.run.join("dhow-runtime")).into_iter().flatten().flatten();
        let state = state.map(|entry| entry.file_name().to_string_lossy().into_owned());
        state.filter(|name| !name.starts_with('.')).map(|name| format!("state {name}")).collect()
    });
}
