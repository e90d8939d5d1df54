//! What is too large, too much or without an end: arguments, settings, records, output, probes, events. It is refused in
//! words or borne, and nobody else is harmed. Bombs of processes and of memory: `pids`, `oom`; full disks: `full_disk`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use harness::image::Image;
use harness::tar::Tar;
use harness::{Dhow, Invocation, Terminal, eventually};
use serde_json::json;

/// Kibibytes of memory that a process has to itself.
fn own_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn what_the_kernel_does_not_execute_is_said_with_its_size() {
    let dhow = Dhow::new("toobig");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    let file = |name: &str, content: String| {
        let path = dhow.scratch().join(name);
        std::fs::write(&path, content).unwrap();
        format!("--env-file={}", path.display())
    };
    // One variable above 128 KiB; many that are above what all may have; and what is just below both.
    let long = file("long", format!("LONG={}\n", "x".repeat(130 << 10)));
    let many =
        file("many", (0..7000).map(|n| format!("V{n}={}\n", "x".repeat(1000))).collect::<Vec<_>>().concat());
    let fine =
        file("fine", (0..100).map(|n| format!("V{n}={}\n", "x".repeat(10_000))).collect::<Vec<_>>().concat());
    for (flag, hint) in [(&long, "longer than 131072 bytes"), (&many, "--ulimit stack=")] {
        for args in [
            &["run", "--rm", "--network", "none", flag, "busybox", "true"][..],
            &["exec", flag, "box", "true"],
        ] {
            let output = dhow.run(args);
            assert_eq!(output.code, 126, "{output:#?}");
            assert!(output.stderr.contains("Argument list too long"), "{output:#?}");
            assert!(
                output.stderr.contains("an environment of ") && output.stderr.contains(hint),
                "{output:#?}"
            );
            assert!(output.stderr.len() < 2000, "{}", output.stderr.len());
        }
    }
    let count = ["sh", "-c", "env | grep -c ^V"];
    assert_eq!(
        dhow.ok(&[&["run", "--rm", "--network", "none", &fine, "busybox"][..], &count].concat()),
        "100"
    );
    assert_eq!(dhow.ok(&[&["exec", &fine, "box"][..], &count].concat()), "100");
    // Arguments as large as one process may hand to another.
    let word = "y".repeat(131_071 - 5);
    let length = ["sh", "-c", "echo ${#1} $#", "-", &word, &word];
    assert_eq!(dhow.ok(&[&["exec", "box"][..], &length].concat()), format!("{} 2", word.len()));
    assert_eq!(
        dhow.ok(&[&["run", "--rm", "--network", "none", "busybox"][..], &length].concat()),
        format!("{} 2", word.len())
    );
    // An image's are its own fault, and said all the same.
    let image =
        Image::busybox("greedy:1").with("Env", json!(["PATH=/bin", format!("LONG={}", "x".repeat(1 << 20))]));
    dhow.load(&image);
    let output = dhow.run(&["run", "--rm", "--network", "none", "greedy:1", "true"]);
    assert_eq!(output.code, 126, "{}", output.stderr);
    assert!(output.stderr.contains("longer than 131072 bytes"), "{}", output.stderr);
    // The journal has not taken it all.
    let events = dhow.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "container=box"]);
    assert!(events.contains("exec_create") && events.len() < 50_000, "{}", events.len());
    dhow.ok(&["rm", "-f", "box"]);
}

#[test]
fn files_of_settings_without_end_are_refused() {
    let dhow = Dhow::new("endless");
    for flag in ["--env-file=/dev/zero", "--label-file=/dev/zero", "--security-opt=seccomp=/dev/zero"] {
        let line = dhow.fails(125, &["run", "--rm", "--network", "none", flag, "busybox", "true"]);
        assert!(line.contains("/dev/zero is larger than"), "{line}");
    }
    // A pipe with somebody at its other end is a file as good as any.
    let fifo = dhow.scratch().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0)
        .unwrap();
    let flag = format!("--env-file={}", fifo.display());
    let run = dhow.spawn(&["run", "--rm", "--network", "none", &flag, "busybox", "sh", "-c", "echo $SAID"]);
    std::fs::write(&fifo, "SAID=through a pipe\n").unwrap();
    assert_eq!(run.wait().stdout, "through a pipe\n");
    // With nobody there it waits, as any program does, and can be told not to.
    let mut waits = dhow.spawn(&["run", "--rm", "--network", "none", &flag, "busybox", "true"]);
    std::thread::sleep(Duration::from_millis(200));
    assert!(waits.is_running());
    waits.signal(rustix::process::Signal::INT);
    assert_eq!(waits.wait().code, 130);
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
}

