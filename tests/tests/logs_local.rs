//! `dhow run --log-driver local`, `dhow logs --clear`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{Dhow, eventually, patience};
use rustix::process::{Pid, Signal, kill_process};

const LOCAL: [&str; 2] = ["--log-driver", "local"];

#[track_caller]
fn background(dhow: &Dhow, options: &[&str], script: &str) {
    let first = ["run", "-d", "--name", "box", "--network", "none"];
    let args = [&first, options, &["busybox", "sh", "-c", script]].concat();
    dhow.command(&args).limit(120).ok();
}

fn log_files(dhow: &Dhow) -> Vec<PathBuf> {
    let path = PathBuf::from(dhow.inspect("box")["LogPath"].as_str().unwrap());
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(&name)).collect()
}

fn numbers(text: &str) -> Vec<u64> {
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn it_reads_like_any_other_and_is_compressed() {
    let dhow = Dhow::new("local");
    background(&dhow, &LOCAL, r"seq 1 100000; printf 'err\377\n' >&2; sleep 1.2; echo late; printf end");
    dhow.ok(&["wait", "box"]);
    let config = &dhow.inspect("box")["HostConfig"]["LogConfig"];
    assert_eq!((&config["Type"], &config["Config"]), (&"local".into(), &serde_json::json!({})));
    let output = dhow.run(&["logs", "box"]);
    assert_eq!((output.code, &*output.stderr), (0, "err\u{fffd}\n"));
    let seq: Vec<String> = (1..=100_000).map(|n: u32| n.to_string()).collect();
    assert!(output.stdout == seq.join("\n") + "\nlate\nend");
    assert_eq!(dhow.ok(&["logs", "--tail", "2", "box"]), "late\nend");
    let timed = dhow.ok(&["logs", "-t", "--tail", "2", "box"]);
    let (time, _) = timed.split_once(' ').unwrap();
    assert_eq!(dhow.ok(&["logs", "--since", time, "box"]), "late\nend");
    let size: u64 = log_files(&dhow).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(size < 588_895 / 2, "{size}");
}

#[test]
fn the_configuration_says_which_driver_and_a_container_keeps_it() {
    let dhow = Dhow::new("localconfig");
    std::fs::write(dhow.config(), "[log]\ndriver = \"local\"\nmax_size = \"8k\"\nmax_files = 3\n").unwrap();
    assert!(dhow.ok(&["info"]).contains("Logging Driver: local"));
    background(&dhow, &["--log-opt", "compress=false", "--log-opt", "max-file=2"], "seq 1 20000");
    dhow.ok(&["wait", "box"]);
    std::fs::write(dhow.config(), "").unwrap();
    let config = &dhow.inspect("box")["HostConfig"]["LogConfig"];
    assert_eq!(config["Type"], "local");
    assert_eq!(config["Config"], serde_json::json!({ "compress": "false", "max-file": "2" }));
    let files = log_files(&dhow);
    assert!(files.iter().map(|path| path.metadata().unwrap().len()).sum::<u64>() <= 2 * 8192, "{files:?}");
    let kept = numbers(&dhow.ok(&["logs", "box"]));
    assert!(kept.len() > 500 && kept.len() < 20_000, "{}", kept.len());
    assert_eq!(kept, (kept[0]..=20_000).collect::<Vec<_>>());
}

#[test]
fn what_is_no_option_is_refused_before_anything_starts() {
    let dhow = Dhow::new("localopt");
    for (option, want) in [
        ("compress=perhaps", "compress=true or false"),
        ("nosuch=1", "has no option `nosuch`"),
        ("compress=true", "json-file"),
    ] {
        let said = dhow.fails(125, &["run", "--log-opt", option, "busybox", "true"]);
        assert!(said.contains(want), "{said}");
    }
    dhow.fails(125, &["run", "--log-driver", "nosuch", "busybox", "true"]);
    assert_eq!(dhow.ok(&["ps", "-aq"]), "");
}

#[test]
fn numbers_go_on_in_the_next_run() {
    let dhow = Dhow::new("localrestart");
    background(&dhow, &LOCAL, "seq 1 3000; echo $(cat /n 2>/dev/null) run; echo second > /n");
    dhow.ok(&["wait", "box"]);
    dhow.ok(&["start", "box"]);
    dhow.ok(&["wait", "box"]);
    let text = dhow.ok(&["logs", "box"]);
    assert_eq!(text.lines().filter(|line| line.ends_with("run")).collect::<Vec<_>>(), ["run", "second run"]);
    assert_eq!(text.lines().count(), 6002);
    assert_eq!(dhow.ok(&["logs", "--tail", "3002", "box"]).lines().next(), Some("run"));
}

#[test]
fn a_killed_monitor_costs_the_last_write_at_most() {
    let dhow = Dhow::new("localkill");
    background(&dhow, &LOCAL, "i=0; while :; do i=$((i+1)); echo $i; done");
    for _ in 0..3 {
        let first = dhow.ok(&["logs", "box"]).lines().count();
        eventually("thousands of lines", || {
            (dhow.ok(&["logs", "box"]).lines().count() > first + 10_000).then_some(())
        });
        let pid = Pid::from_raw(dhow.monitor_pid("box").cast_signed()).unwrap();
        let shown = *numbers(&dhow.ok(&["logs", "--tail", "1", "box"])).last().unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        eventually("the container to be seen as ended", || {
            (dhow.inspect("box")["State"]["Running"] == false).then_some(())
        });
        // Each run counts from 1; within each there is no hole, and the last one has all that was seen of it.
        let all = numbers(&dhow.ok(&["logs", "box"]));
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == 1));
        assert!(*all.last().unwrap() >= shown, "{shown}");
        dhow.ok(&["start", "box"]);
    }
    dhow.ok(&["kill", "box"]);
}

