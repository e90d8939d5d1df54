//! `dhow-runtime`: terminals, in the foreground and through a console socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use harness::oci::{Bundle, Runtime};
use harness::{Terminal, eventually};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

fn with_terminal(script: &str) -> Bundle {
    Bundle::running(&["sh", "-c", script]).edit(|spec| spec["process"]["terminal"] = json!(true))
}

/// A socket that waits for a descriptor.
struct Receiver {
    listener: UnixListener,
    path: PathBuf,
}

impl Receiver {
    fn new(runtime: &Runtime) -> Self {
        let path = runtime.scratch().join("socket");
        std::fs::remove_file(&path).ok();
        Self { listener: UnixListener::bind(&path).unwrap(), path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The descriptor, and what came with it.
    fn receive(&self) -> (OwnedFd, String) {
        let (socket, _) = self.listener.accept().unwrap();
        let mut bytes = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let length =
            recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
                .unwrap()
                .bytes;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        (descriptor.expect("a descriptor came"), String::from_utf8_lossy(&bytes[..length]).into_owned())
    }
}

/// Reads from a terminal until it has said `text`.
fn expect(terminal: &mut File, text: &str) {
    let mut said = Vec::new();
    let mut buffer = [0; 512];
    while !String::from_utf8_lossy(&said).contains(text) {
        let length = terminal.read(&mut buffer).unwrap_or(0);
        assert!(length > 0, "no {text:?} but {:?}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..length]);
    }
}

#[test]
fn run_relays_its_own_terminal() {
    let runtime = Runtime::new();
    // The size is that of our own terminal from the beginning, whatever the configuration says.
    let script = "stty size; tty; read line; echo got $line; read line; stty size; exit 4";
    let bundle = with_terminal(script)
        .edit(|spec| spec["process"]["consoleSize"] = json!({"height": 33, "width": 77}));
    let id = runtime.id("box");
    let args = ["run", "--bundle", bundle.path().to_str().unwrap(), &id];
    let mut terminal = Terminal::of(|invocation| runtime.on(invocation, &args));
    let before = terminal.settings();
    terminal.expect("24 80");
    terminal.expect("/dev/pts/0");
    eventually("raw mode", || terminal.settings().is_raw().then_some(()));
    terminal.press(b"words\r");
    terminal.expect("got words");
    terminal.resize(30, 100);
    // The size has arrived when the container's own terminal has it; then it goes on.
    eventually("the new size", || {
        (runtime.run(&["exec", &id, "stty", "-F", "/dev/pts/0", "size"]).stdout == "30 100\n").then_some(())
    });
    terminal.press(b"\r");
    terminal.expect("30 100");
    assert_eq!(terminal.wait(), 4);
    assert_eq!(terminal.settings(), before, "as it was");
}

#[test]
fn keys_reach_the_command() {
    let runtime = Runtime::new();
    let bundle = with_terminal("trap 'echo interrupted; exit 9' INT; echo up; while :; do sleep 0.05; done");
    let id = runtime.id("box");
    let args = ["run", "--bundle", bundle.path().to_str().unwrap(), &id];
    let mut terminal = Terminal::of(|invocation| runtime.on(invocation, &args));
    terminal.expect("up");
    terminal.press(&[3]);
    terminal.expect("interrupted");
    assert_eq!(terminal.wait(), 9);
}

#[test]
fn exec_relays_its_own_terminal() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = runtime.id("box");
    runtime.start_detached(&bundle, &id);
    let args = ["exec", "-t", &id, "sh", "-c", "stty size; tty; read line; echo got $line; exit 6"];
    let mut terminal = Terminal::of(|invocation| runtime.on(invocation, &args));
    terminal.expect("24 80");
    terminal.expect("/dev/pts/0");
    terminal.press(b"words\r");
    terminal.expect("got words");
    assert_eq!(terminal.wait(), 6);
}

#[test]
fn the_end_of_our_input_is_nothing_typed() {
    let runtime = Runtime::new();
    let bundle = with_terminal("(sleep 0.3; echo late) & read line && echo got; echo over $?");
    let id = runtime.id("box");
    let process =
        runtime.command(&["run", "--bundle", bundle.path().to_str().unwrap(), &id]).input("").spawn();
    process.expect("late");
    // It still reads: ^D would have ended that.
    assert!(!process.stdout().contains("over"), "{}", process.stdout());
    assert_eq!(runtime.status(&id), "running");
    runtime.ok(&["kill", &id, "KILL"]);
    process.wait();
}

#[test]
fn a_console_socket_gets_the_master() {
    let runtime = Runtime::new();
    let bundle = with_terminal("read line; echo got $line; sleep 1000")
        .edit(|spec| spec["process"]["consoleSize"] = json!({"height": 33, "width": 77}));
    let id = &runtime.id("box");
    let receiver = Receiver::new(&runtime);
    runtime.quietly(&[
        "create",
        "--bundle",
        bundle.path().to_str().unwrap(),
        "--console-socket",
        receiver.path(),
        id,
    ]);
    let (master, name) = receiver.receive();
    assert!(!name.is_empty(), "the master comes with a name");
    let size = rustix::termios::tcgetwinsize(&master).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (33, 77));
    runtime.ok(&["start", id]);
    let mut terminal = File::from(master);
    terminal.write_all(b"words\n").unwrap();
    expect(&mut terminal, "got words");

    let receiver = Receiver::new(&runtime);
    runtime.quietly(&[
        "exec",
        "-d",
        "-t",
        "--console-socket",
        receiver.path(),
        id,
        "sh",
        "-c",
        "tty; sleep 1000",
    ]);
    expect(&mut File::from(receiver.receive().0), "/dev/pts/1");
}

#[test]
fn a_pidfd_socket_gets_the_process() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["sleep", "1000"]);
    let id = &runtime.id("box");
    let receiver = Receiver::new(&runtime);
    runtime.quietly(&[
        "run",
        "-d",
        "--bundle",
        bundle.path().to_str().unwrap(),
        "--pidfd-socket",
        receiver.path(),
        id,
    ]);
    let (pidfd, _) = receiver.receive();
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    runtime.await_status(id, "stopped");
}

#[test]
fn terminals_that_nobody_could_use_are_refused() {
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    let (with, without) = (with_terminal("true"), Bundle::running(&["true"]));
    let path = |bundle: &Bundle| bundle.path().to_str().unwrap().to_owned();
    let message = runtime.fails(1, &["run", "-d", "--bundle", &path(&with), id]);
    assert!(
        message.contains("cannot allocate tty if runc will detach without setting console socket"),
        "{message}"
    );
    let receiver = Receiver::new(&runtime);
    let message =
        runtime.fails(1, &["create", "--console-socket", receiver.path(), "--bundle", &path(&without), id]);
    assert!(
        message.contains("cannot use console socket if runc will not detach or allocate tty"),
        "{message}"
    );
    let message =
        runtime.fails(1, &["run", "--console-socket", receiver.path(), "--bundle", &path(&with), id]);
    assert!(message.contains("cannot use console socket"), "{message}");
    let nowhere = Path::new("/non/existent");
    let args = ["create", "--console-socket", nowhere.to_str().unwrap(), "--bundle", &path(&with), id];
    assert!(runtime.fails(1, &args).contains("no such file or directory"));
    assert_eq!(runtime.left(), Vec::<String>::new());
}
