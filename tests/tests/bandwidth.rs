//! `--bandwidth-in` and `--bandwidth-out`: what passes, in both directions and over both versions of the protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::world::World;
use harness::{Dhow, eventually};

const PROBE: &str = concat!(env!("CARGO_BIN_EXE_probe"), ":/bin/probe:ro");
const HOST6: &str = "2001:db8::1";

/// A container that sends to whoever connects to port 9.
fn source(dhow: &Dhow, name: &str, flags: &[&str]) {
    let run = ["run", "-d", "--name", name, "-v", PROBE];
    dhow.ok(&[&run, flags, &["busybox", "probe", "source", "9"]].concat());
    eventually("the source", || dhow.ok(&["logs", name]).contains("up").then_some(()));
}

fn address(dhow: &Dhow, name: &str, network: &str, key: &str) -> String {
    dhow.inspect(name)["NetworkSettings"]["Networks"][network][key].as_str().unwrap().to_owned()
}

/// Within a tenth of so many megabits a second: headers count, too. Where the machine has other things to do for a moment, less is
/// read, or what has waited for the reader comes at once: then it is measured again.
#[track_caller]
fn is_about(megabits: f64, what: &str, measure: impl Fn() -> String) {
    let mut got = 0.0;
    for _ in 0..5 {
        got = measure().trim().parse::<f64>().unwrap() * 8.0 / 1e6 / megabits;
        if (0.9..1.1).contains(&got) {
            return;
        }
    }
    panic!("{what}: {got:.2} times {megabits} mbit");
}

#[test]
fn what_it_sends_and_receives_is_limited_and_can_be_changed_while_it_runs() {
    let world = World::new();
    let ip = |args: &[&str]| world.on_host("ip").args(args).ok();
    ip(&["addr", "add", &format!("{HOST6}/64"), "dev", "lan", "nodad"]);
    let dhow = Dhow::in_namespace("bandwidth", world.host());
    dhow.ok(&["network", "create", "--ipv6", "back"]);
    dhow.ok(&["network", "create", "front"]);
    source(&dhow, "box", &["--network", "back", "--bandwidth-out", "1.25MB"]);
    source(&dhow, "taker", &["--network", "back", "--bandwidth-in", "20mbit"]);
    source(&dhow, "peer", &["--network", "back"]);
    assert_eq!(dhow.inspect("taker")["HostConfig"]["BandwidthIn"], 2_500_000);
    assert_eq!(dhow.inspect("box")["HostConfig"]["BandwidthOut"], 1_250_000);
    let probe = env!("CARGO_BIN_EXE_probe");
    let drain = |from: &str, host: &str| dhow.ok(&["exec", from, "probe", "drain", host, "9"]);
    let from_host = |host: &str| world.on_host(probe).args(&["drain", host, "9"]).ok();
    for key in ["IPAddress", "GlobalIPv6Address"] {
        let (boxed, peer) = (address(&dhow, "box", "back", key), address(&dhow, "peer", "back", key));
        std::thread::scope(|scope| {
            scope.spawn(|| is_about(20.0, &format!("received, {key}"), || drain("taker", &peer)));
            is_about(10.0, &format!("sent, {key}"), || from_host(&boxed));
        });
    }
    // Others are not limited.
    let free = from_host(&address(&dhow, "peer", "back", "IPAddress"));
    assert!(free.trim().parse::<f64>().unwrap() > 30e6, "{free}");

    // A further network has the same limits, and new ones are in force at once.
    dhow.ok(&["network", "connect", "front", "box"]);
    dhow.ok(&["update", "--bandwidth-out", "40mbit", "box"]);
    let boxed = address(&dhow, "box", "front", "IPAddress");
    is_about(40.0, "sent on another network", || from_host(&boxed));
    let plan = dhow.run(&["set", "--bandwidth-out", "0", "--bandwidth-in", "40mbit", "box"]);
    assert!(plan.code == 0 && plan.stderr.contains("at once"), "{}", plan.stderr);
    let boxed = address(&dhow, "box", "back", "IPAddress");
    let free = from_host(&boxed);
    assert!(free.trim().parse::<f64>().unwrap() > 30e6, "{free}");
    let peer = address(&dhow, "peer", "back", "IPAddress");
    is_about(40.0, "received", || drain("box", &peer));
    assert!(!ip(&["-o", "link"]).contains(" ifb"), "what is not limited has no device for it");

    // They outlast a restart, and what they need goes with the container.
    dhow.ok(&["update", "--bandwidth-out", "10mbit", "box"]);
    dhow.ok(&["restart", "-t", "0", "box"]);
    eventually("the source", || dhow.ok(&["logs", "box"]).matches("up").nth(1).map(drop));
    let boxed = address(&dhow, "box", "back", "IPAddress");
    is_about(10.0, "after a restart", || from_host(&boxed));
    let held_back =
        |ip: &dyn Fn(&[&str]) -> String| ip(&["-o", "link", "show", "type", "ifb"]).lines().count();
    assert_eq!(held_back(&ip), 2, "one on each network");
    dhow.ok(&["network", "disconnect", "front", "box"]);
    assert_eq!(held_back(&ip), 1);
    // Also where its monitor cannot clean up.
    let killed = dhow.monitor_pid("box").to_string();
    harness::Invocation::new("kill").args(&["-9", &killed]).ok();
    dhow.ok(&["rm", "-f", "box"]);
    assert_eq!(held_back(&ip), 0, "{}", ip(&["-o", "link"]));
}

#[test]
fn what_cannot_be_limited_is_said() {
    let dhow = Dhow::new("bandwidth-wrong");
    for (rate, words) in [("10mbps", "megabits"), ("10", "a unit"), ("1kbit", "the least"), ("x", "a unit")] {
        let output = dhow.run(&["run", "--bandwidth-in", rate, "busybox", "true"]);
        assert!(output.code == 125 && output.stderr.contains(words), "{rate}: {}", output.stderr);
    }
    let output =
        dhow.run(&["run", "--rm", "--network", "host", "--bandwidth-in", "1mbit", "busybox", "true"]);
    assert!(output.code == 0 && output.stderr.contains("discarded"), "{}", output.stderr);
}
