//! `dhow-runtime`: containers that stand still, are being made or are not what they seem, and who ends them all the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use harness::eventually;
use harness::oci::{Bundle, Runtime};
use serde_json::{Value, json};

fn sleeping() -> Bundle {
    Bundle::running(&["sleep", "1000"])
}

/// In the host's PID namespace, where nothing dies with the first process.
fn without_pids(bundle: &Bundle) {
    bundle.change(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
}

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// A hook that says that it runs and goes on until its file is gone, a minute at most.
fn lingering(file: &Path) -> Value {
    let file = file.display();
    shell(&format!(
        "touch {file}; n=0; while [ -e {file} ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done"
    ))
}

#[test]
fn a_paused_container_can_be_killed() {
    let runtime = Runtime::new();
    let bundle = sleeping();
    for own_pids in [true, false] {
        if !own_pids {
            without_pids(&bundle);
        }
        for flags in [&[][..], &["--all"]] {
            let id = &runtime.id("box");
            runtime.start_detached(&bundle, id);
            runtime.ok(&["pause", id]);
            assert_eq!(runtime.status(id), "paused");
            runtime.ok(&[&["kill"], flags, &[id, "KILL"]].concat());
            runtime.await_status(id, "stopped");
            runtime.ok(&["delete", id]);
        }
    }
}

#[test]
fn a_created_container_that_is_paused_is_not_started() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    let bundle = sleeping();
    runtime.create(&bundle, id);
    runtime.ok(&["pause", id]);
    assert_eq!(runtime.status(id), "paused");
    assert_eq!(runtime.fails(1, &["start", id]), "cannot start a container in the paused state");
    runtime.ok(&["resume", id]);
    assert_eq!(runtime.status(id), "created");
    runtime.ok(&["start", id]);
    assert_eq!(runtime.status(id), "running");
}

#[test]
fn what_has_ended_is_not_killed_again() {
    let runtime = Runtime::new();
    let bundle = sleeping();
    without_pids(&bundle);
    let id = &runtime.id("box");
    runtime.start_detached(&bundle, id);
    runtime.ok(&["kill", id, "KILL"]);
    runtime.await_status(id, "stopped");
    for signal in ["KILL", "TERM"] {
        assert_eq!(runtime.fails(1, &["kill", id, signal]), "container not running");
    }
    // Where it has left others, these are still there to be killed.
    runtime.ok(&["delete", id]);
    bundle.change(|spec| spec["process"]["args"] = json!(["sh", "-c", "sleep 1000 & exit 0"]));
    runtime.start_detached(&bundle, id);
    runtime.await_status(id, "stopped");
    runtime.ok(&["kill", id, "KILL"]);
    assert_eq!(runtime.fails(1, &["kill", id, "KILL"]), "container not running");
}

/// A directory that says so makes no cgroup its own.
#[test]
fn without_a_record_nobody_is_killed() {
    let (ours, theirs) = (Runtime::new(), Runtime::new());
    let bundle = sleeping();
    let id = &theirs.id("box");
    theirs.start_detached(&bundle, id);
    let directory = ours.root().join(id);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(bundle.config(), directory.join("config.json")).unwrap();
    ours.ok(&["delete", "--force", id]);
    assert!(!directory.exists());
    assert_eq!(theirs.status(id), "running");
    // Nor with one that cannot be read; that one stays, as what is known of what may run.
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(bundle.config(), directory.join("config.json")).unwrap();
    std::fs::write(directory.join("state.json"), "{").unwrap();
    ours.fails(1, &["delete", "--force", id]);
    assert_eq!(theirs.status(id), "running");
    theirs.ok(&["delete", "--force", id]);
    ours.ok(&["delete", "--force", id]);
}

