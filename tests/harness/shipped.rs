//! What must be true of every way to a collector of logs: the tests of each driver run these.

use std::time::Duration;

use serde_json::Value;

use crate::collectors::Collector;
use crate::{Dhow, eventually};

/// Runs a container that sends its log with a driver to a collector; what to run is a script.
#[track_caller]
pub fn run(dhow: &Dhow, driver: &str, collector: &impl Collector, more: &[&str], script: &str) -> String {
    let mut args = vec!["run", "--network", "none", "--log-driver", driver, "--log-opt", "tag=tag"];
    let options = collector.options();
    for option in &options {
        args.extend(["--log-opt", option]);
    }
    args.extend(more);
    args.extend(["busybox", "sh", "-c", script]);
    dhow.ok(&args)
}

const DETACHED: &[&str] = &["-d", "--name", "box"];

/// `line 0` to the one before `end`, as collectors show them.
pub fn numbered(end: usize) -> Vec<String> {
    (0..end).map(|n| format!("6 tag line {n}")).collect()
}

/// A script that says so many lines, with a pause after each.
pub fn slowly(count: usize, pause: &str) -> String {
    format!("i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); sleep {pause}; done")
}

/// A script that says so many lines at once.
pub fn at_once(count: usize) -> String {
    format!("seq 0 {} | sed 's/^/line /'", count - 1)
}

/// Waits until a collector has these lines, and no others.
#[track_caller]
pub fn has(collector: &impl Collector, expected: &[String]) {
    let mut last = Vec::new();
    let arrived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("all lines to arrive", || {
            last = collector.lines();
            (last.len() >= expected.len()).then_some(())
        });
    }));
    if arrived.is_ok() {
        // Whether one comes twice shows a moment later.
        std::thread::sleep(Duration::from_millis(300));
        last = collector.lines();
    }
    let wrong = last.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        arrived.is_ok() && wrong.is_none() && last.len() == expected.len(),
        "{} lines of {}; from {wrong:?} on {:?} instead of {:?}",
        last.len(),
        expected.len(),
        wrong.map(|at| &last[at..(at + 5).min(last.len())]),
        wrong.map(|at| &expected[at..(at + 5).min(expected.len())]),
    );
}

/// How sending goes.
#[track_caller]
pub fn status(dhow: &Dhow) -> Value {
    dhow.inspect("box")["LogStatus"].clone()
}

/// The shipper's process id, if one runs.
pub fn shipper(dhow: &Dhow) -> Option<u32> {
    let run = dhow.run_root();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next() == Some(b"dhow-shipper") && words.nth(1) == Some(run.as_os_str().as_encoded_bytes())
    })
}

/// Everything that was said arrives as it was said, and `dhow logs` has it, too.
pub fn whole(driver: &str, mut collector: impl Collector) {
    let dhow = Dhow::new(driver);
    collector.start();
    let script = "printf 'one\\n\\ttab ü €\\n'; sleep 0.3; echo bad >&2; sleep 0.3; printf 'no line break'";
    run(&dhow, driver, &collector, DETACHED, script);
    dhow.ok(&["wait", "box"]);
    let expected = ["6 tag one", "6 tag \ttab ü €", "3 tag bad", "6 tag no line break"].map(str::to_owned);
    has(&collector, &expected);
    let output = dhow.run(&["logs", "box"]);
    assert_eq!((&*output.stdout, &*output.stderr), ("one\n\ttab ü €\nno line break", "bad\n"));
    let config = &dhow.inspect("box")["HostConfig"]["LogConfig"];
    assert_eq!((config["Type"].as_str(), config["Config"]["tag"].as_str()), (Some(driver), Some("tag")));
    eventually("all to be known to have arrived", || (status(&dhow)["Pending"] == 0).then_some(()));
    assert_eq!((&status(&dhow)["Delivered"], &status(&dhow)["Dropped"]), (&4.into(), &0.into()));
    eventually("the shipper to leave", || shipper(&dhow).is_none().then_some(()));
    // A container that says something again is another matter for it.
    dhow.ok(&["start", "box"]);
    dhow.ok(&["wait", "box"]);
    has(&collector, &[expected.clone(), expected].concat());
    dhow.ok(&["rm", "box"]);
    eventually("the spool to go", || spools(&dhow).is_empty().then_some(()));
    collector.stop();
}

