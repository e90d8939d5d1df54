//! `top` without a container: a screen of all of them, on a real terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use harness::{Dhow, Terminal, eventually};
use rustix::process::{Pid, Signal, kill_process};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l\x1b[?25h";

fn top(dhow: &Dhow) -> Terminal {
    Terminal::of(|invocation| dhow.on(invocation.env("LC_ALL", "C.UTF-8").env("TERM", "xterm"), &["top"]))
}

fn idle(dhow: &Dhow, name: &str) {
    let script = format!("echo {name} says it; exec sleep 1000");
    dhow.ok(&["run", "-d", "--network", "none", "--name", name, "busybox", "sh", "-c", &script]);
}

fn signal(terminal: &Terminal, signal: Signal) {
    kill_process(Pid::from_raw(terminal.pid().cast_signed()).unwrap(), signal).unwrap();
}

fn state(dhow: &Dhow, name: &str) -> String {
    dhow.inspect(name)["State"]["Status"].as_str().unwrap().to_owned()
}

/// All that is on the screen now, drawn anew; escape sequences are blanks.
fn look(terminal: &mut Terminal) -> String {
    let before = terminal.screen().len();
    terminal.press(b"\x0c");
    let drawn = eventually("the screen", || {
        let drawn = terminal.screen().split_off(before);
        // The end of a frame is that there is no cursor.
        let whole = drawn.find("MEMORY").is_some_and(|at| drawn[at..].contains("\x1b[?25l"));
        whole.then_some(drawn)
    });
    let mut text = String::new();
    let mut rest = drawn.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            text.push(' ');
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            text.push(c);
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn all_containers_are_shown_and_what_the_selected_one_does() {
    let dhow = Dhow::new("topscreen");
    idle(&dhow, "first");
    let mut terminal = top(&dhow);
    terminal.expect(ENTER);
    terminal.expect("first");
    let before = terminal.settings();
    assert!(before.is_raw());
    terminal.expect("LOG of first");
    terminal.expect("says");
    terminal.expect("PROCESSES of first");
    terminal.expect("1000");
    // One that comes, one that speaks, one that goes.
    idle(&dhow, "second");
    terminal.expect("second");
    dhow.ok(&["exec", "first", "sh", "-c", "echo more >/proc/1/fd/1"]);
    terminal.expect("more");
    dhow.ok(&["rm", "-f", "second"]);
    eventually("its end", || (!look(&mut terminal).contains("second")).then_some(()));
    // A small window, and help in it.
    terminal.resize(10, 40);
    terminal.press(b"?");
    terminal.expect("space:");
    terminal.press(b"qq");
    assert_eq!(terminal.wait(), 0);
    terminal.expect(LEAVE);
    assert!(!terminal.settings().is_raw());
    // Looking is no event.
    let events = dhow.ok(&["events", "--since", "10m", "--until", "0s", "--filter", "event=top"]);
    assert_eq!(events, "");
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let dhow = Dhow::new("topscreen-end");
    idle(&dhow, "box");
    type End = fn(&mut Terminal);
    let ends: [(&str, End, i32); 4] = [
        ("the key q", |terminal| terminal.press(b"q"), 0),
        ("control and C", |terminal| terminal.press(b"\x03"), 0),
        ("SIGTERM", |terminal| signal(terminal, Signal::TERM), 143),
        ("SIGHUP", |terminal| signal(terminal, Signal::HUP), 129),
    ];
    for (name, end, code) in ends {
        let mut terminal = top(&dhow);
        let before = terminal.settings();
        terminal.expect("LOG of box");
        assert_ne!(terminal.settings(), before, "{name}");
        end(&mut terminal);
        assert_eq!(terminal.wait(), code, "{name}");
        terminal.expect(LEAVE);
        assert_eq!(terminal.settings(), before, "{name}");
    }
}

#[test]
fn what_is_done_is_asked_first() {
    let dhow = Dhow::new("topscreen-act");
    idle(&dhow, "box");
    let mut terminal = top(&dhow);
    terminal.expect("LOG of box");
    let pid = dhow.pid("box");
    terminal.press(b"k");
    terminal.expect("kill box? [y/N]");
    terminal.press(b"n");
    terminal.press(b" y");
    eventually("the pause", || (state(&dhow, "box") == "paused").then_some(()));
    eventually("the word for it", || look(&mut terminal).contains("paused").then_some(()));
    assert_eq!(dhow.pid("box"), pid, "a no is a no");
    terminal.press(b" y");
    eventually("the end of the pause", || (state(&dhow, "box") == "running").then_some(()));
    terminal.press(b"ry");
    eventually("another process", || {
        (state(&dhow, "box") == "running" && dhow.pid("box") != pid).then_some(())
    });
    eventually("that it is done", || look(&mut terminal).contains("restart box: done").then_some(()));
    terminal.press(b"ky");
    eventually("its end", || (state(&dhow, "box") == "exited").then_some(()));
    eventually("nobody", || look(&mut terminal).contains("no container runs").then_some(()));
    // With those that do not run, it can be started again; and what is refused is said.
    terminal.press(b"a");
    eventually("it again", || look(&mut terminal).contains("box exited").then_some(()));
    terminal.press(b" y");
    eventually("why not", || look(&mut terminal).contains("container box is not running").then_some(()));
    terminal.press(b"ry");
    eventually("it again", || (state(&dhow, "box") == "running").then_some(()));
    // Who leaves at once waits for what was begun.
    terminal.press(b"syq");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(state(&dhow, "box"), "exited");
}

#[test]
fn typing_filters_and_letters_sort() {
    let dhow = Dhow::new("topscreen-keys");
    for name in ["alpha", "beta", "gamma"] {
        idle(&dhow, name);
    }
    let mut terminal = top(&dhow);
    terminal.expect("gamma");
    terminal.press(b"n");
    let text = look(&mut terminal);
    let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("no {name} in {text}"));
    assert!(at("alpha") < at("beta") && at("beta") < at("gamma"), "{text}");
    terminal.press(b"/bet\r");
    let text = look(&mut terminal);
    assert!(text.contains("LOG of beta") && !text.contains("alpha") && !text.contains("gamma"), "{text}");
    terminal.press(b"\x1b");
    eventually("all of them", || look(&mut terminal).contains("alpha").then_some(()));
    terminal.press(b"\x1b[B");
    eventually("the next one", || look(&mut terminal).contains("LOG of gamma").then_some(()));
    terminal.press(b"q");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn the_shell_can_have_the_terminal_meanwhile() {
    let dhow = Dhow::new("topscreen-stop");
    idle(&dhow, "box");
    // With a shell that has job control, as a person has it.
    let script = "set -m; \"$@\"; echo stopped $?; fg; echo ended $?";
    let mut terminal = Terminal::of(|invocation| {
        let invocation = invocation.env("TERM", "xterm").args(&["bash", "-c", script, "bash"]);
        dhow.on(invocation, &["top"])
    });
    terminal.expect("LOG of box");
    terminal.press(b"\x1a");
    terminal.expect("stopped 148");
    let again = |terminal: &Terminal| terminal.screen().matches("LOG of box").count();
    eventually("the screen again", || (again(&terminal) > 1).then_some(()));
    terminal.press(b"q");
    terminal.expect("ended 0");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn a_container_cannot_write_to_the_terminal() {
    let dhow = Dhow::new("topscreen-forged");
    let script = "printf '\\033]0;title\\007\\033[2Jcleared\\033[31m red\\n'; exec sleep 1000";
    dhow.ok(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sh", "-c", script]);
    let mut terminal =
        Terminal::of(|invocation| dhow.on(invocation.env("LC_ALL", "C").env("TERM", "linux"), &["top"]));
    terminal.expect("]0;title?cleared");
    eventually("its processes", || look(&mut terminal).contains("sleep 1000").then_some(()));
    let screen = terminal.screen();
    assert!(!screen.contains("\x1b]0;") && !screen.contains('\u{7}'), "{screen:?}");
    assert!(screen.is_ascii(), "a console has no blocks: {screen:?}");
    terminal.press(b"q");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn without_a_terminal_there_is_a_better_way() {
    let dhow = Dhow::new("topscreen-pipe");
    let output = dhow.run(&["top"]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("stats --no-stream") && output.stdout.is_empty(), "{output:#?}");
}

/// Nobody should mind that it is open.
#[test]
fn twenty_containers_cost_next_to_nothing() {
    let dhow = Dhow::new("topscreen-cost");
    for n in 0..20 {
        idle(&dhow, &format!("box{n}"));
    }
    let mut terminal = top(&dhow);
    terminal.expect("20 running");
    std::thread::sleep(Duration::from_secs(2));
    // In the hundredths of a second of proc_pid_stat(5).
    let used = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", terminal.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = used();
    std::thread::sleep(Duration::from_secs(10));
    let percent = (used() - before) as f64 / 10.0;
    eprintln!("{percent} % of a processor");
    // Half a percent is what a release build takes at most; this one is not optimized, on a busy machine.
    assert!(percent < 3.0, "{percent} % of a processor");
    terminal.press(b"q");
    assert_eq!(terminal.wait(), 0);
}
