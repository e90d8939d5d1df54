//! `dhow-runtime`: hooks (config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle").

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::oci::{Bundle, Runtime};
use serde_json::{Value, json};

/// A hook that appends a line to a file: its stage, and the status that it was told.
fn noting(file: &Path, stage: &str) -> Value {
    let script = format!(
        "state=$(cat); status=$(echo \"$state\" | sed 's/.*\"status\": *\"\\([a-z]*\\)\".*/\\1/'); echo {stage} $status >> {}",
        file.display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_in_the_order_of_the_lifecycle_with_the_state() {
    let runtime = Runtime::new();
    let file = runtime.scratch().join("notes");
    // What runs inside finds the notes where the file is mounted.
    std::fs::write(&file, "").unwrap();
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        spec["hooks"] = json!({
            "prestart": [noting(&file, "prestart")],
            "createRuntime": [noting(&file, "createRuntime"), noting(&file, "createRuntime2")],
            "createContainer": [noting(&file, "createContainer")],
            "startContainer": [noting(Path::new("/mnt/notes"), "startContainer")],
            "poststart": [noting(&file, "poststart")],
            "poststop": [noting(&file, "poststop")],
        });
        let mount =
            json!({"destination": "/mnt/notes", "type": "bind", "source": file, "options": ["bind", "rw"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let made = [
        "prestart creating",
        "createRuntime creating",
        "createRuntime2 creating",
        "createContainer creating",
    ];
    assert_eq!(lines(&file), made);
    runtime.ok(&["start", id]);
    let started = ["startContainer created", "poststart running"];
    assert_eq!(lines(&file)[4..], started);
    runtime.ok(&["kill", id, "KILL"]);
    runtime.await_status(id, "stopped");
    assert_eq!(lines(&file).len(), 6, "not before it is deleted");
    runtime.ok(&["delete", id]);
    assert_eq!(lines(&file)[6..], ["poststop stopped"]);

    std::fs::write(&file, "").unwrap();
    runtime.ok(&[
        "run",
        "--bundle",
        bundle.edit(|spec| spec["process"]["args"] = json!(["true"])).path().to_str().unwrap(),
        id,
    ]);
    assert_eq!(lines(&file), [&made[..], &started[..], &["poststop stopped"]].concat());
}

#[test]
fn hooks_get_the_whole_state() {
    let runtime = Runtime::new();
    let file = runtime.scratch().join("state");
    let script = format!("cat > {}", file.display());
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        spec["annotations"] = json!({"a": "b"});
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let expected = json!({
        "ociVersion": bundle.spec()["ociVersion"], "id": id, "status": "creating", "pid": runtime.pid(id),
        "bundle": bundle.path(), "annotations": {"a": "b"},
    });
    assert_eq!(state, expected);
}

/// A container whose hook of this stage fails.
fn failing(runtime: &Runtime, stage: &str, file: &Path) -> Bundle {
    let _ = runtime;
    Bundle::running(&["sleep", "1000"]).edit(|spec| {
        spec["hooks"] = json!({"poststop": [noting(file, "poststop")]});
        spec["hooks"][stage] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"]}]);
    })
}

#[test]
fn a_failing_hook_undoes_the_creation() {
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let runtime = Runtime::new();
        let file = runtime.scratch().join("notes");
        let bundle = failing(&runtime, stage, &file);
        let id = &runtime.id("box");
        let message = runtime.fails(1, &["create", "--bundle", bundle.path().to_str().unwrap(), id]);
        assert!(message.contains(&format!("error running {stage} hook #0")), "{message}");
        assert!(message.contains("no luck"), "{message}");
        assert_eq!(runtime.left(), Vec::<String>::new(), "{stage}");
        assert_eq!(lines(&file), ["poststop stopped"], "{stage}");
    }
}

#[test]
fn a_failing_hook_stops_the_start() {
    for stage in ["startContainer", "poststart"] {
        let runtime = Runtime::new();
        let file = runtime.scratch().join("notes");
        let bundle = failing(&runtime, stage, &file);
        let id = &runtime.id("box");
        runtime.create(&bundle, id);
        let message = runtime.fails(1, &["start", id]);
        assert!(message.contains(&format!("error running {stage} hook #0")), "{message}");
        assert_eq!(runtime.left(), Vec::<String>::new(), "{stage}");
        assert_eq!(lines(&file), ["poststop stopped"], "{stage}");
        // The same in one.
        let message = runtime.fails(1, &["run", "--bundle", bundle.path().to_str().unwrap(), id]);
        assert!(message.contains(&format!("error running {stage} hook #0")), "{message}");
        assert_eq!(runtime.left(), Vec::<String>::new(), "{stage}");
    }
}

#[test]
fn a_hook_that_fails_after_the_end_is_only_told_of() {
    let runtime = Runtime::new();
    let file = runtime.scratch().join("notes");
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        let fails = json!({"path": "/bin/false", "args": ["false"]});
        spec["hooks"] = json!({"poststop": [fails, noting(&file, "second")]});
    });
    let output = runtime.run(&["run", "--bundle", bundle.path().to_str().unwrap(), &runtime.id("box")]);
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(
        output.stderr.contains("level=warning") && output.stderr.contains("poststop hook #0"),
        "{output:#?}"
    );
    assert_eq!(lines(&file), ["second stopped"]);
    assert_eq!(runtime.left(), Vec::<String>::new());
}

#[test]
fn a_hook_that_hangs_is_ended() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        let hangs = json!({"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1});
        spec["hooks"] = json!({"createRuntime": [hangs]});
    });
    let message =
        runtime.fails(1, &["create", "--bundle", bundle.path().to_str().unwrap(), &runtime.id("box")]);
    assert!(message.contains("timeout"), "{message}");
    assert_eq!(runtime.left(), Vec::<String>::new());
}