/// A container that has ended has no cgroup any more once another is made at the same path.
#[test]
fn what_has_ended_does_not_end_who_came_after_it() {
    let runtime = Runtime::new();
    let ended = Bundle::running(&["true"]);
    let lives = sleeping();
    for own_pids in [true, false] {
        if !own_pids {
            without_pids(&ended);
            without_pids(&lives);
        }
        let (first, second) = (&runtime.id("first"), &runtime.id("second"));
        for bundle in [&ended, &lives] {
            bundle.change(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/{first}")));
        }
        runtime.start_detached(&ended, first);
        runtime.await_status(first, "stopped");
        runtime.start_detached(&lives, second);
        runtime.fails(1, &["kill", first, "KILL"]);
        runtime.run(&["kill", "--all", first, "KILL"]);
        assert_eq!(runtime.ok(&["ps", "--format", "json", first]), "[]");
        runtime.ok(&["delete", first]);
        assert_eq!(runtime.status(second), "running", "own PID namespace: {own_pids}");
        runtime.ok(&["delete", "--force", second]);
        assert_eq!(runtime.left(), Vec::<String>::new());
    }
}

/// Nor does another runtime's, which leaves no mark of its own.
#[test]
fn what_has_ended_does_not_end_a_stranger_in_its_cgroup() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    runtime.start_detached(&Bundle::running(&["true"]), id);
    runtime.await_status(id, "stopped");
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let groups = harness::oci::cgroups(id);
    assert!(!groups.is_empty());
    for group in &groups {
        std::fs::write(group.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    }
    let deleted = runtime.run(&["delete", id]);
    assert!(deleted.code == 0 && deleted.stderr.contains("used by others"), "{deleted:#?}");
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    for group in groups {
        eventually("the cgroup to be empty", || std::fs::remove_dir(&group).is_ok().then_some(()));
    }
}

/// Hooks take as long as they like; that is nobody else's wait.
#[test]
fn force_deletes_while_hooks_run() {
    let runtime = Runtime::new();
    let file = runtime.scratch().join("hook");
    for (stage, command, status) in [
        ("createRuntime", "create", "creating"),
        ("createRuntime", "run", "creating"),
        ("poststart", "run", "running"),
        ("poststart", "start", "running"),
    ] {
        let bundle = sleeping().edit(|spec| spec["hooks"] = json!({stage: [lingering(&file)]}));
        let id = &runtime.id("box");
        let mut process = if command == "start" {
            runtime.create(&bundle, id);
            runtime.spawn(&["start", id])
        } else {
            runtime.spawn(&[command, "--bundle", bundle.text(), id])
        };
        eventually("the hook to run", || file.exists().then_some(()));
        assert_eq!(runtime.status(id), status, "{stage} {command}");
        assert_eq!(runtime.run(&["start", id]).code, 1, "{stage} {command}");
        assert!(runtime.fails(1, &["delete", id]).contains("not stopped"), "{stage} {command}");
        let begin = Instant::now();
        runtime.ok(&["delete", "--force", id]);
        assert!(begin.elapsed() < harness::patience(30), "{stage} {command}: {:?}", begin.elapsed());
        assert!(process.is_running(), "{stage} {command}: the hook is still at it");
        // Whoever has the name now is not touched by what comes to its end.
        let another = sleeping();
        runtime.start_detached(&another, id);
        std::fs::remove_file(&file).unwrap();
        assert_ne!(process.wait().code, 0, "{stage} {command}");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(runtime.status(id), "running", "{stage} {command}");
        runtime.ok(&["delete", "--force", id]);
    }
}

/// What a hook asks of the runtime does not wait for the hook.
#[test]
fn a_hook_may_change_its_container() {
    let runtime = Runtime::new();
    let program = harness::oci::program();
    let id = &runtime.id("box");
    let change = shell(&format!(
        "exec {} --root {} update --pids-limit 100 {id}",
        program.display(),
        runtime.root().display()
    ));
    for stage in ["createRuntime", "poststart"] {
        let bundle = sleeping().edit(|spec| spec["hooks"] = json!({stage: [change]}));
        runtime.create(&bundle, id);
        runtime.ok(&["start", id]);
        runtime.ok(&["delete", "--force", id]);
        runtime.start_detached(&bundle, id);
        runtime.ok(&["delete", "--force", id]);
    }
}

/// Two that start one container: the hooks run once.
#[test]
fn a_container_is_started_once() {
    let runtime = Runtime::new();
    let file = runtime.scratch().join("hook");
    std::fs::create_dir(&file).unwrap();
    let hook = shell("touch /mnt/begun; echo x >> /mnt/times; while [ -e /mnt/begun ]; do sleep 0.1; done");
    let bundle = sleeping().edit(|spec| {
        spec["hooks"] = json!({"startContainer": [hook]});
        harness::attack::mount(spec, "/mnt", "bind", file.to_str().unwrap(), &["bind", "rw"]);
    });
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let first = runtime.spawn(&["start", id]);
    eventually("the hook to run", || file.join("begun").exists().then_some(()));
    assert_eq!(runtime.fails(1, &["start", id]), "the container is being started already");
    std::fs::remove_file(file.join("begun")).unwrap();
    assert_eq!(first.wait().code, 0);
    assert_eq!(runtime.status(id), "running");
    assert_eq!(std::fs::read_to_string(file.join("times")).unwrap(), "x\n");
}

#[test]
fn the_cache_is_no_container() {
    let runtime = Runtime::new();
    assert!(runtime.fails(1, &["create", "--bundle", sleeping().text(), ".cache"]).contains("invalid"));
    assert!(!runtime.root().join(".cache").exists());
    runtime.fails(1, &["delete", "--force", ".cache"]);
}

/// What a newer version has made an older one can at least end.
#[test]
fn a_newer_record_is_enough_to_end_a_container() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    let bundle = sleeping();
    runtime.start_detached(&bundle, id);
    let file = runtime.root().join(id).join("state.json");
    let old: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let newer = json!({
        "format": 1000, "pid": old["pid"], "start_time": old["start_time"],
        "own_pids": old["own_pids"], "cgroup": old["cgroup"], "news": true,
    });
    std::fs::write(&file, newer.to_string()).unwrap();
    runtime.fails(1, &["state", id]);
    runtime.fails(1, &["delete", id]);
    runtime.ok(&["kill", id, "USR1"]);
    runtime.ok(&["delete", "--force", id]);
    assert_eq!(runtime.left(), Vec::<String>::new());
}
