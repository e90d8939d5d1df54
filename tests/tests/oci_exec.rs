//! `dhow-runtime exec`: a further command in a container.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::eventually;
use harness::oci::{Bundle, Runtime};
use serde_json::json;

/// A container that sleeps.
fn sleeping(runtime: &Runtime, bundle: Bundle) -> (Bundle, String) {
    let bundle = bundle.edit(|spec| spec["process"]["args"] = json!(["sleep", "1000"]));
    let id = runtime.id("box");
    runtime.start_detached(&bundle, &id);
    (bundle, id)
}

#[test]
fn a_command_runs_beside_the_first() {
    let runtime = Runtime::new();
    let (_bundle, id) = sleeping(&runtime, Bundle::new().edit(|spec| spec["hostname"] = json!("inside")));
    assert_eq!(runtime.ok(&["exec", &id, "hostname"]), "inside");
    assert_eq!(
        runtime.ok(&["exec", &id, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '"]).trim(),
        "sleep 1000"
    );
    assert_eq!(runtime.command(&["exec", &id, "cat"]).input("typed").ok(), "typed");
}

#[test]
fn exec_ends_as_the_command_did() {
    let runtime = Runtime::new();
    let (_bundle, id) = sleeping(&runtime, Bundle::new());
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(runtime.run(&["exec", &id, "sh", "-c", script]).code, code, "{script}");
    }
}

#[test]
fn a_command_that_does_not_start_is_said_in_the_words_of_runc() {
    let runtime = Runtime::new();
    let (_bundle, id) = sleeping(&runtime, Bundle::new());
    let missing = runtime.fails(255, &["exec", &id, "nonexistent"]);
    assert!(missing.contains("exec: \"nonexistent\": executable file not found in $PATH"), "{missing}");
    let missing = runtime.fails(255, &["exec", &id, "/non/existent"]);
    assert!(missing.contains("no such file or directory"), "{missing}");
    let directory = runtime.fails(255, &["exec", &id, "/etc"]);
    assert!(directory.contains("permission denied"), "{directory}");
    let nowhere = runtime.fails(255, &["exec", "--cwd", "/nope", &id, "true"]);
    assert!(nowhere.contains("no such file or directory"), "{nowhere}");
    let gone = runtime.fails(255, &["exec", &runtime.id("other"), "true"]);
    assert!(gone.contains("container does not exist"), "{gone}");
    runtime.ok(&["kill", &id, "KILL"]);
    runtime.await_status(&id, "stopped");
    let stopped = runtime.fails(255, &["exec", &id, "true"]);
    assert!(stopped.contains("cannot exec in a stopped container"), "{stopped}");
}

#[test]
fn flags_say_what_is_different() {
    let runtime = Runtime::new();
    let (_bundle, id) =
        sleeping(&runtime, Bundle::new().edit(|spec| spec["process"]["env"] = json!(["PATH=/bin", "A=1"])));
    let script = "pwd; echo $A $B; id -u; id -g; id -G; grep -E 'CapBnd|NoNewPrivs' /proc/self/status";
    let output = runtime.ok(&[
        "exec",
        "--cwd",
        "/tmp",
        "-e",
        "B=2",
        "-u",
        "5:6",
        "-g",
        "7",
        "-g",
        "8",
        "-c",
        "CAP_SYS_PTRACE",
        &id,
        "sh",
        "-c",
        script,
    ]);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..5], ["/tmp", "1 2", "5", "6", "6 7 8"], "{output}");
    let bounding = lines.iter().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    let bounding = u64::from_str_radix(bounding, 16).unwrap();
    // audit_write, kill, net_bind_service, and the one that was added
    assert_eq!(bounding, 1 << 29 | 1 << 5 | 1 << 10 | 1 << 19);
    assert!(output.contains("NoNewPrivs:\t1"), "the container's own: {output}");
    let without =
        runtime.ok(&["exec", "--no-new-privs=false", &id, "grep", "NoNewPrivs", "/proc/self/status"]);
    assert_eq!(without, "NoNewPrivs:\t0");
}

