//! `dhow-runtime` as an ordinary user: without any right on the machine, with subordinate ids and without.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::callers::{Machine, User, ends_with, installed};
use harness::oci::Bundle;
use harness::{Invocation, Output, Terminal, eventually};
use serde_json::{Value, json};

/// A user on a machine of its own, with the runtime and a bundle that are the user's.
struct Rootless {
    machine: Machine,
    user: User,
    bundle: Bundle,
}

impl Rootless {
    /// Whose subordinate ids are these lines of `/etc/subuid` and `/etc/subgid`.
    #[track_caller]
    fn new(subordinate: &str) -> Self {
        let machine = Machine::new("rootless");
        let user = machine.user(subordinate);
        let bundle = Bundle::new();
        machine.sh(&format!(
            "chmod 755 {0}; chown -R {1}:{1} {0}; rm {0}/config.json",
            bundle.path().display(),
            user.id
        ));
        let rootless = Self { machine, user, bundle };
        rootless.act(Invocation::new("env"), &["spec", "--rootless", "--bundle", &rootless.place()]).ok();
        rootless.edit(|spec| {
            spec["process"]["terminal"] = json!(false);
            spec["root"]["readonly"] = json!(false);
        })
    }

    fn place(&self) -> String {
        self.bundle.path().to_str().unwrap().to_owned()
    }

    fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        self.bundle = self.bundle.edit(change);
        self
    }

    fn running(self, args: &[&str]) -> Self {
        self.edit(|spec| spec["process"]["args"] = json!(args))
    }

    fn act(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        self.user.become_in(&self.machine, invocation).arg(&self.user.runtime).args(args)
    }

    fn command(&self, args: &[&str]) -> Invocation {
        self.act(Invocation::new("env"), args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    fn run(&self) -> Output {
        self.command(&["run", "--bundle", &self.place(), "box"]).output()
    }

    /// Whose container outlives the command, and has its streams: they are files.
    #[track_caller]
    fn quietly(&self, args: &[&str]) {
        let words = format!("exec \"$@\" </dev/null >{0}/out 2>&1", self.place());
        let shell = self.user.become_in(&self.machine, Invocation::new("env"));
        let output = shell.args(&["sh", "-c", &words, "sh"]).arg(&self.user.runtime).args(args).output();
        let said = std::fs::read_to_string(self.bundle.path().join("out")).unwrap();
        assert_eq!(output.code, 0, "{args:?}: {said}{}", output.stderr);
    }

    #[track_caller]
    fn await_status(&self, status: &str) {
        eventually(status, || {
            let state: Value = serde_json::from_str(&self.ok(&["state", "box"])).unwrap();
            (state["status"] == status).then_some(())
        });
    }

    /// Nothing is there any more.
    #[track_caller]
    fn clean(&self) {
        assert_eq!(self.ok(&["list", "--quiet"]), "");
        self.machine.nothing_left(|| {
            let state = std::fs::read_dir(self.user.run.join("dhow-runtime")).into_iter().flatten().flatten();
            let state = state.map(|entry| format!("state {}", entry.path().display()));
            state.filter(|name| !name.contains("/.")).chain(self.machine.mounts(&self.place())).collect()
        });
    }
}

#[test]
fn an_ordinary_user_has_containers() {
    let rootless =
        Rootless::new("").running(&["sh", "-c", "id -u; cat /proc/self/uid_map; hostname; exit 3"]);
    let output = rootless.run();
    assert_eq!((output.code, output.stderr.as_str()), (3, ""), "{output:#?}");
    let words: Vec<_> = output.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", &rootless.user.id.to_string(), "1", "dhow"]);
    rootless.clean();

    let script = "trap 'exit 4' TERM; touch /there; while :; do sleep 0.05; done";
    let rootless = rootless.running(&["sh", "-c", script]);
    rootless.quietly(&["create", "--bundle", &rootless.place(), "box"]);
    rootless.await_status("created");
    assert!(!rootless.bundle.rootfs().join("there").exists());
    rootless.ok(&["start", "box"]);
    eventually("its file", || rootless.bundle.rootfs().join("there").exists().then_some(()));
    assert_eq!(rootless.ok(&["list", "--quiet"]), "box");
    assert_eq!(rootless.ok(&["exec", "box", "id", "-u"]), "0");
    assert_eq!(rootless.command(&["exec", "box", "cat"]).input("typed").ok(), "typed");
    ends_with(7, rootless.command(&["exec", "box", "sh", "-c", "exit 7"]));
    let missing = ends_with(255, rootless.command(&["exec", "box", "nonexistent"]));
    assert!(missing.contains("executable file not found in $PATH"), "{missing}");
    assert!(rootless.ok(&["ps", "box"]).contains("trap"));
    // There is no group that could be frozen, and that is said.
    let paused = ends_with(1, rootless.command(&["pause", "box"]));
    assert!(paused.contains("no cgroup"), "{paused}");
    rootless.ok(&["kill", "box", "TERM"]);
    rootless.await_status("stopped");
    rootless.ok(&["delete", "box"]);
    rootless.quietly(&["run", "--detach", "--bundle", &rootless.place(), "box"]);
    ends_with(1, rootless.command(&["delete", "box"]));
    rootless.ok(&["delete", "--force", "box"]);
    rootless.clean();
}

/// As with runc: they would be the caller's, and not those that were asked for.
#[test]
fn additional_groups_need_a_map_by_somebody_who_may() {
    let rootless = Rootless::new("").running(&["id", "-G"]);
    let rootless = rootless.edit(|spec| spec["process"]["user"]["additionalGids"] = json!([0]));
    let place = rootless.place();
    for verb in ["create", "run"] {
        let message = ends_with(1, rootless.command(&[verb, "--bundle", &place, "box"]));
        assert!(message.contains("cannot set any additional groups in a rootless container"), "{message}");
        assert!(message.contains("/etc/subgid"), "{message}");
    }
    rootless.clean();
}

#[test]
fn an_ordinary_users_container_has_a_terminal() {
    let rootless = Rootless::new("").running(&["sh"]).edit(|spec| spec["process"]["terminal"] = json!(true));
    let place = rootless.place();
    let mut terminal =
        Terminal::of(|invocation| rootless.act(invocation, &["run", "--bundle", &place, "box"]));
    terminal.expect("# ");
    terminal.press(b"tty; stty size\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("24 80");
    let mut second = Terminal::of(|invocation| rootless.act(invocation, &["exec", "--tty", "box", "sh"]));
    second.expect("# ");
    second.press(b"tty; exit 3\n");
    second.expect("/dev/pts/1");
    assert_eq!(second.wait(), 3);
    terminal.press(b"exit 4\n");
    assert_eq!(terminal.wait(), 4);
    rootless.clean();
}

/// The user itself is root, and the subordinate ids are the others.
fn mapped(rootless: Rootless, size: u32) -> Rootless {
    let own = rootless.user.id;
    let map = json!([
        { "containerID": 0, "hostID": own, "size": 1 },
        { "containerID": 1, "hostID": 700_000, "size": size },
    ]);
    rootless.edit(|spec| {
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [10, 2000] });
    })
}

