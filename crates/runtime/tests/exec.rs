//! Further commands in a container that runs. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scratch;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use base::Failure;
use oci::runtime::{
    Capabilities, CpuAffinity, IdMapping, Linux, Namespace, NamespaceKind, Personality, Process, Seccomp,
    State, Status, SyscallRule, User,
};
use runtime::{Bundle, JoinOptions, Manner, RootSource, Running, capability};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use scratch::{Scratch, pipe, read_all, stdio, wait};
use sys::process::Cloned;

/// A container that does nothing until it is dropped.
struct Container(Running);

impl Container {
    fn start(bundle: &Bundle) -> Self {
        let plan = runtime::plan(bundle).unwrap();
        Self(runtime::launch(plan, stdio(pipe().1), &mut |_| Ok(())).unwrap())
    }

    fn new(scratch: &Scratch) -> Self {
        Self::start(&scratch.bundle(&["busybox", "sleep", "1000"]))
    }

    fn exec(&self, process: &Process, options: JoinOptions<'_>) -> Result<(i32, String), String> {
        exec(self.0.pid, process, options)
    }

    fn shell(&self, script: &str) -> String {
        self.exec(&shell(script), JoinOptions::default()).unwrap().1
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        pidfd_send_signal(&self.0.pidfd, Signal::KILL).ok();
        wait(&self.0);
    }
}

fn shell(script: &str) -> Process {
    Process {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".into(),
        ..Process::default()
    }
}

fn exec(pid: u32, process: &Process, options: JoinOptions<'_>) -> Result<(i32, String), String> {
    let words = |e: &dyn std::error::Error| base::failure::chain(e);
    let plan = runtime::plan_join(process, pid, options).map_err(|e| words(&e))?;
    let (mut read, write) = pipe();
    let running = runtime::join(plan, stdio(write)).map_err(|e| words(&e))?;
    let text = match &running.terminal {
        Some(master) => {
            let mut bytes = Vec::new();
            // A terminal says EIO at its end.
            std::io::Read::read_to_end(&mut fs::File::from(master.try_clone().unwrap()), &mut bytes).ok();
            String::from_utf8(bytes).unwrap()
        }
        None => read_all(&mut read),
    };
    Ok((wait(&running), text))
}

fn with(linux: &Linux) -> JoinOptions<'_> {
    JoinOptions { linux: Some(linux), ..JoinOptions::default() }
}

#[test]
fn it_sees_what_the_container_sees() {
    let scratch = Scratch::new("exec-sees");
    let container = Container::new(&scratch);
    let text =
        container.shell("busybox hostname; busybox cat /proc/1/cmdline | busybox tr '\\0' ' '; busybox ls /");
    assert_eq!(text, "inside\nbusybox sleep 1000 bin\ndev\netc\nproc\nsys\ntmp\n");
    for kind in ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"] {
        let theirs = fs::read_link(format!("/proc/{}/ns/{kind}", container.0.pid)).unwrap();
        let script = format!("busybox readlink /proc/self/ns/{kind}");
        assert_eq!(container.shell(&script).trim(), theirs.display().to_string(), "{kind}");
    }
    assert_eq!(container.exec(&shell("exit 9"), JoinOptions::default()).unwrap().0, 9);
}

/// Where the mount namespace is the host's, the container's root is one that its process has changed to.
#[test]
fn it_has_the_container_s_root_where_the_mounts_are_shared() {
    let scratch = Scratch::new("exec-shared");
    let mut bundle = scratch.bundle(&["busybox", "sleep", "1000"]);
    bundle.root = RootSource::Directory(scratch.path("lower"));
    bundle.spec.mounts = Vec::new();
    let linux = bundle.spec.linux.as_mut().unwrap();
    linux.namespaces.retain(|n| n.kind != NamespaceKind::Mount);
    (linux.masked_paths, linux.readonly_paths) = (Vec::new(), Vec::new());
    let linux = linux.clone();
    let container = Container::start(&bundle);
    let (code, text) = container.exec(&shell("busybox ls /; busybox pwd"), with(&linux)).unwrap();
    assert_eq!((code, &*text), (0, "bin\ndev\netc\nproc\nsys\ntmp\n/\n"));
}

