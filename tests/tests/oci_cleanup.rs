//! What is left of a container whose way was cut short: nothing. No process, no mount, no cgroup, no directory.
//!
//! Every container here carries a mark in its environment, and its id in the command line of whatever of the runtime
//! works for it, so that no process of it goes unseen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::attack::mount;
use harness::oci::{Bundle, Runtime};
use harness::{eventually, random, soak};
use serde_json::json;

/// A runtime and a container that sleeps.
struct Case {
    runtime: Runtime,
    bundle: Bundle,
    id: String,
}

impl Case {
    fn new() -> Self {
        let runtime = Runtime::new();
        let id = runtime.id("box");
        let bundle = Bundle::running(&["sh", "-c", "sleep 1000 & sleep 1000"]).edit(|spec| {
            spec["process"]["env"] = json!(["PATH=/bin", format!("MARK={id}")]);
            mount(spec, "/tmp", "tmpfs", "tmpfs", &["nosuid"]);
        });
        Self { runtime, bundle, id }
    }

    /// Processes of the container, or of the runtime for it.
    fn processes(&self) -> Vec<String> {
        let ours = std::process::id().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == ours || !pid.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let told = [read("cmdline"), read("environ")].concat();
            if String::from_utf8_lossy(&told).contains(&self.id) {
                found.push(format!("{pid} {}", String::from_utf8_lossy(&read("comm")).trim()));
            }
        }
        found
    }

    /// Nothing is left, or soon will not be.
    #[track_caller]
    fn assert_nothing_left(&self, what: &str) {
        let deadline = Instant::now() + harness::patience(20);
        loop {
            let (processes, left) = (self.processes(), self.runtime.left());
            if processes.is_empty() && left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {processes:?} {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `create` fails, by itself.
    #[track_caller]
    fn create_fails(&self, flags: &[&str]) -> String {
        let id: &str = &self.id;
        let output =
            self.runtime.with_files(&[&["create", "--bundle", self.bundle.text()], flags, &[id]].concat());
        assert_ne!(output.code, 0, "{flags:?}: {output:#?}");
        self.assert_nothing_left(&output.stderr);
        output.stderr
    }
}

/// The test sees what it looks for.
#[test]
fn a_container_that_runs_is_seen() {
    let case = Case::new();
    case.runtime.start_detached(&case.bundle, &case.id);
    eventually("both of its processes", || (case.processes().len() >= 2).then_some(()));
    assert!(case.runtime.left().iter().any(|line| line.starts_with("cgroup")), "{:?}", case.runtime.left());
    case.runtime.ok(&["delete", "--force", &case.id]);
    case.assert_nothing_left("deleted");
}

#[test]
fn a_container_that_is_killed() {
    let case = Case::new();
    case.runtime.start_detached(&case.bundle, &case.id);
    let pid = rustix::process::Pid::from_raw(case.runtime.pid(&case.id).cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    case.runtime.await_status(&case.id, "stopped");
    case.runtime.ok(&["delete", &case.id]);
    case.assert_nothing_left("killed and deleted");
    // In the foreground it goes by itself.
    let run = case.runtime.spawn(&["run", "--bundle", case.bundle.text(), &case.id]);
    eventually("it to run", || (case.processes().len() >= 3).then_some(()));
    case.runtime.ok(&["kill", &case.id, "KILL"]);
    assert_eq!(run.wait().code, 137);
    case.assert_nothing_left("killed in the foreground");
    // Without a PID namespace of its own, nothing dies with the first process.
    case.bundle.change(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
    case.runtime.start_detached(&case.bundle, &case.id);
    case.runtime.ok(&["delete", "--force", &case.id]);
    case.assert_nothing_left("without pids of its own");
}

#[test]
fn a_command_that_is_missing() {
    let case = Case::new();
    case.bundle.change(|spec| spec["process"]["args"] = json!(["/missing", case.id]));
    case.create_fails(&[]);
    let run = case.runtime.with_files(&["run", "--bundle", case.bundle.text(), &case.id]);
    assert_ne!(run.code, 0);
    case.assert_nothing_left("run");
    // There when it is made, and gone when it starts.
    let program = case.bundle.rootfs().join("missing");
    symlink("/bin/busybox", &program).unwrap();
    case.runtime.create(&case.bundle, &case.id);
    std::fs::remove_file(&program).unwrap();
    assert_ne!(case.runtime.run(&["start", &case.id]).code, 0);
    assert_eq!(case.runtime.status(&case.id), "stopped");
    case.runtime.ok(&["delete", &case.id]);
    case.assert_nothing_left("gone when it starts");
}

#[test]
fn a_hook_that_fails_or_hangs() {
    let case = Case::new();
    // Two processes, the first of which ends: their parent is not who has to be killed.
    let hang = format!("(sleep 1000; : {id}) & sleep 1000; : {id}", id = case.id);
    for stage in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        for (script, timeout) in [("exit 3", None), (&*hang, Some(1))] {
            let (program, shell) = ("/bin/sh", json!(["sh", "-c", script]));
            let mut hook = json!({"path": program, "args": shell, "env": ["PATH=/bin:/usr/bin"]});
            if let Some(seconds) = timeout {
                hook["timeout"] = json!(seconds);
            }
            case.bundle.change(|spec| spec["hooks"] = json!({stage: [hook]}));
            let output = case.runtime.with_files(&["run", "-d", "--bundle", case.bundle.text(), &case.id]);
            assert_ne!(output.code, 0, "{stage}: {output:#?}");
            case.assert_nothing_left(&format!("{stage} {script}"));
        }
    }
}

/// Somebody else's process is in the group when it is to be removed, and groups that it made are.
#[test]
fn a_cgroup_that_is_busy() {
    let case = Case::new();
    case.runtime.start_detached(&case.bundle, &case.id);
    let directories = harness::oci::cgroups(&case.id);
    assert!(!directories.is_empty());
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    for directory in &directories {
        std::fs::create_dir(directory.join("below")).unwrap();
        std::fs::create_dir(directory.join("below/deeper")).unwrap();
        std::fs::write(directory.join("cgroup.procs"), stranger.id().to_string()).unwrap_or_else(|error| {
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{}", directory.display());
        });
    }
    // It is in the group: so it is the container's, and ends with it.
    let reaper = std::thread::spawn(move || stranger.wait().unwrap());
    case.runtime.ok(&["delete", "--force", &case.id]);
    case.assert_nothing_left("busy");
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(reaper.join().unwrap().signal(), Some(9));
}

#[test]
fn a_console_socket_that_is_missing() {
    let case = Case::new();
    case.bundle.change(|spec| spec["process"]["terminal"] = json!(true));
    let place = case.runtime.scratch().join("console");
    let place = place.to_str().unwrap();
    case.create_fails(&["--console-socket", "/non/existent"]);
    case.create_fails(&["--console-socket", place]);
    std::fs::write(place, "").unwrap();
    case.create_fails(&["--console-socket", place]);
    std::fs::remove_file(place).unwrap();
    // One where somebody was.
    drop(std::os::unix::net::UnixListener::bind(place).unwrap());
    case.create_fails(&["--console-socket", place]);
    std::fs::remove_file(place).unwrap();
    // And one where somebody hangs up at once: whether that is seen in time or not, nothing stays.
    let listener = std::os::unix::net::UnixListener::bind(place).unwrap();
    let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let args = ["create", "--console-socket", place, "--bundle", case.bundle.text(), &case.id];
    case.runtime.with_files(&args);
    hangs_up.join().unwrap();
    case.runtime.ok(&["delete", "--force", &case.id]);
    case.assert_nothing_left("hung up");
}

#[test]
fn a_pid_file_that_cannot_be_written() {
    let case = Case::new();
    let directory = case.runtime.scratch().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let directory = directory.to_str().unwrap();
    for path in ["/non/existent/pid", "/proc/pid", "/dev/null/pid", directory] {
        case.create_fails(&["--pid-file", path]);
        for verb in ["run", "exec"] {
            let output = if verb == "run" {
                let args = ["run", "-d", "--pid-file", path, "--bundle", case.bundle.text(), &case.id];
                case.runtime.with_files(&args)
            } else {
                case.runtime.start_detached(&case.bundle, &case.id);
                eventually("all of it to run", || (case.processes().len() == 2).then_some(()));
                let args = ["exec", "-d", "--pid-file", path, &case.id, "sleep", "1000"];
                let output = case.runtime.with_files(&args);
                eventually("the command to end", || (case.processes().len() == 2).then_some(()));
                case.runtime.ok(&["delete", "--force", &case.id]);
                output
            };
            assert_ne!(output.code, 0, "{verb} {path}: {output:#?}");
            case.assert_nothing_left(&format!("{verb} {path}"));
        }
    }
    let stray: Vec<_> = std::fs::read_dir(directory).unwrap().collect();
    assert!(stray.is_empty(), "{stray:?}");
}

/// Starts a command of the runtime and kills it at some moment before its usual end, or a little after.
fn cut_short(case: &Case, args: &[&str], usual: Duration) {
    let mut command = case.runtime.command(args).into_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let most = usual.as_micros() as u64 * 5 / 4;
    std::thread::sleep(Duration::from_micros(random(most)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// How long a command usually takes.
fn usual(case: &Case, args: &[&str]) -> Duration {
    let begin = Instant::now();
    case.runtime.with_files(args);
    begin.elapsed()
}

#[test]
fn a_runtime_that_is_killed_at_any_point() {
    kill_at_any_point(&Case::new(), soak(60, 6000));
}

/// Where there is more to be done between the clone and the command: maps are written, and rights change hands.
#[test]
fn a_runtime_that_is_killed_while_it_maps_users() {
    let case = Case::new();
    harness::attack::with_users(&case.bundle);
    kill_at_any_point(&case, soak(30, 3000));
}

/// Where processes do not end with the first one.
#[test]
fn a_runtime_that_is_killed_with_pids_of_the_host() {
    let case = Case::new();
    case.bundle.change(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
    kill_at_any_point(&case, soak(30, 3000));
}

#[track_caller]
fn kill_at_any_point(case: &Case, rounds: usize) {
    let (bundle, id) = (case.bundle.text(), &*case.id);
    let create = &["create", "--bundle", bundle, id][..];
    let start = &["start", id][..];
    let run = &["run", "--bundle", bundle, id][..];
    let detached = &["run", "--detach", "--bundle", bundle, id][..];
    let exec = &["exec", id, "sleep", "1000"][..];
    let delete = &["delete", "--force", id][..];
    let times = {
        let created = usual(case, create);
        let started = usual(case, start);
        let deleted = usual(case, delete);
        let detaches = usual(case, detached);
        let execs = usual(case, &["exec", id, "true"]);
        case.runtime.ok(delete);
        [created, started, detaches, detaches, execs, deleted]
    };
    let commands = [create, start, run, detached, exec, delete];
    for round in 0..rounds {
        let n = round % commands.len();
        match n {
            1 => case.runtime.create(&case.bundle, id),
            4 | 5 => case.runtime.start_detached(&case.bundle, id),
            _ => {}
        }
        cut_short(case, commands[n], times[n]);
        if random(4) == 0 {
            // And who puts it right as well.
            cut_short(case, delete, times[5]);
        }
        let output = case.runtime.run(delete);
        assert_eq!(output.code, 0, "round {round}, {:?}: {output:#?}", commands[n]);
        case.assert_nothing_left(&format!("round {round}, {:?}", commands[n]));
    }
}

/// A mount namespace that others made, and that stays: what the container has mounted there does not.
#[test]
fn a_mount_namespace_that_was_joined() {
    let case = Case::new();
    let mut other = std::process::Command::new("unshare").args(["-m", "sleep", "1000"]).spawn().unwrap();
    let pid = other.id().to_string();
    // By then the namespace is there, and private.
    let comm = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    eventually("a namespace of its own", || (comm() == "sleep\n").then_some(()));
    let mounts = || {
        let table = std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
        table.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = mounts();
    case.bundle.change(|spec| {
        for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "mount" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/mnt"));
            }
        }
    });
    case.runtime.start_detached(&case.bundle, &case.id);
    let during = mounts();
    case.runtime.ok(&["delete", "--force", &case.id]);
    let after = mounts();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_ne!(during, before);
    let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(left.is_empty() && after.len() == before.len(), "{left:#?}");
    case.assert_nothing_left("deleted");
}
