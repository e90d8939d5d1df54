//! Filters that hand system calls to a listener: `SCMP_ACT_NOTIFY`. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::collections::BTreeMap;
use std::fs;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use base::{Failure, Kind};
use oci::runtime::{ContainerProcessState, Rlimit, Seccomp, State, Status, SyscallRule};
use runtime::{Bundle, Held, LaunchError, Manner, Steps, seccomp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use scratch::{Scratch, pipe, read_all, run, stdio, wait};

/// What a start's caller does: hands the listener to who listens at the path.
struct Caller(PathBuf);

impl Caller {
    fn hand_over(&self, pid: u32, listener: OwnedFd) -> Result<(), Box<dyn Failure>> {
        let state = State {
            oci_version: "1.3.0".to_owned(),
            id: "box".to_owned(),
            status: Status::Creating,
            pid,
            bundle: "/bundle".into(),
            annotations: BTreeMap::new(),
        };
        let state = seccomp::listener::state_of(pid, Some("told"), state);
        seccomp::listener::send(&self.0, &state, listener).map_err(|e| Box::new(e) as Box<dyn Failure>)
    }
}

impl Steps for Caller {
    fn born(&mut self, _: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        Ok(())
    }

    fn listener(&mut self, pid: u32, listener: OwnedFd) -> Result<(), Box<dyn Failure>> {
        self.hand_over(pid, listener)
    }
}

/// Somebody who gets a listener, sees that a call waits for an answer, and hangs up: then the call does not exist.
fn agent(path: &Path) -> JoinHandle<(ContainerProcessState, String)> {
    let socket = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut connection, _) = socket.accept().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut first = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut first)];
        let got = recvmsg(&connection, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let mut text = first[..got].to_vec();
        connection.read_to_end(&mut text).unwrap();
        let listener = descriptor.unwrap();
        let kind = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let mut waiting = [PollFd::new(&listener, PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut waiting, Some(&timeout)).unwrap(), 1, "no call was notified");
        (serde_json::from_slice(&text).unwrap(), kind.display().to_string())
    })
}

fn filter(call: &str, path: &Path) -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        flags: seccomp::flags_supported().into_iter().map(str::to_owned).collect(),
        listener_path: Some(path.to_owned()),
        syscalls: vec![SyscallRule {
            names: vec![call.to_owned()],
            action: "SCMP_ACT_NOTIFY".to_owned(),
            ..SyscallRule::default()
        }],
        ..Seccomp::default()
    }
}

fn bundle(scratch: &Scratch, call: &str, no_new_privileges: bool) -> Bundle {
    let mut bundle = scratch.bundle(&["sh", "-c", "busybox mkdir /tmp/new; busybox echo done"]);
    bundle.spec.linux.as_mut().unwrap().seccomp = Some(filter(call, &scratch.path("agent")));
    bundle.spec.process.as_mut().unwrap().no_new_privileges = no_new_privileges;
    bundle
}

fn check(told: (ContainerProcessState, String), pid: u32, text: &str) {
    let (state, kind) = told;
    assert_eq!((state.pid, &*state.metadata, &*state.state.id), (pid, "told", "box"));
    assert_eq!(state.fds, ["seccompFd"]);
    assert_eq!(kind, "anon_inode:seccomp notify");
    assert!(text.contains("not implemented") && text.ends_with("done\n"), "{text}");
}

#[test]
fn the_listener_is_handed_over_before_the_command_runs() {
    for no_new_privileges in [false, true] {
        let scratch = Scratch::new(&format!("notify-{no_new_privileges}"));
        let agent = agent(&scratch.path("agent"));
        let plan = runtime::plan(&bundle(&scratch, "mkdir", no_new_privileges)).unwrap();
        let (mut read, write) = pipe();
        let mut caller = Caller(scratch.path("agent"));
        let running = runtime::launch(plan, stdio(write), &mut caller).unwrap();
        let text = read_all(&mut read);
        wait(&running);
        check(agent.join().unwrap(), running.pid, &text);
    }
}

/// So few that the listener's own would be one too many.
#[test]
fn a_command_with_few_descriptors_has_a_listener() {
    for no_new_privileges in [false, true] {
        let scratch = Scratch::new(&format!("notify-few-{no_new_privileges}"));
        let agent = agent(&scratch.path("agent"));
        let mut bundle = bundle(&scratch, "mkdir", no_new_privileges);
        let process = bundle.spec.process.as_mut().unwrap();
        process.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 3, hard: 3 }];
        process.args[2] = "ulimit -Sn; ulimit -Hn; busybox mkdir /tmp/new; busybox echo done".to_owned();
        let (mut read, write) = pipe();
        let mut caller = Caller(scratch.path("agent"));
        let running = runtime::launch(runtime::plan(&bundle).unwrap(), stdio(write), &mut caller).unwrap();
        let text = read_all(&mut read);
        wait(&running);
        assert!(text.starts_with("3\n3\n"), "{text}");
        check(agent.join().unwrap(), running.pid, &text);
    }
}