#[test]
fn of_two_values_of_a_variable_the_last_counts() {
    let runtime = Runtime::new();
    let env = json!(["PATH=/bin", "A=config", "B=first", "B=last"]);
    let (_bundle, id) = sleeping(&runtime, Bundle::new().edit(|spec| spec["process"]["env"] = env));
    let values = |args: &[&str]| {
        let all = runtime.ok(&[&["exec"], args, &[&id, "env"]].concat());
        let mut ours: Vec<_> =
            all.lines().filter(|line| line.starts_with(['A', 'B'])).map(str::to_owned).collect();
        ours.sort();
        ours
    };
    assert_eq!(values(&["-e", "A=flag"]), ["A=flag", "B=last"]);
    assert_eq!(values(&["-e", "A=1", "-e", "A=2"]), ["A=2", "B=last"]);
    for bad in ["FOO", "=x"] {
        let message = runtime.fails(255, &["exec", "-e", bad, &id, "true"]);
        assert!(message.contains(&format!("invalid environment variable: {bad:?}")), "{message}");
    }
}

#[test]
fn a_label_without_selinux_is_an_error() {
    if harness::spec::has("SELinux") {
        return;
    }
    let runtime = Runtime::new();
    let (bundle, id) = sleeping(&runtime, Bundle::new());
    let words = "selinux label is specified in config, but selinux is disabled or not supported";
    let message = runtime.fails(255, &["exec", "--process-label", "a:b:c:s0", &id, "true"]);
    assert!(message.contains(words), "{message}");
    bundle.change(|spec| spec["linux"]["mountLabel"] = json!("a:b:c:s0"));
    let message = runtime.fails(1, &["run", "--bundle", bundle.text(), &runtime.id("other")]);
    assert!(message.contains(words), "{message}");
}

#[test]
fn whatever_is_wrong_with_an_exec_ends_in_255() {
    let runtime = Runtime::new();
    let (_bundle, id) = sleeping(&runtime, Bundle::new());
    for wrong in [
        &["exec", &id][..],
        &["exec", "-u", "foo", &id, "id"],
        &["exec", "-d", "-t", &id, "true"],
        &["exec", "-d", "-t", "--console-socket", "/nope", &id, "true"],
        &["exec", "--preserve-fds", "900", &id, "true"],
    ] {
        let message = runtime.fails(255, wrong);
        assert!(message.starts_with("exec failed: "), "{wrong:?}: {message}");
    }
}

#[test]
fn a_process_may_come_from_a_file() {
    let runtime = Runtime::new();
    let (_bundle, id) = sleeping(&runtime, Bundle::new());
    let file = runtime.scratch().join("process.json");
    let process = json!({
        "args": ["sh", "-c", "echo $WHO in $(pwd)"], "cwd": "/var", "env": ["PATH=/bin", "WHO=me"],
        "user": {"uid": 0, "gid": 0, "username": "nobody that there is"},
    });
    std::fs::write(&file, process.to_string()).unwrap();
    assert_eq!(runtime.ok(&["exec", "--process", file.to_str().unwrap(), &id]), "me in /var");
    std::fs::write(&file, "{\"args\": []}").unwrap();
    runtime.fails(255, &["exec", "-p", file.to_str().unwrap(), &id]);
}

#[test]
fn detached_the_command_goes_on() {
    let runtime = Runtime::new();
    let (_bundle, id) = sleeping(&runtime, Bundle::new());
    let file = runtime.scratch().join("pid");
    let script = "sleep 0.3; echo done > /tmp/done";
    runtime.quietly(&["exec", "-d", "--pid-file", file.to_str().unwrap(), &id, "sh", "-c", script]);
    let pid: u32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    let pids: Vec<u32> = serde_json::from_str(&runtime.ok(&["ps", "--format", "json", &id])).unwrap();
    assert!(pids.contains(&pid), "{pid} is in the container's cgroup: {pids:?}");
    eventually("its file", || {
        (runtime.run(&["exec", &id, "cat", "/tmp/done"]).stdout == "done\n").then_some(())
    });
}

#[test]
fn exec_goes_into_a_container_that_is_created() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = runtime.id("box");
    runtime.create(&bundle, &id);
    assert_eq!(runtime.ok(&["exec", &id, "echo", "early"]), "early");
    runtime.ok(&["start", &id]);
}
