//! A thousand idle containers at once (in a soak; a few dozen every day), half of them on the bridge. No limit of the
//! kernel has to be raised for them: a bridge takes 1023 ports, and each container holds no more than a few descriptors, in
//! a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use harness::{Dhow, soak};

/// Kibibytes of memory that are a process's own, shares counted in parts.
fn pss(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

#[test]
fn heavy_soak_a_thousand_idle_containers_stay_usable() {
    let dhow = Dhow::new("many");
    let count = soak(40, 1000);
    let begun = Instant::now();
    let ids: Vec<String> = (0..count)
        .map(|n| {
            let network = if n % 2 == 0 { "bridge" } else { "none" };
            dhow.ok(&["run", "-d", "--network", network, "busybox", "sleep", "100000"])
        })
        .collect();
    let started = begun.elapsed();
    let timed = |args: &[&str]| {
        let begun = Instant::now();
        let said = dhow.ok(args);
        (begun.elapsed(), said.lines().count())
    };
    let (listed, lines) = timed(&["ps", "-q"]);
    assert_eq!(lines, count);
    let (sampled, lines) = timed(&["stats", "--no-stream", "--format", "{{.Name}}"]);
    assert_eq!(lines, count);
    let memory: u64 = ids.iter().map(|id| pss(dhow.monitor_pid(id))).sum::<u64>() / count as u64;
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (stopped, _) = timed(&[&["stop", "-t", "0"][..], &all].concat());
    let (removed, lines) = timed(&[&["rm", "-f"][..], &all].concat());
    println!(
        "{count} containers: started in {started:?}, ps {listed:?}, stats {sampled:?}, stop {stopped:?}, rm {removed:?}, \
         {memory} KiB each of ours"
    );
    assert_eq!((lines, dhow.ok(&["ps", "-aq"])), (count, String::new()));
    // 317 in a debug build, which is less than conmon's 0.36 MiB.
    assert!(memory < 368, "{memory} KiB");
    assert!(stopped + removed < Duration::from_secs(30), "{stopped:?} {removed:?}");
}