#[test]
fn a_held_command_has_its_filter_when_it_is_let_go() {
    let scratch = Scratch::new("notify-held");
    let mut bundle = bundle(&scratch, "mkdir", true);
    bundle.manner = Manner { tied: false, ..Manner::default() };
    let agent = agent(&scratch.path("agent"));
    let plan = runtime::plan(&bundle).unwrap().held(Held::listen(&scratch.path("held")).unwrap());
    let (mut read, write) = pipe();
    let running = runtime::launch(plan, stdio(write), &mut |_| Ok(())).unwrap();
    let caller = Caller(scratch.path("agent"));
    let held = Held::connect(&scratch.path("held")).unwrap();
    held.go_with_listener(|listener| caller.hand_over(running.pid, listener)).unwrap();
    let text = read_all(&mut read);
    wait(&running);
    check(agent.join().unwrap(), running.pid, &text);
}

#[test]
fn without_anybody_to_answer_nothing_runs() {
    let scratch = Scratch::new("notify-nobody");
    let bundle = bundle(&scratch, "mkdir", true);
    let (mut read, write) = pipe();
    let mut caller = Caller(scratch.path("agent"));
    let error = runtime::launch(runtime::plan(&bundle).unwrap(), stdio(write), &mut caller).unwrap_err();
    assert!(matches!(&error, LaunchError::Meanwhile(_)), "{error}");
    assert!(error.to_string().contains("agent"), "{error}");
    assert_eq!(read_all(&mut read), "");
    // Nor where the caller does not know what a listener is.
    let plan = runtime::plan(&bundle).unwrap();
    assert!(runtime::launch(plan, stdio(pipe().1), &mut |_| Ok(())).is_err());
}

#[test]
fn filters_under_which_nothing_starts_are_refused() {
    let scratch = Scratch::new("notify-refused");
    for call in ["write", "sendmsg", "recvfrom"] {
        let error = runtime::plan(&bundle(&scratch, call, true)).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains(call), "{error}");
    }
    let mut without = bundle(&scratch, "mkdir", true);
    without.spec.linux.as_mut().unwrap().seccomp.as_mut().unwrap().listener_path = None;
    assert!(runtime::plan(&without).unwrap_err().to_string().contains("listenerPath"));
    // What it answers about itself is fine, even where the start makes the call, too: somebody is there by then.
    assert!(runtime::plan(&bundle(&scratch, "execve", true)).is_ok());
}

#[test]
fn the_other_actions_do_what_they_say() {
    let scratch = Scratch::new("notify-others");
    for (action, errno, code, words) in [
        ("SCMP_ACT_ALLOW", None, 0, ""),
        ("SCMP_ACT_LOG", None, 0, ""),
        ("SCMP_ACT_ERRNO", Some(28), 1, "No space left"),
        ("SCMP_ACT_ERRNO", None, 1, "not permitted"),
        // Nobody traces it.
        ("SCMP_ACT_TRACE", Some(5), 1, "not implemented"),
        ("SCMP_ACT_TRAP", None, -1, ""),
        ("SCMP_ACT_KILL", None, -1, ""),
        ("SCMP_ACT_KILL_THREAD", None, -1, ""),
        ("SCMP_ACT_KILL_PROCESS", None, -1, ""),
    ] {
        // Process 1 is spared by no signal of a filter.
        let mut bundle = scratch.bundle(&["busybox", "mkdir", &format!("/tmp/{action}")]);
        let mut filter = filter("mkdir", Path::new("/unused"));
        filter.listener_path = None;
        filter.syscalls[0].action = action.to_owned();
        filter.syscalls[0].errno_ret = errno;
        if action == "SCMP_ACT_ALLOW" {
            filter.default_action = "SCMP_ACT_LOG".to_owned();
        }
        bundle.spec.linux.as_mut().unwrap().seccomp = Some(filter);
        let (got, text) = run(&bundle).map_err(|e| base::failure::chain(&*e)).unwrap();
        assert_eq!(got, code, "{action}: {text}");
        assert!(text.contains(words), "{action}: {text}");
    }
}