/// The names of the spools.
pub fn spools(dhow: &Dhow) -> Vec<String> {
    let entries = std::fs::read_dir(dhow.root().join("spools")).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| !n.starts_with('.')).collect()
}

/// A collector that is not there does not hinder the start, nor the container; it gets all when it comes, and what was
/// said meanwhile, when it dies and comes back.
pub fn killed(driver: &str, mut collector: impl Collector, warns: bool) {
    let dhow = Dhow::new(driver);
    let mut args = vec!["run", "-d", "--name", "box", "--network", "none", "--log-driver", driver];
    let options = collector.options();
    for option in options.iter().map(String::as_str).chain(["tag=tag"]) {
        args.extend(["--log-opt", option]);
    }
    let script = slowly(600, "0.01");
    let output = dhow.run(&[&args[..], &["busybox", "sh", "-c", &script]].concat());
    assert_eq!(output.code, 0, "{output:#?}");
    assert_eq!(output.stderr.contains("does not reach its collector"), warns, "{output:#?}");
    eventually("lines in the log", || dhow.ok(&["logs", "box"]).contains("line 20").then_some(()));
    assert!(collector.lines().is_empty());
    if warns {
        eventually("the reason", || status(&dhow)["Error"].is_string().then_some(()));
    }
    collector.start();
    eventually("the first lines", || (collector.lines().len() > 100).then_some(()));
    collector.stop();
    let had = collector.lines().len();
    let now = dhow.ok(&["logs", "box"]).lines().count();
    eventually("the container to go on", || {
        (dhow.ok(&["logs", "box"]).lines().count() > now + 50).then_some(())
    });
    assert_eq!(collector.lines().len(), had);
    collector.start();
    dhow.ok(&["wait", "box"]);
    has_again(&collector, &numbered(600), had);
    dhow.ok(&["rm", "box"]);
    collector.stop();
}

/// Waits until a collector has these lines, that was ended when it had the first `had` of them. What follows may begin with
/// some of those once more, if it may have ended without having read them (docs/log-collectors.md).
#[track_caller]
fn has_again(collector: &impl Collector, expected: &[String], had: usize) {
    eventually("the last line", || (collector.lines().last() == expected.last()).then_some(()));
    let lines = collector.lines();
    let again = lines.len().saturating_sub(expected.len());
    assert!(again <= collector.may_repeat().min(had), "{again} lines came twice");
    assert_eq!(lines[..had], expected[..had]);
    assert_eq!(lines[had..], expected[had - again..]);
}

/// A collector that stands still holds nobody but the shipper.
pub fn held(driver: &str, mut collector: impl Collector) {
    let dhow = Dhow::new(driver);
    collector.start();
    let script = format!("{}; sleep 0.5; {}", slowly(20, "0.01"), "seq 20 20019 | sed 's/^/line /'");
    run(&dhow, driver, &collector, DETACHED, &script);
    eventually("some lines", || (collector.lines().len() >= 15).then_some(()));
    collector.hold(true);
    // It would never end if it waited.
    dhow.ok(&["wait", "box"]);
    assert_eq!(dhow.ok(&["logs", "-n", "1", "box"]), "line 20019");
    collector.hold(false);
    has(&collector, &numbered(20020));
    dhow.ok(&["rm", "box"]);
    collector.stop();
}

