//! Disks without a byte and without an inode: what cannot be done says what to do, nothing is torn, what runs goes on,
//! and what is there can be ended and removed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::disk::Disk;
use harness::image::Image;
use harness::registry::{Login, Registry};
use harness::tar::Tar;
use harness::{Dhow, Output, eventually};
use rustix::process::{Pid, test_kill_process};

/// What no compressor makes smaller.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// An image that is larger than the disk.
fn big() -> Image {
    Image::busybox("big:1").with_layer(Tar::new().file("noise", 0o644, noise(60 << 20)))
}

/// One of more files than it has inodes.
fn many() -> Image {
    let files = (0..2000).fold(Tar::new(), |tar, n| tar.file(&format!("file{n}"), 0o644, "x"));
    Image::busybox("many:1").with_layer(files)
}

/// It says that there is no room, where, and what to do.
#[track_caller]
fn refused(output: &Output, disk: &Disk, what: &[&str]) {
    assert!(![0, 101].contains(&output.code), "{what:?}: {output:#?}");
    let said = &output.stderr;
    assert!(said.contains("No space left on device"), "{what:?}: {output:#?}");
    // Into a container that runs a copy goes by the container's own paths.
    let copied = what[0] == "cp" && said.contains("make room on the file system of the destination");
    let place = format!("hint: make room on the file system at {}: ", disk.path().display());
    assert!(said.contains(&place) || copied, "{what:?}: {output:#?}");
    assert!(said.contains("dhow system df") && said.contains("dhow system prune"), "{what:?}: {output:#?}");
    let lines = said.lines().filter(|line| !line.starts_with("  hint: ")).count();
    assert_eq!(lines, 1, "{what:?}: {output:#?}");
}

/// What must not change where nothing could be done: all but logs.
fn files(disk: &Disk) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![disk.path().join("root")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                pending.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found.retain(|path| !path.contains("/log.json") && !path.contains("/events/"));
    found.sort();
    found
}

