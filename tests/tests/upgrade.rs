//! Today's command line with containers that an earlier release has started: its programs are real, and stay running.
//!
//! `cargo xtask soak upgrade` builds them from the history of the checkout; without them these tests say that they are
//! skipped. What can be shown without is in `upgrade_records`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::image::Image;
use harness::upgrade::{self, FILES, Fixtures};
use harness::world::{HOST, Peer, World};
use harness::{Dhow, Invocation, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The programs of the earlier release, on an instance.
struct Old<'a> {
    dhow: &'a Dhow,
    programs: PathBuf,
    namespace: Option<&'a str>,
}

impl Old<'_> {
    fn command(&self, args: &[&str]) -> Invocation {
        let program = self.programs.join("dhow");
        let invocation = match self.namespace {
            Some(name) => Invocation::new("nsenter").arg(format!("--net=/run/netns/{name}")).arg(program),
            None => Invocation::new(program),
        };
        self.dhow.wrap(invocation).args(args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    /// The image `busybox`, as that release stores it.
    #[track_caller]
    fn load(&self) {
        self.command(&["load", "--quiet"]).input(Image::busybox("busybox:latest").docker_archive()).ok();
    }
}

fn old<'a>(dhow: &'a Dhow, namespace: Option<&'a str>) -> Option<Old<'a>> {
    let old = Old { dhow, programs: upgrade::old_programs()?, namespace };
    old.load();
    Some(old)
}

/// What the container's monitor says of itself.
fn protocol(dhow: &Dhow, name: &str) -> Option<u64> {
    let id = dhow.inspect(name)["Id"].as_str().unwrap().to_owned();
    let live = std::fs::read(dhow.run_root().join("containers").join(id).join("live.json")).unwrap();
    serde_json::from_slice::<Value>(&live).unwrap()["protocol"].as_u64()
}

#[test]
fn every_verb_works_on_a_container_that_an_older_monitor_keeps() {
    let world = World::new();
    let name = world.host().to_owned();
    let dhow = Dhow::empty_in_namespace("upgrade", &name);
    let Some(old) = old(&dhow, Some(&name)) else { return };
    let script = "mkdir /www; echo I am old > /www/index.html; trap 'echo got HUP' HUP; httpd -p 80 -h /www; echo up; \
                  while :; do read x < /fifo && echo said $x; sleep 0.1; done";
    let script = format!("mkfifo /fifo; {script}");
    let run = ["run", "-d", "-i", "--name", "web", "-p", "8080:80", "-e", "A=old", "-l", "l=1"];
    let id = old.ok(&[&run[..], &["busybox", "sh", "-c", &script]].concat());
    eventually("its first word", || dhow.ok(&["logs", "web"]).contains("up").then_some(()));
    assert_eq!(protocol(&dhow, "web"), None);
    let pid = dhow.pid("web");
    let up = dhow.ok(&["ps", "--format", "{{.Names}} {{.State}} {{.Ports}} {{.Labels}}"]);
    assert_eq!(up, "web running 0.0.0.0:8080->80/tcp l=1");
    let inspected = dhow.inspect("web");
    assert_eq!((&inspected["Id"], &inspected["State"]["Running"]), (&json!(id), &json!(true)));
    assert_eq!(dhow.ok(&["port", "web"]), "80/tcp -> 0.0.0.0:8080");
    // exec, and what attach and logs -f hear of it
    let following = dhow.spawn(&["logs", "-f", "web"]);
    let attached = dhow.spawn(&["attach", "--no-stdin", "web"]);
    following.expect("up");
    assert_eq!(dhow.ok(&["exec", "-e", "B=new", "web", "sh", "-c", "echo $A $B"]), "old new");
    for word in ["one", "two"] {
        dhow.ok(&["exec", "web", "sh", "-c", &format!("echo {word} > /fifo")]);
        following.expect(&format!("said {word}"));
        attached.expect(&format!("said {word}"));
    }
    dhow.ok(&["kill", "-s", "HUP", "web"]);
    dhow.ok(&["exec", "web", "sh", "-c", "echo three > /fifo"]);
    following.expect("got HUP");
    assert!(dhow.ok(&["top", "web"]).contains("httpd"));
    assert!(dhow.ok(&["stats", "--no-stream", "web"]).contains("web"));
    dhow.ok(&["pause", "web"]);
    assert_eq!(dhow.inspect("web")["State"]["Status"], "paused");
    dhow.ok(&["unpause", "web"]);
    let file = dhow.scratch().join("file");
    std::fs::write(&file, "copied").unwrap();
    dhow.ok(&["cp", file.to_str().unwrap(), "web:/file"]);
    assert!(dhow.ok(&["diff", "web"]).contains("A /file"));
    dhow.ok(&["update", "--pids-limit", "77", "web"]);
    assert_eq!(dhow.ok(&["exec", "web", "cat", "/file"]), "copied");
    dhow.ok(&["rename", "web", "www"]);
    assert_eq!((dhow.pid("www"), dhow.inspect("www")["HostConfig"]["PidsLimit"].clone()), (pid, json!(77)));
    // what changes at once without its monitor does
    dhow.ok(&["set", "-l", "l=2", "-m", "64m", "www"]);
    assert_eq!((dhow.pid("www"), dhow.inspect("www")["Config"]["Labels"]["l"].clone()), (pid, json!("2")));
    // what needs a monitor that understands it is said to take a restart, which gives it one
    let plan = dhow.ok(&["set", "--dry-run", "-p", "8081:80", "www"]);
    assert!(
        plan.contains("by stopping it") && plan.contains("its monitor is of an earlier version"),
        "{plan}"
    );
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "I am old");
    drop(attached);
    dhow.ok(&["set", "-y", "-t", "0", "-p", "8081:80", "www", "--", "httpd", "-f", "-p", "80", "-h", "/www"]);
    drop(following);
    for port in [8080, 8081] {
        eventually("the answer", || (Peer::Neighbour(&world).fetch(HOST, port) == "I am old").then_some(()));
    }
    assert_eq!((protocol(&dhow, "www"), dhow.inspect("www")["Id"].clone()), (Some(2), json!(id)));
    dhow.ok(&["set", "--publish-rm", "8080:80", "www"]);
    assert_eq!(Peer::Neighbour(&world).fetch(HOST, 8080), "");
    dhow.ok(&["rm", "-f", "www"]);
    // The older monitor may be the one that waits to remove what all shared: it leaves tables that it does not know, and the next
    // command finds them.
    eventually("the end of the tables", || {
        dhow.ok(&["ps", "--quiet"]);
        let tables = world.on_host("nft").args(&["list", "tables"]).ok();
        (!tables.contains(dhow.global_name())).then_some(())
    });
}

