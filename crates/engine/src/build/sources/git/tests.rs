//! With repositories on this machine, which are allowed here alone.

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;

use super::*;

/// A repository that others fetch from.
struct Upstream {
    dir: tempfile::TempDir,
}

impl Upstream {
    fn new() -> Self {
        let upstream = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(upstream.tree()).unwrap();
        fs::create_dir(upstream.dir.path().join("work")).unwrap();
        upstream.git(&["init", "--quiet", "--initial-branch=main", "."]);
        upstream.commit("file", "one");
        upstream
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("up.git")
    }

    fn git(&self, words: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"])
            .args(words)
            .current_dir(self.tree())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, name: &str, content: &str) -> String {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "--quiet", "-m", name]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn asked(&self, reference: &str, subdirectory: &str) -> Git {
        Git {
            url: self.tree().display().to_string(),
            reference: reference.to_owned(),
            subdirectory: subdirectory.to_owned(),
            keep_git_dir: false,
            checksum: None,
        }
    }

    fn fetch_with(&self, git: &Git, local: bool) -> Result<Fetched> {
        let (store, work) = (self.dir.path().join("store"), self.dir.path().join("work"));
        let access = Access { local, ..Access::of_user(None) };
        fetch(git, Places { store: &store, work: &work }, access, &Cancel::default())
    }

    fn fetch(&self, reference: &str, subdirectory: &str) -> Result<(String, Vec<String>)> {
        let fetched = self.fetch_with(&self.asked(reference, subdirectory), true)?;
        Ok((fetched.commit, names(&fetched.root)))
    }
}

fn names(root: &OwnedFd) -> Vec<String> {
    let entries = rustix::fs::Dir::read_from(root.as_fd()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

#[test]
fn branches_tags_and_commits() {
    let up = Upstream::new();
    let first = up.git(&["rev-parse", "HEAD"]);
    up.git(&["tag", "plain"]);
    up.git(&["tag", "-a", "-m", "x", "annotated"]);
    up.git(&["branch", "both"]);
    let second = up.commit("dir/deep/x", "two");
    up.git(&["tag", "both"]);
    let old = vec!["file".to_owned()];
    let new = vec!["dir".to_owned(), "file".to_owned()];
    for (reference, commit, files) in [
        ("", &second, &new),
        ("main", &second, &new),
        ("refs/heads/main", &second, &new),
        ("plain", &first, &old),
        ("annotated", &first, &old),
        ("both", &first, &old),
        ("refs/tags/both", &second, &new),
        (&*first, &first, &old),
        (&*second, &second, &new),
    ] {
        assert_eq!(up.fetch(reference, "").unwrap(), (commit.clone(), files.clone()), "{reference}");
    }
    assert_eq!(up.fetch("", "dir/deep").unwrap().1, ["x"]);
    // What moves is followed.
    let third = up.commit("file", "three");
    assert_eq!(up.fetch("main", "").unwrap().0, third);
    for missing in ["nothing", "refs/heads/plain", "0123456789012345678901234567890123456789"] {
        let error = up.fetch(missing, "").unwrap_err();
        assert!(
            matches!(error, GitError::NoReference { .. } | GitError::Failed { .. }),
            "{missing}: {error}"
        );
    }
    assert!(matches!(up.fetch("", "none"), Err(GitError::NoSubdirectory(_))));
}

#[test]
fn a_commit_is_verified_and_may_come_with_its_repository() {
    let up = Upstream::new();
    let commit = up.git(&["rev-parse", "HEAD"]);
    let git = Git { checksum: Some(commit[..10].to_owned()), keep_git_dir: true, ..up.asked("main", "") };
    let fetched = up.fetch_with(&git, true).unwrap();
    assert_eq!(names(&fetched.root), [".git", "file"]);
    let other = Git { checksum: Some("0123456".to_owned()), ..git };
    assert!(matches!(up.fetch_with(&other, true), Err(GitError::OtherCommit { .. })));
}

#[test]
fn nothing_leads_out_of_the_checkout() {
    let up = Upstream::new();
    std::os::unix::fs::symlink("/etc", up.tree().join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../etc", up.tree().join("relative")).unwrap();
    std::os::unix::fs::symlink("dir", up.tree().join("inner")).unwrap();
    up.commit("dir/x", "x");
    for name in ["absolute", "relative", "..", "dir/../..", "inner/../../.."] {
        assert!(matches!(up.fetch("", name), Err(GitError::Leaves(_))), "{name}");
    }
    assert_eq!(up.fetch("", "inner").unwrap().1, ["x"]);
}

#[test]
fn paths_of_this_machine_are_for_its_users_alone() {
    let up = Upstream::new();
    assert!(matches!(up.fetch_with(&up.asked("", ""), false), Err(GitError::Address { .. })));
    let url = format!("file://{}", up.tree().display());
    assert!(matches!(up.fetch_with(&Git { url, ..up.asked("", "") }, false), Err(GitError::Address { .. })));
    // A submodule of another's file system neither.
    let secret = Upstream::new();
    up.git(&["submodule", "--quiet", "add", &secret.tree().display().to_string(), "sub"]);
    up.commit("more", "x");
    let error = up.fetch("", "").unwrap_err();
    assert!(matches!(&error, GitError::Failed { verb, .. } if verb == "submodule"), "{error}");
    let found =
        Command::new("find").arg(up.dir.path().join("work")).args(["-path", "*/sub/file"]).output().unwrap();
    assert!(found.stdout.is_empty());
}

#[test]
fn hooks_and_settings_of_nobody_run() {
    let up = Upstream::new();
    let trap = up.dir.path().join("trap");
    let script = format!("#!/bin/sh\ntouch {}\n", trap.display());
    for name in ["post-checkout", "pre-commit", "reference-transaction", "post-index-change"] {
        let path = up.tree().join(".git/hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &script).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::remove_file(&trap).ok();
    fs::write(up.tree().join(".gitattributes"), "* filter=evil\n").unwrap();
    up.git(&["-c", "core.hooksPath=/dev/null", "add", "-A"]);
    up.git(&["-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", "x"]);
    fs::remove_file(&trap).ok();
    let git = Git { keep_git_dir: true, ..up.asked("", "") };
    let fetched = up.fetch_with(&git, true).unwrap();
    assert!(!trap.exists());
    assert!(names(&fetched.root).contains(&".gitattributes".to_owned()));
}

#[test]
fn no_error_has_a_login_in_it() {
    let up = Upstream::new();
    let git = Git { url: "http://me:secret@127.0.0.1:1/a.git".to_owned(), ..up.asked("", "") };
    let error = up.fetch_with(&git, false).unwrap_err();
    assert!(!base::failure::chain(&error).contains("secret"), "{error}");
    let store = up.dir.path().join("store");
    let grep = Command::new("grep").args(["-r", "secret"]).arg(&store).output().unwrap();
    assert!(grep.stdout.is_empty());
}

#[test]
fn fetches_of_one_address_take_turns() {
    let up = Upstream::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| up.fetch("main", "").unwrap())).collect();
        for one in all {
            assert_eq!(one.join().unwrap().1, ["file"]);
        }
    });
}

/// Shows files of a directory to who has the login, and notes what it was asked. Ends with the test's process.
fn served(directory: &Path) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let (notes, directory) = (asked.clone(), directory.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
            let path = head.first().and_then(|line| line.split([' ', '?']).nth(1)).unwrap_or("/").to_owned();
            // `me:secret`
            let known = head.iter().any(|line| line.to_lowercase() == "authorization: basic bwu6c2vjcmv0");
            let (status, body) = match fs::read(directory.join(&path[1..])) {
                _ if !known => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new()),
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            notes.lock().unwrap().push(format!("{status} {path}"));
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
        }
    });
    (address, asked)
}