/// Everything that can be asked of an instance, on a disk that is filled in one way or another.
fn everything(name: &str, disk: &Disk, fill: impl Fn()) {
    let dhow = Dhow::empty(name);
    disk.take(&dhow, &["root"]);
    dhow.load(&Image::busybox("busybox:latest"));
    dhow.load(&Image::busybox("small:1").with_layer(Tar::new().file("mark", 0o644, "x")));
    let archive = |image: &Image, name: &str| {
        let path = dhow.scratch().join(name);
        std::fs::write(&path, image.docker_archive()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (big, many) = (archive(&big(), "big.tar"), archive(&many(), "many.tar"));
    let payload = dhow.scratch().join("payload");
    std::fs::write(&payload, noise(100_000)).unwrap();
    let payload = payload.to_str().unwrap();
    let back = dhow.scratch().join("back");
    let back = back.to_str().unwrap();
    let script = "trap 'exit 3' TERM; trap 'exit 7' USR1; echo up; while :; do sleep 0.05; done";
    for name in ["runs", "ends", "again"] {
        dhow.ok(&["run", "-d", "--name", name, "--network", "none", "busybox", "sh", "-c", script]);
    }
    let old = ["run", "--name", "old", "--network", "none"];
    assert_eq!(dhow.run(&[&old[..], &["busybox", "sh", "-c", "echo hi >/file; exit 5"]].concat()).code, 5);
    dhow.ok(&["create", "--name", "made", "--network", "none", "busybox", "true"]);
    let pid = dhow.pid("runs");

    fill();
    let before = files(disk);
    for what in [
        &["load", "-q", "-i", &big][..],
        &["load", "-q", "-i", &many],
        &["create", "--name", "new", "--network", "none", "busybox", "true"],
        &["run", "--name", "new", "--network", "none", "busybox", "true"],
        &["run", "--rm", "-v", "volume:/data", "--network", "none", "busybox", "true"],
        &["start", "made"],
        &["commit", "old", "committed:1"],
        &["import", payload, "imported:1"],
        &["cp", payload, "runs:/payload"],
        &["cp", payload, "old:/payload"],
        &["volume", "create", "volume"],
        &["rename", "old", "older"],
        &["update", "--memory", "64m", "old"],
        &["tag", "busybox", "other:1"],
        &["system", "check"],
    ] {
        refused(&dhow.run(what), disk, what);
        assert_eq!(files(disk), before, "{what:?} has left something");
    }
    // What needs no room is as ever.
    assert_eq!(dhow.ok(&["exec", "runs", "echo", "works"]), "works");
    assert_eq!(dhow.ok(&["logs", "runs"]), "up");
    assert_eq!(dhow.ok(&["ps", "-aq"]).lines().count(), 5);
    assert_eq!(dhow.ok(&["images", "-q"]).lines().count(), 2);
    dhow.ok(&["stats", "--no-stream"]);
    dhow.ok(&["system", "df"]);
    dhow.ok(&["cp", "old:/file", back]);
    dhow.ok(&["export", "-o", back, "old"]);
    dhow.ok(&["pause", "runs"]);
    dhow.ok(&["unpause", "runs"]);
    // A root is mounted anew, for which there may be too little: then it has ended, and that is said.
    let again = dhow.run(&["restart", "-t", "0", "again"]);
    let status = dhow.inspect("again")["State"]["Status"].clone();
    assert_eq!(again.code == 0, status == "running", "{again:#?} {status}");
    assert!(again.code == 0 || again.stderr.contains("dhow system prune"), "{again:#?}");
    eventually("it to listen to signals", || {
        let status = dhow.ok(&["exec", "ends", "cat", "/proc/1/status"]);
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        let both = 1 << 14 | 1 << 9;
        (u64::from_str_radix(&caught, 16).unwrap() & both == both).then_some(())
    });
    assert_eq!(dhow.pid("runs"), pid);

    // How a container ends is known, whether it is told to or does so by itself.
    dhow.ok(&["kill", "--signal", "USR1", "ends"]);
    assert_eq!(dhow.ok(&["wait", "ends"]), "7");
    dhow.ok(&["stop", "runs"]);
    for (name, code) in [("runs", 3), ("ends", 7), ("old", 5)] {
        let state = dhow.inspect(name)["State"].clone();
        assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &code.into()), "{state:#}");
        assert!(dhow.ok(&["ps", "-a", "--filter", &format!("name={name}")]).contains(&format!("({code})")));
    }
    let what = ["start", "runs"];
    refused(&dhow.run(&what), disk, &what);
    assert_eq!(dhow.inspect("runs")["State"]["ExitCode"], 3);

    // And when there is room again, all goes on.
    disk.empty();
    for (name, code) in [("runs", 3), ("ends", 7)] {
        assert_eq!(dhow.inspect(name)["State"]["ExitCode"], code);
        let id = dhow.inspect(name)["Id"].as_str().unwrap().to_owned();
        assert!(dhow.root().join("containers").join(&id).join("exit.json").exists(), "{name}");
        assert!(!dhow.run_root().join("containers").join(&id).exists(), "{name}");
    }
    // Whoever comes by puts right what had no room.
    dhow.ok(&["ps", "-a"]);
    assert!(dhow.ok(&["system", "check"]).contains("all is well"));
    assert_eq!(dhow.ok(&["start", "-a", "made"]), "");
    dhow.ok(&["start", "runs"]);
    dhow.ok(&["rename", "old", "older"]);
    let events = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"];
    assert_eq!(dhow.ok(&events).lines().last(), Some("rename"));
    dhow.ok(&["rm", "-f", "-v", "runs", "ends", "again", "made", "older"]);
}

#[test]
fn heavy_without_a_byte_nothing_is_lost() {
    let disk = Disk::ext4(48, None);
    everything("bytes", &disk, || disk.fill_bytes());
}

