//! `dhow stats`: Docker's columns, of containers that come and go.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, Terminal, eventually};
use serde_json::Value;

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}

/// `1.5MiB` in bytes.
fn bytes(text: &str) -> f64 {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let units = [
        ("B", 1.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
    ];
    let unit = units.iter().find(|(name, _)| *name == &text[digits..]).unwrap_or_else(|| panic!("{text}"));
    text[..digits].parse::<f64>().unwrap() * unit.1
}

fn percent(row: &Value, key: &str) -> f64 {
    row[key].as_str().unwrap().strip_suffix('%').unwrap().parse().unwrap()
}

fn halves(row: &Value, key: &str) -> (f64, f64) {
    let (a, b) = row[key].as_str().unwrap().split_once(" / ").unwrap();
    (bytes(a), bytes(b))
}

#[test]
fn the_table_is_dockers_and_json_has_a_line_each() {
    let dhow = Dhow::new("stats");
    let id = dhow.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "idle",
        "-m",
        "64m",
        "busybox",
        "sleep",
        "600",
    ]);
    dhow.ok(&["create", "--name", "never", "busybox", "true"]);
    let table = dhow.ok(&["stats", "--no-stream"]);
    let lines: Vec<&str> = table.lines().collect();
    let heading: Vec<&str> = lines[0].split("   ").map(str::trim).filter(|h| !h.is_empty()).collect();
    assert_eq!(
        heading,
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    );
    assert_eq!(lines.len(), 2, "{table}");
    assert!(
        lines[1].starts_with(&id[..12]) && lines[1].contains("idle") && lines[1].contains("/ 64MiB"),
        "{table}"
    );
    let all = rows(&dhow.ok(&["stats", "--no-stream", "--all", "--no-trunc", "--format", "json"]));
    assert_eq!(all.len(), 2);
    let never = all.iter().find(|row| row["Name"] == "never").unwrap();
    assert_eq!((&never["MemUsage"], &never["PIDs"]), (&Value::from("0B / 0B"), &Value::from("0")));
    let idle = all.iter().find(|row| row["Name"] == "idle").unwrap();
    assert_eq!((idle["ID"].as_str().unwrap(), idle["PIDs"].as_str().unwrap()), (&*id, "1"));
    assert!(percent(idle, "CPUPerc") < 5.0 && percent(idle, "MemPerc") > 0.0);
    // a template, of those that are named
    let named =
        dhow.ok(&["stats", "--no-stream", "--format", "{{.Container}} {{.Name}} {{.PIDs}}", "never", "idle"]);
    assert_eq!(named, "never never 0\nidle idle 1");
    assert!(dhow.fails(1, &["stats", "nosuch"]).contains("nosuch"));
    dhow.fails(64, &["stats", "--format", "{{.Name"]);
}

#[test]
fn work_shows_in_every_column() {
    let dhow = Dhow::new("stats-work");
    // one processor, twenty megabytes of memory, fifty kilobytes to the neighbours, three processes
    let work = "dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2> /dev/null; sleep 600 & while :; do :; done";
    dhow.ok(&["run", "-d", "--name", "busy", "--cpus", "0.5", "busybox", "sh", "-c", work]);
    let gateway = dhow.inspect("busy")["NetworkSettings"]["Gateway"].as_str().unwrap().to_owned();
    let busy = eventually("what it uses", || {
        dhow.run(&["exec", "busy", "ping", "-c", "3", "-i", "0.2", "-s", "8000", &gateway]);
        let busy = rows(&dhow.ok(&["stats", "--no-stream", "--format", "json", "busy"])).remove(0);
        let used = halves(&busy, "MemUsage").0 > 15e6 && halves(&busy, "NetIO").1 > 10e3;
        (used && percent(&busy, "CPUPerc") > 15.0).then_some(busy)
    });
    assert!(percent(&busy, "CPUPerc") < 75.0, "{busy}");
    assert!(halves(&busy, "NetIO").0 > 10e3, "{busy}");
    assert_eq!(busy["PIDs"], "2");
}

#[test]
fn what_is_written_to_disk_is_counted() {
    let dhow = Dhow::new("stats-disk");
    let write = "dd if=/dev/zero of=/file bs=64k count=80 conv=fsync 2> /dev/null; exec sleep 600";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "disk", "busybox", "sh", "-c", write]);
    eventually("five megabytes written", || {
        let row = rows(&dhow.ok(&["stats", "--no-stream", "--format", "json"])).remove(0);
        (halves(&row, "BlockIO").1 > 4e6).then_some(())
    });
}

#[test]
fn containers_come_and_go_while_it_runs() {
    let dhow = Dhow::new("stats-stream");
    dhow.ok(&["run", "-d", "--network", "none", "--name", "first", "busybox", "sleep", "600"]);
    let mut stats = dhow.spawn(&["stats", "--format", "{{.Name}} {{.PIDs}}."]);
    stats.expect("first 1.");
    dhow.ok(&["run", "-d", "--network", "none", "--name", "second", "busybox", "sleep", "600"]);
    stats.expect("second 1.");
    dhow.ok(&["rename", "second", "third"]);
    stats.expect("third 1.");
    // one that is started again is the same one
    dhow.ok(&["restart", "-t", "0", "third"]);
    let count = |text: &str, name: &str| text.matches(name).count();
    let before = count(&stats.stdout(), "third 1.");
    eventually("it again", || (count(&stats.stdout(), "third 1.") > before + 1).then_some(()));
    dhow.ok(&["rm", "-f", "third"]);
    let (gone, first) = (count(&stats.stdout(), "third"), count(&stats.stdout(), "first"));
    eventually("the next samples", || (count(&stats.stdout(), "first") > first + 2).then_some(()));
    assert!(count(&stats.stdout(), "third") <= gone + 1, "{}", stats.stdout());
    assert!(stats.is_running());
    stats.kill();
    // those that are named end it with the last of them
    let named = dhow.spawn(&["stats", "first"]);
    named.expect("first");
    dhow.ok(&["rm", "-f", "first"]);
    assert_eq!(named.wait().code, 0);
}

#[test]
fn on_a_terminal_the_table_is_drawn_over_itself() {
    let dhow = Dhow::new("stats-terminal");
    dhow.ok(&["run", "-d", "--network", "none", "--name", "shown", "busybox", "sleep", "600"]);
    let mut terminal = Terminal::run(&dhow, &["stats"]);
    terminal.expect("\x1b[2J\x1b[HCONTAINER ID");
    terminal.expect("shown");
    terminal.expect("\x1b[J\x1b[HCONTAINER ID");
    let process = rustix::process::Pid::from_raw(terminal.pid().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.wait(), 143);
}