#[test]
fn stop_start_restart_wait_and_rm() {
    let dhow = Dhow::empty("upgrade-life");
    let Some(old) = old(&dhow, None) else { return };
    let run = |name: &str, flags: &[&str], command: &[&str]| {
        old.ok(&[&["run", "-d", "--network", "none", "--name", name], flags, &["busybox"], command].concat())
    };
    let script = ["sh", "-c", "echo run >> /runs; echo run; exec sleep 1000"];
    for name in ["stopped", "restarted", "killed", "removed", "gone"] {
        run(name, if name == "gone" { &["--rm"] } else { &[] }, &script);
        eventually("its word", || (dhow.ok(&["logs", name]) == "run").then_some(()));
    }
    old.ok(&["create", "--network", "none", "--name", "created", "busybox", "echo", "at last"]);
    old.ok(&["run", "--network", "none", "--name", "ended", "busybox", "sh", "-c", "echo over"]);
    assert_eq!(dhow.ok(&["start", "-a", "created"]), "at last");
    let waiting = dhow.spawn(&["wait", "killed"]);
    dhow.ok(&["kill", "killed"]);
    assert_eq!(waiting.wait().stdout, "137\n");
    for name in ["stopped", "killed"] {
        dhow.ok(&["stop", "-t", "0", name]);
        assert_eq!(dhow.inspect(name)["State"]["Status"], "exited");
        dhow.ok(&["start", name]);
        eventually("its next run", || (dhow.ok(&["exec", name, "cat", "/runs"]) == "run\nrun").then_some(()));
        assert_eq!(protocol(&dhow, name), Some(2));
    }
    // a restart gives it a monitor of ours; with --rm it could not be without one
    dhow.ok(&["restart", "-t", "0", "restarted"]);
    eventually("its next run", || (dhow.ok(&["logs", "restarted"]) == "run\nrun").then_some(()));
    assert_eq!(protocol(&dhow, "restarted"), Some(2));
    let error = dhow.fails(1, &["restart", "-t", "0", "gone"]);
    assert!(error.contains("its monitor is of an earlier version, and could lose it"), "{error}");
    assert_eq!(dhow.ok(&["exec", "gone", "cat", "/runs"]), "run");
    dhow.ok(&["stop", "-t", "0", "gone"]);
    eventually("its end", || (!dhow.ok(&["ps", "-a"]).contains("gone")).then_some(()));
    dhow.ok(&["rm", "-f", "removed"]);
    assert!(dhow.ok(&["logs", "ended"]).contains("over"));
    // and the other way round: the old one sees and ends what we have started
    dhow.ok(&["run", "-d", "--network", "none", "--name", "new", "busybox", "sleep", "1000"]);
    assert!(old.ok(&["ps", "--format", "{{.Names}}"]).contains("new"));
    assert_eq!(old.ok(&["exec", "new", "echo", "hello"]), "hello");
    old.ok(&["stop", "-t", "0", "new"]);
    assert_eq!(dhow.inspect("new")["State"]["ExitCode"], 137);
}