#[test]
fn heavy_without_an_inode_nothing_is_lost() {
    let disk = Disk::ext4(48, Some(1600));
    everything("inodes", &disk, || disk.fill_inodes());
}

#[test]
fn heavy_in_memory_without_an_inode_nothing_is_lost() {
    let disk = Disk::tmpfs(48, 1600);
    everything("memory", &disk, || disk.fill_inodes());
}

/// What is full is emptied by what is there for that, each thing as the first that is done; both roots are on the disk.
fn emptied(name: &str, disk: &Disk, fill: impl Fn()) {
    let dhow = Dhow::empty(name);
    disk.take(&dhow, &["root", "run"]);
    dhow.load(&Image::busybox("busybox:latest"));
    dhow.load(&Image::busybox("small:1").with_layer(Tar::new().file("mark", 0o644, "x")));
    dhow.load(&Image::busybox("tiny:1").with_layer(Tar::new().file("mark", 0o644, "y")));
    dhow.ok(&["volume", "create", "one"]);
    dhow.ok(&["volume", "create", "two"]);
    for name in ["first", "second", "third"] {
        dhow.ok(&["run", "--name", name, "--network", "none", "-v", "/anonymous", "busybox", "true"]);
    }
    for name in ["stopped", "killed", "pruned", "own"] {
        let flags: &[&str] = if name == "own" { &["--rm", "-v", "/anonymous"] } else { &[] };
        let sleeps = ["busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"];
        let run = ["run", "-d", "--name", name, "--network", "bridge"];
        dhow.ok(&[&run[..], flags, &sleeps].concat());
    }
    for what in [
        &["rm", "first"][..],
        &["rm", "-v", "second"],
        &["stop", "stopped"],
        &["stop", "own"],
        &["rm", "-f", "-v", "killed"],
        &["kill", "pruned"],
        &["rmi", "small:1"],
        &["volume", "rm", "one"],
        &["volume", "prune", "-a", "-f"],
        &["container", "prune", "-f"],
        &["image", "prune", "-a", "-f"],
        &["system", "prune", "-a", "-f", "--volumes"],
    ] {
        fill();
        let output = dhow.run(what);
        assert_eq!(output.code, 0, "{what:?}: {output:#?}");
        if what[0] == "kill" {
            assert_eq!(dhow.ok(&["wait", "pruned"]), "137");
        }
    }
    disk.empty();
    assert_eq!(dhow.ok(&["ps", "-aq"]) + &dhow.ok(&["images", "-q"]) + &dhow.ok(&["volume", "ls", "-q"]), "");
    assert!(dhow.ok(&["system", "check"]).contains("all is well"));
    dhow.load(&Image::busybox("busybox:latest"));
    assert_eq!(dhow.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "fine"]), "fine");
}

#[test]
fn heavy_what_has_no_byte_left_can_be_emptied() {
    let disk = Disk::ext4(48, None);
    emptied("emptybytes", &disk, || disk.fill_bytes());
}

#[test]
fn heavy_what_has_no_inode_left_can_be_emptied() {
    let disk = Disk::ext4(48, Some(2400));
    emptied("emptyinodes", &disk, || disk.fill_inodes());
}

#[test]
fn heavy_what_has_no_inode_left_in_memory_can_be_emptied() {
    let disk = Disk::tmpfs(48, 2400);
    emptied("emptymemory", &disk, || disk.fill_inodes());
}

