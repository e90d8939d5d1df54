//! config-linux.md, "Seccomp" and "The Container Process State".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, inside, never_runs};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

const GETPGID: i64 = libc::SYS_getpgid;

/// A filter that allows all but `getpgid`, of which this is said.
fn filter(action: &str, more: &Value) -> Value {
    let mut rule = json!({"names": ["getpgid"], "action": action});
    for (key, value) in more.as_object().unwrap() {
        rule[key] = value.clone();
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

/// What a container with this filter gets when it calls getpgid(0).
fn answer(seccomp: Value) -> String {
    inside(&format!("/bin/probe call {GETPGID} 0; true"), |spec| spec["linux"]["seccomp"] = seccomp)
}

// `action`, `errnoRet`: what is said is done; EPERM where no number is said.
#[test]
fn actions_are_taken() {
    assert_eq!(answer(filter("SCMP_ACT_ALLOW", &json!({}))), "ok");
    assert_eq!(answer(filter("SCMP_ACT_LOG", &json!({}))), "ok");
    assert_eq!(answer(filter("SCMP_ACT_ERRNO", &json!({}))), format!("error {}", libc::EPERM));
    assert_eq!(answer(filter("SCMP_ACT_ERRNO", &json!({"errnoRet": 111}))), "error 111");
    assert_eq!(
        answer(filter("SCMP_ACT_TRACE", &json!({}))),
        format!("error {}", libc::ENOSYS),
        "nobody traces it"
    );
    // it is killed before it says anything
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        assert_eq!(answer(filter(action, &json!({}))), "", "{action}");
    }
}

// `args`: the operators.
#[test]
fn arguments_are_compared() {
    let (yes, no) = ("error 1", "ok");
    for (op, value, two, expected) in [
        ("SCMP_CMP_EQ", 0, 0, yes),
        ("SCMP_CMP_EQ", 1, 0, no),
        ("SCMP_CMP_NE", 1, 0, yes),
        ("SCMP_CMP_NE", 0, 0, no),
        ("SCMP_CMP_LT", 1, 0, yes),
        ("SCMP_CMP_LT", 0, 0, no),
        ("SCMP_CMP_LE", 0, 0, yes),
        ("SCMP_CMP_GE", 0, 0, yes),
        ("SCMP_CMP_GE", 1, 0, no),
        ("SCMP_CMP_GT", 0, 0, no),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0, yes),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0x10, no),
    ] {
        let args = json!({"args": [{"index": 0, "value": value, "valueTwo": two, "op": op}]});
        assert_eq!(answer(filter("SCMP_ACT_ERRNO", &args)), expected, "{op} {value} {two}");
    }
}

// `defaultErrnoRet`, `errnoRet`: an action that has no number to give does not take one.
#[test]
fn a_number_for_an_action_that_gives_none_is_an_error() {
    if !can(&["specification 1.1"]) {
        return;
    }
    for action in
        ["SCMP_ACT_ALLOW", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"]
    {
        let said = never_runs(&format!("{action} of a rule"), |spec| {
            spec["linux"]["seccomp"] = filter(action, &json!({"errnoRet": 5}));
        });
        assert!(!said.is_empty(), "{action}: nothing is said");
        let said = never_runs(&format!("{action} by default"), |spec| {
            spec["linux"]["seccomp"] = json!({"defaultAction": action, "defaultErrnoRet": 5});
        });
        assert!(!said.is_empty(), "{action}: nothing is said");
    }
    // for those that do it is the default
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpgid"], "action": "SCMP_ACT_TRACE", "errnoRet": 7}],
    });
    assert_eq!(answer(seccomp), format!("error {}", libc::ENOSYS));
}

// `names`: at least one.
#[test]
fn a_rule_for_no_call_is_an_error() {
    if !can(&["specification 1.1"]) {
        return;
    }
    never_runs("no names", |spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]});
    });
    never_runs("names are not said", |spec| {
        spec["linux"]["seccomp"] =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]});
    });
}

