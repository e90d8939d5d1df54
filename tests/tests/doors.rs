//! What a command sees of the doors that start it, talk to it and leave: its input's end, signals, who it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::image::Image;
use harness::tar::Tar;
use harness::{Dhow, eventually};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn input_ends_with_the_door_that_fed_it() {
    let dhow = Dhow::new("feeder");
    let none = ["--network", "none"];
    let args = [&["run", "-i", "--name", "fed"], &none[..], &["busybox", "cat"]].concat();
    let mut door = dhow.spawn(&args);
    door.write("word\n");
    door.expect("word");
    door.kill();
    assert_eq!(dhow.ok(&["wait", "fed"]), "0");

    // detached, it stays open for whoever attaches
    dhow.ok(&[&["run", "-d", "-i", "--name", "box"], &none[..], &["busybox", "cat"]].concat());
    let mut door = dhow.spawn(&["exec", "-i", "box", "cat"]);
    door.write("word\n");
    door.expect("word");
    door.kill();
    let of_exec = || dhow.ok(&["exec", "box", "ps", "-o", "comm"]).lines().filter(|l| *l == "cat").count();
    eventually("the end of the exec", || (of_exec() == 1).then_some(()));
    let door = dhow.command(&["attach", "box"]).input("last\n").output();
    assert_eq!((door.code, &*door.stdout), (0, "last\n"));
}

#[test]
fn an_exec_ends_although_others_write_on() {
    let dhow = Dhow::new("writers");
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    let script = "for i in 1 2 3 4; do yes & done; exit 5";
    assert_eq!(dhow.run(&["exec", "box", "sh", "-c", script]).code, 5);
}

#[test]
fn the_third_interrupt_lets_the_door_go() {
    let dhow = Dhow::new("deaf");
    let script = "trap 'echo int' INT; trap 'echo term' TERM; echo up; while :; do sleep 0.05; done";
    let door = dhow.spawn(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    door.expect("up");
    door.signal(Signal::INT);
    door.expect("int");
    door.signal(Signal::TERM);
    door.expect("term");
    door.signal(Signal::INT);
    let output = door.wait();
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("got 3 SIGTERM/SIGINTs, forcefully exiting"), "{}", output.stderr);
    assert_eq!(dhow.ok(&["ps", "--format", "{{.Names}}"]), "box", "it runs on");
}

#[test]
fn signals_without_names_arrive() {
    let dhow = Dhow::new("realtime");
    dhow.load(&Image::busybox("systemd-like").with("StopSignal", json!("SIGRTMIN+3")));
    for init in [&[][..], &["--init"]] {
        let script = "trap 'exit 3' 37; echo ready; while :; do sleep 0.05; done";
        let args = [&["run", "--rm", "--network", "none", "--name", "box"], init, &["systemd-like"]].concat();
        let door = dhow.spawn(&[&args[..], &["sh", "-c", script]].concat());
        door.expect("ready");
        dhow.ok(&["stop", "-t", "60", "box"]);
        assert_eq!(door.wait().code, 3);
    }
}

#[test]
fn ids_that_mean_as_it_is_are_nobodys() {
    let passwd =
        "root:x:0:0::/:/bin/sh\nsame:x:4294967295:4294967295::/:/bin/sh\nlarge:x:2147483648:0::/:/bin/sh\n";
    let dhow = Dhow::new("minusone");
    let layer = Tar::new().file("etc/passwd", 0o644, passwd);
    dhow.load(&Image::busybox("odd").with_layer(layer));
    for user in ["same", "large", "4294967295", "2147483648", "0:4294967295"] {
        dhow.fails(125, &["run", "--rm", "--network", "none", "-u", user, "odd", "id"]);
    }
}

#[test]
fn a_directory_of_roots_own_is_entered_for_a_user_too() {
    let dhow = Dhow::new("rootsdir");
    dhow.load(&Image::busybox("private").with_layer(Tar::new().dir("private", 0o700)));
    let user = ["-u", "1000", "-w", "/private"];
    dhow.ok(&[
        &["run", "-d", "--name", "box", "--network", "none"],
        &user[..],
        &["private", "sleep", "1000"],
    ]
    .concat());
    let exec = |command: &[&str]| dhow.run(&[&["exec"], &user[..], &["box"], command].concat());
    assert_eq!(exec(&["true"]).code, 0);
    assert_ne!(exec(&["ls", "."]).code, 0, "entered, not opened up");
}
