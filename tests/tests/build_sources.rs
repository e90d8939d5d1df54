//! Where a build's files come from: standard input, the web, Git.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use harness::building::{Context, served};
use harness::{Dhow, Invocation};

fn git(directory: &Path, words: &[&str]) -> String {
    let own = ["-c", "user.name=t", "-c", "user.email=t@t", "-C", directory.to_str().unwrap()];
    Invocation::new("git").args(&own).args(words).ok()
}

/// A build of this context, whose files go to an archive: what is in it.
fn files(dhow: &Dhow, context: &str, args: &[&str], input: &[u8]) -> String {
    let archive = dhow.scratch().join("out.tar");
    let to = format!("type=tar,dest={}", archive.display());
    let words = [&["build", "-q", "--network", "none", "-o", &to], args, &[context]].concat();
    dhow.command(&words).limit(120).input(input).ok();
    Invocation::new("tar").arg("-tf").arg(&archive).ok()
}

#[test]
fn standard_input_is_a_context_or_a_dockerfile() {
    let dhow = Dhow::new("build-stdin");
    let context = Context::new(&dhow, "context")
        .with("Dockerfile", "FROM scratch\nCOPY . /\n")
        .with("other", "FROM scratch\nCOPY kept /only\n")
        .with(".dockerignore", "left\nDockerfile\nother\n.dockerignore\n")
        .with("kept", "x")
        .with("left", "y");
    let archive = dhow.scratch().join("context.tgz");
    Invocation::new("tar").arg("-C").arg(context.path()).arg("-czf").arg(&archive).arg(".").ok();
    let packed = fs::read(&archive).unwrap();
    assert_eq!(files(&dhow, "-", &[], &packed), "kept");
    assert_eq!(files(&dhow, "-", &["-f", "other"], &packed), "only");
    assert_eq!(files(&dhow, "-", &[], b"FROM scratch\nCOPY <<EOF /document\nEOF\n"), "document");
    let place = context.path().to_str().unwrap();
    assert_eq!(files(&dhow, place, &["-f", "-"], b"FROM scratch\nCOPY kept /piped\n"), "piped");
    let failed = dhow.command(&["build", "-f", "-", "-"]).input(packed).output();
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("standard input"), "{}", failed.stderr);
}

#[test]
fn files_from_the_web_are_kept_and_checked() {
    let dhow = Dhow::new("build-web");
    let shown = dhow.scratch().join("shown");
    fs::create_dir_all(shown.join("locked")).unwrap();
    fs::write(shown.join("locked/file"), "abc").unwrap();
    let address = served(&shown);
    let sum = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let dockerfile = |sum: &str| {
        format!(
            "FROM scratch\nADD --checksum={sum} http://me:zq9xw7k@{address}/locked/file /d/\nWORKDIR /w\n"
        )
    };
    let context = Context::new(&dhow, "context").with("Dockerfile", dockerfile(sum));
    let archive = dhow.scratch().join("out.tar");
    let to = format!("type=tar,dest={}", archive.display());
    let told = context.build(&["-o", &to]);
    assert!(!told.contains("zq9xw7k"), "{told}");
    let listed = Invocation::new("tar").args(&["--utc", "-tvf"]).arg(&archive).ok();
    assert!(listed.contains("-rw-------") && listed.contains("2015-10-21 07:28 d/file"), "{listed}");
    context.write("Dockerfile", dockerfile(&sum.replace("ba", "ab")));
    let told = context.fails(&[]);
    assert!(told.contains(sum) && !told.contains("zq9xw7k"), "{told}");
    let kinds = || dhow.ok(&["builder", "du", "--format", "{{.Type}}"]);
    assert!(kinds().contains("source.http"), "{}", kinds());
    dhow.ok(&["builder", "prune", "-af"]);
    assert_eq!(kinds(), "");
    // As a context, too.
    fs::write(shown.join("Dockerfile"), "FROM scratch\nWORKDIR /from/the/web\n").unwrap();
    assert_eq!(
        files(&dhow, &format!("http://{address}/Dockerfile"), &[], b""),
        "from/\nfrom/the/\nfrom/the/web/"
    );
}

#[test]
fn repositories_are_contexts_and_sources_and_nothing_else() {
    let dhow = Dhow::new("build-git");
    let (tree, shown) = (dhow.scratch().join("tree"), dhow.scratch().join("shown"));
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::create_dir_all(shown.join("locked")).unwrap();
    fs::write(tree.join("Dockerfile"), "FROM scratch\nCOPY . /top\n").unwrap();
    fs::write(tree.join("sub/Dockerfile"), "FROM scratch\nCOPY . /below\n").unwrap();
    std::os::unix::fs::symlink("/etc", tree.join("out")).unwrap();
    git(&tree, &["init", "--quiet", "--initial-branch=main"]);
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "--quiet", "-m", "x"]);
    let bare = shown.join("locked/it.git");
    git(&tree, &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    git(&bare, &["update-server-info"]);
    let address = served(&shown);
    let url = format!("http://me:zq9xw7k@{address}/locked/it.git");
    assert_eq!(files(&dhow, &url, &[], b""), "top/\ntop/Dockerfile\ntop/out\ntop/sub/\ntop/sub/Dockerfile");
    assert_eq!(files(&dhow, &format!("{url}#main:sub"), &[], b""), "below/\nbelow/Dockerfile");
    let context =
        Context::new(&dhow, "context").with("Dockerfile", format!("FROM scratch\nADD {url}#:sub /added\n"));
    assert_eq!(files(&dhow, context.path().to_str().unwrap(), &[], b""), "added/\nadded/Dockerfile");
    for fragment in ["--upload-pack=touch /tmp/x", "-x", "main:out", "main:../..", "main:sub/../../.."] {
        let output = dhow.command(&["build", &format!("{url}#{fragment}")]).limit(120).output();
        assert_eq!(output.code, 1, "{fragment}");
        assert!(!output.stderr.contains("zq9xw7k"), "{}", output.stderr);
    }
    // It is of the cache, and goes with it.
    let kinds = || dhow.ok(&["builder", "du", "--format", "{{.Type}}"]);
    assert!(kinds().contains("source.git"), "{}", kinds());
    dhow.ok(&["builder", "prune", "-af", "--filter", "type=source.git"]);
    assert!(!kinds().contains("source.git"), "{}", kinds());
    assert_eq!(files(&dhow, &format!("{url}#main:sub"), &[], b""), "below/\nbelow/Dockerfile");
    // The login is written down nowhere.
    let found = Invocation::new("grep").args(&["-rlE", "zq9xw7k|bWU6enE5eHc3aw=="]).arg(dhow.root()).output();
    assert_eq!(found.stdout, "");
}
