//! What an earlier release has written is read, and its monitors' language spoken, with nothing of that release at hand: its
//! files are in `tests/upgrade` (`upgrade` shows that they are what its programs write), and its monitor is played here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use harness::upgrade::{FILES, Fixtures};
use harness::{Dhow, eventually};
use serde_json::json;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A container of the earlier release, with these of its files.
#[track_caller]
fn plant(dhow: &Dhow, files: &[&str]) {
    let fixtures = Fixtures::new(dhow, ID);
    for directory in ["upper", "work"] {
        std::fs::create_dir_all(dhow.root().join("containers").join(ID).join(directory)).unwrap();
    }
    let claims = dhow.root().join("names/containers");
    std::fs::create_dir_all(&claims).unwrap();
    std::fs::write(claims.join("box"), ID).unwrap();
    for (name, path) in FILES.iter().filter(|(name, _)| files.contains(name)) {
        let path: PathBuf = path(dhow, ID);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, fixtures.of(name)).unwrap();
    }
}

#[test]
fn a_container_that_had_ended_is_a_container_like_any_other() {
    let dhow = Dhow::new("old-ended");
    plant(&dhow, &["record.json", "exit.json"]);
    assert!(dhow.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).starts_with("box Exited (137)"));
    let inspected = dhow.inspect("box");
    assert_eq!((&inspected["Id"], &inspected["State"]["ExitCode"]), (&json!(ID), &json!(137)));
    assert_eq!(inspected["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    dhow.ok(&["set", "-l", "l=2", "-e", "A=new", "--tmpfs", "/t", "box"]);
    dhow.ok(&["update", "-m", "80m", "box"]);
    dhow.ok(&["rename", "box", "other"]);
    dhow.ok(&["start", "other"]);
    eventually("its word", || (dhow.ok(&["logs", "other"]) == "run new").then_some(()));
    assert_eq!(dhow.inspect("other")["HostConfig"]["Memory"], json!(80 << 20));
    dhow.ok(&["restart", "-t", "0", "other"]);
    assert_eq!(dhow.ok(&["exec", "other", "cat", "/runs"]), "run\nrun");
    dhow.ok(&["rm", "-f", "other"]);
}

#[test]
fn a_container_whose_monitor_died_is_put_right() {
    let dhow = Dhow::new("old-dead");
    plant(&dhow, &["record.json", "live.json", "request.json"]);
    assert!(dhow.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).starts_with("box Exited (137)"));
    assert!(!dhow.run_root().join("containers").join(ID).exists());
    dhow.ok(&["start", "box"]);
    eventually("its word", || (dhow.ok(&["logs", "box"]) == "run old").then_some(()));
}

#[test]
fn a_record_from_the_future_says_what_to_do() {
    let dhow = Dhow::new("old-new");
    plant(&dhow, &["exit.json"]);
    let record = dhow.root().join("containers").join(ID).join("record.json");
    std::fs::write(&record, r#"{"format":99,"another":"world"}"#).unwrap();
    for verb in ["start", "set"] {
        let output = dhow.run(if verb == "set" { &["set", "-l", "a", "box"] } else { &["start", "box"] });
        assert!(output.code == 1 && output.stderr.contains("has format 99"), "{output:#?}");
        assert!(output.stderr.contains("hint: use the newer version that wrote it"), "{output:#?}");
    }
    std::fs::remove_dir_all(record.parent().unwrap()).unwrap();
}

/// A monitor of the first version of the protocol, which has no container: what it says and how it ends is what one does.
struct Played {
    heard: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

const STARTED: u8 = 16;
const OUTPUT: u8 = 18;
const EXITED: u8 = 20;

fn say(socket: &mut UnixStream, tag: u8, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    // who has hung up hears nothing
    socket.write_all(&[&[tag], &length[..], payload].concat()).ok();
}

fn hear(socket: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    socket.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize];
    socket.read_exact(&mut payload).ok()?;
    Some((head[0], payload))
}

/// Plays one for the planted container, until it is sent a signal.
fn play(dhow: &Dhow) -> Played {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let live = dhow.run_root().join("containers").join(ID);
    let lock = std::fs::File::open(&live).unwrap();
    lock.lock().unwrap();
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/socket", lock.as_raw_fd())).unwrap();
    let exit = Fixtures::new(dhow, ID).of("exit.json");
    let exit_path = dhow.root().join("containers").join(ID).join("exit.json");
    let tags = Arc::clone(&heard);
    let thread = std::thread::spawn(move || {
        let (ending, ends) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (mut socket, tags, ending) = (socket.unwrap(), Arc::clone(&tags), ending.clone());
                std::thread::spawn(move || {
                    while let Some((tag, payload)) = hear(&mut socket) {
                        tags.lock().unwrap().push(tag);
                        match tag {
                            1 => {
                                say(&mut socket, STARTED, &std::process::id().to_le_bytes());
                                if String::from_utf8(payload).unwrap().contains("\"attach\":true") {
                                    say(&mut socket, OUTPUT, b"said by the old one\n");
                                }
                            }
                            5 => return ending.send(socket).unwrap(),
                            _ => {}
                        }
                    }
                });
            }
        });
        let mut last: UnixStream = ends.recv().unwrap();
        std::fs::write(exit_path, exit).unwrap();
        std::fs::remove_dir_all(live).unwrap();
        say(&mut last, EXITED, br#"{"code":137,"oom_killed":false}"#);
        drop(lock);
    });
    Played { heard, thread }
}

#[test]
fn a_monitor_that_speaks_the_first_version_is_asked_for_nothing_else() {
    let dhow = Dhow::new("old-monitor");
    plant(&dhow, &["record.json", "live.json", "request.json"]);
    let played = play(&dhow);
    assert_eq!(dhow.ok(&["ps", "--format", "{{.Names}} {{.State}}"]), "box running");
    assert_eq!(dhow.inspect("box")["State"]["Running"], true);
    let attached = dhow.spawn(&["attach", "--no-stdin", "box"]);
    attached.expect("said by the old one");
    dhow.ok(&["rename", "box", "other"]);
    dhow.ok(&["update", "--restart", "no", "other"]);
    dhow.ok(&["set", "-l", "l=2", "--restart", "always", "other"]);
    // what it would not understand takes a restart, and that is told it in words it knows
    let output = dhow.run(&["set", "-y", "-t", "20", "-e", "A=new", "other"]);
    assert_eq!((output.code, &*output.stdout), (0, "other\n"), "{output:#?}");
    played.thread.join().unwrap();
    let mut heard = played.heard.lock().unwrap().clone();
    heard.sort_unstable();
    heard.dedup();
    // Hello, Signal, Stop, Policy
    assert_eq!(heard, [1, 5, 8, 9]);
    drop(attached);
    eventually("its word", || (dhow.ok(&["logs", "other"]) == "run new").then_some(()));
    assert_eq!(dhow.inspect("other")["Config"]["Labels"]["l"], "2");
}