#[test]
fn what_does_not_fit_leaves_nothing() {
    let disk = Disk::ext4(24, None);
    let dhow = Dhow::empty("nofit");
    disk.take(&dhow, &["root"]);
    dhow.load(&Image::busybox("busybox:latest"));
    dhow.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
    dhow.ok(&[
        "run",
        "--name",
        "large",
        "--network",
        "none",
        "busybox",
        "dd",
        "if=/dev/urandom",
        "of=/x",
        "bs=1M",
        "count=12",
    ]);
    let big = big();
    let archive = dhow.scratch().join("big.tar");
    std::fs::write(&archive, big.docker_archive()).unwrap();
    let registry = Registry::new(Login::None);
    registry.add(&big, "1");
    let pulled = format!("{}/big:1", registry.host());
    std::fs::create_dir_all(disk.path().join("root/content/.partial")).unwrap();
    let before = files(&disk);
    let inside = disk.path().join("saved.tar");
    let inside = inside.to_str().unwrap();
    for what in [
        &["load", "-q", "-i", archive.to_str().unwrap()][..],
        &["pull", "-q", &pulled],
        &["import", archive.to_str().unwrap()],
        &["commit", "large", "large:1"],
        &["cp", archive.to_str().unwrap(), "large:/"],
        &["export", "-o", inside, "large"],
    ] {
        refused(&dhow.run(what), &disk, what);
        assert_eq!(files(&disk), before, "{what:?}");
        assert!(!Path::new(inside).exists(), "{what:?}");
    }
    // A container that fills the disk gets the error, and nobody else.
    let filler = [
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/fill",
        "bs=1M",
        "count=40",
    ];
    assert!(dhow.run(&filler).stderr.contains("No space left"));
    eventually("the container to go", || {
        (dhow.run(&["run", "--rm", "--network", "none", "busybox", "echo", "fine"]).stdout == "fine\n")
            .then_some(())
    });
    dhow.ok(&["rm", "large"]);
}

#[test]
fn a_log_that_fills_the_disk_stops_nobody() {
    let disk = Disk::ext4(24, None);
    let dhow = Dhow::empty("flood");
    disk.take(&dhow, &["root"]);
    dhow.load(&Image::busybox("busybox:latest"));
    let flood = "while [ ! -e /tmp/stop ]; do yes 'a line of some length that says nothing at all' | head -n 2000; done; \
                 trap 'exit 4' TERM; while :; do echo late; sleep 0.05; done";
    for (name, script) in [("floods", flood), ("other", "while :; do sleep 0.05; done")] {
        let run =
            ["run", "-d", "--name", name, "--network", "none", "--tmpfs", "/tmp", "--log-opt", "max-size=-1"];
        dhow.ok(&[&run[..], &["busybox", "sh", "-c", script]].concat());
    }
    let (other, monitor) = (dhow.pid("other"), dhow.monitor_pid("floods"));
    eventually("the log to fill the disk", || {
        rustix::fs::statvfs(disk.path()).is_ok_and(|s| s.f_bavail == 0).then_some(())
    });
    // It goes on, and so does who writes down what it says; nothing gathers in memory.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let status = std::fs::read_to_string(format!("/proc/{monitor}/status")).unwrap();
    let anonymous = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    let kibibytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes < 4096, "{kibibytes} KiB");
    assert_eq!(dhow.inspect("floods")["State"]["Status"], "running");
    assert_eq!(dhow.pid("other"), other);
    assert!(test_kill_process(Pid::from_raw(other as i32).unwrap()).is_ok());
    let id = dhow.inspect("floods")["Id"].as_str().unwrap().to_owned();
    let log = dhow.root().join("containers").join(&id).join("log.json");
    // With room again it says what comes, and no line is torn.
    assert!(std::fs::metadata(&log).unwrap().len() > 1 << 20);
    dhow.ok(&["exec", "floods", "touch", "/tmp/stop"]);
    // The last of the flood is on its way still.
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    eventually("its log to go on", || {
        dhow.ok(&["logs", "--tail", "1", "floods"]).contains("late").then_some(())
    });
    // But for what was just being written.
    for line in std::fs::read_to_string(&log).unwrap().lines().skip(1) {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    dhow.ok(&["rm", "-f", "floods", "other"]);
}