#[test]
fn huge_records_stay_usable_and_hinder_nobody() {
    let dhow = Dhow::new("hugerecord");
    dhow.ok(&["run", "-d", "--name", "other", "--network", "none", "busybox", "sleep", "1000"]);
    let labels = dhow.scratch().join("labels");
    let text = (0..100_000).map(|n| format!("label.{n}=value {n}\n")).collect::<Vec<_>>().concat();
    std::fs::write(&labels, text).unwrap();
    let flag = format!("--label-file={}", labels.display());
    dhow.ok(&["run", "-d", "--name", "huge", "--network", "none", &flag, "busybox", "sleep", "1000"]);
    let begun = Instant::now();
    assert_eq!(dhow.inspect("huge")["Config"]["Labels"].as_object().unwrap().len(), 100_000);
    assert_eq!(dhow.ok(&["ps", "-q", "--filter", "label=label.99999"]).lines().count(), 1);
    assert_eq!(dhow.ok(&["exec", "huge", "echo", "fine"]), "fine");
    dhow.ok(&["rename", "huge", "larger"]);
    dhow.ok(&["restart", "-t", "0", "larger"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // What happens to others is still in the journal.
    let events = [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--format",
        "{{.Action}}",
        "--filter",
        "container=other",
    ];
    dhow.ok(&["kill", "-s", "WINCH", "other"]);
    assert_eq!(dhow.ok(&events).lines().last(), Some("kill"));
    // Names are short, whatever is asked for.
    for name in ["x".repeat(129), "x".repeat(100_000), "a\u{1b}[2J".to_owned(), "a\nb".to_owned()] {
        let line = dhow.fails(125, &["create", "--name", &name, "busybox", "true"]);
        assert!(line.len() < 1000 && !line.contains('\u{1b}'), "{line:?}");
    }
    let large = dhow.scratch().join("larger");
    std::fs::write(&large, format!("a={}\n", "x".repeat(17 << 20))).unwrap();
    let line = dhow.fails(125, &["create", &format!("--label-file={}", large.display()), "busybox", "true"]);
    assert!(line.contains("larger than 16 MiB"), "{line}");
    dhow.ok(&["rm", "-f", "larger", "other"]);
}

#[test]
fn what_others_write_does_nothing_to_a_terminal() {
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nFORGED\t";
    let dhow = Dhow::empty("escapes");
    let image = Image::busybox("evil:1")
        .with("Labels", json!({ "evil": evil, "org.opencontainers.image.title": evil }))
        .with("Cmd", json!(["sh", "-c", "sleep 1000", evil]))
        .with("Env", json!([format!("EVIL={evil}"), "PATH=/bin"]));
    dhow.load(&image);
    let flags = ["run", "-d", "--name", "box", "--network", "none", "--label", &format!("mine={evil}")];
    dhow.ok(&[
        &flags[..],
        &["--health-cmd", &format!("printf '{evil}'"), "--health-interval", "100ms", "evil:1"],
    ]
    .concat());
    for args in [
        &["ps", "-a", "--no-trunc"][..],
        &["ps", "-a", "--format", "table {{.Labels}}\t{{.Command}}"],
        &["images", "--no-trunc"],
        &["history", "--no-trunc", "evil:1"],
        &["top", "box"],
        &["inspect", "box"],
        &["inspect", "evil:1"],
        &["stats", "--no-stream"],
        &["events", "--since", "1h", "--until", "0s"],
        &["system", "df"],
    ] {
        let said = dhow.ok(args);
        assert!(!said.contains(['\u{1b}', '\u{7}', '\r']), "{args:?}: {said:?}");
        assert!(!said.lines().any(|line| line.trim_start().starts_with("FORGED")), "{args:?}: {said}");
    }
    // Programs get it as it is.
    assert!(dhow.ok(&["ps", "-a", "--format", "{{.Labels}}"]).contains(evil.trim_end()));
    dhow.ok(&["rm", "-f", "box"]);
}

#[test]
fn heavy_floods_of_every_kind_cost_no_memory() {
    let dhow = Dhow::new("floods");
    let run = |name: &str, more: &[&str], script: &str| {
        let flags = ["run", "-d", "--name", name, "--network", "none"];
        dhow.ok(&[&flags[..], more, &["busybox", "sh", "-c", script]].concat());
    };
    let yes = "exec yes 'a line that says nothing at all, again and again'";
    run("other", &[], "sleep 1000");
    // A probe that floods is cut off at its time, and remembered by its beginning.
    let probe = [
        "--health-cmd",
        yes,
        "--health-interval",
        "50ms",
        "--health-timeout",
        "300ms",
        "--health-retries",
        "1",
    ];
    run("probed", &probe, "sleep 1000");
    // A terminal that is flooded, with nobody who reads and with somebody who reads nothing.
    run("terminal", &["-t"], yes);
    run("idle", &["-t"], "sleep 1; exec yes");
    let stuck = Terminal::run(&dhow, &["attach", "idle"]);
    // An exec whose output nobody takes, and one whose output is thrown away.
    let exec = dhow.spawn(&["exec", "other", "sh", "-c", "yes | head -c 300m | tail -c 1"]);
    let mut lazy = std::process::Command::new("sh");
    let script = format!(
        "DHOW_ROOT={} DHOW_RUN_ROOT={} {} exec other yes | sleep 3",
        dhow.root().display(),
        dhow.run_root().display(),
        harness::bin_dir().join("dhow").display()
    );
    let mut lazy = lazy.args(["-c", &script]).stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("the probe to be ill", || {
        (dhow.inspect("probed")["State"]["Health"]["Status"] == "unhealthy").then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    for name in ["probed", "terminal", "idle", "other"] {
        let memory = own_memory(dhow.monitor_pid(name));
        assert!(memory < 4096, "{name}: {memory} KiB");
    }
    let log = dhow.inspect("probed")["State"]["Health"]["Log"].clone();
    let said = log[0]["Output"].as_str().unwrap();
    assert!(said.contains("exceeded timeout") && said.len() < 8192, "{}", said.len());
    assert_eq!(exec.wait().code, 0);
    lazy.wait().unwrap();
    assert_eq!(dhow.ok(&["exec", "other", "echo", "fine"]), "fine");
    let begun = Instant::now();
    dhow.ok(&["rm", "-f", "probed", "terminal", "idle", "other"]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(stuck);
}

#[test]
fn a_flood_of_events_keeps_the_journal_short() {
    let dhow = Dhow::new("events-flood");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    let follower = dhow.spawn(&["events", "--format", "{{.Action}}"]);
    // Longer than the journal becomes, as a container with many labels and a busy probe would write them.
    let journal = dhow.root().join("events/journal");
    let line = std::fs::read_to_string(&journal).unwrap().lines().last().unwrap().to_owned();
    let filler = line.replacen("\"start\"", &format!("\"{}\"", "f".repeat(60_000)), 1);
    for round in 1..=3 {
        use std::io::Write;
        let mut file = std::fs::File::options().append(true).create(true).open(&journal).unwrap();
        for _ in 0..80 {
            file.write_all(format!("{filler}\n").as_bytes()).unwrap();
        }
        drop(file);
        dhow.ok(&["kill", "-s", "WINCH", "box"]);
        eventually("the follower to see it", || {
            (follower.stdout().matches("kill\n").count() == round).then_some(())
        });
    }
    let size: u64 = std::fs::read_dir(journal.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 12 << 20, "{size}");
    drop(follower);
    dhow.ok(&["rm", "-f", "box"]);
}

#[test]
fn doors_that_come_and_go_leave_nothing_in_a_monitor() {
    let dhow = Dhow::new("doors-go");
    dhow.ok(&[
        "run",
        "-dit",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while :; do echo tick; sleep 0.05; done",
    ]);
    let monitor = dhow.monitor_pid("box");
    eventually("its log to be open", || dhow.ok(&["logs", "box"]).contains("tick").then_some(()));
    let descriptors = || std::fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count();
    let (count, memory) = (descriptors(), own_memory(monitor));
    // CVE-2022-23471, CVE-2025-64329: attached, resized, and killed without a word.
    for round in 0..60_u16 {
        let door = Terminal::run(&dhow, &["attach", "box"]);
        if round % 3 == 0 {
            door.expect("tick");
        }
        door.resize(24 + round, 80 + round);
        drop(door);
        let exec = Terminal::run(&dhow, &["exec", "-it", "box", "sleep", "1000"]);
        exec.resize(10 + round, 20 + round);
        drop(exec);
    }
    eventually("the doors to be forgotten", || (descriptors() == count).then_some(()));
    let now = own_memory(monitor);
    assert!(now <= memory + 256, "{memory} KiB became {now} KiB");
    // What an exec has left behind ends with its container at the latest.
    assert_eq!(dhow.inspect("box")["State"]["Running"], true);
    dhow.ok(&["rm", "-f", "box"]);
}

#[test]
fn documents_without_end_are_refused() {
    // CVE-2023-25153: an archive whose list of images, or whose index, is as large as it likes.
    let dhow = Dhow::new("documents");
    let huge = format!("[{}{{}}]", "{},".repeat(8 << 20));
    for name in ["manifest.json", "index.json"] {
        let archive = dhow.scratch().join("huge.tar");
        let tar = Tar::new()
            .file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#)
            .file(name, 0o644, &huge);
        std::fs::write(&archive, tar.finish()).unwrap();
        // Nor does it need memory for it.
        let bounded = Invocation::new("sh").args(&["-c", "ulimit -v 150000 && exec \"$@\"", "-"]);
        let output = dhow.on(bounded, &["load", "-q", "-i", archive.to_str().unwrap()]).output();
        assert_eq!(output.code, 1, "{name}: {output:#?}");
        assert!(
            output.stderr.contains("larger than") || output.stderr.contains("more than"),
            "{name}: {output:#?}"
        );
    }
    assert_eq!(dhow.ok(&["images", "-q"]).lines().count(), 1);
}