/// Everything that comes over a connection: its bytes, and with each message the descriptors.
fn receive(connection: &UnixStream) -> (Vec<u8>, Vec<Vec<OwnedFd>>) {
    let (mut text, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        let mut chunk = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got =
            recvmsg(connection, &mut [IoSliceMut::new(&mut chunk)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let length = got.unwrap().bytes;
        if length == 0 {
            return (text, descriptors);
        }
        text.extend_from_slice(&chunk[..length]);
        let with_it = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        descriptors.push(with_it);
    }
}

fn notifying(path: &Path) -> Value {
    let mut seccomp = filter("SCMP_ACT_NOTIFY", &json!({}));
    seccomp["listenerPath"] = json!(path);
    seccomp["listenerMetadata"] = json!("what the agent knows");
    seccomp
}

// `listenerPath`, "The Container Process State": one connection of a Unix stream for one filter, one state as JSON,
// the descriptor with the first message, and the end of it.
#[test]
fn the_listener_is_told_of_the_process() {
    let runtime = Runtime::new();
    let path = runtime.scratch().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    let bundle = Bundle::script(&format!("/bin/probe call {GETPGID} 0")).with_probe().edit(|spec| {
        spec["linux"]["seccomp"] = notifying(&path);
        spec["annotations"] = json!({"org.example": "told"});
    });
    let id = &runtime.id("box");
    let agent = std::thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(harness::patience(20))).unwrap();
        let received = receive(&connection);
        listener.set_nonblocking(true).unwrap();
        (received, listener)
    });
    runtime.start_detached(&bundle, id);
    let ((text, descriptors), listener) = agent.join().unwrap();
    let state: Value = serde_json::from_slice(&text).expect("one state, and nothing behind it");
    assert!(state["ociVersion"].is_string(), "{state}");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["pid"], json!(runtime.pid(id)));
    assert_eq!(state["metadata"], "what the agent knows");
    assert_eq!(state["state"]["id"], json!(id));
    assert_eq!(state["state"]["bundle"], json!(bundle.path()));
    assert_eq!(state["state"]["annotations"]["org.example"], "told");
    assert!(["creating", "created"].contains(&state["state"]["status"].as_str().unwrap()), "{state}");
    assert_eq!(descriptors[0].len(), 1, "with the first message");
    assert!(descriptors[1..].iter().all(Vec::is_empty), "and with no other");
    let link = std::fs::read_link(format!("/proc/self/fd/{}", raw(&descriptors[0][0]))).unwrap();
    assert!(link.to_string_lossy().contains("seccomp"), "{}", link.display());
    assert_eq!(
        listener.accept().err().map(|e| e.kind()),
        Some(std::io::ErrorKind::WouldBlock),
        "one connection"
    );
    assert_eq!(runtime.status(id), "running", "it waits for an answer");
}

fn raw(descriptor: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    descriptor.as_raw_fd()
}

// `listenerPath`: where it cannot be sent it is an error.
#[test]
fn a_listener_that_is_not_there_is_an_error() {
    never_runs("nobody listens", |spec| spec["linux"]["seccomp"] = notifying(Path::new("/nowhere/agent")));
    let runtime = Runtime::new();
    let path = runtime.scratch().join("datagrams");
    let _other = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let bundle = Bundle::running(&["echo", "on"]).edit(|spec| spec["linux"]["seccomp"] = notifying(&path));
    runtime.never_runs(&bundle, "it is no stream");
}

// `listenerPath`: without the action it is ignored; the action without it is an error.
#[test]
fn a_listener_that_is_not_needed_is_ignored() {
    let mut seccomp = filter("SCMP_ACT_ERRNO", &json!({}));
    seccomp["listenerPath"] = json!("/nowhere/agent");
    assert_eq!(answer(seccomp), "error 1");
    never_runs("nobody to ask", |spec| {
        spec["linux"]["seccomp"] = filter("SCMP_ACT_NOTIFY", &json!({}));
    });
}

// `listenerMetadata`: not without `listenerPath`.
#[test]
fn metadata_for_nobody_is_an_error() {
    if !can(&["specification 1.1"]) {
        return;
    }
    never_runs("metadata for nobody", |spec| {
        let mut seccomp = filter("SCMP_ACT_ERRNO", &json!({}));
        seccomp["listenerMetadata"] = json!("x");
        spec["linux"]["seccomp"] = seccomp;
    });
}
