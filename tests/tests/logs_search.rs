//! `dhow logs --grep`, `--json-field`, `--multiline`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, eventually};

const DRIVERS: [&str; 2] = ["json-file", "local"];

#[track_caller]
fn said(dhow: &Dhow, driver: &str, script: &str) {
    dhow.ok(&[
        "run",
        "-d",
        "--name",
        driver,
        "--log-driver",
        driver,
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    dhow.ok(&["wait", driver]);
}

#[test]
fn expressions_find_lines_and_the_last_of_them() {
    let dhow = Dhow::new("grep");
    for driver in DRIVERS {
        said(&dhow, driver, "seq 1 20000; echo Error >&2; head -c 40000 /dev/zero | tr '\\0' x; echo needle");
        let logs = |args: &[&str]| dhow.ok(&[&["logs"], args, &[driver]].concat());
        assert_eq!(logs(&["--grep", "^1999.$"]).lines().count(), 10);
        assert_eq!(logs(&["--grep", "^.*9$", "--tail", "2"]), "19989\n19999");
        assert_eq!(logs(&["--grep", "[0-9]", "--tail", "0"]), "");
        assert_eq!(dhow.run(&["logs", "--grep", "(?i)ERROR", driver]).stderr, "Error\n");
        // A line that the log keeps in pieces is one, and found by what is in another piece.
        assert_eq!(logs(&["--grep", "xneedle$", "--tail", "5"]).len(), 40_006);
        assert_eq!(logs(&["--grep", "x|E", "--invert-match", "--tail", "1"]), "20000");
        let bad = dhow.fails(1, &["logs", "--grep", "(", driver]);
        assert!(bad.contains("--grep is no regular expression"), "{bad}");
        dhow.fails(1, &["logs", "--invert-match", driver]);
        dhow.ok(&["rm", driver]);
    }
}

#[test]
fn fields_of_json_are_shown_and_chosen_by() {
    let dhow = Dhow::new("jsonfield");
    let script = r#"echo '{"level":"info","msg":"one","req":{"id":1}}'
        echo 'no object'
        echo '{"level":"error","msg":"two","req":{"id":2}}'
        echo '{"level":"error","msg":"three"}'"#;
    for driver in DRIVERS {
        said(&dhow, driver, script);
        let logs = |args: &[&str]| dhow.ok(&[&["logs"], args, &[driver]].concat());
        assert_eq!(logs(&["--json-field", "msg"]), "one\ntwo\nthree");
        assert_eq!(logs(&["--json-field", "level=error", "--json-field", "msg"]), "two\nthree");
        assert_eq!(logs(&["--json-field", "req.id=2"]), r#"{"level":"error","msg":"two","req":{"id":2}}"#);
        assert_eq!(
            logs(&["--json-field", "msg", "--json-field", "req.id", "--tail", "2"]),
            "two\t2\nthree\t"
        );
        assert_eq!(logs(&["--json-field", "msg", "--grep", "info"]), "one");
        dhow.fails(125, &["logs", "--json-field", "=x", driver]);
        dhow.ok(&["rm", driver]);
    }
}

#[test]
fn lines_that_belong_together_are_found_and_counted_as_one() {
    let dhow = Dhow::new("multiline");
    let script =
        "echo 'E first'; echo '  at a'; echo '  at b'; echo 'I quiet'; echo 'E second'; echo '  at c'";
    for driver in DRIVERS {
        said(&dhow, driver, script);
        let logs = |args: &[&str]| dhow.ok(&[&["logs", "--multiline", "^[A-Z] "], args, &[driver]].concat());
        assert_eq!(logs(&["--grep", "at b"]), "E first\n  at a\n  at b");
        assert_eq!(logs(&["--grep", "^E", "--tail", "1"]), "E second\n  at c");
        assert_eq!(logs(&["--tail", "2"]), "I quiet\nE second\n  at c");
        assert_eq!(logs(&["-t", "--tail", "1"]).matches('Z').count(), 1);
        dhow.ok(&["rm", driver]);
    }
}

#[test]
fn followers_find_what_is_said_later() {
    let dhow = Dhow::new("grepfollow");
    for driver in DRIVERS {
        let script = "trap 'echo E late; echo \"  at d\"; echo I' USR1; trap exit USR2
            seq 1 100; echo 'E early'; echo '  at c'; while :; do sleep 0.05; done";
        dhow.ok(&[
            "run",
            "-d",
            "--name",
            driver,
            "--log-driver",
            driver,
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        eventually("its first lines", || dhow.ok(&["logs", driver]).ends_with("at c").then_some(()));
        let find = |args: &[&str]| dhow.spawn(&[&["logs", "-f"], args, &[driver]].concat());
        let plain = find(&["--grep", "^E|^9", "--tail", "2"]);
        let joined = find(&["--grep", "^E", "--multiline", "^[^ ]"]);
        plain.expect("99\nE early\n");
        // What may go on is shown when it has not for a moment.
        joined.expect("E early\n  at c\n");
        dhow.ok(&["kill", "--signal", "USR1", driver]);
        plain.expect("E late\n");
        joined.expect("E late\n  at d\n");
        dhow.ok(&["kill", "--signal", "USR2", driver]);
        assert_eq!(plain.wait().stdout, "99\nE early\nE late\n");
        assert_eq!(joined.wait().stdout, "E early\n  at c\nE late\n  at d\n");
        dhow.ok(&["rm", driver]);
    }
}
