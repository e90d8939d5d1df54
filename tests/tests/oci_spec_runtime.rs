//! runtime.md and runtime-linux.md: the state, the operations, and what an error leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::eventually;
use harness::oci::{Bundle, Runtime};
use harness::spec::{inside, refused};
use serde_json::{Value, json};

/// A container that sleeps, made but not started.
fn created(runtime: &Runtime) -> (Bundle, String) {
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = runtime.id("box");
    runtime.create(&bundle, &id);
    (bundle, id)
}

// "Scope of a Container", "Operations": whoever made a container can use every operation on it.
#[test]
fn all_operations_work_on_what_create_made() {
    let runtime = Runtime::new();
    let (_bundle, id) = created(&runtime);
    assert_eq!(runtime.status(&id), "created");
    runtime.ok(&["start", &id]);
    assert_eq!(runtime.status(&id), "running");
    runtime.ok(&["kill", &id, "KILL"]);
    runtime.await_status(&id, "stopped");
    runtime.ok(&["delete", &id]);
    assert_ne!(runtime.run(&["state", &id]).code, 0);
}

// "State": an id is unique on the host; and "Create": one that is not is an error, and changes nothing.
#[test]
fn an_id_that_is_taken_is_an_error() {
    let runtime = Runtime::new();
    let (bundle, id) = created(&runtime);
    let before = runtime.state(&id);
    let again = runtime.with_files(&["create", "--bundle", bundle.argument(), &id]);
    assert_ne!(again.code, 0, "{again:#?}");
    assert_eq!(runtime.state(&id), before, "the first one is as it was");
    runtime.ok(&["start", &id]);
}

// "Create": an id that is not valid is an error, and no container comes of it.
#[test]
fn an_id_that_is_not_valid_is_an_error() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    for bad in ["", ".", "..", "a/b", "../up", "a b", "a\nb"] {
        let output = runtime.with_files(&["create", "--bundle", bundle.argument(), bad]);
        assert_ne!(output.code, 0, "{bad:?}");
    }
    assert_eq!(runtime.ok(&["list", "--quiet"]), "");
}

// "State": a status that the specification does not have stands for something that it does not have.
#[test]
fn a_status_of_ones_own_is_for_a_state_of_ones_own() {
    let runtime = Runtime::new();
    let (_bundle, id) = created(&runtime);
    let known = ["creating", "created", "running", "stopped"];
    assert!(known.contains(&&*runtime.status(&id)));
    runtime.ok(&["start", &id]);
    assert!(known.contains(&&*runtime.status(&id)));
    runtime.ok(&["pause", &id]);
    assert_eq!(runtime.status(&id), "paused", "it neither runs nor has it stopped");
    runtime.ok(&["resume", &id]);
    assert_eq!(runtime.status(&id), "running");
}

// "State": as JSON it follows the schema; and "Query State" returns it.
#[test]
fn the_state_follows_the_schema() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"])
        .edit(|spec| spec["annotations"] = json!({"org.example.key": "value", "org.example.empty": ""}));
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let check = |status: &str| {
        let state = runtime.state(id);
        for name in ["ociVersion", "id", "status", "bundle"] {
            assert!(state[name].is_string(), "{name}: {state}");
        }
        assert_eq!(state["ociVersion"].as_str().unwrap().split('.').count(), 3, "{state}");
        assert_eq!((&state["id"], &state["status"]), (&json!(id), &json!(status)));
        assert_eq!(state["bundle"], json!(bundle.path()));
        assert_eq!(state["annotations"]["org.example.key"], "value");
        assert_eq!(state["annotations"]["org.example.empty"], "");
        if status != "stopped" {
            let pid = state["pid"].as_u64().unwrap();
            assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "{state}");
        }
    };
    check("created");
    runtime.ok(&["start", id]);
    check("running");
    runtime.ok(&["kill", id, "KILL"]);
    runtime.await_status(id, "stopped");
    check("stopped");
}

// "Lifecycle" 2, "Create": everything but the command is there, and the command does not run; "Start" runs it.
#[test]
fn create_makes_everything_and_start_runs_the_command() {
    let runtime = Runtime::new();
    let bundle = Bundle::script("echo it runs; sleep 1000").edit(|spec| {
        spec["hostname"] = json!("made");
        spec["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=4096"],
        }));
    });
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let root = format!("/proc/{}/root", runtime.pid(id));
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", runtime.pid(id))).unwrap();
    assert!(mounts.lines().any(|line| line.split(' ').nth(4) == Some("/mnt")), "{mounts}");
    assert!(std::path::Path::new(&root).join("dev/null").exists());
    assert_eq!(runtime.ok(&["exec", id, "hostname"]), "made");
    assert_eq!(runtime.said(), "", "the command waits");
    assert_eq!(runtime.status(id), "created");
    runtime.ok(&["start", id]);
    eventually("its words", || (runtime.said() == "it runs\n").then_some(()));
}

