//! `top`: the processes of a container, as `ps` on the host shows them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, Invocation, eventually};

/// A container with a shell and two that it waits for.
fn three(dhow: &Dhow) -> u32 {
    let script = "sleep 1001 & sleep 1002 & wait";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", script]);
    eventually("both sleepers", || (dhow.ok(&["top", "box"]).lines().count() == 4).then_some(()));
    dhow.pid("box")
}

fn table(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_columns_are_those_of_ps() {
    let dhow = Dhow::new("top");
    let pid = three(&dhow).to_string();
    let text = dhow.ok(&["top", "box"]);
    assert!(text.starts_with("UID                 PID                 PPID                C "), "{text}");
    let ours = table(&text);
    assert_eq!(ours[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let mut commands: Vec<String> = ours[1..].iter().map(|row| row[7..].join(" ")).collect();
    commands.sort();
    assert_eq!(commands, ["sh -c sleep 1001 & sleep 1002 & wait", "sleep 1001", "sleep 1002"]);
    assert_eq!((&*ours[1][0], &ours[1][1], &*ours[1][5]), ("root", &pid, "?"));
    assert!(ours[2..].iter().all(|row| row[2] == pid), "{ours:?}");
    // Line by line what ps itself says, but for the share of a processor, which may change between the two, and the start,
    // which may be on the other side of a minute for who takes the second of the boot from elsewhere.
    let numbers: Vec<&str> = ours[1..].iter().map(|row| &*row[1]).collect();
    let theirs = table(&Invocation::new("ps").args(&["-f", "-q", &numbers.join(",")]).ok());
    let lasting = |rows: &[Vec<String>]| {
        let mut rows: Vec<Vec<String>> = rows.to_vec();
        for row in &mut rows {
            drop(row.drain(3..5));
        }
        rows
    };
    assert_eq!(lasting(&ours), lasting(&theirs));
    assert!(ours[1..].iter().all(|row| row[4].len() == 5 && row[4].as_bytes()[2] == b':'), "{ours:?}");
    assert_eq!(dhow.ok(&["container", "top", "box"]).lines().count(), 4);
}

#[test]
fn options_go_to_the_hosts_ps() {
    let dhow = Dhow::new("top-options");
    let pid = three(&dhow).to_string();
    let rows = table(&dhow.ok(&["top", "box", "-o", "pid,comm"]));
    assert_eq!((rows.len(), &rows[0]), (4, &vec!["PID".to_owned(), "COMMAND".to_owned()]));
    assert_eq!(rows[1][0], pid);
    for options in [&["aux"][..], &["-eo", "pid,args"], &["-eo user,pid,args"], &["axo", "pid,args"]] {
        let text = dhow.ok(&[&["top", "box"], options].concat());
        let wanted: Vec<&str> = text.lines().filter(|line| line.contains("sleep 100")).collect();
        assert_eq!(text.lines().count(), 4, "{options:?}: only its own: {text}");
        assert_eq!(wanted.len(), 3, "{options:?}: {text}");
    }
    let error = dhow.fails(1, &["top", "box", "-o", "comm"]);
    assert!(error.contains("couldn't find PID field in ps output"), "{error}");
    let error = dhow.fails(1, &["top", "box", "-o", "ppid=PID"]);
    assert!(error.contains("`ppid=PID` is not allowed"), "{error}");
    let error = dhow.fails(1, &["top", "box", "--no-such-option"]);
    assert!(error.contains("unknown"), "{error}");
    // Without ps on the host.
    let error = dhow.command(&["top", "box", "aux"]).env("PATH", "/nowhere").output();
    assert!(error.stderr.contains("install ps") && error.code == 1, "{error:#?}");
    assert_eq!(dhow.command(&["top", "box"]).env("PATH", "/nowhere").ok().lines().count(), 4);
}

#[test]
fn only_what_runs_has_processes() {
    let dhow = Dhow::new("top-state");
    assert!(dhow.fails(1, &["top", "nope"]).contains("no such container: nope"));
    dhow.ok(&["run", "--network", "none", "--name", "done", "busybox", "true"]);
    assert!(dhow.fails(1, &["top", "done"]).contains("container done is not running"));
}

/// What a process calls itself does nothing to the table or the terminal; nor has its own `ps` a say.
#[test]
fn a_process_cannot_forge_the_table() {
    let dhow = Dhow::new("top-forged");
    let forged = "rm /bin/ps; printf '#!/bin/sh\\necho PID CMD; echo 1 forged\\n' >/bin/ps; chmod 755 /bin/ps; \
                  exec sh -c 'sleep 1000; true' \"$(printf 'a\\033[2J\\nroot 1 x')\"";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", forged]);
    eventually("the second shell", || dhow.ok(&["top", "box"]).contains("a?[2J?root 1 x").then_some(()));
    assert!(!dhow.ok(&["top", "box"]).contains('\u{1b}'));
    assert!(!dhow.ok(&["top", "box", "-o", "pid,args"]).contains("forged"));
}
