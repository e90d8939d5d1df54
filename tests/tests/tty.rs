//! Terminals: `-t`, resize, keys, detaching, and the user's own terminal afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::{Dhow, Terminal, eventually};

#[test]
fn the_container_gets_a_terminal_of_the_same_size() {
    let dhow = Dhow::new("tty");
    let mut terminal = Terminal::run(&dhow, &["run", "-it", "--rm", "--network", "none", "busybox", "sh"]);
    terminal.press(b"tty; stty size; test -t 0 -a -t 1 -a -t 2 && echo all three\n");
    terminal.expect("/dev/pts/0\r\n");
    terminal.expect("24 80\r\n");
    terminal.expect("\nall three");
    terminal.resize(40, 132);
    eventually("the new size", || {
        terminal.press(b"stty size\n");
        terminal.screen().contains("40 132").then_some(())
    });
    terminal.press(b"exit 5\n");
    assert_eq!(terminal.wait(), 5);
}

#[test]
fn the_users_terminal_is_raw_meanwhile_and_restored_after() {
    let dhow = Dhow::new("raw");
    let args = ["run", "-it", "--rm", "--network", "none", "busybox", "sh", "-c", "echo up; read x; exit 3"];
    let mut terminal = Terminal::run(&dhow, &args);
    let before = terminal.settings();
    terminal.expect("up");
    assert!(terminal.settings().is_raw());
    terminal.press(b"\r");
    assert_eq!(terminal.wait(), 3);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn the_terminal_is_restored_when_the_door_is_told_to_go() {
    let dhow = Dhow::new("term");
    let args = [
        "run",
        "-it",
        "--rm",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo up; sleep 1000",
    ];
    let mut terminal = Terminal::run(&dhow, &args);
    let before = terminal.settings();
    terminal.expect("up");
    let pid = rustix::process::Pid::from_raw(terminal.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.wait(), 143);
    assert_eq!(terminal.settings(), before);
    // without -it the signal would have been the container's; here it is the door's
    assert_eq!(dhow.ok(&["ps", "--format", "{{.Names}}"]), "box");
}

#[test]
fn ctrl_c_reaches_the_command() {
    let dhow = Dhow::new("ctrlc");
    let script = "trap 'exit 42' INT; echo up; while :; do sleep 0.05; done";
    let args = ["run", "-it", "--rm", "--network", "none", "busybox", "sh", "-c", script];
    let mut terminal = Terminal::run(&dhow, &args);
    terminal.expect("up");
    terminal.press(b"\x03");
    assert_eq!(terminal.wait(), 42);
}

#[test]
fn detaching_leaves_it_running_and_attach_comes_back() {
    let dhow = Dhow::new("detachkeys");
    let mut terminal =
        Terminal::run(&dhow, &["run", "-it", "--name", "box", "--network", "none", "busybox", "sh"]);
    let before = terminal.settings();
    terminal.press(b"echo fir''st\n");
    terminal.expect("first\r\n");
    terminal.press(b"\x10\x11");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(terminal.settings(), before);
    assert_eq!(dhow.inspect("box")["State"]["Running"], true);

    let mut again = Terminal::run(&dhow, &["attach", "box"]);
    again.press(b"echo sec''ond\n");
    again.expect("second\r\n");
    again.press(b"exit 9\n");
    assert_eq!(again.wait(), 9);
    assert_eq!(dhow.inspect("box")["State"]["ExitCode"], 9);
    assert!(dhow.ok(&["logs", "box"]).contains("second"));
}

#[test]
fn exec_has_terminals_too() {
    let dhow = Dhow::new("exectty");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    let mut terminal = Terminal::run(&dhow, &["exec", "-it", "box", "sh"]);
    terminal.press(b"stty size; tty\n");
    terminal.expect("24 80");
    terminal.expect("/dev/pts/");
    terminal.press(b"exit 4\n");
    assert_eq!(terminal.wait(), 4);
}

#[test]
fn a_terminal_without_ours_is_refused_with_input_and_fine_without() {
    let dhow = Dhow::new("notty");
    let line = dhow.fails(1, &["run", "-it", "--rm", "busybox", "true"]);
    assert!(line.contains("not a TTY"), "{line}");
    assert_eq!(dhow.ok(&["run", "-t", "--rm", "--network", "none", "busybox", "tty"]), "/dev/pts/0\r");
    dhow.ok(&["run", "-dt", "--name", "box", "--network", "none", "busybox", "sh"]);
    assert_eq!(dhow.inspect("box")["Config"]["Tty"], true);
}