// "Lifecycle" 2: what becomes of config.json after `create` changes nothing.
#[test]
fn a_change_of_the_configuration_after_create_has_no_effect() {
    let runtime = Runtime::new();
    let bundle = Bundle::script("echo first; sleep 1000");
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let bundle = bundle.edit(|spec| spec["process"]["args"] = json!(["echo", "second"]));
    runtime.ok(&["start", id]);
    eventually("its words", || (runtime.said() == "first\n").then_some(()));
    drop(bundle);
}

// "Lifecycle" 2, "Create", "Errors": what cannot be made is an error, and all is as if it had not been tried.
#[test]
fn what_cannot_be_made_is_an_error_that_leaves_nothing() {
    refused("a mount of nothing", |spec| {
        spec["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/mnt", "source": "/nowhere/at/all", "options": ["bind"],
        }));
    });
    refused("a file system that there is not", |spec| {
        spec["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/mnt", "type": "nonesuch", "source": "none",
        }));
    });
    refused("a kernel parameter that there is not", |spec| {
        spec["linux"]["sysctl"] = json!({"net.ipv4.nonesuch": "1"});
    });
    refused("a namespace that there is not", |spec| {
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network", "path": "/nowhere/net"}]);
    });
}

// "Errors": an operation that fails leaves a container as it was.
#[test]
fn an_operation_that_fails_changes_nothing() {
    let runtime = Runtime::new();
    let (_bundle, id) = created(&runtime);
    runtime.ok(&["start", &id]);
    let before = runtime.state(&id);
    assert_ne!(runtime.run(&["start", &id]).code, 0);
    assert_ne!(runtime.run(&["delete", &id]).code, 0);
    assert_ne!(runtime.run(&["kill", &id, "NONESUCH"]).code, 0);
    assert_ne!(runtime.run(&["exec", &id, "nonesuch"]).code, 0);
    assert_eq!(runtime.state(&id), before);
}

// "Query State", "Create", "Start", "Kill", "Delete": without an id, and of what does not exist, they are errors.
#[test]
fn operations_need_an_id_of_something() {
    let runtime = Runtime::new();
    let gone = runtime.id("gone");
    for operation in ["state", "start", "delete", "kill"] {
        assert_ne!(runtime.run(&[operation]).code, 0, "{operation} of no id");
        assert_ne!(runtime.run(&[operation, &gone]).code, 0, "{operation} of what does not exist");
    }
    let bundle = Bundle::running(&["true"]);
    assert_ne!(runtime.run(&["create", "--bundle", bundle.argument()]).code, 0, "create without an id");
    // the working directory is the bundle that is not named, and this one is none
    let here = runtime.command(&["create", &gone]).current_dir(runtime.scratch());
    assert_ne!(here.output().code, 0, "create without a bundle");
    assert_ne!(runtime.run(&["create", "--bundle", "/nowhere", &gone]).code, 0);
    assert_eq!(runtime.left(), Vec::<String>::new());
}

// "Start": of what runs or has stopped it is an error and changes nothing.
#[test]
fn only_what_is_created_can_be_started() {
    let runtime = Runtime::new();
    let (_bundle, id) = created(&runtime);
    runtime.ok(&["start", &id]);
    let state = runtime.state(&id);
    assert_ne!(runtime.run(&["start", &id]).code, 0);
    assert_eq!(runtime.state(&id), state);
    runtime.ok(&["kill", &id, "KILL"]);
    runtime.await_status(&id, "stopped");
    assert_ne!(runtime.run(&["start", &id]).code, 0);
    assert_eq!(runtime.status(&id), "stopped");
}

// "Start": a container without a process cannot be started.
#[test]
fn without_a_process_nothing_starts() {
    harness::spec::never_runs("there is no process", |spec| {
        spec.as_object_mut().unwrap().remove("process");
    });
}

// "Kill": the signal reaches the container's process, be it created or running.
#[test]
fn kill_sends_the_signal_that_was_said() {
    let runtime = Runtime::new();
    let bundle = Bundle::script(
        "trap 'echo usr1' USR1; trap 'echo term; exit' TERM; echo up; while :; do sleep 0.05; done",
    );
    let id = &runtime.id("box");
    runtime.start_detached(&bundle, id);
    eventually("it to be ready", || runtime.said().contains("up").then_some(()));
    runtime.ok(&["kill", id, "USR1"]);
    eventually("the first signal", || runtime.said().contains("usr1").then_some(()));
    runtime.ok(&["kill", id, "15"]);
    runtime.await_status(id, "stopped");
    assert_eq!(runtime.said(), "up\nusr1\nterm\n");
    let created = &runtime.id("created");
    runtime.create(&bundle, created);
    runtime.ok(&["kill", created, "KILL"]);
    runtime.await_status(created, "stopped");
}

