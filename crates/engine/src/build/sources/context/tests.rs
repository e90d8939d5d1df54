//! Contexts of all forms but those from elsewhere.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct Nowhere;

impl Fetch for Nowhere {
    fn http(&self, url: &str) -> Result<File> {
        // Stands for the web.
        Ok(File::open(url.trim_start_matches("http://")).unwrap())
    }

    fn git(&self, git: &graph::Git) -> Result<(OwnedFd, String)> {
        Ok((File::open(&git.url).unwrap().into(), "0".repeat(40)))
    }
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scratch.path("work")).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn add(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn open(&self, spec: &Spec, dockerfile: Option<&str>, stdin: &[u8]) -> Result<Opened> {
        let work = self.path("work");
        open(&Asked { spec, dockerfile, work: &work }, &mut { stdin }, &Nowhere)
    }

    fn directory(&self, name: &str, dockerfile: Option<&str>, stdin: &[u8]) -> Result<Opened> {
        self.open(&Spec::Directory(self.path(name)), dockerfile, stdin)
    }

    fn tar(&self, name: &str, flags: &str) -> Vec<u8> {
        let output =
            std::process::Command::new("tar").args([flags, "-", "."]).current_dir(self.path(name)).output();
        let output = output.unwrap();
        assert!(output.status.success());
        output.stdout
    }
}

fn has(opened: &Opened, name: &str) -> bool {
    rustix::fs::accessat(&opened.root, name, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
}

#[test]
fn a_directory_has_its_dockerfile_anywhere() {
    let scratch = Scratch::new();
    scratch.add("c/Dockerfile", "FROM a");
    scratch.add("c/.dockerignore", "x\n");
    scratch.add("other/D", "FROM b");
    scratch.add("other/D.dockerignore", "y\n");
    let opened = scratch.directory("c", None, b"").unwrap();
    assert_eq!(opened.dockerfile.text, "FROM a");
    assert!(opened.ignore.excludes("x") && opened.lasting && opened.owners == Owners::Root);
    let other = scratch.path("other/D");
    let opened = scratch.directory("c", other.to_str(), b"").unwrap();
    assert_eq!(opened.dockerfile.text, "FROM b");
    assert!(opened.ignore.excludes("y") && !opened.ignore.excludes("x"));
    let opened = scratch.directory("c", Some("-"), b"FROM c").unwrap();
    assert_eq!(opened.dockerfile.text, "FROM c");
    assert!(opened.ignore.excludes("x"));
    symlink("c", scratch.path("link")).unwrap();
    assert!(has(&scratch.directory("link", None, b"").unwrap(), "Dockerfile"));
    fs::rename(scratch.path("c/Dockerfile"), scratch.path("c/dockerfile")).unwrap();
    assert_eq!(scratch.directory("c", None, b"").unwrap().dockerfile.text, "FROM a");
}

#[test]
fn what_is_missing_is_named() {
    let scratch = Scratch::new();
    scratch.add("c/file", "");
    for (name, file) in [("none", None), ("c/file", None), ("c", None), ("c", Some("/nope/x"))] {
        let error = scratch.directory(name, file, b"").unwrap_err();
        assert!(!error.hints().is_empty(), "{error}");
    }
    scratch.add("c/Dockerfile", "FROM a");
    scratch.add("c/.dockerignore", "[\n");
    assert!(scratch.directory("c", None, b"").unwrap_err().to_string().contains(".dockerignore"));
}

#[test]
fn nothing_waits_for_who_never_writes() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("c")).unwrap();
    let fifo = |name: &str| {
        let path = scratch.path(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    };
    fifo("c/Dockerfile");
    fifo("c/.dockerignore");
    assert!(scratch.directory("c", None, b"").is_err());
    let opened = scratch.directory("c", Some("-"), b"FROM a").unwrap();
    assert!(opened.ignore.is_empty());
    fs::remove_file(scratch.path("c/Dockerfile")).unwrap();
    scratch.add("c/Dockerfile", "FROM a");
    fifo("c/Dockerfile.dockerignore");
    assert!(scratch.directory("c", None, b"").is_err());
}

