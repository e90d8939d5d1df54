//! `dhow-runtime`: what it refuses, and in which words: callers of runc look for them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::oci::{Bundle, Runtime};
use serde_json::{Value, json};

#[test]
fn the_command_line_is_refused_as_runc_refuses_it() {
    let runtime = Runtime::new();
    let output = runtime.run(&["state", "--nope", "x"]);
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.starts_with("Incorrect Usage: flag provided but not defined: -nope\n"),
        "{output:#?}"
    );
    assert!(output.stderr.contains("flag provided but not defined: -nope"), "{output:#?}");
    let output = runtime.run(&["state"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("requires exactly 1 argument(s)"), "{output:#?}");
    let output = runtime.run(&["nonsense"]);
    assert_eq!(output.code, 3);
    assert!(output.stderr.contains("No help topic for 'nonsense'"), "{output:#?}");
    for (command, args) in [("checkpoint", &["x"][..]), ("restore", &["--image-path", "/x", "x"])] {
        assert!(runtime.fails(1, &[&[command], args].concat()).contains("not supported"));
        // How Podman finds out whether a runtime can.
        for help in ["--help", "-h"] {
            assert!(runtime.fails(1, &[command, help]).contains("not supported"), "{command} {help}");
        }
    }
}

#[test]
fn every_command_tells_of_itself() {
    let runtime = Runtime::new();
    let text = runtime.ok(&["--help"]);
    for command in [
        "create", "start", "run", "exec", "state", "kill", "delete", "pause", "resume", "ps", "list",
        "update", "events", "spec", "features",
    ] {
        assert!(text.contains(&format!("\n   {command}")), "{command}: {text}");
        assert!(runtime.ok(&[command, "--help"]).contains(&format!("dhow-runtime {command}")));
        assert_eq!(runtime.ok(&["help", command]), runtime.ok(&[command, "-h"]));
    }
    for flag in ["--version", "-v"] {
        let version = runtime.ok(&[flag]);
        assert!(version.starts_with("dhow-runtime version "), "{version}");
        assert!(version.lines().any(|line| line == "spec: 1.3.0"), "{version}");
    }
}

#[test]
fn names_are_names() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]);
    for id in ["..", ".", "a/b", "../x", "a b", "ä"] {
        let message = runtime.fails(1, &["run", "--bundle", bundle.path().to_str().unwrap(), id]);
        assert!(message.contains("invalid container ID format"), "{id}: {message}");
    }
}

#[test]
fn a_bundle_must_be_one() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    let message = runtime.fails(1, &["create", "--bundle", "/non/existent", id]);
    assert!(message.contains("no such file or directory"), "{message}");
    let empty = runtime.scratch().to_str().unwrap();
    let message = runtime.fails(1, &["create", "--bundle", empty, id]);
    assert!(message.contains("config.json not found"), "{message}");
}

/// What a configuration that is changed like this is refused with.
#[track_caller]
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]).edit(change);
    let message =
        runtime.fails(1, &["create", "--bundle", bundle.path().to_str().unwrap(), &runtime.id("box")]);
    assert_eq!(runtime.left(), Vec::<String>::new());
    message
}

/// config.md, "Specification version": a runtime MUST refuse what it does not support.
#[test]
fn other_versions_of_the_specification_are_refused() {
    for version in ["", "0.1.0", "2.0.0", "1.0", "next"] {
        let message = refused(|spec| spec["ociVersion"] = json!(version));
        assert!(message.contains("ociVersion"), "{version}: {message}");
    }
}

/// runtime.md, "Create": a runtime MUST refuse what it cannot apply.
#[test]
fn a_wrong_configuration_is_refused_and_leaves_nothing() {
    assert!(refused(|spec| spec["process"]["cwd"] = json!("here")).contains("cwd"));
    assert!(refused(|spec| spec["process"]["args"] = json!([])).contains("args"));
    assert!(refused(|spec| spec["root"]["path"] = json!("nowhere")).contains("no such file or directory"));
    assert!(refused(|spec| drop(spec.as_object_mut().unwrap().remove("root"))).contains("root"));
    let message = refused(|spec| spec["process"]["args"] = json!(["nonexistent"]));
    assert!(message.contains("exec: \"nonexistent\": executable file not found in $PATH"), "{message}");
    assert!(refused(|spec| spec["process"]["args"] = json!(["/etc"])).contains("permission denied"));
    let terminal = refused(|spec| spec["process"]["terminal"] = json!(true));
    assert!(terminal.contains("cannot allocate tty if runc will detach without setting console socket"));
}

