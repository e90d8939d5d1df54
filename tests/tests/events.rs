//! `events`: what happens, told as it happens and afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, eventually};
use serde_json::Value;

/// The actions of the events that the journal has, in their order.
fn actions(dhow: &Dhow, filter: &str) -> Vec<String> {
    let args = ["events", "--since", "1", "--until", "0s", "--filter", filter, "--format", "{{.Action}}"];
    dhow.ok(&args).lines().map(str::to_owned).collect()
}

#[test]
fn the_life_of_a_container_is_told() {
    let dhow = Dhow::new("events");
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--label",
        "tier=front",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ]);
    dhow.ok(&["pause", "box"]);
    dhow.ok(&["unpause", "box"]);
    dhow.ok(&["rename", "box", "crate"]);
    dhow.ok(&["restart", "-t", "0", "crate"]);
    dhow.ok(&["stop", "-t", "0", "crate"]);
    dhow.ok(&["rm", "crate"]);
    let expected = [
        "create", "start", "pause", "unpause", "rename", "kill", "kill", "die", "start", "restart", "kill",
        "kill", "die", "stop", "destroy",
    ];
    // With no time to stop in, the first signal may be all that it takes, or not.
    let told = eventually("the last", || {
        let told = actions(&dhow, "label=tier=front");
        told.iter().any(|a| a == "destroy").then_some(told)
    });
    let without_kills = |all: &[String]| all.iter().filter(|a| *a != "kill").cloned().collect::<Vec<_>>();
    let expected: Vec<String> = expected.map(str::to_owned).to_vec();
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    // The monitor and the command write each for itself: `die` and `stop` may change places, and so may `start` and `restart`.
    assert_eq!(sorted(without_kills(&told)), sorted(without_kills(&expected)));
    assert_eq!(told[..2], expected[..2]);
}

#[test]
fn who_follows_hears_at_once_and_in_dockers_words() {
    let dhow = Dhow::new("events-follow");
    let following = dhow.spawn(&["events", "--filter", "container=box", "--format", "json"]);
    // It has begun to listen when it hears.
    let heard = |following: &harness::Process, action: &str| -> Value {
        eventually("the event", || {
            let said = following.stdout();
            said.lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|event| event["Action"] == action)
        })
    };
    eventually("a listener", || {
        dhow.ok(&["create", "--name", "box", "--network", "none", "busybox", "sh", "-c", "exit 7"]);
        let here = following.stdout().contains("create");
        if !here {
            dhow.ok(&["rm", "box"]);
        }
        here.then_some(())
    });
    let id = dhow.inspect("box")["Id"].clone();
    dhow.ok(&["start", "box"]);
    let start = heard(&following, "start");
    assert_eq!((&start["Type"], &start["status"], &start["id"]), (&"container".into(), &"start".into(), &id));
    assert_eq!(start["from"], "busybox");
    let die = heard(&following, "die");
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "7");
    assert_eq!(die["Actor"]["Attributes"]["name"], "box");
    assert!(die["timeNano"].as_i64() > start["timeNano"].as_i64());
}

#[test]
fn the_end_of_the_time_asked_for_is_the_end() {
    let dhow = Dhow::new("events-until");
    assert_eq!(dhow.ok(&["events", "--until", "0s"]), "");
    let line = dhow.fails(125, &["events", "--filter", "nonsense"]);
    assert!(line.contains("KEY=VALUE"), "{line}");
    dhow.fails(125, &["events", "--since", "yesterday"]);
}
