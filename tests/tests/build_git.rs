//! Repositories that Dockerfiles name: with whose keys they are asked for, and that they hold up nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use harness::building::{Context, served};
use harness::{Dhow, Invocation, Output, patience};
use rustix::process::Signal;

/// An `ssh` that only notes how it is called.
struct Ssh {
    path: String,
    noted: PathBuf,
}

impl Ssh {
    fn new(dhow: &Dhow) -> Self {
        let (programs, noted) = (dhow.scratch().join("programs"), dhow.scratch().join("noted"));
        fs::create_dir_all(&programs).unwrap();
        let script =
            format!("#!/bin/sh\necho \"agent=${{SSH_AUTH_SOCK:-none}} $*\" >>{}\nexit 1\n", noted.display());
        fs::write(programs.join("ssh"), script).unwrap();
        fs::set_permissions(programs.join("ssh"), Permissions::from_mode(0o755)).unwrap();
        Self { path: format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()), noted }
    }

    /// How a build that fails for want of the repository has called it.
    #[track_caller]
    fn called_by(&self, build: Invocation) -> String {
        fs::write(&self.noted, "").unwrap();
        let output = build.env("PATH", &self.path).env("SSH_AUTH_SOCK", "/the/users/agent").output();
        assert_eq!(output.code, 1, "{}", output.stderr);
        let noted = fs::read_to_string(&self.noted).unwrap();
        assert!(!noted.is_empty(), "ssh was not called: {}", output.stderr);
        noted
    }
}

#[track_caller]
fn has_no_keys(noted: &str) {
    for line in noted.lines() {
        for wanted in
            ["agent=none ", "-F /dev/null", "IdentityAgent=none", "IdentityFile=none", "BatchMode=yes"]
        {
            assert!(line.contains(wanted), "no {wanted}: {line}");
        }
    }
}

#[test]
fn the_users_keys_are_for_the_context_alone() {
    let dhow = Dhow::new("build-keys");
    let ssh = Ssh::new(&dhow);
    let context = Context::new(&dhow, "context");
    for address in ["git@nowhere.invalid:a/b.git", "ssh://git@nowhere.invalid/a/b.git"] {
        context.write("Dockerfile", format!("FROM scratch\nADD {address} /x\n"));
        has_no_keys(&ssh.called_by(context.command(&[])));
    }
    // One that is lent is used, and nothing else of the user's.
    let socket = dhow.scratch().join("lent");
    let _listener = UnixListener::bind(&socket).unwrap();
    let noted = ssh.called_by(context.command(&["--ssh", &format!("default={}", socket.display())]));
    let agent = format!("agent={} ", socket.display());
    assert!(noted.contains(&agent) && noted.contains("IdentityAgent=SSH_AUTH_SOCK"), "{noted}");
    assert!(noted.contains("-F /dev/null") && noted.contains("IdentityFile=none"), "{noted}");
    // What the user has named is asked for as the user.
    let noted = ssh.called_by(dhow.command(&["build", "git@nowhere.invalid:a/b.git"]).limit(60));
    assert!(noted.contains("agent=/the/users/agent ") && !noted.contains("IdentityFile=none"), "{noted}");
}

