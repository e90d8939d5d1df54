//! `dhow-runtime`: create, start, state, kill, delete, run, list, pause, ps (runtime.md, "Lifecycle").

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::oci::{Bundle, Runtime};
use harness::{eventually, random, soak};
use serde_json::{Value, json};

#[test]
fn a_container_goes_through_its_life() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "echo hello; sleep 1000"])
        .edit(|spec| spec["annotations"] = json!({"org.example": "yes"}));
    let id = &runtime.id("box");

    runtime.create(&bundle, id);
    let state = runtime.state(id);
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(id)), "{state}");
    assert_eq!(state["ociVersion"], bundle.spec()["ociVersion"]);
    assert_eq!(state["bundle"], json!(bundle.path()));
    assert_eq!(state["annotations"], json!({"org.example": "yes"}));
    assert!(state["pid"].as_u64().unwrap() > 1);
    assert_eq!(runtime.said(), "", "the command waits");

    runtime.ok(&["start", id]);
    assert_eq!(runtime.status(id), "running");
    assert_eq!(runtime.pid(id), state["pid"], "the process is the one that was made");
    eventually("its words", || (runtime.said() == "hello\n").then_some(()));

    runtime.ok(&["kill", id, "KILL"]);
    runtime.await_status(id, "stopped");
    assert_eq!(runtime.state(id)["pid"], json!(0));
    runtime.ok(&["delete", id]);
    assert!(runtime.fails(1, &["state", id]).contains("does not exist"));
    assert_eq!(runtime.left(), Vec::<String>::new());
}

#[test]
fn what_becomes_of_the_bundle_later_does_not_matter() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "echo first; sleep 1000"]);
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let bundle = bundle.edit(|spec| {
        spec["process"]["args"] = json!(["echo", "second"]);
        spec["process"]["env"] = json!(["PATH=/nowhere"]);
    });
    std::fs::remove_file(bundle.config()).unwrap();
    runtime.ok(&["start", id]);
    eventually("its words", || (runtime.said() == "first\n").then_some(()));
    assert_eq!(runtime.ok(&["exec", id, "echo", "still"]), "still");
}

#[test]
fn run_waits_and_ends_as_the_command_did() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    // Process 1 of a namespace is not killed by its own signals, so it is another that is.
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)] {
        let bundle = Bundle::running(&["sh", "-c", script]);
        let output = runtime.run(&["run", "--bundle", bundle.path().to_str().unwrap(), id]);
        assert_eq!(output.code, code, "{script}: {output:#?}");
        assert_eq!(runtime.left(), Vec::<String>::new(), "run deletes the container");
    }
}

/// What a caller ignores, the programs that it executes ignore as well.
#[test]
fn a_caller_that_ignores_its_children_learns_how_they_end_all_the_same() {
    let runtime = Runtime::new();
    let deaf = || harness::Invocation::new("env").args(&["--ignore-signal=CHLD"]);
    let bundle = Bundle::running(&["sh", "-c", "exit 7"])
        .edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]}));
    let (path, id) = (bundle.text(), &runtime.id("box"));
    let output = runtime.on(deaf(), &["run", "--bundle", path, id]).output();
    assert_eq!((output.code, &*output.stderr), (7, ""), "{output:#?}");
    let failing = bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}));
    let output = runtime.on(deaf(), &["run", "--bundle", failing.text(), id]).output();
    assert!(output.code == 1 && output.stderr.contains("createRuntime"), "{output:#?}");
}

#[test]
fn a_signal_to_run_is_one_to_the_command() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"]);
    let process = runtime.spawn(&["run", "--bundle", bundle.path().to_str().unwrap(), &runtime.id("box")]);
    process.expect("up");
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().code, 5);
}

#[test]
fn with_keep_the_container_stays() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]);
    let id = &runtime.id("box");
    runtime.ok(&["run", "--keep", "--bundle", bundle.path().to_str().unwrap(), id]);
    assert_eq!(runtime.status(id), "stopped");
    runtime.ok(&["delete", id]);
}

#[test]
fn a_pid_file_names_the_process() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    let file = runtime.scratch().join("pid");
    let (path, pid_file) = (bundle.path().to_str().unwrap(), file.to_str().unwrap());
    runtime.quietly(&["run", "-d", "--bundle", path, "--pid-file", pid_file, id]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), runtime.pid(id).to_string());
    let left: Vec<_> = std::fs::read_dir(runtime.scratch())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("pid") && name != "pid")
        .collect();
    assert_eq!(left, Vec::<String>::new(), "no temporary file stays");
}

