//! Bundles, and the runtime by its own command line, as callers of runc use it.
//!
//! - [`Bundle`]: a directory with a root file system around the host's static busybox and a `config.json` to be edited.
//! - [`Runtime`]: `dhow-runtime` (or another program of its kind) with a `--root` of its own. Ids that it gives out are
//!   unique on the machine, and so are the cgroups named after them: when it is dropped, none of them may be left.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::instance::{bin_dir, real_directory};
use crate::invocation::{Invocation, Output, Process};
use crate::wait::{eventually, patience};

/// The runtime that is tested: `DHOW_TEST_RUNTIME`, or `dhow-runtime`. Another one is for testing the tests.
pub fn program() -> PathBuf {
    std::env::var_os("DHOW_TEST_RUNTIME").map_or_else(|| bin_dir().join("dhow-runtime"), PathBuf::from)
}

/// A bundle. It goes when it is dropped.
#[derive(Debug)]
pub struct Bundle {
    directory: TempDir,
}

impl Bundle {
    /// What the runtime's `spec` writes, but without a terminal and with a root that can be written to.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let bundle = Self { directory: real_directory("bundle") };
        Invocation::new(program()).args(&["spec", "--bundle"]).arg(bundle.path()).ok();
        fill(&bundle.rootfs());
        bundle.edit(|spec| {
            spec["process"]["terminal"] = json!(false);
            spec["root"]["readonly"] = json!(false);
        })
    }

    /// One that runs this command line.
    pub fn running(args: &[&str]) -> Self {
        Self::new().edit(|spec| spec["process"]["args"] = json!(args))
    }

    /// With another configuration.
    #[must_use]
    pub fn edit(self, change: impl FnOnce(&mut Value)) -> Self {
        self.change(change);
        self
    }

    /// Gives it another configuration.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut spec = self.spec();
        change(&mut spec);
        std::fs::write(self.config(), spec.to_string()).unwrap();
    }

    /// With a file in its root file system that is executable.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        write_executable(&path, content.as_ref());
        self
    }

    /// Its configuration.
    pub fn spec(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap()
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The same as a text.
    pub fn text(&self) -> &str {
        self.path().to_str().expect("a temporary directory has a plain name")
    }

    /// Its root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Its `config.json`.
    pub fn config(&self) -> PathBuf {
        self.path().join("config.json")
    }
}

/// Writes an executable file, and the directories above it.
pub fn write_executable(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// busybox with its applets, and the directories that everybody expects.
fn fill(root: &Path) {
    for directory in
        ["bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"]
    {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
    let busybox = busybox.expect("busybox-static is installed");
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in Invocation::new(busybox).arg("--list").ok().lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
}

/// A runtime with a root of its own. Dropping it deletes its containers, and fails the test if anything stays.
#[derive(Debug)]
pub struct Runtime {
    program: PathBuf,
    home: TempDir,
    name: String,
}

impl Runtime {
    /// The one that is tested ([`program`]).
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self::of(program())
    }

    /// Another program with the same command line.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dhow-oci-{}-{number}", std::process::id());
        Self { program: program.into(), home: real_directory("oci"), name }
    }

    /// An id that nobody else on the machine has.
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Its root.
    pub fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// A directory for the test's own files. It goes with the runtime.
    pub fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// The program with its root and these arguments.
    pub fn command(&self, args: &[&str]) -> Invocation {
        self.equip(Invocation::new(&self.program), args)
    }

    /// The same behind another program that executes its arguments.
    pub fn on(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        self.equip(invocation.arg(&self.program), args)
    }

    fn equip(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        invocation.arg("--root").arg(self.root()).args(args)
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output()
    }

    /// Runs it; it must succeed. Returns standard output without its last line break.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    /// Starts it.
    pub fn spawn(&self, args: &[&str]) -> Process {
        self.command(args).spawn()
    }

    /// Runs it; it must fail with this code, and say why where and as callers look for it. Returns that message.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let log = self.scratch().join("log.json");
        std::fs::remove_file(&log).ok();
        let with_log = ["--log", log.to_str().unwrap(), "--log-format", "json"];
        let output = self.run(&[&with_log, args].concat());
        assert_eq!(output.code, code, "{args:?}: {output:#?}");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last: Value = serde_json::from_str(text.lines().last().expect("the log has a line")).unwrap();
        assert_eq!(last["level"], "error", "{args:?}: {text}");
        let message = last["msg"].as_str().unwrap().to_owned();
        assert!(output.stderr.contains(&message), "{args:?}: {output:#?}");
        message
    }

    /// `create` in the background of nobody: what the container holds open is not ours to wait for.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle, id: &str) {
        self.quietly(&["create", "--bundle", bundle.path().to_str().unwrap(), id]);
    }

    /// `run --detach`, likewise.
    #[track_caller]
    pub fn start_detached(&self, bundle: &Bundle, id: &str) {
        self.quietly(&["run", "--detach", "--bundle", bundle.path().to_str().unwrap(), id]);
    }

    /// Runs a command whose container inherits our streams: they are files, not pipes. It must succeed.
    #[track_caller]
    pub fn quietly(&self, args: &[&str]) {
        let output = self.with_files(args);
        assert_eq!(output.code, 0, "{args:?}: {output:#?}");
    }

    /// The same, whatever comes of it.
    #[track_caller]
    pub fn with_files(&self, args: &[&str]) -> Output {
        let (out, err) = (self.scratch().join("stdout"), self.scratch().join("stderr"));
        let mut command = self.command(args).into_command();
        command.stdin(std::process::Stdio::null());
        command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
        let mut child = command.spawn().unwrap();
        let status = eventually("the command to end", || child.try_wait().unwrap());
        Output {
            code: status.code().unwrap_or(-1),
            stdout: std::fs::read_to_string(out).unwrap(),
            stderr: std::fs::read_to_string(err).unwrap(),
        }
    }

    /// What a container that was started [`quietly`](Self::quietly) has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.scratch().join("stdout")).unwrap_or_default()
    }

    /// Where a container stands.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        let text = self.ok(&["state", id]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// In a word.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    /// Its process on the host.
    #[track_caller]
    pub fn pid(&self, id: &str) -> u32 {
        self.state(id)["pid"].as_u64().unwrap() as u32
    }

    /// Waits until a container stands there.
    #[track_caller]
    pub fn await_status(&self, id: &str, status: &str) {
        eventually(status, || (self.status(id) == status).then_some(()));
    }

    /// What of it is on the machine: cgroups, mounts, directories.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                left.push(format!("container {name}"));
            }
        }
        crate::leaks::cgroups(&self.name, &mut left);
        crate::leaks::mounts(self.home.path(), &mut left);
        left
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let names = std::fs::read_dir(self.root()).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        for id in names.filter(|name| !name.starts_with('.')) {
            self.run(&["delete", "--force", &id]);
        }
        let deadline = Instant::now() + patience(20);
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            left = self.left();
        }
        if left.is_empty() {
            return;
        }
        if std::thread::panicking() {
            eprintln!("and of the runtime there is still:\n{}", left.join("\n"));
        } else {
            panic!("of the runtime there is still:\n{}", left.join("\n"));
        }
    }
}

/// The directories of the cgroup of this name below the root of each hierarchy that has it.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places = mounts.lines().filter(|mount| mount.contains(" - cgroup"));
    let paths = places.filter_map(|mount| Some(Path::new(mount.split(' ').nth(4)?).join(name)));
    paths.filter(|path| path.is_dir()).collect()
}
