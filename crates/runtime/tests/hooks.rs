//! Hooks are run: where, with what, and what comes of those that fail or do not end. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use base::{Failure, Kind};
use oci::runtime::Hook;
use runtime::hooks::{self, HookError, Inside};
use runtime::{Held, Manner, Steps};
use scratch::{Scratch, pipe, stdio, wait};

fn hook(script: &str) -> Hook {
    Hook {
        path: "/bin/busybox".into(),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        timeout: None,
    }
}

#[test]
fn a_hook_gets_the_state_and_its_environment_alone() {
    let scratch = Scratch::new("hook-state");
    let out = scratch.path("out");
    let script = format!(
        "busybox cat >{0}; echo >>{0}; busybox env >>{0}; busybox ls /proc/self/fd >>{0}",
        out.display()
    );
    let mut hook = hook(&script);
    hook.env = vec!["PATH=/bin".to_owned(), "KEY=value with = signs".to_owned()];
    hooks::run(&hook, br#"{"id":"x"}"#, None).unwrap();
    let text = fs::read_to_string(&out).unwrap();
    let mut lines: Vec<_> =
        text.lines().filter(|l| !l.starts_with("PWD=") && !l.starts_with("SHLVL=")).collect();
    assert_eq!(lines.remove(0), r#"{"id":"x"}"#);
    lines.sort_unstable();
    // 3 is the directory that is listed.
    assert_eq!(lines, ["0", "1", "2", "3", "KEY=value with = signs", "PATH=/bin"]);
}

#[test]
fn an_empty_environment_is_empty_and_arguments_are_as_given() {
    let scratch = Scratch::new("hook-env");
    let out = scratch.path("out");
    let mut hook = hook(&format!("echo $0 $1 >{}", out.display()));
    hook.args.extend(["zero".to_owned(), "one".to_owned()]);
    hooks::run(&hook, b"", None).unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap(), "zero one\n");
    // A shell makes its own environment; `env` tells what it got.
    let env =
        Hook { path: "/bin/busybox".into(), args: vec!["env".into(), "false".into()], ..Hook::default() };
    assert!(
        matches!(hooks::run(&env, b"", None), Err(HookError::Ended { .. })),
        "nothing is found without a PATH"
    );
}

#[test]
fn a_failure_names_the_hook_and_what_it_said() {
    let failure = |script: &str| hooks::run(&hook(script), b"{}", None).unwrap_err().to_string();
    assert_eq!(
        failure("echo one; echo two >&2; exit 3"),
        "the hook /bin/busybox exited with code 3, and said: one\ntwo"
    );
    assert_eq!(failure("kill -9 $$"), "the hook /bin/busybox was killed by signal 9");
    let long = failure("busybox yes 0123456789 | busybox head -n 100000; echo the end; exit 1");
    assert!(long.len() < 5000 && long.ends_with("the end"), "{}", long.len());
}

#[test]
fn what_is_no_hook_is_refused() {
    let error = |hook: &Hook| hooks::run(hook, b"", None).unwrap_err();
    let missing = Hook { path: "/no/such/hook".into(), ..Hook::default() };
    assert!(matches!(error(&missing), HookError::Execute { .. }));
    assert_eq!(error(&missing).kind(), Kind::NotFound);
    assert!(error(&missing).to_string().contains("/no/such/hook"));
    let relative = Hook { path: "bin/true".into(), ..Hook::default() };
    assert!(matches!(error(&relative), HookError::Invalid { .. }));
    for timeout in [0, -1] {
        let hook = Hook { timeout: Some(timeout), ..hook("true") };
        assert!(matches!(error(&hook), HookError::Invalid { .. }));
    }
}

#[test]
fn one_that_does_not_end_is_ended_with_its_children() {
    let scratch = Scratch::new("hook-timeout");
    let pids = scratch.path("pids");
    let script =
        format!("echo $$ >{0}; busybox sleep 60 & echo $! >>{0}; echo waiting; wait", pids.display());
    let began = Instant::now();
    let error = hooks::run(&Hook { timeout: Some(1), ..hook(&script) }, b"", None).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(
        error.to_string(),
        "the hook /bin/busybox did not end within its timeout of 1 s, and said: waiting"
    );
    // Its child is init's now, who may take a moment.
    let gone = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    let pids = fs::read_to_string(&pids).unwrap();
    for pid in pids.lines() {
        assert!(
            (0..1000).any(|_| gone(pid) || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }),
            "{pid}"
        );
    }
}

#[test]
fn one_that_leaves_children_or_does_not_read_is_not_waited_for() {
    let scratch = Scratch::new("hook-leaves");
    let pid = scratch.path("pid");
    let began = Instant::now();
    let state = vec![b' '; 4 << 20];
    hooks::run(&hook(&format!("busybox sleep 30 & echo $! >{}", pid.display())), &state, None).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

/// Runs a hook when all is mounted.
struct Mounted<'a>(&'a Hook, bool);