#[test]
fn subordinate_ids_are_mapped_by_who_may() {
    installed("newuidmap");
    let rootless = mapped(Rootless::new("tester:700000:65536\n"), 65536);
    let script = "id -u; id -G; awk '{print $1, $2, $3}' /proc/self/uid_map; touch /tmp/mine";
    let rootless = rootless.running(&["sh", "-c", script]);
    std::os::unix::fs::chown(rootless.bundle.rootfs().join("tmp"), Some(700_999), None).unwrap();
    let output = rootless.run();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:#?}");
    assert_eq!(output.stdout, format!("1000\n1000 10 2000\n0 {} 1\n1 700000 65536\n", rootless.user.id));
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(rootless.bundle.rootfs().join("tmp/mine")).unwrap().uid(), 700_999);
    let rootless = rootless.running(&["sleep", "1000"]);
    rootless.quietly(&["run", "--detach", "--bundle", &rootless.place(), "box"]);
    assert_eq!(rootless.ok(&["exec", "box", "id", "-G"]), "1000 10 2000");
    assert_eq!(rootless.ok(&["exec", "--user", "0:0", "box", "id", "-u"]), "0");
    rootless.ok(&["kill", "box", "KILL"]);
    rootless.await_status("stopped");
    rootless.ok(&["delete", "box"]);
    rootless.clean();
}

#[test]
fn ids_that_are_not_the_users_are_refused() {
    installed("newuidmap");
    let rootless = mapped(Rootless::new("tester:700000:1000\n"), 65536).running(&["true"]);
    let output = rootless.run();
    assert_eq!(output.code, 1, "{output:#?}");
    assert!(output.stderr.contains("newuidmap") || output.stderr.contains("newgidmap"), "{output:#?}");
    rootless.clean();
}

#[test]
fn a_limit_that_nobody_can_keep_is_refused() {
    let rootless = Rootless::new("").running(&["echo", "ran"]);
    let rootless =
        rootless.edit(|spec| spec["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 } }));
    let output = rootless.run();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:#?}");
    assert!(output.stderr.contains("cannot make a cgroup, which the limits need"), "{output:#?}");
    rootless.clean();
}