#[test]
fn of_many_that_create_one_container_one_wins() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = runtime.id("box");
    let won = std::thread::scope(|scope| {
        let command = || {
            let path = bundle.path().to_str().unwrap();
            let mut command = runtime.command(&["create", "--bundle", path, &id]).into_command();
            command.stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command.status().unwrap().success()
        };
        let all: Vec<_> = (0..6).map(|_| scope.spawn(command)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    assert_eq!(runtime.status(&id), "created");
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let (one, two) = (&runtime.id("one"), &runtime.id("two"));
    runtime.create(&bundle, one);
    runtime.ok(&["kill", one, "SIGKILL"]);
    runtime.await_status(one, "stopped");
    assert!(runtime.fails(1, &["start", one]).contains("stopped"));
    runtime.ok(&["delete", one]);
    runtime.create(&bundle, two);
    runtime.ok(&["delete", two]);
    assert_eq!(runtime.left(), Vec::<String>::new());
}

/// So few that the runtime itself can open nothing more.
#[test]
fn few_descriptors_are_the_commands_limit_and_not_ours() {
    let runtime = Runtime::new();
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}]);
    let bundle = Bundle::running(&["sh", "-c", "ulimit -n; pwd; sleep 1000"]);
    let bundle = bundle.edit(|spec| spec["process"]["rlimits"] = limits);
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    assert_eq!(runtime.status(id), "created");
    runtime.ok(&["start", id]);
    eventually("its words", || (runtime.said() == "3\n/\n").then_some(()));
    runtime.ok(&["delete", "--force", id]);

    // A working directory that only the user may enter: root of a user namespace has no right over its owner, but the
    // user is of its group.
    let work = bundle.rootfs().join("mnt/work");
    std::fs::create_dir(&work).unwrap();
    std::os::unix::fs::chown(&work, Some(0), Some(100_005)).unwrap();
    rustix::fs::chmod(&work, rustix::fs::Mode::from_raw_mode(0o750)).unwrap();
    let bundle = bundle.edit(|spec| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["process"]["user"]["additionalGids"] = json!([5]);
        spec["process"]["cwd"] = json!("/mnt/work");
        spec["process"]["args"][2] = json!("ulimit -n; pwd");
    });
    // The way to it is for everybody.
    for directory in [bundle.path(), &bundle.rootfs()] {
        rustix::fs::chmod(directory, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    }
    let output = runtime.run(&["run", "--bundle", bundle.text(), id]);
    assert_eq!((output.code, &*output.stdout), (0, "3\n/mnt/work\n"), "{output:#?}");
}

#[test]
fn a_start_that_is_killed_in_its_hooks_can_be_done_again() {
    let runtime = Runtime::new();
    // The hook is one of the container, and its file is seen in there.
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        spec["hooks"] = json!({"startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "test -e /tmp/again || { touch /tmp/again; sleep 1000; }"]},
        ]});
    });
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let mut command = runtime.command(&["start", id]).into_command();
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut start = command.spawn().unwrap();
    eventually("the hook to run", || bundle.rootfs().join("tmp/again").exists().then_some(()));
    start.kill().unwrap();
    start.wait().unwrap();
    assert_eq!(runtime.status(id), "created");
    runtime.ok(&["start", id]);
    assert_eq!(runtime.status(id), "running");
}

#[test]
fn force_deletes_what_runs_and_what_is_not_there() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    runtime.start_detached(&bundle, id);
    let message = runtime.fails(1, &["delete", id]);
    assert_eq!(message, format!("cannot delete container {id} that is not stopped: running"));
    runtime.ok(&["delete", "--force", id]);
    runtime.ok(&["delete", "--force", id]);
    assert!(runtime.fails(1, &["delete", id]).contains("container does not exist"));
}

#[test]
fn what_a_killed_create_leaves_can_be_deleted() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    // As if it had been killed before the record was written: then the container's process sees that, and ends.
    let pid = runtime.pid(id);
    runtime.ok(&["kill", id, "KILL"]);
    std::fs::remove_file(runtime.root().join(id).join("state.json")).unwrap();
    assert!(runtime.fails(1, &["state", id]).contains("does not exist"));
    assert_eq!(runtime.ok(&["list", "-q"]), "");
    runtime.ok(&["delete", "--force", id]);
    eventually("its process to end", || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    assert_eq!(runtime.left(), Vec::<String>::new());
}

/// Killed at any moment, `create` leaves what `delete --force` takes away, and an id that can be used again.
#[test]
fn a_create_that_is_killed_anywhere_leaves_nothing_that_stays() {
    let runtime = Runtime::new();
    let id = runtime.id("box");
    let bundle = nested(&runtime, &id);
    let path = bundle.path().to_str().unwrap();
    for _ in 0..soak(20, 1000) {
        let mut command = runtime.command(&["create", "--bundle", path, &id]).into_command();
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut create = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(random(12_000)));
        create.kill().unwrap();
        create.wait().unwrap();
        runtime.ok(&["delete", "--force", &id]);
        eventually("nothing of it to be left", || runtime.left().is_empty().then_some(()));
    }
    runtime.create(&bundle, &id);
    assert_eq!(runtime.status(&id), "created");
}

/// A bundle whose cgroup lies below others that are not there.
fn nested(runtime: &Runtime, id: &str) -> Bundle {
    let path = format!("/{}/{}/{id}", runtime.id("above"), runtime.id("between"));
    Bundle::running(&["sleep", "1000"]).edit(|spec| spec["linux"]["cgroupsPath"] = json!(path))
}

