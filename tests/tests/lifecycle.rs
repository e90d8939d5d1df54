//! Containers that stay: `run -d`, `ps`, `stop`, `kill`, `wait`, `rm`, `inspect`, `attach`, `info`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Instant;

use harness::{Dhow, eventually, patience};
use serde_json::json;

/// Starts a container in the background that runs a shell script; returns its id.
#[track_caller]
fn background(dhow: &Dhow, name: &str, script: &str) -> String {
    dhow.ok(&["run", "-d", "--name", name, "--network", "none", "busybox", "sh", "-c", script])
}

#[track_caller]
fn await_log(dhow: &Dhow, name: &str, text: &str) {
    eventually("the log", || dhow.ok(&["logs", name]).contains(text).then_some(()));
}

#[test]
fn a_detached_container_prints_its_id_and_goes_on() {
    let dhow = Dhow::new("detach");
    let id = background(&dhow, "box", "sleep 1000");
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let columns = dhow.ok(&["ps"]);
    let lines: Vec<&str> = columns.lines().collect();
    let header: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(header, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(lines[1].starts_with(&id[..12]) && lines[1].ends_with("box"), "{columns}");
    assert!(
        lines[1].contains("busybox")
            && lines[1].contains("\"sh -c 'sleep 1000'\"")
            && lines[1].contains("Up "),
        "{columns}"
    );
    assert_eq!(dhow.inspect(&id[..7])["Id"], json!(id));
}

#[test]
fn ps_shows_what_runs_and_with_all_what_ran() {
    let dhow = Dhow::new("ps");
    background(&dhow, "gone", "exit 3");
    background(&dhow, "here", "sleep 1000");
    dhow.ok(&["wait", "gone"]);
    let names = |args: &[&str]| dhow.ok(&[args, &["--format", "{{.Names}}"]].concat());
    assert_eq!(names(&["ps"]), "here");
    assert_eq!(names(&["ps", "-a"]), "here\ngone");
    assert_eq!(names(&["ps", "-a", "--filter", "status=exited"]), "gone");
    assert_eq!(names(&["ps", "-a", "--filter", "name=go"]), "gone");
    let status = dhow.ok(&["ps", "-a", "--filter", "name=gone", "--format", "{{.Status}}"]);
    assert!(status.starts_with("Exited (3) ") && status.ends_with(" ago"), "{status}");
    assert_eq!(dhow.ok(&["ps", "-aq", "--no-trunc"]).lines().next().unwrap().len(), 64);
}

#[test]
fn stop_is_heeded_with_the_containers_own_exit_code() {
    let dhow = Dhow::new("stop");
    background(&dhow, "box", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done");
    await_log(&dhow, "box", "up");
    assert_eq!(dhow.ok(&["stop", "box"]), "box");
    assert_eq!(dhow.inspect("box")["State"]["ExitCode"], 5);
    assert!(dhow.ok(&["logs", "box"]).ends_with("bye"));
    // a second time there is nothing to do, and that is fine
    assert_eq!(dhow.ok(&["stop", "box"]), "box");
}

#[test]
fn who_does_not_heed_is_killed_when_the_time_is_up() {
    let dhow = Dhow::new("stubborn");
    background(&dhow, "box", "trap '' TERM; echo up; while :; do sleep 0.05; done");
    await_log(&dhow, "box", "up");
    let began = Instant::now();
    dhow.ok(&["stop", "--time", "1", "box"]);
    let took = began.elapsed();
    assert!(took.as_millis() >= 900 && took < patience(6), "{took:?}");
    assert_eq!(dhow.inspect("box")["State"]["ExitCode"], 137);
}

#[test]
fn the_stop_signal_can_be_another() {
    let dhow = Dhow::new("stopsignal");
    let script = "trap 'exit 6' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done";
    let args = [
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--stop-signal",
        "SIGUSR1",
        "busybox",
        "sh",
        "-c",
    ];
    dhow.ok(&[&args[..], &[script]].concat());
    await_log(&dhow, "box", "up");
    dhow.ok(&["stop", "box"]);
    assert_eq!(dhow.ok(&["wait", "box"]), "6");
}

#[test]
fn kill_sends_the_signal_that_it_is_told() {
    let dhow = Dhow::new("kill");
    background(&dhow, "box", "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done");
    await_log(&dhow, "box", "up");
    for signal in ["HUP", "SIGHUP", "1"] {
        assert_eq!(dhow.ok(&["kill", "-s", signal, "box"]), "box");
    }
    await_log(&dhow, "box", "hup");
    let line = dhow.fails(1, &["kill", "-s", "NOSUCH", "box"]);
    assert!(line.contains("NOSUCH"), "{line}");
    dhow.ok(&["kill", "box"]);
    assert_eq!(dhow.ok(&["wait", "box"]), "137");
    dhow.fails(1, &["kill", "box"]);
}

#[test]
fn wait_waits_and_tells_the_exit_code() {
    let dhow = Dhow::new("wait");
    let args =
        ["run", "-d", "-i", "--name", "box", "--network", "none", "busybox", "sh", "-c", "sleep 0.5; exit 4"];
    dhow.ok(&args);
    let waiting = dhow.spawn(&["wait", "box"]);
    assert_eq!(dhow.ok(&["wait", "box"]), "4");
    assert_eq!(waiting.wait().stdout, "4\n");
    assert_eq!(dhow.ok(&["wait", "box"]), "4");
    dhow.fails(1, &["wait", "nosuch"]);
}

#[test]
fn rm_removes_what_has_ended_and_with_force_what_runs() {
    let dhow = Dhow::new("remove");
    background(&dhow, "ended", "true");
    background(&dhow, "running", "sleep 1000");
    dhow.ok(&["wait", "ended"]);
    assert_eq!(dhow.ok(&["rm", "ended"]), "ended");
    let line = dhow.fails(1, &["rm", "running"]);
    assert!(line.contains("running"), "{line}");
    let pid = dhow.pid("running");
    dhow.ok(&["rm", "-f", "running"]);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
    dhow.fails(1, &["rm", "running"]);
    // docker: what is not there needs no force
    dhow.run(&["rm", "-f", "running"]);
}

#[test]
fn names_and_prefixes_find_a_container_and_ambiguity_is_an_error() {
    let dhow = Dhow::new("names");
    let id = background(&dhow, "box", "true");
    for name in ["box", &id, &id[..12], &id[..4]] {
        assert_eq!(dhow.inspect(name)["Id"], json!(id), "{name}");
    }
    // docker: an empty array, and the reason
    let output = dhow.run(&["inspect", "nosuch"]);
    assert!(output.code == 1 && output.stdout == "[]\n" && output.stderr.contains("nosuch"), "{output:?}");
    // sixteen more, and two of them share their first digit
    for number in 0..16 {
        background(&dhow, &format!("n{number}"), "true");
    }
    let ids = dhow.ok(&["ps", "-aq"]);
    let shared = ids
        .lines()
        .map(|id| &id[..1])
        .find(|first| ids.lines().filter(|id| id.starts_with(first)).count() > 1);
    dhow.fails(1, &["stop", shared.unwrap()]);
}

#[test]
fn inspect_has_dockers_fields() {
    let dhow = Dhow::new("inspect");
    let args = [
        "run",
        "-d",
        "--name",
        "box",
        "--hostname",
        "host",
        "-e",
        "A=1",
        "-m",
        "64m",
        "--cpus",
        "1.5",
        "--label",
        "k=v",
        "-v",
        "/etc:/host-etc:ro",
        "--cap-add",
        "NET_ADMIN",
        "-w",
        "/tmp",
        "-u",
        "app",
        "busybox",
        "sleep",
        "1000",
    ];
    let id = dhow.ok(&args);
    let all = dhow.inspect("box");
    for (pointer, expected) in [
        ("/Id", json!(id)),
        ("/Name", json!("/box")),
        ("/Path", json!("sleep")),
        ("/Args", json!(["1000"])),
        ("/State/Status", json!("running")),
        ("/State/Running", json!(true)),
        ("/State/OOMKilled", json!(false)),
        ("/Config/Hostname", json!("host")),
        ("/Config/User", json!("app")),
        ("/Config/WorkingDir", json!("/tmp")),
        ("/Config/Image", json!("busybox")),
        ("/Config/Labels", json!({ "k": "v" })),
        ("/HostConfig/Memory", json!(64 << 20)),
        ("/HostConfig/NanoCpus", json!(1_500_000_000)),
        ("/HostConfig/NetworkMode", json!("bridge")),
        ("/HostConfig/CapAdd", json!(["NET_ADMIN"])),
        ("/Mounts/0/Destination", json!("/host-etc")),
        ("/Mounts/0/RW", json!(false)),
    ] {
        assert_eq!(all.pointer(pointer), Some(&expected), "{pointer} of {all:#}");
    }
    assert!(all["Config"]["Env"].as_array().unwrap().contains(&json!("A=1")));
    assert!(all["NetworkSettings"]["IPAddress"].as_str().unwrap().split('.').count() == 4, "{all:#}");
    let pid = all["State"]["Pid"].as_u64().unwrap();
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(comm, "sleep\n");
    assert_eq!(dhow.ok(&["inspect", "--format", "{{.State.Status}} {{.Name}}", "box"]), "running /box");
    dhow.ok(&["rm", "-f", "box"]);
}

#[test]
fn info_version_and_help_are_there_for_people_and_scripts() {
    let dhow = Dhow::empty("info");
    let info = dhow.json(&["info", "--format", "json"]);
    assert_eq!(info["RootDir"], json!(dhow.root()));
    assert!(
        info["ContainersMemoryLimit"].as_u64().unwrap() < info["MemoryTotal"].as_u64().unwrap(),
        "{info:#}"
    );
    assert!(dhow.ok(&["info"]).contains("Cgroup Version: "));
    let version = dhow.ok(&["version", "--format", "{{.Client.Version}}"]);
    assert!(dhow.ok(&["--version"]).contains(&version));
    let help = dhow.ok(&["--help"]);
    for verb in [
        "run",
        "ps",
        "logs",
        "exec",
        "attach",
        "stop",
        "kill",
        "wait",
        "rm",
        "inspect",
        "pull",
        "load",
        "images",
        "rmi",
        "tag",
        "info",
        "version",
        "completion",
    ] {
        assert!(help.contains(&format!("  {verb} ")), "{verb} is not in {help}");
        assert!(dhow.ok(&[verb, "--help"]).contains("Usage: "), "{verb} --help");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(dhow.ok(&["completion", shell]).contains("dhow"), "{shell}");
    }
    assert!(dhow.run(&["nosuchverb"]).code == 1);
}

#[test]
fn attach_shows_what_comes_and_ends_with_the_container() {
    let dhow = Dhow::new("attach");
    let args = [
        "run",
        "-d",
        "-i",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo up; read line; echo got $line; exit 3",
    ];
    dhow.ok(&args);
    await_log(&dhow, "box", "up");
    let mut attached = dhow.spawn(&["attach", "box"]);
    attached.write("word\n");
    attached.expect("got word");
    attached.close_input();
    assert_eq!(attached.wait().code, 3);
    dhow.fails(1, &["attach", "box"]);
}

#[test]
fn signals_to_the_door_are_passed_on() {
    let dhow = Dhow::new("proxy");
    let script = "trap 'exit 11' TERM; echo up; while :; do sleep 0.05; done";
    let door = dhow.spawn(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]);
    door.expect("up");
    door.signal(rustix::process::Signal::TERM);
    assert_eq!(door.wait().code, 11);
}

#[test]
fn the_door_survives_a_reader_that_goes() {
    let dhow = Dhow::new("pipe");
    let dhow_program = harness::bin_dir().join("dhow");
    let script = format!("{} run --rm --network none busybox yes | head -n 1", dhow_program.display());
    let invocation = dhow.wrap(harness::Invocation::new("sh").arg("-c").arg(script));
    assert_eq!(invocation.limit(20).output().stdout, "y\n");
}

#[test]
fn of_many_who_start_it_at_once_all_find_it_running() {
    let dhow = Dhow::new("start-at-once");
    dhow.ok(&["create", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    for verb in ["start", "restart"] {
        let began = std::time::Instant::now();
        let doors: Vec<_> = (0..4).map(|_| dhow.spawn(&[verb, "box"])).collect();
        for door in doors {
            let output = door.wait();
            assert_eq!(output.code, 0, "{verb}: {output:#?}");
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(9), "somebody waited for a lock");
        dhow.ok(&["kill", "box"]);
        dhow.ok(&["wait", "box"]);
    }
}
