//! Attacks: files that a runtime keeps, or is told to write, in places that others can reach.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;

use harness::Invocation;
use harness::attack::{armed, mount};
use harness::oci::{Bundle, Runtime};
use serde_json::{Value, json};

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

/// CVE-2021-41091, CVE-2021-41103, CVE-2024-25621: nobody else looks into the state, whatever the caller's umask.
#[test]
fn local_users_may_not_look_into_the_state() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    let careless =
        || Invocation::new("sh").args(&["-c", "umask 0; exec \"$@\" >/dev/null 2>&1 </dev/null", "sh"]);
    runtime.on(careless(), &["create", "--bundle", bundle.text(), id]).ok();
    let mut pending = vec![runtime.root()];
    let mut seen = 0;
    while let Some(path) = pending.pop() {
        let kind = path.symlink_metadata().unwrap().file_type();
        // Who may connect to a socket is decided by the directories above it, and by who asks there.
        assert!(
            kind.is_socket() || mode(&path) & 0o022 == 0,
            "{} can be written to by others",
            path.display()
        );
        if kind.is_dir() {
            assert_eq!(mode(&path), 0o700, "{}", path.display());
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !kind.is_socket() {
            assert_eq!(mode(&path) & 0o007, 0, "{} can be read by others", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 5, "the root, the container, its configuration, its record, its socket: {seen}");
    let stranger = Invocation::new("setpriv").args(&["--reuid=65534", "--regid=65534", "--clear-groups"]);
    assert_ne!(runtime.on(stranger, &["start", id]).output().code, 0);
    assert_eq!(runtime.status(id), "created");
}

/// A pid file in a directory where others plant symlinks: none is followed, neither at its name nor at the one that it is
/// written under first.
#[test]
fn a_pid_file_follows_no_symlink() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let shared = runtime.scratch().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let victim = runtime.scratch().join("victim");
    std::fs::write(&victim, "the host's").unwrap();
    for name in ["pid", ".pid", ".pid.tmp", "pid.tmp"] {
        symlink(&victim, shared.join(name)).unwrap();
    }
    let file = shared.join("pid");
    let id = &runtime.id("box");
    let path = file.to_str().unwrap();
    runtime.quietly(&["create", "--pid-file", path, "--bundle", bundle.text(), id]);
    let check = |pid: u32| {
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "the host's");
        assert!(!file.is_symlink(), "it has been replaced");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), pid.to_string());
        let hidden: Vec<_> = std::fs::read_dir(&shared).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(hidden.len(), 4, "{hidden:?}");
    };
    check(runtime.pid(id));
    runtime.ok(&["start", id]);
    std::fs::remove_file(&file).unwrap();
    symlink(&victim, &file).unwrap();
    runtime.quietly(&["exec", "-d", "--pid-file", path, id, "sleep", "1000"]);
    check(std::fs::read_to_string(&file).unwrap().parse().unwrap());
    // What lies there and is no file is not written to either.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_ne!(runtime.with_files(&["exec", "-d", "--pid-file", path, id, "sleep", "1000"]).code, 0);
}

/// The terminal goes to a socket, and to nothing else that lies at that name.
#[test]
fn a_console_socket_is_a_socket() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["true"]).edit(|spec| spec["process"]["terminal"] = json!(true));
    let id = &runtime.id("box");
    let victim = runtime.scratch().join("victim");
    std::fs::write(&victim, "the host's").unwrap();
    let place = runtime.scratch().join("console");
    let dangling = runtime.scratch().join("made");
    for target in [&victim, &dangling, Path::new("/dev/tty"), Path::new("/dev/log")] {
        symlink(target, &place).unwrap();
        let place = place.to_str().unwrap();
        runtime.fails(1, &["create", "--console-socket", place, "--bundle", bundle.text(), id]);
        std::fs::remove_file(place).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "the host's");
        assert!(!dangling.exists());
        assert_eq!(runtime.left(), Vec::<String>::new());
    }
}

/// CVE-2020-15257: nothing listens where a container in the host's network can reach it.
#[test]
fn nothing_listens_on_abstract_sockets() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]).edit(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
        // Without a network namespace of its own it cannot have a sysfs of it.
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
    });
    let id = &runtime.id("box");
    runtime.create(&bundle, id);
    let sockets = runtime.ok(&["exec", id, "cat", "/proc/net/unix"]);
    let ours: Vec<&str> =
        sockets.lines().filter(|line| line.contains(id) || line.contains("start.sock")).collect();
    assert!(!ours.is_empty(), "the socket of `start` is seen: {sockets}");
    assert!(ours.iter().all(|line| !line.contains('@')), "{ours:?}");
    // Its name is seen, and leads nowhere: it is in a directory of the host.
    let path = ours[0].split_whitespace().last().unwrap();
    assert_ne!(runtime.run(&["exec", id, "ls", path]).code, 0);
}

/// What somebody does to a record.
type Change = Box<dyn Fn(&mut Value)>;