#[test]
fn what_a_killed_runtime_has_made_above_a_cgroup_goes_with_the_container() {
    let runtime = Runtime::new();
    let id = runtime.id("box");
    let hook =
        json!({"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"], "env": ["PATH=/usr/bin:/bin"]});
    let bundle = nested(&runtime, &id).edit(|spec| spec["hooks"] = json!({"createRuntime": [hook]}));
    let output = runtime.run(&["create", "--bundle", bundle.text(), &id]);
    assert_eq!(output.code, 137, "{output:#?}");
    assert!(!harness::oci::cgroups(&runtime.id("above")).is_empty());
    runtime.ok(&["delete", "--force", &id]);
    assert_eq!(runtime.left(), Vec::<String>::new());
    // One in the foreground, of which nothing else is written down.
    let bundle = nested(&runtime, &id);
    let mut run = runtime.command(&["run", "--bundle", bundle.text(), &id]).into_command();
    let mut run = run.stdin(std::process::Stdio::null()).spawn().unwrap();
    let runs = || (runtime.run(&["state", &id]).stdout.contains("running")).then_some(());
    eventually("it to run", runs);
    run.kill().unwrap();
    run.wait().unwrap();
    runtime.ok(&["delete", "--force", &id]);
    assert_eq!(runtime.left(), Vec::<String>::new());
}

#[test]
fn list_has_a_table_ids_and_json() {
    let runtime = Runtime::new();
    assert_eq!(runtime.ok(&["list", "-q"]), "");
    let bundle = Bundle::running(&["sleep", "1000"]);
    let (one, two) = (runtime.id("one"), runtime.id("two"));
    runtime.create(&bundle, &one);
    runtime.start_detached(&bundle, &two);
    assert_eq!(runtime.ok(&["list", "--quiet"]).lines().collect::<Vec<_>>(), [&one, &two]);
    let table = runtime.ok(&["list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((rows[1][2], rows[2][2]), ("created", "running"));
    let all: Value = serde_json::from_str(&runtime.ok(&["list", "--format", "json"])).unwrap();
    assert_eq!((&all[0]["id"], &all[1]["status"]), (&json!(one), &json!("running")));
}

#[test]
fn ps_shows_the_processes_in_the_container() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "sleep 1000 & sleep 1001 & wait"]);
    let id = &runtime.id("box");
    runtime.start_detached(&bundle, id);
    let pids = eventually("three processes", || {
        let pids: Vec<u32> = serde_json::from_str(&runtime.ok(&["ps", "--format", "json", id])).unwrap();
        (pids.len() == 3).then_some(pids)
    });
    assert!(pids.contains(&runtime.pid(id)));
    let table = runtime.ok(&["ps", id, "-e", "-o", "pid,args"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("sleep 1001"), "{table}");
}

#[test]
fn a_paused_container_does_nothing_until_it_is_resumed() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    runtime.start_detached(&bundle, id);
    runtime.ok(&["pause", id]);
    assert_eq!(runtime.status(id), "paused");
    assert!(runtime.fails(255, &["exec", id, "true"]).contains("cannot exec in a paused container"));
    assert!(runtime.fails(1, &["pause", id]).contains("container not running"));
    assert!(runtime.fails(1, &["delete", id]).contains("not stopped: paused"));
    runtime.ok(&["resume", id]);
    assert_eq!(runtime.status(id), "running");
    assert!(runtime.fails(1, &["resume", id]).contains("container not paused"));
    runtime.ok(&["pause", id]);
    runtime.ok(&["delete", "--force", id]);
}

#[test]
fn descriptors_are_preserved_that_were_asked_for_and_no_others() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "ls /proc/self/fd; cat <&3"]);
    let path = bundle.path().to_str().unwrap();
    let id = runtime.id("box");
    // The shell gives the runtime descriptors 3 and 4, of which only 3 is to be handed down.
    let file = runtime.scratch().join("given");
    std::fs::write(&file, "given\n").unwrap();
    let script = format!("exec 3<{0} 4<{0}; exec \"$@\"", file.display());
    let through = |n| {
        let shell = harness::Invocation::new("sh").args(&["-c", &script, "sh"]);
        runtime.on(shell, &["run", "--preserve-fds", n, "--bundle", path, &id])
    };
    let output = through("1").ok();
    // 4 is the directory that `ls` itself has opened.
    assert_eq!(output.lines().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "given"]);
    let failed = through("9").output();
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("unable to preserve the descriptor 5"), "{failed:#?}");
}

#[test]
fn activated_sockets_are_told_of() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3"]);
    let file = runtime.scratch().join("given");
    std::fs::write(&file, "given\n").unwrap();
    let script = format!("exec 3<{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"", file.display());
    let shell = harness::Invocation::new("sh").args(&["-c", &script, "sh"]);
    let id = runtime.id("box");
    let output = runtime.on(shell, &["run", "--bundle", bundle.path().to_str().unwrap(), &id]).ok();
    assert_eq!(output, "1 1\ngiven");
}
