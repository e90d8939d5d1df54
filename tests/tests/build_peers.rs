//! What `COPY`, `ADD` and `WORKDIR` make, beside what Docker's BuildKit makes of the same Dockerfiles.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::building::Context;
use harness::callers::{Machine, installed};
use harness::{Dhow, Invocation, Process};

/// dockerd on a machine of its own.
struct Docker {
    machine: Machine,
    daemon: Process,
}

impl Docker {
    #[track_caller]
    fn new() -> Self {
        for program in ["containerd", "docker-init"] {
            installed(program);
        }
        let machine = Machine::new("docker-build");
        let file = |name| machine.file(name);
        let daemon = machine
            .program(installed("dockerd"))
            .args(&["--host", &format!("unix://{}", file("sock")), "--pidfile", &file("pid")])
            .args(&["--data-root", &file("root"), "--exec-root", &file("exec"), "--log-level", "warn"])
            .args(&["--bridge", "none", "--iptables=false", "--ip-forward=false"])
            .spawn();
        let mut docker = Self { machine, daemon };
        let deadline = std::time::Instant::now() + harness::patience(30);
        while docker.docker(&["version"]).output().code != 0 {
            let alive = docker.daemon.is_running() && std::time::Instant::now() < deadline;
            assert!(alive, "dockerd does not come up: {}", docker.daemon.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
        docker
    }

    fn docker(&self, args: &[&str]) -> Invocation {
        Invocation::new("env")
            .arg("DOCKER_BUILDKIT=1")
            .arg(client())
            .args(&["--host", &format!("unix://{}", self.machine.file("sock"))])
            .args(args)
            .env("HOME", self.machine.path())
    }
}

/// The client that came with the daemon: one of another release may want a plugin to build with.
fn client() -> PathBuf {
    let beside = installed("dockerd").parent().and_then(Path::parent).map(|place| place.join("bin/docker"));
    beside.filter(|client| client.is_file()).unwrap_or_else(|| installed("docker"))
}

/// Type and mode, owner, name and link of each file; of what is no directory the size, too.
fn listed(archive: &Path) -> Vec<String> {
    let text = Invocation::new("tar").args(&["--numeric-owner", "-tvf"]).arg(archive).ok();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (mode, owner, size) = (words.next()?, words.next()?, words.next()?);
        let name: Vec<&str> = words.skip(2).collect();
        Some(format!("{mode} {owner} {size} {}", name.join(" ")))
    };
    let mut lines: Vec<String> = text.lines().filter_map(line).collect();
    lines.sort();
    lines
}

fn fill(context: &Path) {
    for (name, content) in [
        ("a", "a\n"),
        ("d/b", "b\n"),
        ("d/e/c", "c\n"),
        ("d/e/[x]", "x\n"),
        ("multi/1", "one\n"),
        ("multi/2", "two two\n"),
        ("out/kept/x", "x\n"),
        ("out/other", "y\n"),
        ("etc/passwd", "root:x:0:0::/:\nme:x:1001:1002::/:\n"),
        ("etc/group", "us:x:1003:\n"),
        (".dockerignore", "out\n!out/kept\n**/*.log\n"),
        ("d/no.log", ""),
    ] {
        let path = context.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    symlink("a", context.join("link")).unwrap();
    symlink("d", context.join("dlink")).unwrap();
    symlink("/tmp", context.join("d/abs")).unwrap();
    symlink("../../../../etc", context.join("up")).unwrap();
    fs::hard_link(context.join("d/b"), context.join("d/hard")).unwrap();
    for flag in ["-cf:t.tar", "-czf:t.tgz", "-cjf:t.tbz", "-cJf:t.txz"] {
        let (flag, name) = flag.split_once(':').unwrap();
        Invocation::new("tar")
            .arg("-C")
            .arg(context)
            .arg(flag)
            .arg(context.join(name))
            .args(&["d/e", "link"])
            .ok();
    }
    for (name, mode) in
        [("d", 0o700), ("d/b", 0o4755), ("d/e", 0o2750), ("multi/2", 0o601), ("out/kept", 0o711)]
    {
        fs::set_permissions(context.join(name), Permissions::from_mode(mode)).unwrap();
    }
}

/// Instructions behind `FROM scratch` and a `/etc` with users.
const CASES: [&str; 17] = [
    "COPY . /all",
    "COPY --chown=me:us a /p/q/owned\nCOPY --chown=me d /chowned\nCOPY --chown=5 a /five\nCOPY --chown=zz:yy a /unknown",
    "COPY d /d\nCOPY d /d/abs",
    "COPY d /d\nCOPY a /d/abs",
    "COPY d /d\nCOPY a /d/abs/x\nCOPY a /d/e",
    "COPY multi/* /single",
    "COPY multi/* /several/",
    "COPY dlink /vialink\nCOPY link /linked\nCOPY link /into/",
    "COPY nomatch* a /nothing/",
    "COPY a/ /f\nCOPY [am]* /g/",
    "COPY d/e/[[]x? /bracket\nCOPY d/*/c /c",
    "COPY up/passwd /up\nCOPY ../../a /b",
    "COPY out /out\nCOPY out/kept/x /x",
    "ADD t.tar /t1\nADD t.tgz /t2/\nADD t.tbz t.txz /t3/\nCOPY t.tar /t4",
    "WORKDIR /w/x\nCOPY a .\nCOPY d ./\nUSER 33\nWORKDIR sub",
    "COPY d/b d/hard /links/\nCOPY d /again\nCOPY d /again",
    "COPY a /l/m\nWORKDIR /l\nADD a m",
];
/// What nobody makes.
const FAULTS: [&str; 7] = [
    "COPY d/e/[[]x[]] /x",
    "COPY missing /x",
    "COPY a /f\nCOPY d /f",
    "COPY a /f\nCOPY a /f/g",
    "COPY out/other /x",
    "COPY d /d\nCOPY multi/1 /d/e/\nCOPY d/e /d/b",
    "COPY a /f\nWORKDIR /f",
];

#[test]
fn copies_are_buildkits() {
    let docker = Docker::new();
    let dhow = Dhow::new("build-peers");
    let context = Context::new(&dhow, "context");
    fill(context.path());
    let (ours, theirs) = (dhow.scratch().join("ours.tar"), dhow.scratch().join("theirs.tar"));
    let to = |path: &Path| format!("type=tar,dest={}", path.display());
    let place = context.path().to_str().unwrap().to_owned();
    let mut different = Vec::new();
    let stages = CASES.iter().map(|case| format!("FROM base\n{case}\n"));
    let copied = "FROM base AS one\nCOPY --chown=7:8 d /x/d\nCOPY --chown=me multi /y\n\
                  FROM base\nCOPY --from=one /x /kept\nCOPY --from=one /y/1 /z/\nCOPY --from=one --chown=9 /x/d/b /w\n";
    for case in stages.chain([copied.to_owned()]) {
        context.write("Dockerfile", format!("FROM scratch AS base\nCOPY etc /etc\n{case}"));
        let built = docker.docker(&["build", "-q", "--output", &to(&theirs), &place]).output();
        assert_eq!(built.code, 0, "{case}: {}", built.stderr.lines().last().unwrap_or_default());
        context.build(&["-o", &to(&ours)]);
        let (ours, theirs) = (listed(&ours), listed(&theirs));
        let only = |these: &[String], those: &[String]| {
            these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>()
        };
        if ours != theirs {
            different.push(format!(
                "{case}: ours {:#?}, theirs {:#?}",
                only(&ours, &theirs),
                only(&theirs, &ours)
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    for case in FAULTS {
        context.write("Dockerfile", format!("FROM scratch\nCOPY etc /etc\n{case}\n"));
        assert_ne!(
            docker.docker(&["build", "-q", "--output", &to(&theirs), &place]).output().code,
            0,
            "{case}"
        );
        context.fails(&["-o", &to(&ours)]);
    }
}