/// What containers said that are gone, one removed by hand and one by itself, arrives when the collector is back.
pub fn removed(driver: &str, mut collector: impl Collector) {
    let dhow = Dhow::new(driver);
    run(&dhow, driver, &collector, DETACHED, &at_once(50));
    dhow.ok(&["wait", "box"]);
    dhow.ok(&["rm", "box"]);
    assert_eq!(spools(&dhow).len(), 1);
    collector.start();
    has(&collector, &numbered(50));
    eventually("its spool to go", || spools(&dhow).is_empty().then_some(()));
    collector.stop();
    run(&dhow, driver, &collector, &["--rm"], "for n in 0 1 2; do echo again $n; done");
    collector.start();
    let again = (0..3).map(|n| format!("6 tag again {n}"));
    has(&collector, &numbered(50).into_iter().chain(again).collect::<Vec<_>>());
    eventually("its spool to go", || spools(&dhow).is_empty().then_some(()));
    // And one that nobody waits for any more.
    collector.stop();
    run(&dhow, driver, &collector, &["--rm"], &at_once(7));
    eventually("its spool", || (spools(&dhow).len() == 1).then_some(()));
    dhow.ok(&["system", "prune", "--force"]);
    eventually("its spool to go", || spools(&dhow).is_empty().then_some(()));
    assert_eq!(dhow.json(&["info", "--format", "json"])["LogEntriesDropped"], 7);
}

/// More than the spool holds is dropped, counted and shown; the rest arrives.
pub fn bounded(driver: &str, mut collector: impl Collector) {
    const COUNT: usize = 60_000;
    let dhow = Dhow::new(driver);
    let options = &[
        "-d",
        "--name",
        "box",
        "--log-opt",
        "max-size=64k",
        "--log-opt",
        "max-file=2",
        "--log-opt",
        "compress=false",
    ];
    run(&dhow, driver, &collector, options, &format!("{}; sleep 0.2; echo last", at_once(COUNT)));
    dhow.ok(&["wait", "box"]);
    let dropped =
        eventually("losses", || status(&dhow)["Dropped"].as_u64().filter(|dropped| *dropped > 0)) as usize;
    let size: u64 = std::fs::read_dir(dhow.root().join("spools").join(&spools(&dhow)[0]))
        .unwrap()
        .flatten()
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(size < 200 << 10, "{size} bytes of spool");
    collector.start();
    let expected: Vec<String> =
        numbered(COUNT).into_iter().skip(dropped).chain(["6 tag last".to_owned()]).collect();
    has(&collector, &expected);
    eventually("all to be known to have arrived", || (status(&dhow)["Pending"] == 0).then_some(()));
    assert_eq!(status(&dhow)["Dropped"], dropped);
    assert_eq!(status(&dhow)["Delivered"], expected.len());
    eventually("an event", || {
        let events = dhow.ok(&["events", "--since", "10m", "--until", "0s", "--format", "json"]);
        events.contains("log-dropped").then_some(())
    });
    assert_eq!(dhow.json(&["info", "--format", "json"])["LogEntriesDropped"], dropped);
    dhow.ok(&["rm", "box"]);
    collector.stop();
}

/// A shipper that is killed comes back by itself; nothing is lost, and what comes twice was under way. Returns what has
/// arrived.
pub fn shipper_killed(driver: &str, mut collector: impl Collector) {
    let dhow = Dhow::new(driver);
    collector.start();
    run(&dhow, driver, &collector, DETACHED, &slowly(500, "0.01"));
    for n in 0..3 {
        eventually("more lines", || (collector.lines().len() > 50 + n * 100).then_some(()));
        let old = eventually("a shipper", || shipper(&dhow));
        let pid = rustix::process::Pid::from_raw(old as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let new = eventually("another shipper", || shipper(&dhow).filter(|new| *new != old));
        assert_ne!(new, old);
    }
    dhow.ok(&["wait", "box"]);
    let arrived = eventually("the last line", || {
        let lines = collector.lines();
        (lines.last().map(String::as_str) == Some("6 tag line 499")).then_some(lines)
    });
    // What comes twice comes again from some line on: the numbers without those that go back are all of them.
    let mut next = 0;
    let mut twice = 0;
    for line in &arrived {
        let number: usize = line.strip_prefix("6 tag line ").unwrap().parse().unwrap();
        assert!(number <= next, "line {next} is missing before line {number}");
        if number == next {
            next += 1;
        } else {
            twice += 1;
        }
    }
    assert_eq!(next, 500);
    // A second at most of what goes over a stream was not known to have arrived.
    assert!(twice <= 3 * 150, "{twice} lines came twice");
    dhow.ok(&["rm", "box"]);
    collector.stop();
}