#[test]
fn policies_and_health_checks_of_older_monitors_go_on() {
    let dhow = Dhow::empty("upgrade-policy");
    let Some(old) = old(&dhow, None) else { return };
    let health = ["--health-cmd", "test ! -e /ill", "--health-interval", "100ms", "--health-retries", "1"];
    let flags = ["run", "-d", "--network", "none", "--name", "box", "--restart", "on-failure"];
    old.ok(&[&flags[..], &health[..], &["busybox", "sleep", "1000"]].concat());
    let state = || dhow.inspect("box")["State"].clone();
    eventually("its health", || (state()["Health"]["Status"] == "healthy").then_some(()));
    dhow.ok(&["exec", "box", "touch", "/ill"]);
    eventually("its illness", || (state()["Health"]["Status"] == "unhealthy").then_some(()));
    dhow.ok(&["exec", "box", "rm", "/ill"]);
    // its monitor brings another one back, and that it may forget its new limits is said
    let flags = ["run", "-d", "--network", "none", "--name", "again", "--restart", "on-failure"];
    old.ok(&[&flags[..], &["busybox", "sleep", "1000"]].concat());
    let updated = dhow.run(&["update", "--pids-limit", "66", "again"]);
    assert!(updated.code == 0 && updated.stderr.contains("is of an earlier version"), "{updated:#?}");
    let pid = dhow.pid("again");
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    eventually("its next run", || (![0, pid].contains(&dhow.pid("again"))).then_some(()));
    assert_eq!((&dhow.inspect("again")["RestartCount"], protocol(&dhow, "again")), (&json!(1), None));
    // another policy is told to it
    dhow.ok(&["update", "--restart", "no", "again"]);
    kill_process(Pid::from_raw(dhow.pid("again") as i32).unwrap(), Signal::KILL).unwrap();
    eventually("its end", || (dhow.inspect("again")["State"]["Status"] == "exited").then_some(()));
    dhow.ok(&["restart", "-t", "0", "box"]);
    assert_eq!(protocol(&dhow, "box"), Some(2));
    eventually("its health", || (state()["Health"]["Status"] == "healthy").then_some(()));
    // one that dies is cleared up after
    old.ok(&["run", "-d", "--network", "none", "--name", "orphan", "busybox", "sleep", "1000"]);
    let monitor = dhow.monitor_pid("orphan");
    kill_process(Pid::from_raw(monitor as i32).unwrap(), Signal::KILL).unwrap();
    eventually("its end", || (dhow.inspect("orphan")["State"]["ExitCode"] == 137).then_some(()));
    dhow.ok(&["start", "orphan"]);
}

/// The committed fixtures are what the old programs write, to the last key. With `DHOW_WRITE_FIXTURES=1` they are written.
#[test]
fn what_upgrade_records_is_made_of_is_what_the_old_programs_write() {
    let dhow = Dhow::empty("upgrade-fixtures");
    let Some(old) = old(&dhow, None) else { return };
    let flags = ["--name", "box", "-e", "A=old", "-l", "l=1", "-m", "64m", "--restart", "unless-stopped"];
    let fixed = ["run", "-d", "--network", "none"];
    let command = ["busybox", "sh", "-c", "echo run >> /runs; echo run $A; exec sleep 1000"];
    let id = old.ok(&[&fixed[..], &flags[..], &command[..]].concat());
    eventually("its word", || dhow.ok(&["logs", "box"]).contains("run").then_some(()));
    let fixtures = Fixtures::new(&dhow, &id);
    let mut written: BTreeMap<&str, String> = BTreeMap::new();
    for (name, path) in FILES.iter().filter(|(name, _)| *name != "exit.json") {
        written.insert(name, fixtures.generalize(&std::fs::read_to_string(path(&dhow, &id)).unwrap()));
    }
    old.ok(&["stop", "-t", "0", "box"]);
    let (_, path) = FILES.iter().find(|(name, _)| *name == "exit.json").unwrap();
    written.insert("exit.json", fixtures.generalize(&std::fs::read_to_string(path(&dhow, &id)).unwrap()));
    for (name, text) in written {
        if std::env::var_os("DHOW_WRITE_FIXTURES").is_some() {
            std::fs::write(upgrade::fixture_path(name), format!("{text}\n")).unwrap();
        }
        let kept: Value = serde_json::from_str(&upgrade::fixture(name)).unwrap();
        assert_eq!(upgrade::shape(&serde_json::from_str(&text).unwrap()), upgrade::shape(&kept), "{name}");
    }
}