/// A record that somebody has changed: what it says is checked, and leads to nothing that is not the container's.
#[test]
fn a_changed_record_leads_nowhere() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    let victim = runtime.scratch().join("victim");
    std::fs::create_dir_all(victim.join("empty/below")).unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    // What looks like a group, and says that a stranger is in it.
    for name in ["cgroup.procs", "tasks", "cgroup.kill", "cgroup.freeze", "cgroup.events"] {
        std::fs::write(victim.join(name), format!("{}\n", stranger.id())).unwrap();
    }
    let look = || {
        let mut names: Vec<_> = std::fs::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        (names, std::fs::read(victim.join("cgroup.kill")).unwrap(), victim.join("empty/below").exists())
    };
    let before = look();
    runtime.start_detached(&bundle, id);
    let file = runtime.root().join(id).join("state.json");
    let mut good: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let elsewhere = |record: &mut Value, path: &Path| {
        for directory in record["group"]["directories"].as_array_mut().unwrap() {
            directory["path"] = json!(path);
        }
        record["group"]["made"] = json!([path]);
    };
    let numbers = [json!(-1), json!(4_294_967_296_u64), json!("1"), json!(null), json!([])];
    let mut changes: Vec<Change> = Vec::new();
    for path in [
        victim.clone(),
        victim.join("empty"),
        Path::new("/proc/../..").join(victim.strip_prefix("/").unwrap()),
    ] {
        let cgroup = Path::new("/../../..").join(path.strip_prefix("/").unwrap());
        changes.push(Box::new(move |record| elsewhere(record, &path)));
        changes.push(Box::new(move |record| {
            record["group"] = json!(null);
            record["cgroup"] = json!({ "path": cgroup });
        }));
    }
    for (number, key) in numbers.into_iter().zip(["pid", "start_time", "pid", "start_time", "format"]) {
        changes.push(Box::new(move |record| record[key] = number.clone()));
    }
    let pid = stranger.id();
    changes.push(Box::new(move |record| record["pid"] = json!(pid)));
    for change in &changes {
        let mut record = good.clone();
        change(&mut record);
        std::fs::write(&file, record.to_string()).unwrap();
        for args in [
            &["state", id][..],
            &["kill", "--all", id, "KILL"],
            &["kill", id, "KILL"],
            &["pause", id],
            &["resume", id],
            &["ps", id],
            &["exec", id, "true"],
            &["events", "--stats", id],
            &["update", "--pids-limit", "100", id],
            &["delete", id],
        ] {
            let output = runtime.run(args);
            assert!(output.code < 128 || output.code == 255, "{args:?} {record}: {output:#?}");
            assert!(!output.stderr.contains("panicked"), "{args:?} {record}: {output:#?}");
        }
        assert!(stranger.try_wait().unwrap().is_none(), "somebody else's process was killed: {record}");
        assert_eq!(look(), before, "{record}");
        if !file.exists() {
            // Deleted, since what was said to be its process is not: begin again.
            runtime.run(&["delete", "--force", id]);
        }
        // What still runs is killed by what is known to be true.
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, good.to_string()).unwrap();
        std::fs::write(file.with_file_name("config.json"), bundle.spec().to_string()).unwrap();
        runtime.ok(&["delete", "--force", id]);
        runtime.start_detached(&bundle, id);
        good = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_ne!(good["pid"], json!(pid));
    }
    for garbage in ["", "{", "null", "[]", "\u{0}", "{\"format\": 1}", &"[".repeat(100_000)] {
        std::fs::write(&file, garbage).unwrap();
        for args in [&["state", id][..], &["kill", id], &["delete", id], &["list"], &["exec", id, "true"]] {
            let output = runtime.run(args);
            assert!(
                !output.stderr.contains("panicked") && output.code < 128 || output.code == 255,
                "{output:#?}"
            );
        }
    }
    std::fs::write(&file, good.to_string()).unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// The state directory of one container is not what another gets to see, not even the one that is made for it.
#[test]
fn a_container_sees_nothing_of_the_state() {
    let runtime = Runtime::new();
    let bundle = armed(Bundle::running(&["ls", "/run/notify"]), PROBE);
    let id = &runtime.id("box");
    let at = runtime.scratch().join("notify");
    let _listener = std::os::unix::net::UnixDatagram::bind(&at).unwrap();
    let args = ["run", "--bundle", bundle.text(), id];
    let seen = runtime.command(&args).env("NOTIFY_SOCKET", &at).ok();
    assert_eq!(seen, "notify.sock", "of its directory it sees the one that is for it");
    bundle.change(|spec| {
        spec["process"]["args"] =
            json!(["sh", "-c", "echo x > /run/notify/x; ln -s / /run/notify/y; ls /run/notify"]);
        mount(spec, "/tmp", "tmpfs", "tmpfs", &[]);
    });
    assert_eq!(runtime.command(&args).env("NOTIFY_SOCKET", &at).ok(), "notify.sock");
}
