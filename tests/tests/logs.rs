//! `dhow logs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, eventually};

#[track_caller]
fn background(dhow: &Dhow, script: &str) {
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
}

#[test]
fn the_streams_are_kept_apart_and_whole() {
    let dhow = Dhow::new("logs");
    background(&dhow, "echo out; echo err >&2; printf 'no line break'");
    dhow.ok(&["wait", "box"]);
    let output = dhow.run(&["logs", "box"]);
    assert_eq!((&*output.stdout, &*output.stderr), ("out\nno line break", "err\n"));
    // bytes that are no UTF-8 do not stop anything
    dhow.ok(&["rm", "box"]);
    background(&dhow, r"printf '\377\000x\n'; echo after");
    dhow.ok(&["wait", "box"]);
    assert!(dhow.ok(&["logs", "box"]).ends_with("x\nafter"));
}

#[test]
fn tail_since_and_times_select() {
    let dhow = Dhow::new("tail");
    background(&dhow, "seq 1 1000; sleep 1.2; echo late");
    dhow.ok(&["wait", "box"]);
    assert_eq!(dhow.ok(&["logs", "--tail", "3", "box"]), "999\n1000\nlate");
    assert_eq!(dhow.ok(&["logs", "--tail", "0", "box"]), "");
    assert_eq!(dhow.ok(&["logs", "-n", "all", "box"]).lines().count(), 1001);
    let timed = dhow.ok(&["logs", "-t", "--tail", "1", "box"]);
    let (time, text) = timed.split_once(' ').unwrap();
    assert!(text == "late" && time.len() == 30 && time.ends_with('Z'), "{timed}");
    assert_eq!(dhow.ok(&["logs", "--since", time, "box"]), "late");
    assert_eq!(dhow.ok(&["logs", "--since", "1h", "box"]).lines().count(), 1001);
    dhow.fails(125, &["logs", "--tail", "x", "box"]);
    dhow.fails(1, &["logs", "nosuch"]);
}

#[test]
fn follow_goes_on_until_the_end() {
    let dhow = Dhow::new("follow");
    // A signal, not an `exec`: that would die with the container which it tells to end.
    background(&dhow, "trap 'echo two; exit' USR1; echo one; while :; do sleep 0.05; done");
    let follower = dhow.spawn(&["logs", "-f", "box"]);
    follower.expect("one\n");
    dhow.ok(&["kill", "--signal", "USR1", "box"]);
    follower.expect("two\n");
    let output = follower.wait();
    assert_eq!((output.code, &*output.stdout), (0, "one\ntwo\n"));
}

#[test]
fn the_file_is_dockers_and_rotates_where_the_configuration_says() {
    let dhow = Dhow::new("rotate");
    std::fs::write(dhow.config(), "[log]\nmax_size = \"8k\"\nmax_files = 3\n").unwrap();
    background(&dhow, "seq 1 2000");
    dhow.ok(&["wait", "box"]);
    let path = dhow.inspect("box")["LogPath"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(&path).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&line["log"], &line["stream"]), (&"2000\n".into(), &"stdout".into()));
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    let files = || {
        let dir = std::path::Path::new(&path).parent().unwrap();
        let name = std::path::Path::new(&path).file_name().unwrap().to_string_lossy().into_owned();
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&name)).count()
    };
    eventually("old files to go", || (files() <= 3).then_some(()));
    let kept = dhow.ok(&["logs", "box"]);
    assert!(kept.ends_with("\n1999\n2000") && kept.lines().count() < 2000, "{kept}");
}

#[test]
fn details_are_what_log_options_ask_for() {
    let dhow = Dhow::new("details");
    let run = ["run", "-d", "--network", "none", "--name"];
    let asked = ["-l", "team=a b", "-l", "other=1", "-e", "SHIFT=2", "--log-opt", "labels=team", "--log-opt"];
    let more = ["env-regex=^SH", "--log-opt", "tag={{.Name}}/{{.ImageName}}", "busybox", "echo", "said"];
    dhow.ok(&[&run[..], &["box"], &asked, &more].concat());
    dhow.ok(&["wait", "box"]);
    let shown = "SHIFT=2,tag=box%2Fbusybox,team=a+b said";
    assert_eq!(dhow.ok(&["logs", "--details", "box"]), shown);
    let timed = dhow.ok(&["logs", "--details", "--timestamps", "box"]);
    assert_eq!(timed.split_once(' ').unwrap().1, shown);
    assert_eq!(dhow.ok(&["logs", "box"]), "said");
    let file = std::fs::read_to_string(dhow.inspect("box")["LogPath"].as_str().unwrap()).unwrap();
    let line: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(line["attrs"]["team"], "a b", "{file}");
    // Where nothing was asked for there is nothing, and Docker's space.
    dhow.ok(&[&run[..], &["plain", "busybox", "echo", "said"]].concat());
    dhow.ok(&["wait", "plain"]);
    assert_eq!(dhow.run(&["logs", "--details", "plain"]).stdout, " said\n");
    let line = dhow.fails(125, &["run", "--log-opt", "tag={{.Nope}}", "busybox", "true"]);
    assert!(line.contains("tag"), "{line}");
}
