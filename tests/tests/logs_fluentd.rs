//! `--log-driver fluentd`, with a receiver of the forward protocol that acknowledges.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::collectors::{Collector, Forward};
use harness::{Dhow, eventually, shipped};

#[test]
fn all_arrives_as_it_was_said() {
    shipped::whole("fluentd", Forward::new());
}

#[test]
fn a_collector_that_dies_gets_all_when_it_is_back() {
    shipped::killed("fluentd", Forward::new(), true);
}

#[test]
fn a_collector_that_stands_still_holds_nobody() {
    shipped::held("fluentd", Forward::new());
}

#[test]
fn what_removed_containers_said_arrives() {
    shipped::removed("fluentd", Forward::new());
}

#[test]
fn what_the_spool_cannot_hold_is_counted() {
    shipped::bounded("fluentd", Forward::new());
}

#[test]
fn a_shipper_that_is_killed_comes_back() {
    shipped::shipper_killed("fluentd", Forward::new());
}

#[test]
fn records_are_dockers_and_long_lines_come_in_pieces() {
    let mut forward = Forward::new();
    let dhow = Dhow::new("records");
    forward.start();
    let script = "echo hello >&2; sleep 0.2; head -c 20000 /dev/zero | tr '\\0' x; echo";
    let more = ["-d", "--name", "box", "--label", "team=a", "--log-opt", "labels=team"];
    let more = [&more[..], &["--log-opt", "fluentd-sub-second-precision=true"]].concat();
    let id = shipped::run(&dhow, "fluentd", &forward, &more, script);
    dhow.ok(&["wait", "box"]);
    let records =
        eventually("three records", || Some(forward.records()).filter(|records| records.len() == 3));
    let (tag, time, first) = &records[0];
    assert_eq!(tag, "tag");
    assert!(matches!(time, rmpv::Value::Ext(0, bytes) if bytes.len() == 8), "{time}");
    let expected = serde_json::json!({
        "container_id": id, "container_name": "/box", "source": "stderr", "log": "hello", "team": "a",
    });
    assert_eq!(first, &expected);
    let (one, other) = (&records[1].2, &records[2].2);
    assert_eq!((&one["partial_ordinal"], &one["partial_last"]), (&"1".into(), &"false".into()));
    assert_eq!((&other["partial_ordinal"], &other["partial_last"]), (&"2".into(), &"true".into()));
    assert_eq!(one["partial_id"], other["partial_id"]);
    let text = |record: &serde_json::Value| record["log"].as_str().unwrap().to_owned();
    assert_eq!(text(one) + &text(other), "x".repeat(20000));
    dhow.ok(&["rm", "box"]);
    forward.stop();
}
