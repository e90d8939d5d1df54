//! Containers that come back: `create`, `start`, `restart`, `--restart`, and the machine's coming up and going down.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

#[track_caller]
fn state(dhow: &Dhow, name: &str) -> Value {
    dhow.inspect(name)["State"].clone()
}

/// Waits until the container's state is as `wanted` says.
#[track_caller]
fn await_state(dhow: &Dhow, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually("the state", || Some(state(dhow, name)).filter(&wanted))
}

#[test]
fn a_created_container_is_started_and_started_again() {
    let dhow = Dhow::new("start");
    let script = "echo run >> /runs; cat /runs; exit 3";
    let id = dhow.ok(&["create", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    assert_eq!(id.len(), 64);
    assert_eq!(state(&dhow, "box")["Status"], "created");
    assert_eq!(dhow.ok(&["wait", "box"]), "0", "as Docker has it of one that never ran");
    assert_eq!(dhow.ok(&["start", "box"]), "box");
    assert_eq!(dhow.ok(&["wait", "box"]), "3");
    // What it wrote is still there, and its output is the caller's where that is asked for.
    let attached = dhow.spawn(&["start", "-a", "box"]).wait();
    assert_eq!((attached.code, &*attached.stdout), (3, "run\nrun\n"));
    assert_eq!(dhow.ok(&["logs", "box"]), "run\nrun\nrun");
    let line = dhow.fails(1, &["start", "nosuch"]);
    assert!(line.contains("no such container"), "{line}");
}

#[test]
fn what_removes_itself_waits_to_be_started() {
    let dhow = Dhow::new("create-rm");
    dhow.ok(&["create", "--rm", "--name", "box", "--network", "none", "busybox", "true"]);
    assert_eq!(dhow.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]), "box created");
    dhow.ok(&["start", "-a", "box"]);
    eventually("it to go", || (dhow.ok(&["ps", "-aq"]).is_empty()).then_some(()));
}

#[test]
fn what_runs_is_started_already() {
    let dhow = Dhow::new("started");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    let before = state(&dhow, "box");
    assert_eq!(dhow.ok(&["start", "box"]), "box");
    assert_eq!(state(&dhow, "box"), before);
}

#[test]
fn a_start_that_fails_leaves_a_container_that_can_be_tried_again() {
    let dhow = Dhow::new("start-fails");
    dhow.ok(&["create", "--name", "box", "--network", "none", "busybox", "/no/such/program"]);
    for _ in 0..2 {
        let line = dhow.fails(1, &["start", "box"]);
        assert!(line.contains("/no/such/program"), "{line}");
        let state = state(&dhow, "box");
        assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(127)));
    }
    dhow.ok(&["rm", "box"]);
}

#[test]
fn restart_keeps_everything_but_the_process() {
    let dhow = Dhow::new("restart");
    let script = "echo run >> /runs; cat /runs; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    dhow.ok(&["run", "-d", "--name", "box", "-p", "127.0.0.1:0:80", "busybox", "sh", "-c", script]);
    let before = dhow.inspect("box");
    assert_eq!(dhow.ok(&["restart", "box"]), "box");
    let after = dhow.inspect("box");
    assert_ne!(before["State"]["Pid"], after["State"]["Pid"]);
    assert_eq!(after["State"]["Status"], "running");
    let network = |shown: &Value| {
        let mut settings = shown["NetworkSettings"].clone();
        // The namespace is kept, and named after the process that is in it.
        let key = std::mem::take(&mut settings["SandboxKey"]);
        assert_eq!(key, format!("/proc/{}/ns/net", shown["State"]["Pid"]));
        settings
    };
    assert_eq!(network(&before), network(&after));
    assert_eq!(after["RestartCount"], 0, "that is what policies do");
    eventually("the second run", || (dhow.ok(&["logs", "box"]) == "run\nrun\nrun").then_some(()));
    assert_eq!(dhow.ok(&["exec", "box", "cat", "/runs"]), "run\nrun");
    // One that has ended is started.
    dhow.ok(&["stop", "box"]);
    dhow.ok(&["restart", "--time", "1", "box"]);
    assert_eq!(state(&dhow, "box")["Status"], "running");
    // One that removes itself is not gone in between.
    dhow.ok(&["run", "-d", "--rm", "--name", "gone", "--network", "none", "busybox", "sleep", "1000"]);
    dhow.ok(&["restart", "-t", "0", "gone"]);
    assert_eq!(state(&dhow, "gone")["Status"], "running");
}

