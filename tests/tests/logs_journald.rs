//! `--log-driver journald`, with systemd's own journal in a mount namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::collectors::{Collector, Journal};
use harness::{Dhow, eventually, real_directory, shipped};

fn with(test: impl FnOnce(Journal)) {
    let dir = real_directory("jrn");
    test(Journal::new(dir.path()));
}

#[test]
fn all_arrives_as_it_was_said() {
    with(|journal| shipped::whole("journald", journal));
}

#[test]
fn a_journal_that_dies_gets_all_when_it_is_back() {
    with(|journal| shipped::killed("journald", journal, true));
}

#[test]
fn a_journal_that_stands_still_holds_nobody() {
    with(|journal| shipped::held("journald", journal));
}

#[test]
fn what_removed_containers_said_arrives() {
    with(|journal| shipped::removed("journald", journal));
}

#[test]
fn what_the_spool_cannot_hold_is_counted() {
    with(|journal| shipped::bounded("journald", journal));
}

#[test]
fn a_shipper_that_is_killed_comes_back() {
    with(|journal| shipped::shipper_killed("journald", journal));
}

#[test]
fn fields_are_dockers_and_long_lines_come_in_pieces() {
    let dir = real_directory("jrn");
    let mut journal = Journal::new(dir.path());
    let dhow = Dhow::new("fields");
    journal.start();
    let script = "echo hello; head -c 40000 /dev/zero | tr '\\0' x; echo";
    let more =
        ["-d", "--name", "box", "--label", "com.team=a", "--env", "TIER=b", "--log-opt", "labels=com.team"];
    let more = [&more[..], &["--log-opt", "env-regex=^TI"]].concat();
    let id = shipped::run(&dhow, "journald", &journal, &more, script);
    dhow.ok(&["wait", "box"]);
    let entries = eventually("four entries", || Some(journal.entries()).filter(|entries| entries.len() == 4));
    let field = |n: usize, name: &str| entries[n][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(field(0, "MESSAGE"), "hello");
    assert_eq!((field(0, "CONTAINER_ID_FULL"), field(0, "CONTAINER_ID")), (id.clone(), id[..12].to_owned()));
    assert_eq!(
        (field(0, "CONTAINER_NAME"), field(0, "IMAGE_NAME")),
        ("box".to_owned(), "busybox".to_owned())
    );
    assert_eq!((field(0, "COM_TEAM"), field(0, "TIER")), ("a".to_owned(), "b".to_owned()));
    assert_eq!(field(0, "CONTAINER_PARTIAL_MESSAGE"), "");
    let pieces: Vec<_> =
        (1..4).map(|n| (field(n, "CONTAINER_PARTIAL_ORDINAL"), field(n, "CONTAINER_PARTIAL_LAST"))).collect();
    let expected = [("1", "false"), ("2", "false"), ("3", "true")];
    assert_eq!(pieces, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!((1..4).map(|n| field(n, "MESSAGE")).collect::<String>(), "x".repeat(40000));
    let ordinals: Vec<_> = (0..4).map(|n| field(n, "CONTAINER_LOG_ORDINAL")).collect();
    assert_eq!(ordinals, ["1", "2", "3", "4"]);
    dhow.ok(&["rm", "box"]);
    journal.stop();
}