impl Steps for Mounted<'_> {
    fn born(&mut self, _: u32, _: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        Ok(())
    }

    fn mounted(&mut self, _: u32, pidfd: BorrowedFd<'_>) -> Result<(), Box<dyn Failure>> {
        hooks::run(self.0, b"{}", self.1.then_some(Inside::of(pidfd)))
            .map_err(|e| Box::new(e) as Box<dyn Failure>)
    }
}

#[test]
fn before_the_root_changes_a_hook_sees_the_host_and_the_containers_namespaces() {
    let scratch = Scratch::new("hook-create");
    let out = scratch.path("out");
    let root = scratch.path("m");
    // The path is the host's; what is mounted is the container's; and what it mounts there stays.
    let script = format!(
        "busybox hostname >{0}; busybox ls {1} >>{0}; echo $$ >>{0}; \
         busybox mkdir {1}/added; busybox mount -t tmpfs tmpfs {1}/added; echo x >{1}/added/file",
        out.display(),
        root.display()
    );
    let script = hook(&script);
    let plan = runtime::plan(&scratch.bundle(&["sh", "-c", "busybox cat /added/file"])).unwrap();
    let (mut read, write) = pipe();
    let running =
        runtime::launch(plan.with_mounted_step(), stdio(write), &mut Mounted(&script, true)).unwrap();
    assert_eq!(scratch::read_all(&mut read), "x\n");
    assert_eq!(wait(&running), 0);
    assert_eq!(fs::read_to_string(&out).unwrap(), "inside\nbin\ndev\netc\nproc\nsys\ntmp\n2\n");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/added"), "{mounts}");
}

#[test]
fn a_hook_outside_stays_outside() {
    let scratch = Scratch::new("hook-outside");
    let out = scratch.path("out");
    let script = hook(&format!(
        "busybox hostname >{}; busybox ls {} >>{0}",
        out.display(),
        scratch.path("m").display()
    ));
    let plan = runtime::plan(&scratch.bundle(&["sh", "-c", ":"])).unwrap();
    let (_, write) = pipe();
    let running =
        runtime::launch(plan.with_mounted_step(), stdio(write), &mut Mounted(&script, false)).unwrap();
    wait(&running);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap(), host, "and nothing of the container is mounted there");
}

#[test]
fn a_failing_hook_fails_the_start() {
    let scratch = Scratch::new("hook-fails");
    let script = hook("echo no >&2; exit 1");
    let plan = runtime::plan(&scratch.bundle(&["sh", "-c", "busybox echo ran"])).unwrap();
    let (mut read, write) = pipe();
    let error =
        runtime::launch(plan.with_mounted_step(), stdio(write), &mut Mounted(&script, true)).unwrap_err();
    assert_eq!(error.to_string(), "the hook /bin/busybox exited with code 1, and said: no");
    assert_eq!(scratch::read_all(&mut read), "");
}

#[test]
fn before_the_command_a_hook_sees_the_container_and_has_its_rights() {
    let scratch = Scratch::new("hook-start");
    let mut bundle = scratch.bundle(&["sh", "-c", "busybox cat /tmp/hook"]);
    bundle.manner = Manner { tied: false, ..Manner::default() };
    let plan = runtime::plan(&bundle).unwrap().held(Held::listen(&scratch.path("socket")).unwrap());
    let (mut read, write) = pipe();
    let running = runtime::launch(plan, stdio(write), &mut |_| Ok(())).unwrap();
    let script = hook(
        "busybox hostname; busybox grep -E 'CapEff|CapBnd|CapInh' /proc/self/status; busybox ls / | busybox head -n1",
    );
    let script =
        Hook { args: vec!["sh".into(), "-c".into(), format!("({}) >/tmp/hook", script.args[2])], ..script };
    let before = rustix::fs::stat("/proc/self/ns/pid_for_children").unwrap().st_ino;
    hooks::run(&script, b"{}", Some(Inside::of(running.pidfd.as_fd()))).unwrap();
    let after = rustix::fs::stat("/proc/self/ns/pid_for_children").unwrap().st_ino;
    assert_eq!(before, after, "we have joined nothing");
    // Its path is the container's.
    let host = Hook { path: scratch.path("m"), ..Hook::default() };
    assert!(matches!(
        hooks::run(&host, b"", Some(Inside::of(running.pidfd.as_fd()))),
        Err(HookError::Execute { .. })
    ));
    Held::connect(&scratch.path("socket")).unwrap().go().unwrap();
    let text = scratch::read_all(&mut read);
    assert_eq!(wait(&running), 0);
    let lines: Vec<_> = text.lines().map(|l| l.split_whitespace().last().unwrap()).collect();
    assert_eq!(lines, ["inside", "0000000000000000", "0000000000000001", "0000000000000001", "bin"]);
    let gone = hooks::run(&script, b"{}", Some(Inside::of(running.pidfd.as_fd()))).unwrap_err();
    assert!(matches!(gone, HookError::Namespaces { .. }), "{gone}");
}
