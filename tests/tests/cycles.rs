//! Starts and stops without end, with kills of monitors and command lines among them: nothing may stay, neither of any
//! kind of object of the kernel nor of our files, and monitors that live through many runs do not grow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Dhow, Invocation, eventually, random, soak};
use rustix::process::{Pid, Signal, kill_process};

/// What runs: it ends when it is told to.
const SCRIPT: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// How many there are of each kind of thing that a container could leave.
type Census = BTreeMap<&'static str, usize>;

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn below(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> usize {
    entries(directory)
        .iter()
        .map(|path| {
            let deeper = if path.is_dir() && !path.is_symlink() { below(path, wanted) } else { 0 };
            deeper + usize::from(wanted(path))
        })
        .sum()
}

fn census(dhow: &Dhow) -> Census {
    let name = dhow.global_name();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let lines = |text: &str| text.lines().filter(|line| line.contains(name)).count();
    let home = dhow.scratch().display().to_string();
    let processes: Vec<PathBuf> = entries(Path::new("/proc"))
        .into_iter()
        .filter(|path| {
            std::fs::read_to_string(path.join("cgroup")).is_ok_and(|groups| groups.contains(name))
                || entries(&path.join("fd")).iter().any(|fd| {
                    std::fs::read_link(fd).is_ok_and(|target| target.starts_with(&home))
                        && std::fs::read_to_string(path.join("comm"))
                            .is_ok_and(|comm| comm.starts_with("dhow"))
                })
        })
        .collect();
    let descriptors = processes.iter().map(|process| entries(&process.join("fd")).len()).sum();
    let kept = |path: &Path| {
        // What a run writes into its layer and its log is the container's own, and the journal is there to grow.
        !["/upper/", "/work/", "/log.json", "/events/", "/cache/", "/layers/"]
            .iter()
            .any(|part| path.to_string_lossy().contains(part))
    };
    let group = |path: &Path| path.is_dir() && path.to_string_lossy().contains(name);
    BTreeMap::from([
        ("processes", processes.len()),
        ("descriptors", descriptors),
        ("mounts", read("/proc/self/mountinfo").lines().filter(|line| line.contains(&home)).count()),
        ("groups", below(Path::new("/sys/fs/cgroup"), &group)),
        ("interfaces", lines(&Invocation::new("ip").args(&["-oneline", "link"]).ok())),
        ("tables", lines(&Invocation::new("nft").args(&["list", "tables"]).ok())),
        ("sockets", read("/proc/net/unix").lines().filter(|line| line.contains(&home)).count()),
        ("files", below(&dhow.root(), &kept)),
        ("claims and live files", below(&dhow.run_root(), &|_| true)),
    ])
}

/// The monitor of a container, if it has one just now.
fn monitor(dhow: &Dhow, name: &str) -> Option<Pid> {
    let id = dhow.run(&["inspect", "-f", "{{.Id}}", name]).stdout;
    let bytes = std::fs::read(dhow.run_root().join("containers").join(id.trim()).join("live.json")).ok()?;
    let record = serde_json::from_slice::<serde_json::Value>(&bytes).ok()?;
    record["monitor_pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
}

/// A door with these arguments that is killed at some moment of its life.
fn cut_short(dhow: &Dhow, args: &[&str]) {
    let mut door = dhow.spawn(args);
    std::thread::sleep(Duration::from_micros(random(8000)));
    door.kill();
}

/// One start and its end, with whatever may come between. False where nobody knows whether it came to that: the door was
/// killed.
fn cycle(dhow: &Dhow, name: &str) -> bool {
    let started = if random(10) == 0 {
        cut_short(dhow, &["start", name]);
        false
    } else {
        dhow.ok(&["start", name]);
        true
    };
    match random(8) {
        0 => {
            // It may have ended since; its number is not given anew so soon.
            monitor(dhow, name).map(|pid| kill_process(pid, Signal::KILL));
        }
        1 => cut_short(dhow, &["exec", name, "sleep", "5"]),
        2 => {
            dhow.run(&["exec", name, "true"]);
        }
        3 => {
            dhow.run(&["restart", "-t", "0", name]);
        }
        4 => {
            dhow.run(&["pause", name]);
        }
        5 => cut_short(dhow, &["logs", "-f", name]),
        _ => {}
    }
    match random(8) {
        0 => cut_short(dhow, &["stop", "-t", "0", name]),
        1 => {
            dhow.run(&["kill", name]);
        }
        2 => {
            monitor(dhow, name).map(|pid| kill_process(pid, Signal::KILL));
        }
        3 => {
            dhow.run(&["stop", "-t", "1", name]);
        }
        _ => {}
    }
    // Whatever state it was left in, it can be ended.
    dhow.ok(&["stop", "-t", "0", name]);
    let state = dhow.inspect(name)["State"].clone();
    assert_eq!(state["Running"], false, "{name}: {state:#}");
    started
}

/// A container that is made, runs and removes itself.
fn whole_life(dhow: &Dhow, network: &str) -> bool {
    let args = ["run", "--rm", "--network", network, "-v", "/data", "busybox", "true"];
    if random(6) == 0 {
        cut_short(dhow, &args);
        return false;
    }
    dhow.ok(&args);
    true
}

#[test]
fn heavy_soak_of_thousands_of_starts_and_stops_nothing_stays() {
    let dhow = Dhow::new("cycles");
    let names = ["none", "bridge", "always"];
    for name in names {
        let network = if name == "none" { "none" } else { "bridge" };
        let policy = if name == "always" { "always" } else { "no" };
        let args =
            ["create", "--name", name, "--network", network, "--restart", policy, "-v", "shared:/shared"];
        dhow.ok(&[&args[..], &["-p", "127.0.0.1:0:80", "busybox", "sh", "-c", SCRIPT]].concat());
        dhow.ok(&["start", name]);
        dhow.ok(&["stop", "-t", "0", name]);
    }
    // Bridge, table and groups stay for a moment after the last.
    std::thread::sleep(Duration::from_secs(4));
    dhow.ok(&["ps", "-a"]);
    let before = census(&dhow);
    let wanted = soak(150, 10_000);
    let (cycles, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    let until_enough = |act: &dyn Fn() -> bool| {
        while cycles.load(Ordering::Relaxed) < wanted {
            rounds.fetch_add(1, Ordering::Relaxed);
            cycles.fetch_add(usize::from(act()), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for name in names {
            let (dhow, until_enough) = (&dhow, &until_enough);
            scope.spawn(move || until_enough(&|| cycle(dhow, name)));
        }
        let (dhow, until_enough) = (&dhow, &until_enough);
        scope.spawn(move || until_enough(&|| whole_life(dhow, ["none", "bridge"][random(2) as usize])));
    });
    let took = begun.elapsed();
    dhow.ok(&["ps", "-a"]);
    let after = eventually("all that was made to go", || {
        let now = census(&dhow);
        (now == before || begun.elapsed() > took + Duration::from_secs(15)).then_some(now)
    });
    println!(
        "{} starts with their ends ({} rounds) in {took:?}\nbefore {before:?}\nafter  {after:?}",
        cycles.load(Ordering::Relaxed),
        rounds.load(Ordering::Relaxed)
    );
    assert_eq!(after, before);
    for name in names {
        dhow.ok(&["start", name]);
        assert_eq!(dhow.ok(&["exec", name, "echo", "works"]), "works");
    }
    dhow.ok(&[&["rm", "-f"][..], &names].concat());
    // The harness looks for processes, groups, interfaces and files when the instance goes.
}

#[test]
fn soak_a_monitor_lives_through_thousands_of_runs_and_does_not_grow() {
    let dhow = Dhow::new("runs");
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "bridge",
        "-p",
        "127.0.0.1:0:80",
        "busybox",
        "sh",
        "-c",
        SCRIPT,
    ]);
    let process = PathBuf::from(format!("/proc/{}", dhow.monitor_pid("box")));
    let look = || {
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let memory: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
        let ports = dhow.ok(&["port", "box"]);
        (entries(&process.join("fd")).len(), ports, memory)
    };
    let again = |times: usize| {
        for _ in 0..times {
            dhow.ok(&["restart", "-t", "0", "box"]);
        }
    };
    again(5);
    let before = look();
    again(soak(40, 2_000));
    let after = eventually("the monitor to be at rest", || Some(look()).filter(|now| now.0 == before.0));
    println!("descriptors, ports and KiB of a monitor: before {before:?}, after {after:?}");
    assert_eq!((after.0, &after.1), (before.0, &before.1));
    assert!(after.2 <= before.2 + 64, "{} KiB became {} KiB", before.2, after.2);
    dhow.ok(&["rm", "-f", "box"]);
}