#[test]
fn a_failure_is_tried_again_so_many_times() {
    let dhow = Dhow::new("on-failure");
    let args = ["run", "-d", "--name", "box", "--network", "none", "--restart", "on-failure:2", "busybox"];
    dhow.ok(&[&args[..], &["sh", "-c", "echo run; exit 7"]].concat());
    let ended = await_state(&dhow, "box", |s| s["Status"] == "exited");
    assert_eq!(ended["ExitCode"], 7);
    assert_eq!(dhow.ok(&["logs", "box"]), "run\nrun\nrun");
    let inspect = dhow.inspect("box");
    assert_eq!(inspect["RestartCount"], 2);
    assert_eq!(
        inspect["HostConfig"]["RestartPolicy"],
        json!({ "Name": "on-failure", "MaximumRetryCount": 2 })
    );
    // A success is an end.
    dhow.ok(&["run", "--name", "good", "--network", "none", "--restart", "on-failure", "busybox", "true"]);
    await_state(&dhow, "good", |s| s["Status"] == "exited");
    assert_eq!(dhow.inspect("good")["RestartCount"], 0);
}

#[test]
fn always_comes_back_until_it_is_stopped() {
    let dhow = Dhow::new("always");
    let script = "echo run >> /runs; [ $(wc -l < /runs) -gt 2 ] && exec sleep 1000; exit 0";
    let args = ["run", "-d", "--name", "box", "--restart", "always", "-p", "127.0.0.1:0:80", "busybox"];
    dhow.ok(&[&args[..], &["sh", "-c", script]].concat());
    let network = dhow.inspect("box")["NetworkSettings"]["IPAddress"].clone();
    eventually("the third run", || (dhow.inspect("box")["RestartCount"] == 2).then_some(()));
    let running = await_state(&dhow, "box", |s| s["Status"] == "running");
    assert_eq!(running["Restarting"], false);
    assert_eq!(dhow.inspect("box")["NetworkSettings"]["IPAddress"], network);
    // An end by another's hand is no wish of its user's.
    let pid = i32::try_from(running["Pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("the fourth run", || (dhow.inspect("box")["RestartCount"] == 3).then_some(()));
    await_state(&dhow, "box", |s| s["Status"] == "running");
    dhow.ok(&["stop", "-t", "0", "box"]);
    assert_eq!(state(&dhow, "box")["Status"], "exited");
    dhow.ok(&["start", "box"]);
    await_state(&dhow, "box", |s| s["Status"] == "running");
    dhow.ok(&["kill", "box"]);
    assert_eq!(state(&dhow, "box")["Status"], "exited");
}

#[test]
fn between_two_runs_it_is_restarting_and_can_be_stopped_and_removed() {
    let dhow = Dhow::new("restarting");
    let run = |name: &str| {
        let args = ["run", "-d", "--name", name, "--network", "none", "--restart", "always", "busybox"];
        dhow.ok(&[&args[..], &["sh", "-c", "exit 9"]].concat());
        // The pauses double: soon it is mostly waiting.
        eventually("a few runs", || (dhow.inspect(name)["RestartCount"].as_u64()? > 3).then_some(()));
        // Its code is written a moment after that it comes back.
        await_state(&dhow, name, |s| s["Status"] == "restarting" && s["ExitCode"] == 9)
    };
    let state = run("box");
    assert_eq!((&state["Running"], &state["Restarting"]), (&json!(true), &json!(true)));
    assert_eq!((&state["Pid"], &state["ExitCode"]), (&json!(0), &json!(9)));
    let shown = dhow.ok(&["ps", "--format", "{{.Status}}"]);
    assert!(shown.starts_with("Restarting (9) "), "{shown}");
    let line = dhow.fails(1, &["exec", "box", "true"]);
    assert!(line.contains("restarting") || line.contains("not running"), "{line}");
    // Who does not want to wait has it started at once.
    let before = self::state(&dhow, "box")["StartedAt"].clone();
    dhow.ok(&["restart", "-t", "0", "box"]);
    assert_ne!(self::state(&dhow, "box")["StartedAt"], before);
    dhow.ok(&["stop", "box"]);
    assert_eq!(self::state(&dhow, "box")["Status"], "exited");
    run("other");
    dhow.ok(&["rm", "-f", "other"]);
    assert_eq!(dhow.ok(&["ps", "-aq", "--filter", "name=other"]), "");
}

#[test]
fn a_container_whose_files_were_taken_away_does_not_come_back() {
    let dhow = Dhow::new("restart-taken");
    let args = ["run", "-d", "--name", "box", "--network", "none", "--restart", "always", "busybox", "false"];
    let id = dhow.ok(&args);
    let monitor = dhow.monitor_pid("box");
    // At once: its monitor writes there again and again.
    let taken = dhow.scratch().join("taken");
    std::fs::rename(dhow.root().join("containers").join(&id), &taken).unwrap();
    std::fs::remove_dir_all(taken).unwrap();
    let path = std::path::PathBuf::from(format!("/proc/{monitor}/exe"));
    eventually("its monitor to end", || (!path.exists()).then_some(()));
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let dhow = Dhow::new("policies");
    let line = dhow.fails(125, &["run", "--rm", "--restart", "always", "busybox", "true"]);
    assert!(line.contains("--rm") && line.contains("--restart"), "{line}");
    let line = dhow.fails(125, &["run", "--restart", "sometimes", "busybox", "true"]);
    assert!(line.contains("unless-stopped"), "{line}");
}

#[test]
fn the_machine_goes_down_and_comes_up() {
    let dhow = Dhow::new("boot");
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    for (name, policy) in [
        ("no", "no"),
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("stopped", "unless-stopped"),
        ("both", "always"),
    ] {
        let args = ["run", "-d", "--name", name, "--network", "none", "--restart", policy, "busybox"];
        dhow.ok(&[&args[..], &["sh", "-c", script]].concat());
    }
    dhow.ok(&["create", "--name", "never", "--network", "none", "--restart", "always", "busybox", "true"]);
    dhow.ok(&["stop", "stopped", "both"]);
    assert_eq!(dhow.ok(&["system", "stop"]), "always\nno\nunless");
    assert_eq!(dhow.ok(&["ps", "-q"]), "");
    for name in ["no", "always", "unless"] {
        assert_eq!(state(&dhow, name)["ExitCode"], 0, "{name} was asked, not killed");
    }
    assert_eq!(dhow.ok(&["system", "start"]), "always\nboth\nunless");
    assert_eq!(dhow.ok(&["system", "start"]), "", "there is nothing left to do");
    let unit = dhow.ok(&["system", "enable", "--print"]);
    assert!(
        unit.contains("system start\n") && unit.contains("system stop\n") && unit.contains("--root"),
        "{unit}"
    );
}

#[test]
fn paused_it_stands_still() {
    let dhow = Dhow::new("pause");
    let script = "while :; do echo tick; sleep 0.02; done";
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    eventually("a tick", || dhow.ok(&["logs", "box"]).contains("tick").then_some(()));
    assert_eq!(dhow.ok(&["pause", "box"]), "box");
    let state = state(&dhow, "box");
    assert_eq!(
        (&state["Status"], &state["Paused"], &state["Running"]),
        (&json!("paused"), &json!(true), &json!(true))
    );
    assert!(dhow.ok(&["ps", "--filter", "status=paused", "--format", "{{.Status}}"]).ends_with("(Paused)"));
    let line = dhow.fails(1, &["pause", "box"]);
    assert!(line.contains("paused"), "{line}");
    let line = dhow.fails(1, &["exec", "box", "true"]);
    assert!(line.contains("paused"), "{line}");
    assert_eq!(dhow.ok(&["unpause", "box"]), "box");
    let line = dhow.fails(1, &["unpause", "box"]);
    assert!(line.contains("not paused"), "{line}");
    let ticks = dhow.ok(&["logs", "box"]).lines().count();
    eventually("it goes on", || (dhow.ok(&["logs", "box"]).lines().count() > ticks).then_some(()));
    // Stopped, restarted and removed as if it ran.
    dhow.ok(&["pause", "box"]);
    dhow.ok(&["restart", "-t", "0", "box"]);
    assert_eq!(self::state(&dhow, "box")["Status"], "running");
    dhow.ok(&["pause", "box"]);
    dhow.ok(&["stop", "-t", "1", "box"]);
    assert_eq!(self::state(&dhow, "box")["Status"], "exited");
    dhow.ok(&["start", "box"]);
    dhow.ok(&["pause", "box"]);
    dhow.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_name_changes_and_everything_follows() {
    let dhow = Dhow::new("rename");
    dhow.ok(&["run", "-d", "--rm", "--name", "one", "--network", "none", "busybox", "sleep", "1000"]);
    dhow.ok(&["create", "--name", "two", "--network", "none", "busybox", "true"]);
    dhow.ok(&["rename", "one", "three"]);
    dhow.fails(1, &["start", "one"]);
    assert_eq!(dhow.inspect("three")["Name"], "/three");
    let line = dhow.fails(1, &["rename", "three", "two"]);
    assert!(line.contains("in use"), "{line}");
    dhow.fails(1, &["rename", "three", "a/b"]);
    // The old name is free, and the new one is when it has removed itself.
    dhow.ok(&["rename", "two", "one"]);
    dhow.ok(&["stop", "-t", "0", "three"]);
    dhow.ok(&["create", "--name", "three", "--network", "none", "busybox", "true"]);
    assert_eq!(dhow.ok(&["ps", "-a", "--format", "{{.Names}}"]), "three\none");
}

#[test]
fn a_port_is_told() {
    let dhow = Dhow::new("port");
    dhow.ok(&["run", "-d", "--name", "box", "-p", "127.0.0.1:0:80", "busybox", "sleep", "1000"]);
    let all = dhow.ok(&["port", "box"]);
    let port = all.strip_prefix("80/tcp -> ").unwrap();
    assert!(port.starts_with("127.0.0.1:") && !port.ends_with(":0"), "{all}");
    assert_eq!(dhow.ok(&["port", "box", "80"]), port);
    assert_eq!(dhow.ok(&["port", "box", "80/tcp"]), port);
    let line = dhow.fails(1, &["port", "box", "80/udp"]);
    assert!(line.contains("80/udp"), "{line}");
}

#[test]
fn what_has_ended_is_pruned() {
    let dhow = Dhow::new("prune");
    dhow.ok(&["run", "-d", "--name", "runs", "--network", "none", "busybox", "sleep", "1000"]);
    dhow.ok(&["run", "--name", "kept", "--label", "keep", "--network", "none", "busybox", "true"]);
    dhow.ok(&["run", "--name", "gone", "--network", "none", "busybox", "true"]);
    let gone = dhow.inspect("gone")["Id"].as_str().unwrap().to_owned();
    let said = dhow.ok(&["container", "prune", "-f", "--filter", "label!=keep"]);
    assert!(said.starts_with(&format!("Deleted Containers:\n{gone}\n\nTotal reclaimed space: ")), "{said}");
    assert_eq!(dhow.ok(&["ps", "-a", "--format", "{{.Names}}"]), "kept\nruns");
}