#[test]
fn it_is_who_it_says_with_what_it_says() {
    let scratch = Scratch::new("exec-who");
    let container = Container::new(&scratch);
    let mut process =
        shell("busybox id; busybox echo $HOME; umask; busybox grep NoNewPrivs /proc/self/status");
    process.user =
        User { uid: 1000, gid: 50, additional_gids: vec![4], umask: Some(0o077), ..User::default() };
    process.no_new_privileges = true;
    process.oom_score_adj = Some(321);
    process.args[2].push_str("; busybox cat /proc/self/oom_score_adj");
    let text = container.exec(&process, JoinOptions::default()).unwrap().1;
    assert_eq!(text, "uid=1000(app) gid=50(staff) groups=4(log)\n/srv/app\n0077\nNoNewPrivs:\t1\n321\n");
    process.cwd = "/nowhere".into();
    assert!(container.exec(&process, JoinOptions::default()).unwrap_err().contains("/nowhere"));
    for trick in ["/proc/self/fd/3", "/proc/self/fd/9", "/proc/self/cwd", "/proc/1/cwd"] {
        process.cwd = trick.into();
        assert!(container.exec(&process, JoinOptions::default()).is_err(), "{trick}");
    }
}

#[test]
fn the_containers_filter_and_personality_are_its_own_too() {
    let scratch = Scratch::new("exec-filter");
    let container = Container::new(&scratch);
    let mut linux = Linux {
        personality: Some(Personality { domain: "LINUX32".to_owned(), flags: vec![] }),
        seccomp: Some(Seccomp {
            default_action: "SCMP_ACT_ALLOW".to_owned(),
            syscalls: vec![SyscallRule {
                names: vec!["mkdir".to_owned()],
                action: "SCMP_ACT_ERRNO".to_owned(),
                errno_ret: Some(28),
                ..SyscallRule::default()
            }],
            ..Seccomp::default()
        }),
        ..Linux::default()
    };
    let process = shell("busybox mkdir /tmp/x; busybox uname -m");
    let text = container.exec(&process, with(&linux)).unwrap().1;
    assert!(
        text.contains("No space left") && (text.ends_with("i686\n") || cfg!(not(target_arch = "x86_64"))),
        "{text}"
    );

    // And its listener.
    let filter = linux.seccomp.as_mut().unwrap();
    filter.listener_path = Some(scratch.path("agent"));
    filter.syscalls[0].action = "SCMP_ACT_NOTIFY".to_owned();
    filter.syscalls[0].errno_ret = None;
    let plan = runtime::plan_join(&process, container.0.pid, with(&linux)).unwrap();
    let (mut read, write) = pipe();
    let mut seen = None;
    let running = runtime::join_with_listener(plan, stdio(write), |pid, listener| {
        // Nobody will answer: the call does not exist.
        seen = Some((pid, fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap()));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, Some((running.pid, "anon_inode:seccomp notify".into())));
    assert!(read_all(&mut read).contains("not implemented"));
    wait(&running);
    let plan = runtime::plan_join(&process, container.0.pid, with(&linux)).unwrap();
    let error = runtime::join_with_listener(plan, stdio(pipe().1), |pid, listener| {
        let state = State {
            oci_version: "1.3.0".to_owned(),
            id: "box".to_owned(),
            status: Status::Running,
            pid,
            bundle: "/b".into(),
            annotations: BTreeMap::new(),
        };
        let state = runtime::seccomp::listener::state_of(pid, None, state);
        runtime::seccomp::listener::send(&scratch.path("agent"), &state, listener)
            .map_err(|e| Box::new(e) as Box<dyn Failure>)
    });
    assert!(error.unwrap_err().to_string().contains("agent"));
}

#[test]
fn it_starts_and_runs_on_the_processors_it_is_given() {
    let scratch = Scratch::new("exec-cpu");
    let container = Container::new(&scratch);
    let allowed = |initial: Option<&str>, last: Option<&str>| {
        let mut process = shell("busybox grep Cpus_allowed_list /proc/self/status");
        process.exec_cpu_affinity =
            Some(CpuAffinity { initial: initial.map(str::to_owned), last: last.map(str::to_owned) });
        let text = container.exec(&process, JoinOptions::default()).unwrap().1;
        text.split_whitespace().nth(1).unwrap().to_owned()
    };
    let all = allowed(None, None);
    assert_eq!(allowed(None, Some("0")), "0");
    assert_eq!(allowed(Some("0"), None), all, "an initial one does not last");
    let mut wrong = shell("exit 0");
    wrong.exec_cpu_affinity = Some(CpuAffinity { initial: None, last: Some("8000".to_owned()) });
    assert!(container.exec(&wrong, JoinOptions::default()).unwrap_err().contains("CPU affinity"));
}

#[test]
fn a_terminal_is_of_the_containers_devpts() {
    let scratch = Scratch::new("exec-tty");
    let container = Container::new(&scratch);
    let mut process = shell("busybox tty; busybox stty size");
    process.terminal = true;
    process.console_size = Some(oci::runtime::ConsoleSize { height: 11, width: 22 });
    let text = container.exec(&process, JoinOptions::default()).unwrap().1;
    assert!(text.starts_with("/dev/pts/0") && text.contains("11 22"), "{text}");
}

#[test]
fn it_needs_no_proc_in_the_container() {
    let scratch = Scratch::new("exec-noproc");
    let mut bundle = scratch.bundle(&["busybox", "sleep", "1000"]);
    bundle.spec.mounts.retain(|m| m.kind.as_deref() != Some("proc"));
    let linux = bundle.spec.linux.as_mut().unwrap();
    (linux.masked_paths, linux.readonly_paths) = (vec![], vec![]);
    let container = Container::start(&bundle);
    let mut process = shell("busybox sleep 100");
    process.oom_score_adj = Some(654);
    let plan = runtime::plan_join(&process, container.0.pid, JoinOptions::default()).unwrap();
    let running = runtime::join(plan, stdio(pipe().1)).unwrap();
    let badness = fs::read_to_string(format!("/proc/{}/oom_score_adj", running.pid)).unwrap();
    pidfd_send_signal(&running.pidfd, Signal::KILL).unwrap();
    wait(&running);
    assert_eq!(badness, "654\n");
}

#[test]
fn descriptors_are_handed_down_only_on_purpose() {
    let scratch = Scratch::new("exec-fds");
    let container = Container::new(&scratch);
    // A host's directory that somebody forgot to close on exec (CVE-2024-21626).
    let leaked = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let count =
        "for f in /proc/self/fd/*; do busybox echo ${f##*/}; done | busybox sort -n | busybox tail -n 1";
    let with = |n: u32| {
        let manner = Manner { preserved_descriptors: n, ..Manner::default() };
        let options = JoinOptions { manner, ..JoinOptions::default() };
        container.exec(&shell(count), options).unwrap().1.trim().parse::<i32>().unwrap()
    };
    let opened = leaked.as_fd().as_raw_fd();
    assert!(with(0) < opened.max(4), "nothing but its streams and the shell's own");
    let script = format!("busybox ls /proc/self/fd/{opened}/ >/dev/null 2>&1 && busybox echo there");
    let manner = Manner { preserved_descriptors: opened as u32 - 2, ..Manner::default() };
    let text = container.exec(&shell(&script), JoinOptions { manner, ..JoinOptions::default() }).unwrap().1;
    assert_eq!(text, "there\n");
    assert_eq!(container.shell(&script), "");
}

/// Another user namespace with root alone in it, made without the right to set groups, and a process that waits there.
struct Foreign(std::process::Child, u32);

impl Foreign {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--time", "--fork", "--kill-child"]);
        command.args(["--mount-proc", "sleep", "1000"]).stdout(Stdio::null()).process_group(0);
        let mut foreign = Self(command.spawn().unwrap(), 0);
        let children = format!("/proc/{0}/task/{0}/children", foreign.0.id());
        for _ in 0..500 {
            let inner = fs::read_to_string(&children).unwrap_or_default();
            if let Ok(pid) = inner.trim().parse::<u32>()
                && fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n")
            {
                foreign.1 = pid;
                return foreign;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("nobody is there");
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn another_user_namespace_is_joined_as_its_root() {
    let foreign = Foreign::new();
    let mut process = shell(
        "id -u; id -g; readlink /proc/self/ns/user /proc/self/ns/time; cat /proc/self/oom_score_adj; ulimit -Sn",
    );
    process.args[0] = "/bin/sh".to_owned();
    process.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    process.oom_score_adj = Some(432);
    process.rlimits = vec![oci::runtime::Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 99, hard: 99 }];
    let names = runtime::capability::names();
    process.capabilities = Some(Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    });
    let plan = runtime::plan_join(&process, foreign.1, JoinOptions::default()).unwrap();
    assert_eq!(plan.warnings(), [""; 0], "there it has every capability");
    drop(plan);
    let (code, text) = exec(foreign.1, &process, JoinOptions::default()).unwrap();
    let link =
        |kind: &str| fs::read_link(format!("/proc/{}/ns/{kind}", foreign.1)).unwrap().display().to_string();
    assert_eq!(text, format!("0\n0\n{}\n{}\n432\n99\n", link("user"), link("time")));
    assert_eq!(code, 0);
    // Groups cannot be given there, and that is said.
    process.user.additional_gids = vec![0];
    assert!(exec(foreign.1, &process, JoinOptions::default()).unwrap_err().contains("groups"));
}

/// A container with a user namespace, on a directory that belongs to its root.
fn with_users(scratch: &Scratch, ids: IdMapping) -> Bundle {
    let mut bundle = scratch.bundle(&["busybox", "sleep", "1000"]);
    bundle.root = RootSource::Directory(scratch.path("lower"));
    bundle.spec.mounts.retain(|m| m.destination.ends_with("proc"));
    let process = bundle.spec.process.as_mut().unwrap();
    process.user = User::default();
    process.capabilities = None;
    let linux = bundle.spec.linux.as_mut().unwrap();
    linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    (linux.uid_mappings, linux.gid_mappings) = (vec![ids], vec![ids]);
    (linux.masked_paths, linux.readonly_paths) = (vec![], vec![]);
    for below in ["m", "lower", "lower/tmp", "lower/proc", "lower/dev", "lower/sys"] {
        chown(scratch.path(below), Some(ids.host_id), Some(ids.host_id)).unwrap();
    }
    bundle
}

#[test]
fn a_container_with_users_of_its_own_is_joined_as_any_of_them() {
    let scratch = Scratch::new("exec-users");
    let bundle = with_users(&scratch, IdMapping { container_id: 0, host_id: 100_000, size: 2000 });
    let container = Container::start(&bundle);
    let script = "busybox id -u; busybox id -G; busybox cat /proc/self/oom_score_adj; \
                  busybox touch /tmp/$$ && busybox stat -c %u /tmp/$$";
    fs::set_permissions(scratch.path("lower/tmp"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut process = shell(script);
    process.oom_score_adj = Some(333);
    process.rlimits = vec![oci::runtime::Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 50, hard: 60 }];
    for uid in [0, 1000] {
        process.user = User { uid, gid: 7, additional_gids: vec![8, 9], ..User::default() };
        let text = container.exec(&process, JoinOptions::default()).unwrap().1;
        assert!(text.starts_with(&format!("{uid}\n7 8 9\n333\n{uid}\n")), "{text}");
    }
    process.user.uid = 5000;
    assert!(container.exec(&process, JoinOptions::default()).is_err(), "nobody there has this number");
    // What takes rights of the host's is asked of the host, and said in the same words.
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    process.user.uid = 0;
    process.rlimits[0].hard = ours + 1;
    let raised = container.exec(&process, JoinOptions::default());
    let may = capability::Set::all().contains(capability::Set::from_names(&["SYS_RESOURCE"]).unwrap());
    assert_eq!(raised.is_ok(), may);
    assert!(may || raised.unwrap_err().contains("cannot raise the hard limit of RLIMIT_NOFILE"));
}

/// An ordinary user: nobody, who is in every `/etc/passwd`.
const NOBODY: u32 = 65534;

/// What [`an_ordinary_user_joins_their_own_container`] runs.
#[test]
#[ignore = "run by another test, as another user"]
fn as_nobody() {
    let Ok(bundle) = std::env::var("BUNDLE") else { return };
    let container = Container::start(&serde_json::from_str(&bundle).unwrap());
    // Only a process with a single thread may enter a user namespace, and a test has two.
    let Cloned::Parent { pidfd, .. } = sys::process::clone(0, None).unwrap() else {
        let mut process = shell("busybox id -u; busybox cat /proc/self/oom_score_adj /proc/self/setgroups");
        process.oom_score_adj = Some(777);
        let text = container.exec(&process, JoinOptions::default()).unwrap().1;
        println!("told {}", text.replace(['\n', '\0'], " "));
        sys::process::exit_now(0);
    };
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
}

#[test]
fn an_ordinary_user_joins_their_own_container() {
    let scratch = Scratch::new("exec-rootless");
    let bundle = with_users(&scratch, IdMapping { container_id: 0, host_id: NOBODY, size: 1 });
    // This test's own program, where everybody may execute it.
    let program = scratch.path("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let nobody = NOBODY.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"])
        .arg(program)
        .args(["--exact", "as_nobody", "--ignored", "--nocapture"])
        .env("BUNDLE", serde_json::to_string(&bundle).unwrap())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("told 0 777 deny"), "{text}");
}

#[test]
fn a_process_that_is_gone_cannot_be_joined() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let error = runtime::plan_join(&shell("exit 0"), child.id(), JoinOptions::default()).unwrap_err();
    assert!(error.to_string().contains(&child.id().to_string()), "{error}");
}
