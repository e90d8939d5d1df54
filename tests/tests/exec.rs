//! `dhow exec`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, eventually};

fn with_box(name: &str, flags: &[&str]) -> Dhow {
    let dhow = Dhow::new(name);
    let args =
        [&["run", "-d", "--name", "box", "--network", "none"], flags, &["busybox", "sleep", "1000"]].concat();
    dhow.ok(&args);
    dhow
}

#[test]
fn a_command_runs_in_the_containers_world() {
    let dhow = with_box("exec", &["--hostname", "box"]);
    assert_eq!(dhow.ok(&["exec", "box", "hostname"]), "box");
    assert_eq!(dhow.ok(&["exec", "box", "cat", "/proc/1/comm"]), "sleep");
    dhow.ok(&["exec", "box", "touch", "/made"]);
    assert_eq!(dhow.ok(&["exec", "box", "ls", "/made"]), "/made");
    for namespace in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let path = format!("/proc/self/ns/{namespace}");
        let init = std::fs::read_link(format!("/proc/{}/ns/{namespace}", dhow.pid("box"))).unwrap();
        assert_eq!(dhow.ok(&["exec", "box", "readlink", &path]), init.to_string_lossy(), "{namespace}");
    }
}

#[test]
fn exit_codes_are_the_commands_or_ours() {
    let dhow = with_box("execcode", &[]);
    for code in [0, 7, 255] {
        assert_eq!(dhow.run(&["exec", "box", "sh", "-c", &format!("exit {code}")]).code, code);
    }
    assert_eq!(dhow.run(&["exec", "box", "sh", "-c", "kill -9 $$"]).code, 137);
    dhow.fails(127, &["exec", "box", "nosuchcommand"]);
    dhow.fails(126, &["exec", "box", "/etc/not-executable"]);
    dhow.fails(1, &["exec", "nosuch", "true"]);
    dhow.ok(&["kill", "box"]);
    dhow.ok(&["wait", "box"]);
    let line = dhow.fails(1, &["exec", "box", "true"]);
    assert!(line.contains("not running"), "{line}");
}

#[test]
fn environment_user_and_directory_are_as_asked() {
    let dhow = with_box("execenv", &["-e", "FROM_RUN=1"]);
    let exec =
        |flags: &[&str], script: &str| dhow.ok(&[&["exec"], flags, &["box", "sh", "-c", script]].concat());
    assert_eq!(exec(&["-e", "A=2"], "echo $FROM_RUN $A"), "1 2");
    assert_eq!(exec(&["-u", "app"], "id -un; id -G; echo $HOME"), "app\n1000 10 2000\n/home/app");
    assert_eq!(exec(&["-u", "12:34"], "id -u; id -g"), "12\n34");
    assert_eq!(exec(&["-w", "/tmp"], "pwd"), "/tmp");
    // no capability survives the change of user, none is inheritable
    let status = exec(&["-u", "app"], "grep ^Cap /proc/self/status");
    assert!(
        status.contains("CapEff:\t0000000000000000") && status.contains("CapInh:\t0000000000000000"),
        "{status}"
    );
    dhow.fails(126, &["exec", "-u", "nosuchuser", "box", "true"]);
}

#[test]
fn streams_are_apart_and_input_arrives() {
    let dhow = with_box("execio", &[]);
    let output = dhow.run(&["exec", "box", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((&*output.stdout, &*output.stderr), ("out\n", "err\n"));
    let input = "line\n".repeat(50_000);
    let output = dhow.command(&["exec", "-i", "box", "cat"]).input(&input).output();
    assert!(output.stdout == input);
}

#[test]
fn what_becomes_of_a_command_is_an_event() {
    let dhow = Dhow::new("exec-events");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    assert_eq!(dhow.run(&["exec", "box", "sh", "-c", "exit 7"]).code, 7);
    dhow.ok(&["exec", "-d", "box", "true"]);
    let format = "{{.Action}} {{.Actor.Attributes.execID}} {{.Actor.Attributes.exitCode}}";
    let filter = ["--filter", "event=exec_die", "--format", format];
    let events = harness::eventually("the second end", || {
        let events = dhow.ok(&[&["events", "--since", "1h", "--until", "0s"][..], &filter].concat());
        (events.lines().count() == 2).then_some(events)
    });
    let first: Vec<&str> = events.lines().next().unwrap().split(' ').collect();
    assert_eq!((first[0], first[1].len(), first[2]), ("exec_die", 64, "7"), "{events}");
    assert!(events.ends_with(" 0"), "{events}");
}

/// CVE-2022-36109: who can execute a set-gid program could get rid of the group that keeps him out of something.
#[test]
fn a_process_has_its_own_group_among_its_groups() {
    let dhow = Dhow::new("own-group");
    let groups = |args: &[&str]| {
        let line = dhow.ok(&[args, &["grep", "Groups:", "/proc/self/status"]].concat());
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |more: &[&str]| groups(&[&["run", "--rm", "--network", "none"], more, &["busybox"]].concat());
    assert!(run(&[]).contains(&"0".to_owned()));
    assert_eq!(run(&["-u", "1000:1001"]), ["1001"]);
    assert_eq!(run(&["-u", "1000:1001", "--group-add", "44"]), ["44", "1001"]);
    assert!(run(&["--group-add", "44"]).contains(&"0".to_owned()));
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    assert_eq!(groups(&["exec", "-u", "7:8", "box"]), ["8"]);
}

#[test]
fn a_detached_command_goes_on() {
    let dhow = with_box("execd", &[]);
    dhow.ok(&["exec", "-d", "box", "sh", "-c", "sleep 0.2; touch /done; sleep 1000"]);
    eventually("the command's file", || (dhow.run(&["exec", "box", "ls", "/done"]).code == 0).then_some(()));
}

#[test]
fn commands_die_with_the_container() {
    let dhow = with_box("execdie", &[]);
    let inside = dhow.spawn(&["exec", "box", "sh", "-c", "echo up; sleep 1000"]);
    inside.expect("up");
    dhow.ok(&["kill", "box"]);
    assert_eq!(inside.wait().code, 137);
}
