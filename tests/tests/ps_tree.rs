//! `ps --tree`: containers below those whose namespaces they live in, each with its processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, Terminal, eventually};

/// What stands before the names and numbers, and the commands.
fn shape(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().skip(1);
    let shape = |line: &str| {
        let at = line.find(|c: char| c.is_ascii_alphanumeric()).unwrap();
        let (before, rest) = line.split_at(at);
        let words: Vec<&str> = rest.split_whitespace().collect();
        let said = if words[0].chars().all(|c| c.is_ascii_digit()) {
            words[3..].join(" ")
        } else {
            words[0].to_owned()
        };
        (before.to_owned(), said)
    };
    lines.map(shape).collect()
}

/// `web` with a shell and two that it waits for, and `debug` in its namespaces.
fn family(dhow: &Dhow) {
    let script = "sleep 1001 & sleep 1002 & wait";
    dhow.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "web",
        "--ipc",
        "shareable",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let joins = ["--pid", "container:web", "--ipc", "container:web"];
    dhow.ok(&[
        &["run", "-d", "--network", "none", "--name", "debug"],
        &joins[..],
        &["busybox", "sleep", "1003"],
    ]
    .concat());
    eventually("both sleepers", || (dhow.ok(&["top", "web"]).lines().count() == 4).then_some(()));
}

#[test]
fn who_lives_in_whose_namespaces_stands_below() {
    let dhow = Dhow::new("pstree");
    family(&dhow);
    dhow.ok(&["run", "--network", "none", "--name", "done", "busybox", "true"]);
    let text = dhow.command(&["ps", "--tree"]).env("LC_ALL", "C.UTF-8").ok();
    assert!(text.starts_with("CONTAINER / PID "), "{text}");
    let expected = [
        ("", "web"),
        ("├─ ", "sh -c sleep 1001 & sleep 1002 & wait"),
        ("│  ├─ ", "sleep 1001"),
        ("│  └─ ", "sleep 1002"),
        ("└─ ", "debug"),
        ("   └─ ", "sleep 1003"),
    ]
    .map(|(before, said)| (before.to_owned(), said.to_owned()));
    assert_eq!(shape(&text), expected, "{text}");
    assert!(text.contains("busybox (Up ") && text.contains(", pid and ipc of web)"), "{text}");
    // The numbers are those of the host, and the users are known to it.
    let row: Vec<&str> =
        text.lines().find(|line| line.contains("sh -c")).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row[2]), (&*dhow.pid("web").to_string(), "root"));
    // Where the locale knows no line drawing; and those that have ended, which have no processes.
    let text = dhow.command(&["ps", "--tree", "-a"]).env("LC_ALL", "C").ok();
    assert!(text.is_ascii() && text.contains("|  `- ") && text.contains("   `- "), "{text}");
    assert!(text.lines().any(|line| line.starts_with("done  busybox (Exited (0) ")), "{text}");
    // Filters hold; who is below somebody that is not shown stands alone.
    let text = dhow.ok(&["ps", "--tree", "--filter", "name=debug"]);
    assert_eq!(
        shape(&text).iter().map(|(_, said)| said.as_str()).collect::<Vec<_>>(),
        ["debug", "sleep 1003"]
    );
    assert!(dhow.fails(125, &["ps", "--tree", "-q"]).contains("--tree"));
}

#[test]
fn lines_are_cut_at_the_window_and_nowhere_else() {
    let dhow = Dhow::new("pstree-width");
    let long = format!("sleep 1000; : {}", "x".repeat(200));
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", &long]);
    eventually("the sleeper", || dhow.ok(&["top", "box"]).contains("sleep 1000").then_some(()));
    assert!(dhow.ok(&["ps", "--tree"]).contains(&"x".repeat(200)));
    let mut terminal = Terminal::run(&dhow, &["ps", "--tree"]);
    assert_eq!(terminal.wait(), 0);
    let screen =
        eventually("all of it", || Some(terminal.screen()).filter(|s| s.matches("sleep 1000").count() == 2));
    assert!(screen.lines().all(|line| line.trim_end().chars().count() <= 80), "{screen}");
    let mut terminal = Terminal::run(&dhow, &["ps", "--tree", "--no-trunc"]);
    assert_eq!(terminal.wait(), 0);
    terminal.expect(&"x".repeat(200));
}

/// What a process calls itself does nothing to the tree or the terminal; nor how many there are below one another.
#[test]
fn a_process_cannot_forge_the_tree() {
    let dhow = Dhow::new("pstree-forged");
    let deep = "printf '#!/bin/sh\\n[ $1 -gt 0 ] && { /deep $(($1-1)); true; } || sleep 1000\\n' >/deep; chmod 755 /deep; \
                /deep 30 & exec sh -c 'sleep 1000; true' \"$(printf 'a\\033[2J\\nweb  forged (Up')\"";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", deep]);
    let text = eventually("all of them", || {
        let text = dhow.ok(&["ps", "--tree"]);
        (text.contains("/deep 0") && text.contains("a?[2J?web forged")).then_some(text)
    });
    assert!(!text.contains('\u{1b}') && text.lines().all(|line| !line.starts_with("web")), "{text}");
    let deepest = text.lines().find(|line| line.ends_with("/deep 0")).unwrap();
    assert!(deepest.chars().count() < 80, "{deepest:?}");
}
