//! The programs that call a runtime, and a place for them.
//!
//! [`Machine`]: mounts, network and processes of its own, so that a daemon's bridges, firewall rules, sockets in
//! `/run`, shared memory and helpers go with it. What is left to look at is what a runtime leaves: cgroups, which are
//! named after the machine, mounts, and its state.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::instance::{bin_dir, real_directory};
use crate::invocation::{Invocation, Output, Process};
use crate::terminal::Terminal;
use crate::wait::{eventually, patience};

/// A machine within the machine. When it is dropped, no cgroup of its name may be left in use.
#[derive(Debug)]
pub struct Machine {
    first: Process,
    directory: TempDir,
    name: String,
}

/// Keeps the machine, and is the parent of whoever has lost theirs. What callers write into `/etc` and `/var/lib`,
/// wherever their stores are, it keeps in the directory that is its name for the shell.
const FIRST: &str = "mount -t tmpfs run /run; mount -t tmpfs shm /dev/shm; \
    for name in etc var/lib; do \
        mkdir -p $0/over/$name $0/work/$name; \
        mount -t overlay over -o lowerdir=/$name,upperdir=$0/over/$name,workdir=$0/work/$name /$name; \
    done; \
    ip link set lo up; echo ready; while :; do sleep 1; done";

impl Machine {
    /// One whose name, and with it the cgroups of its containers, is nobody else's.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dhow-{name}-{}-{number}", std::process::id());
        let directory = real_directory("caller");
        let unshare = Invocation::new("unshare")
            .args(&["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(&["sh", "-euc", FIRST])
            .arg(directory.path());
        let first = unshare.spawn();
        first.expect("ready");
        Self { first, directory, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory for it, outside and inside.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path there, as text.
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    /// Its root directory, seen from here, with all that is mounted there.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.first.pid()).into()
    }

    /// Becomes a command there.
    pub fn enter(&self, invocation: Invocation) -> Invocation {
        let pid = self.first.pid();
        invocation
            .arg("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .arg(format!("--mount=/proc/{pid}/ns/mnt"))
            .arg(format!("--pid=/proc/{pid}/ns/pid_for_children"))
    }

    /// A program there.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Invocation {
        // `env` stands for whoever executes the rest: a terminal's `setsid` elsewhere
        self.enter(Invocation::new("env")).arg(program)
    }

    /// A script of the shell there; it must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.program("sh").args(&["-euc", script]).ok()
    }

    /// An ordinary user of the machine, with these lines in `/etc/subuid` and `/etc/subgid`.
    #[track_caller]
    pub fn user(&self, subordinate: &str) -> User {
        let id = User::ID;
        let home = self.path().join("user");
        let user = User { id, run: home.join("run"), runtime: home.join("dhow-runtime"), home };
        std::fs::create_dir_all(&user.run).unwrap();
        std::fs::copy(runtime(), &user.runtime).unwrap();
        let (place, home) = (self.path().display(), user.home.display());
        self.sh(&format!(
            "echo 'tester:x:{id}:{id}::{home}:/bin/sh' >>/etc/passwd; echo 'tester:x:{id}:' >>/etc/group; \
             printf '{subordinate}' >>/etc/subuid; printf '{subordinate}' >>/etc/subgid; \
             chmod 755 {place}; chown -R {id}:{id} {home}"
        ));
        user
    }

    /// What a web server answers to a client there: the body; nothing where nobody answers.
    pub fn fetch(&self, host: &str, port: u16) -> String {
        let network = format!("/proc/{}/ns/net", self.first.pid());
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let file = std::fs::File::open(network).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                crate::world::web_page(host, port).unwrap_or_default()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Mounts with this text in their lines.
    pub fn mounts(&self, text: &str) -> Vec<String> {
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.first.pid())).unwrap();
        table.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// The cgroups of containers: those below the ones with the machine's name.
    pub fn cgroups(&self) -> Vec<String> {
        let mut found = Vec::new();
        crate::leaks::cgroups(&self.name, &mut found);
        let directories = found.iter().filter_map(|line| line.strip_prefix("cgroup "));
        let below = directories.flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten());
        below
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path().display().to_string())
            .collect()
    }

    /// Fails unless all that `look` lists goes within seconds.
    #[track_caller]
    pub fn nothing_left(&self, mut look: impl FnMut() -> Vec<String>) {
        let deadline = Instant::now() + patience(20);
        loop {
            let left = look();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "there is still:\n{}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // all processes of its namespace end with the first
        self.first.kill();
        let deadline = Instant::now() + patience(20);
        loop {
            let mut left = Vec::new();
            crate::leaks::cgroups(&self.name, &mut left);
            if left.is_empty() {
                return;
            }
            // callers leave the groups above their containers' to whoever named them
            for line in &left {
                remove_empty(Path::new(line.trim_start_matches("cgroup ")));
            }
            if Instant::now() > deadline {
                let text = format!("there are still processes in:\n{}", left.join("\n"));
                assert!(std::thread::panicking(), "{text}");
                eprintln!("{text}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An ordinary user of a [`Machine`], called `tester`.
#[derive(Debug)]
pub struct User {
    /// Its user id, and its group's.
    pub id: u32,
    /// Its home.
    pub home: PathBuf,
    /// Its `XDG_RUNTIME_DIR`.
    pub run: PathBuf,
    /// Its own copy of the runtime: where ours lies it need not be able to look.
    pub runtime: PathBuf,
}

impl User {
    const ID: u32 = 12345;

    /// Becomes a command of this user on its machine, without groups and rights of anybody else's.
    pub fn become_in(&self, machine: &Machine, invocation: Invocation) -> Invocation {
        let id = self.id.to_string();
        let invocation = machine.enter(invocation);
        let invocation = invocation.args(&["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        let invocation = invocation.arg("env").arg(format!("HOME={}", self.home.display()));
        invocation.arg(format!("XDG_RUNTIME_DIR={}", self.run.display())).arg("USER=tester")
    }
}

fn remove_empty(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // in use: tried again, and told
    std::fs::remove_dir(group).ok();
}

/// The runtime that callers are told to use, as text.
pub fn runtime() -> String {
    bin_dir().join("dhow-runtime").to_str().unwrap().to_owned()
}

/// A program on PATH that `cargo xtask test` installs or unpacks.
#[track_caller]
pub fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|dir| dir.join(program));
    let found = candidates.find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no {program} on PATH: `cargo xtask test` brings it"))
}

/// What a command says, both streams; it must end with this code.
#[track_caller]
pub fn ends_with(code: i32, invocation: Invocation) -> String {
    let Output { code: ended, stdout, stderr } = invocation.output();
    assert_eq!(ended, code, "{stdout}{stderr}");
    stdout + &stderr
}

/// Whether a line of `/proc/PID/status` tells all rights that there are here: root's own, as far as the caller knows
/// them (Docker's library stops at the 38th).
#[track_caller]
pub fn is_almighty(line: &str) -> bool {
    const KNOWN: u64 = (1 << 38) - 1;
    let number = |line: &str| u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours.lines().find(|line| line.starts_with("CapEff")).map(number).unwrap();
    number(line) & KNOWN == ours & KNOWN
}

/// What Docker's and Podman's `run` have in common: the same words, and what comes of them.
pub struct Runs<'a> {
    /// Their machine.
    pub machine: &'a Machine,
    /// `run --rm` without network, and with these arguments.
    pub run: &'a dyn Fn(&[&str]) -> Invocation,
}

impl Runs<'_> {
    fn shell(&self, flags: &[&str], script: &str) -> Invocation {
        (self.run)(&[flags, &["busybox", "sh", "-c", script]].concat())
    }

    /// They end as their commands do, or say why there is none.
    #[track_caller]
    pub fn end_as_their_commands_do(&self) {
        let run = self.run;
        assert_eq!(run(&["busybox", "echo", "hi"]).ok(), "hi");
        assert_eq!(run(&["-i", "busybox", "cat"]).input("typed").ok(), "typed");
        ends_with(42, self.shell(&[], "exit 42"));
        let missing = ends_with(127, run(&["busybox", "nonexistent"]));
        assert!(missing.contains("exec: \"nonexistent\": executable file not found in $PATH"), "{missing}");
        let text = ends_with(126, run(&["busybox", "/etc/not-executable"]));
        assert!(text.contains("exec: \"/etc/not-executable\": permission denied"), "{text}");
        let killed = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
        ends_with(137, self.shell(&["--memory", "8m"], killed));
    }

    /// They have the users, groups, capabilities and limits that they are given, and the caller's filter. With `limit`
    /// they may have so many `descriptors`.
    #[track_caller]
    pub fn have_the_rights_they_are_given(&self, limit: &[&str], descriptors: &str) {
        let flags = ["--cap-drop", "all", "--cap-add", "chown", "--security-opt", "no-new-privileges"];
        let user = ["--user", "0:10", "--group-add", "14"];
        let status = "id; grep -E 'Cap(Prm|Bnd)|NoNew|Seccomp:' /proc/self/status; ulimit -n";
        let seen = self.shell(&[&flags[..], &user, limit].concat(), status).ok();
        let lines: Vec<_> = seen.lines().collect();
        for line in [
            "uid=0(root) gid=10(wheel) groups=10(wheel),14",
            "CapPrm:\t0000000000000001",
            "CapBnd:\t0000000000000001",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            descriptors,
        ] {
            assert!(lines.contains(&line), "{line:?} in {seen}");
        }
        let seen = self.shell(&["--user", "app", "--workdir", "/tmp"], "id -un; pwd").ok();
        assert_eq!(seen, "app\n/tmp");
        let seen = self.shell(&["--privileged"], "grep Seccomp: /proc/self/status; ls /sys").ok();
        assert!(seen.contains("Seccomp:\t0") && seen.contains("kernel"), "{seen}");
    }

    /// They have their volumes and temporary file systems, and cannot write where they may not.
    #[track_caller]
    pub fn have_their_mounts(&self) {
        let volume = self.machine.file("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(format!("{volume}/file"), "of the host\n").unwrap();
        let mounts = [format!("{volume}:/a"), format!("{volume}:/b:ro")];
        let flags = ["--read-only", "--tmpfs", "/t:size=1m", "--shm-size", "2m"];
        let volumes = ["-v", &mounts[0], "-v", &mounts[1], "-v", "named:/c"];
        let script = "cat /b/file; echo changed >/a/new; cat /b/new; touch /b/x; touch /c/y; touch /x; touch /t/x; \
                      grep ' /t ' /proc/mounts; df -k /dev/shm | tail -1 | awk '{print $2}'";
        let output = self.shell(&[&flags[..], &volumes].concat(), script).output();
        assert!(output.stdout.starts_with("of the host\nchanged\ntmpfs /t tmpfs rw,"), "{output:#?}");
        assert!(output.stdout.contains("size=1024k") && output.stdout.ends_with("\n2048\n"), "{output:#?}");
        let refused: Vec<_> = output.stderr.lines().collect();
        assert_eq!(refused, ["touch: /b/x: Read-only file system", "touch: /x: Read-only file system"]);
    }

    /// They have the host name, sysctls, score and devices that they are given.
    #[track_caller]
    pub fn see_what_they_are_given(&self) {
        let flags = ["--hostname", "there", "--sysctl", "kernel.msgmax=1000", "--oom-score-adj", "300"];
        let script = "hostname; cat /proc/sys/kernel/msgmax /proc/self/oom_score_adj; \
                      head -c 3 /dev/nought | wc -c";
        let seen = self.shell(&[&flags[..], &["--device", "/dev/zero:/dev/nought"]].concat(), script).ok();
        assert_eq!(seen, "there\n1000\n300\n3");
    }
}

/// Waits until the shell in a terminal knows its size. A caller sets it some time after the command's start.
pub fn sized(terminal: &mut Terminal) {
    eventually("the size", || {
        terminal.press(b"stty size\n");
        std::thread::sleep(Duration::from_millis(50));
        terminal.screen().contains("24 80").then_some(())
    });
}

/// Enlarges a terminal until the shell in it knows. A caller looks for changes of the size only from some time after the
/// command's start, and never learns of an earlier one: so it is changed again and again.
pub fn enlarge(terminal: &mut Terminal) {
    eventually("the new size", || {
        terminal.resize(31, 100);
        terminal.resize(30, 100);
        terminal.press(b"stty size\n");
        std::thread::sleep(Duration::from_millis(50));
        terminal.screen().contains("30 100").then_some(())
    });
}