#[test]
fn a_server_has_its_login_and_gives_submodules() {
    let (up, part) = (Upstream::new(), Upstream::new());
    let shown = up.dir.path().join("shown");
    let publish = |from: &Upstream, name: &str| {
        let to = shown.join(name);
        let words = ["clone", "--quiet", "--bare", "--template=", ".", to.to_str().unwrap()];
        from.git(&words);
        from.git(&["--git-dir", to.to_str().unwrap(), "update-server-info"]);
    };
    let commit = part.git(&["rev-parse", "HEAD"]);
    publish(&part, "part.git");
    fs::write(up.tree().join(".gitmodules"), "[submodule \"sub\"]\n\tpath = sub\n\turl = ../part.git\n")
        .unwrap();
    up.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
    up.git(&["add", ".gitmodules"]);
    up.git(&["commit", "--quiet", "-m", "submodule"]);
    publish(&up, "whole.git");
    let (address, asked) = served(&shown);
    let git = |login: &str| Git { url: format!("http://{login}{address}/whole.git"), ..up.asked("main", "") };
    assert!(up.fetch_with(&git(""), false).is_err());
    assert!(asked.lock().unwrap().iter().all(|line| line.starts_with("401")));
    let fetched = up.fetch_with(&git("me:secret@"), false).unwrap();
    assert_eq!(names(&fetched.root), [".gitmodules", "file", "sub"]);
    let sub = subdirectory(&up.dir.path().join("work/git0"), "sub").unwrap();
    assert_eq!(names(&sub), ["file"]);
    for place in ["store", "work"] {
        let found =
            Command::new("grep").args(["-rE", "secret|bWU6c2VjcmV0"]).arg(up.dir.path().join(place)).output();
        assert!(found.unwrap().stdout.is_empty(), "{place}");
    }
}