#[test]
fn much_is_whole_and_in_order_and_neither_side_needs_memory() {
    const LINES: u64 = 2_000_000;
    let dhow = Dhow::new("localmuch");
    let options = [&LOCAL[..], &["--log-opt", "max-size=-1"]].concat();
    // 200 MB, in lines of 100 bytes.
    let script =
        format!("awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"%099d\\n\", i }}'; sleep 1000");
    background(&dhow, &options, &script);
    let last = format!("{LINES:099}");
    let until = Instant::now() + patience(240);
    while dhow.ok(&["logs", "--tail", "1", "box"]) != last {
        assert!(Instant::now() < until, "the last line does not come");
        std::thread::sleep(Duration::from_millis(200));
    }
    let monitor = most_memory(dhow.monitor_pid("box"));
    let mut reader = dhow.command(&["logs", "box"]).into_command().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let mut reading = 0;
    for n in 1..=LINES {
        assert_eq!(lines.next().unwrap().unwrap(), format!("{n:099}"));
        // What is left by then is more than the pipe and we hold: it has not ended.
        if n == LINES - 20_000 {
            reading = most_memory(reader.id());
        }
    }
    assert!(lines.next().is_none());
    assert!(reader.wait().unwrap().success());
    eprintln!("most memory: monitor {monitor} KiB, reader {reading} KiB");
    assert!(monitor < 8 << 10, "the monitor had {monitor} KiB");
    assert!(reading > 0 && reading < 32 << 10, "the reader had {reading} KiB");
    dhow.ok(&["rm", "-f", "box"]);
}

/// The most that a process has had, in KiB.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_log_is_emptied_while_it_is_written_and_followed() {
    for driver in ["json-file", "local"] {
        let dhow = Dhow::new("logclear");
        let script =
            "trap 'n=1; while [ $n -le 500 ]; do echo $((i*1000+n)); n=$((n+1)); done; i=$((i+1))' USR1
            trap 'echo bye; exit' USR2
            i=1; echo 0; while :; do sleep 0.05; done";
        let options = ["--log-driver", driver, "--log-opt", "max-size=6k", "--log-opt", "max-file=50"];
        background(&dhow, &options, script);
        eventually("the first line", || (dhow.ok(&["logs", "box"]) == "0").then_some(()));
        let follower = dhow.spawn(&["logs", "-f", "box"]);
        for round in 1..=3 {
            dhow.ok(&["kill", "--signal", "USR1", "box"]);
            follower.expect(&format!("{round}500\n"));
            dhow.ok(&["logs", "--clear", "box"]);
            assert_eq!(dhow.ok(&["logs", "box"]), "", "{driver}");
        }
        let left = log_files(&dhow);
        assert!(left.len() <= 1, "{left:?}");
        dhow.ok(&["kill", "--signal", "USR2", "box"]);
        follower.expect("bye\n");
        let output = follower.wait();
        let lines: Vec<String> =
            (1..=3).flat_map(|round| (1..=500).map(move |n| format!("{}\n", round * 1000 + n))).collect();
        assert_eq!(output.stdout, format!("0\n{}bye\n", lines.concat()), "{driver}");
        assert_eq!(dhow.ok(&["logs", "box"]), "bye", "{driver}");
        dhow.ok(&["logs", "--clear", "box"]);
        dhow.ok(&["logs", "--clear", "box"]);
        assert_eq!(dhow.ok(&["logs", "box"]), "", "{driver}");
        dhow.fails(125, &["logs", "--clear", "-f", "box"]);
    }
}

#[test]
fn a_follower_meets_every_rotation() {
    let dhow = Dhow::new("localfollow");
    let options = [
        &LOCAL[..],
        &["--log-opt", "max-size=16k", "--log-opt", "max-file=2000", "--log-opt", "compress=false"],
    ]
    .concat();
    background(&dhow, &options, "sleep 0.5; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo $i; done");
    let output = dhow.command(&["logs", "-f", "box"]).limit(120).output();
    let lines = numbers(&output.stdout);
    let hole = lines.iter().zip(1u64..).find(|(line, n)| *line != n);
    assert_eq!((hole, lines.len()), (None, 30_000));
    assert!(log_files(&dhow).iter().any(|path| path.extension() == Some(Path::new("3").as_os_str())));
}