#[test]
fn standard_input_is_an_archive_or_a_dockerfile() {
    let scratch = Scratch::new();
    scratch.add("c/Dockerfile", "FROM a");
    scratch.add("c/sub/D", "FROM b");
    scratch.add("c/.dockerignore", "x\n");
    for flags in ["-cf", "-czf"] {
        let tar = scratch.tar("c", flags);
        let opened = scratch.open(&Spec::Stdin, None, &tar).unwrap();
        assert_eq!(opened.dockerfile.text, "FROM a");
        assert!(has(&opened, "sub/D") && opened.ignore.excludes("x") && !opened.lasting);
        let opened = scratch.open(&Spec::Stdin, Some("sub/D"), &tar).unwrap();
        assert_eq!(opened.dockerfile.text, "FROM b");
        let url = scratch.path("tar");
        fs::write(&url, &tar).unwrap();
        let opened = scratch.open(&Spec::Http(format!("http://{}", url.display())), None, b"").unwrap();
        assert_eq!(opened.dockerfile.text, "FROM a");
    }
    let opened = scratch.open(&Spec::Stdin, None, b"FROM c\n").unwrap();
    assert_eq!(opened.dockerfile.text, "FROM c\n");
    assert_eq!(fs::read_dir(scratch.path("work")).unwrap().count(), 7);
    assert!(scratch.open(&Spec::Stdin, Some("-"), b"").is_err());
    assert!(scratch.open(&Spec::Stdin, Some("D"), b"FROM c").is_err());
    assert!(scratch.open(&Spec::Stdin, None, b"\xff\xfe\x01").is_err());
    assert!(scratch.open(&Spec::Stdin, None, b"").unwrap().dockerfile.text.is_empty());
}

#[test]
fn a_context_from_elsewhere_leads_nowhere_else() {
    let scratch = Scratch::new();
    scratch.add("c/x", "");
    symlink("/etc/passwd", scratch.path("c/Dockerfile")).unwrap();
    symlink("/etc/passwd", scratch.path("c/.dockerignore")).unwrap();
    let git = graph::Git {
        url: scratch.path("c").display().to_string(),
        reference: String::new(),
        subdirectory: String::new(),
        keep_git_dir: false,
        checksum: None,
    };
    assert!(scratch.open(&Spec::Git(git.clone()), None, b"").is_err());
    assert!(scratch.open(&Spec::Git(git.clone()), Some("../../../../../etc/passwd"), b"").is_err());
    let opened = scratch.open(&Spec::Git(git), Some("-"), b"FROM a").unwrap();
    assert!(opened.ignore.is_empty());
    let fifo = scratch.path("c/fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(scratch.open(&Spec::Stdin, Some("fifo"), &scratch.tar("c", "-cf")).is_err());
}

#[test]
fn forms_are_told_apart() {
    let spec = |text: &str| Spec::parse(text).unwrap();
    assert_eq!(spec("-"), Spec::Stdin);
    assert_eq!(spec("."), Spec::Directory(PathBuf::from(".")));
    assert_eq!(spec("https://h/a.tar.gz"), Spec::Http("https://h/a.tar.gz".to_owned()));
    assert!(matches!(spec("https://h/a.git#main"), Spec::Git(_)));
    assert_eq!(spec("oci-layout://dir:tag"), Spec::Layout("dir:tag".to_owned()));
    assert_eq!(spec("docker-image://alpine"), Spec::Image("alpine".to_owned()));
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("me@host:there")).unwrap();
    assert!(matches!(spec("me@host:there"), Spec::Git(_)));
    assert!(matches!(spec(scratch.path("me@host:there").to_str().unwrap()), Spec::Directory(_)));
    assert_eq!(scratch.open(&spec("oci-layout://x"), None, b"").unwrap_err().kind(), base::Kind::Unsupported);
}
