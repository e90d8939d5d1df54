//! Starts and stops without end, with kills of monitors and command lines among them: nothing may stay.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use harness::{Dhow, eventually, random, soak};
use rustix::process::{Pid, Signal, kill_process};

/// How many descriptors, mounts and the like the test itself sees: its own, and what containers would leave it.
fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mounts").unwrap().lines().filter(|l| l.contains("cycles")).count()
}

/// Kills a container's monitor, if it has one just now.
fn kill_monitor(dhow: &Dhow, name: &str) {
    let live = dhow.run_root().join("containers");
    let id = dhow.run(&["inspect", "-f", "{{.Id}}", name]).stdout;
    let Ok(bytes) = std::fs::read(live.join(id.trim()).join("live.json")) else { return };
    let Ok(record) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return };
    let pid = record["monitor_pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    // It may have ended since; its number is not given anew so soon.
    pid.map(|pid| kill_process(pid, Signal::KILL));
}

/// One verb more, maybe cut off in the middle.
fn step(dhow: &Dhow, name: &str) {
    let verbs: [&[&str]; 9] = [
        &["start", name],
        &["stop", "-t", "0", name],
        &["restart", "-t", "0", name],
        &["kill", name],
        &["pause", name],
        &["unpause", name],
        &["exec", name, "true"],
        &["start", name],
        &["stop", "-t", "1", name],
    ];
    let verb = verbs[random(verbs.len() as u64) as usize];
    match random(10) {
        0 => kill_monitor(dhow, name),
        1 => {
            let mut door = dhow.spawn(verb);
            std::thread::sleep(Duration::from_micros(random(8000)));
            door.kill();
        }
        // Whether it makes sense just now or not: it must not hang, and must not break anything.
        _ => {
            dhow.run(verb);
        }
    }
}

#[test]
fn soak_of_thousands_of_starts_and_stops_nothing_stays() {
    let dhow = Dhow::new("cycles");
    let before = mounts();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let names = ["none", "bridge", "always"];
    for name in names {
        let network = if name == "none" { "none" } else { "bridge" };
        let policy = if name == "always" { "always" } else { "no" };
        let args = ["create", "--name", name, "--network", network, "--restart", policy];
        dhow.ok(&[&args[..], &["-p", "127.0.0.1:0:80", "busybox", "sh", "-c", script]].concat());
    }
    let cycles = soak(12, 10_000 / names.len());
    std::thread::scope(|scope| {
        for name in names {
            let dhow = &dhow;
            scope.spawn(move || {
                for _ in 0..cycles {
                    step(dhow, name);
                }
            });
        }
    });
    // Whatever state they were left in, they can be put into any other.
    for name in names {
        dhow.run(&["unpause", name]);
        dhow.ok(&["stop", "-t", "0", name]);
        dhow.ok(&["start", name]);
        assert_eq!(dhow.inspect(name)["State"]["Status"], "running", "{name}");
        assert_eq!(dhow.ok(&["exec", name, "echo", "works"]), "works");
    }
    dhow.ok(&[&["rm", "-f"][..], &names].concat());
    eventually("the last mount to go", || (mounts() == before).then_some(()));
    // The harness looks for processes, groups, interfaces and files when the instance goes.
}