/// config.md, "Extensibility": unknown properties MUST be ignored.
#[test]
fn unknown_properties_are_ignored() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["echo", "fine"]).edit(|spec| {
        spec["somethingNew"] = json!({"a": [1]});
        spec["process"]["somethingNew"] = json!(1);
        spec["linux"]["somethingNew"] = json!(null);
        // An extension between our own parts, which is nobody else's to use.
        spec["process"]["user"]["username"] = json!("nobody that there is");
    });
    assert_eq!(runtime.ok(&["run", "--bundle", bundle.path().to_str().unwrap(), &runtime.id("box")]), "fine");
}

#[test]
fn what_is_not_there_or_not_in_that_state_is_said() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        assert_eq!(runtime.fails(1, &[verb, id]), "container does not exist", "{verb}");
    }
    runtime.start_detached(&bundle, id);
    let path = bundle.path().to_str().unwrap();
    assert!(runtime.fails(1, &["create", "--bundle", path, id]).contains("already exists"));
    assert!(runtime.fails(1, &["start", id]).contains("cannot start an already running container"));
    assert!(runtime.fails(1, &["kill", id, "NOTHING"]).contains("unknown signal"));
    runtime.ok(&["kill", id, "9"]);
    runtime.await_status(id, "stopped");
    for args in [&["kill", id, "9"][..], &["pause", id], &["update", "--memory", "64m", id]] {
        assert_eq!(runtime.fails(1, args), "container not running", "{args:?}");
    }
}

#[test]
fn errors_are_lines_of_text_or_of_json() {
    let runtime = Runtime::new();
    let output = runtime.run(&["state", "x"]);
    assert!(output.stderr.starts_with("time=\""), "{output:#?}");
    assert!(output.stderr.ends_with("level=error msg=\"container does not exist\"\n"), "{output:#?}");
    let output = runtime.run(&["--log-format", "json", "state", "x"]);
    let line: Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(line["msg"], "container does not exist");
    let log = runtime.scratch().join("log");
    let output = runtime.run(&["--log", log.to_str().unwrap(), "state", "x"]);
    assert_eq!(output.stderr, "container does not exist\n");
    assert!(std::fs::read_to_string(log).unwrap().contains("level=error"));
    assert!(runtime.run(&["--log-format", "xml", "list"]).stderr.contains("invalid log-format: xml"));
}

#[test]
fn what_cannot_be_used_is_told_of() {
    let runtime = Runtime::new();
    let log = runtime.run(&["--log", "/non/existent/log", "list"]);
    assert_eq!(log.code, 1, "{log:#?}");
    assert!(log.stderr.contains("open /non/existent/log: no such file or directory"), "{log:#?}");
    let root = runtime.run(&["--root", "/dev/null/root", "list"]);
    assert_eq!(root.code, 1, "{root:#?}");
    assert!(root.stderr.contains("not a directory"), "{root:#?}");
}

#[test]
fn a_configuration_that_is_no_file_is_refused_at_once() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]);
    let id = &runtime.id("box");
    let refused = || {
        let message = runtime.fails(1, &["run", "--bundle", bundle.text(), id]);
        assert!(message.contains("is not a regular file"), "{message}");
    };
    std::fs::remove_file(bundle.config()).unwrap();
    harness::Invocation::new("mkfifo").arg(bundle.config()).ok();
    refused();
    std::fs::remove_file(bundle.config()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", bundle.config()).unwrap();
    refused();
}

#[test]
fn an_exec_does_not_repeat_what_the_container_was_warned_of() {
    let runtime = Runtime::new();
    // Ambient without inheritable cannot be had: runc's own default configuration asks for it.
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        let capabilities = &mut spec["process"]["capabilities"];
        capabilities["inheritable"] = json!([]);
        capabilities["ambient"] = json!(["CAP_KILL"]);
    });
    let id = &runtime.id("box");
    let begun = runtime.with_files(&["run", "--detach", "--bundle", bundle.text(), id]);
    assert_eq!(begun.code, 0, "{begun:#?}");
    assert!(begun.stderr.contains("level=warning"), "{begun:#?}");
    let quiet = runtime.run(&["exec", id, "true"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    let log = runtime.scratch().join("exec.log");
    runtime.ok(&["--log", log.to_str().unwrap(), "exec", id, "true"]);
    assert!(std::fs::read_to_string(log).unwrap().contains("level=warning"));
}

#[test]
fn ps_fails_where_ps_does() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    runtime.start_detached(&bundle, id);
    let message = runtime.fails(1, &["ps", id, "--no-such-option"]);
    assert!(message.starts_with("ps(1): "), "{message}");
}