#[test]
fn submodules_are_not_asked_for_with_the_users_keys() {
    let dhow = Dhow::new("build-submodule-keys");
    let ssh = Ssh::new(&dhow);
    let (tree, shown) = (dhow.scratch().join("tree"), dhow.scratch().join("shown"));
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir_all(&shown).unwrap();
    fs::write(tree.join("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let module = "[submodule \"m\"]\n\tpath = m\n\turl = ssh://git@nowhere.invalid/a/b.git\n";
    fs::write(tree.join(".gitmodules"), module).unwrap();
    git(&tree, &["init", "--quiet", "--initial-branch=main"]);
    git(&tree, &["add", "-A"]);
    let link = format!("160000,{},m", "1".repeat(40));
    git(&tree, &["update-index", "--add", "--cacheinfo", &link]);
    git(&tree, &["commit", "--quiet", "-m", "x"]);
    let bare = shown.join("it.git");
    git(&tree, &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    git(&bare, &["update-server-info"]);
    let url = format!("http://{}/it.git", served(&shown));
    has_no_keys(&ssh.called_by(dhow.command(&["build", &url]).limit(60)));
}

fn git(directory: &Path, words: &[&str]) {
    let own = ["-c", "user.name=t", "-c", "user.email=t@t", "-C", directory.to_str().unwrap()];
    Invocation::new("git").args(&own).args(words).ok();
}

/// A server that takes connections and says nothing.
struct Silent {
    address: String,
    connections: Receiver<TcpStream>,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, connections) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(stream.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { address, connections }
    }

    /// Somebody who has asked, and waits.
    #[track_caller]
    fn asked(&self) -> TcpStream {
        let mut stream = self.connections.recv_timeout(patience(20)).unwrap();
        stream.set_read_timeout(Some(patience(20))).unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream
    }
}

/// Waits until who has asked is gone, with all that it has started.
#[track_caller]
fn is_gone(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(e) => panic!("somebody still waits: {e}"),
        }
    }
}

#[track_caller]
fn nothing_is_left(dhow: &Dhow) {
    let names = fs::read_dir(dhow.root().join("layers")).unwrap().flatten();
    let left: Vec<String> =
        names.map(|e| e.file_name().into_string().unwrap()).filter(|name| name.starts_with('.')).collect();
    assert_eq!(left, [""; 0]);
}

#[track_caller]
fn was_interrupted(output: &Output) {
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("the build was interrupted"), "{}", output.stderr);
}

#[test]
fn a_server_that_says_nothing_holds_up_no_failure() {
    let dhow = Dhow::new("build-silent");
    for path in ["it.git", "file"] {
        let server = Silent::new();
        let dockerfile = format!(
            "FROM busybox AS a\nRUN sleep 1; exit 3\nFROM busybox\nADD http://{}/{path} /x\nCOPY --from=a /etc /e\n",
            server.address
        );
        let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile);
        let began = Instant::now();
        let build = context.command(&[]).spawn();
        let asked = server.asked();
        let output = build.wait();
        assert!(began.elapsed() < patience(15), "{:?}", began.elapsed());
        assert!(output.code == 1 && output.stderr.contains("exit code: 3"), "{}", output.stderr);
        is_gone(asked);
        nothing_is_left(&dhow);
    }
}

#[test]
fn a_fetch_ends_with_its_build() {
    let dhow = Dhow::new("build-silent-signals");
    let server = Silent::new();
    let context = Context::new(&dhow, "context");
    let url = |path: &str| format!("http://{}/{path}", server.address);
    for path in ["it.git", "file"] {
        context.write("Dockerfile", format!("FROM scratch\nADD {} /x\n", url(path)));
        for build in [context.command(&[]), dhow.command(&["build", &url(path)]).limit(60)] {
            let build = build.spawn();
            let asked = server.asked();
            let began = Instant::now();
            build.signal(Signal::TERM);
            was_interrupted(&build.wait());
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            is_gone(asked);
            nothing_is_left(&dhow);
        }
    }
    // Nor does git live on when the build is killed.
    let mut build = dhow.command(&["build", &url("it.git")]).limit(60).spawn();
    let asked = server.asked();
    build.kill();
    is_gone(asked);
}

#[test]
fn who_waits_for_another_builds_fetch_can_be_interrupted() {
    let dhow = Dhow::new("build-silent-lock");
    let server = Silent::new();
    let url = format!("http://{}/it.git", server.address);
    let mut first = dhow.command(&["build", &url]).limit(60).spawn();
    let _asked = server.asked();
    let second = dhow.command(&["build", "--progress", "plain", &url]).limit(60).spawn();
    harness::eventually("it begins", || second.stderr().contains("load build definition").then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    second.signal(Signal::INT);
    was_interrupted(&second.wait());
    first.kill();
}