// "Kill": of what has stopped it is an error and changes nothing.
#[test]
fn what_has_stopped_cannot_be_killed() {
    let runtime = Runtime::new();
    let (_bundle, id) = created(&runtime);
    runtime.ok(&["kill", &id, "KILL"]);
    runtime.await_status(&id, "stopped");
    let state = runtime.state(&id);
    assert_ne!(runtime.run(&["kill", &id, "KILL"]).code, 0);
    assert_eq!(runtime.state(&id), state);
}

// "Delete": of what has not stopped it is an error and changes nothing.
#[test]
fn only_what_has_stopped_can_be_deleted() {
    let runtime = Runtime::new();
    let (_bundle, id) = created(&runtime);
    runtime.ok(&["start", &id]);
    let state = runtime.state(&id);
    assert_ne!(runtime.run(&["delete", &id]).code, 0);
    assert_eq!(runtime.state(&id), state);
    assert!(std::path::Path::new(&format!("/proc/{}", state["pid"])).exists());
}

// "Delete", "Lifecycle" 12: what `create` made is gone, what it only used is still there, and the id is free.
#[test]
fn delete_removes_what_create_made_and_nothing_else() {
    let runtime = Runtime::new();
    let data = runtime.scratch().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "kept").unwrap();
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        spec["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/data", "source": data, "options": ["bind"],
        }));
    });
    let id = &runtime.id("box");
    for _ in 0..2 {
        runtime.create(&bundle, id);
        let pid = runtime.pid(id);
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(groups.contains(id.as_str()), "{groups}");
        runtime.ok(&["start", id]);
        runtime.ok(&["kill", id, "KILL"]);
        runtime.await_status(id, "stopped");
        runtime.ok(&["delete", id]);
        assert_eq!(runtime.left(), Vec::<String>::new());
        // whoever inherited it may not have reaped it yet
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
    assert_eq!(std::fs::read_to_string(data.join("file")).unwrap(), "kept");
    assert!(bundle.rootfs().join("bin/busybox").exists());
}

// "Delete": a group that was there before is not the container's to remove.
#[test]
fn a_namespace_that_was_joined_stays() {
    let runtime = Runtime::new();
    let (_bundle, other) = created(&runtime);
    let path = format!("/proc/{}/ns/uts", runtime.pid(&other));
    let before = std::fs::read_link(&path).unwrap();
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        spec["hostname"] = Value::Null;
        harness::spec::without_namespace(spec, "uts");
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "uts", "path": path}));
    });
    let id = runtime.id("guest");
    runtime.ok(&["run", "--bundle", bundle.argument(), &id]);
    assert_eq!(std::fs::read_link(&path).unwrap(), before);
    assert_eq!(runtime.status(&other), "created");
}

// "Lifecycle", "State": when the process has ended, however, the container has stopped.
#[test]
fn what_ends_by_itself_has_stopped() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]);
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    runtime.ok(&["start", id]);
    runtime.await_status(id, "stopped");
    runtime.ok(&["delete", id]);
}

// "Warnings": an operation that warns goes on.
#[test]
fn a_warning_stops_nothing() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["echo", "on"]).edit(|spec| {
        let set = json!(["CAP_NONESUCH", "CAP_KILL"]);
        spec["process"]["capabilities"] = json!({"bounding": set, "effective": set, "permitted": set});
    });
    assert_eq!(runtime.said_by(&bundle), "on");
}

// runtime-linux.md, "Dev symbolic links": /dev/fd and the streams, where /proc is there.
#[test]
fn dev_has_links_to_the_streams() {
    let said = inside(
        "for link in fd stdin stdout stderr; do readlink /dev/$link; done; echo x > /dev/stdout",
        |_| {},
    );
    assert_eq!(said, "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\nx");
}

// runtime-linux.md, "File descriptors": the three streams, and no other of the caller's.
#[test]
fn the_streams_are_all_the_descriptors() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["/bin/probe", "descriptors"]).with_probe();
    let shell = harness::Invocation::new("sh").args(&["-c", "exec 7</etc/passwd 8>&1; exec \"$@\"", "sh"]);
    let output = runtime.on(shell, &["run", "--bundle", bundle.argument(), &runtime.id("box")]).ok();
    assert_eq!(output, "0 1 2\n/");
}
