//! An instance of Dhow for one test.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::image::Image;
use crate::invocation::{Invocation, Output, Process};
use crate::leaks;

/// An instance: `root` and `run` in a directory of its own, a configuration of its own, no image but what it is
/// given. Dropping it removes its containers and fails the test if anything of it stays.
#[derive(Debug)]
pub struct Dhow {
    home: Option<TempDir>,
    path: PathBuf,
    global_name: String,
    namespace: Option<String>,
}

/// Where the programs are.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("DHOW_BIN_DIR") {
        return PathBuf::from(dir);
    }
    let me = std::env::current_exe().expect("the test program knows where it is");
    // target/<triple>/debug/deps/run-0123456789abcdef
    me.parent().and_then(Path::parent).expect("test programs lie in deps").to_owned()
}

/// A new directory on a file system that an overlay can stand on: not another overlay, not memory.
pub fn real_directory(name: &str) -> TempDir {
    const OVERLAY: u64 = 0x794c_7630;
    const TMPFS: u64 = 0x0102_1994;
    let candidates = [std::env::temp_dir(), "/var/tmp".into(), bin_dir()];
    let good = candidates.into_iter().find(|dir| {
        rustix::fs::statfs(dir).is_ok_and(|fs| ![OVERLAY, TMPFS].contains(&fs.f_type.cast_unsigned()))
    });
    let place = good.expect("no directory on a real file system: set TMPDIR");
    tempfile::Builder::new().prefix(&format!("dhow-e2e-{name}-")).tempdir_in(place).unwrap()
}

impl Dhow {
    /// An instance with the image `busybox`.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let dhow = Self::empty(name);
        dhow.load(&Image::busybox("busybox:latest"));
        dhow
    }

    /// An instance without images.
    #[track_caller]
    pub fn empty(name: &str) -> Self {
        Self::make(name, None)
    }

    /// An instance without images whose host is a network namespace (of `ip netns`).
    #[track_caller]
    pub fn empty_in_namespace(name: &str, namespace: &str) -> Self {
        Self::make(name, Some(namespace.to_owned()))
    }

    /// An instance with the image `busybox` whose host is a network namespace (of `ip netns`).
    #[track_caller]
    pub fn in_namespace(name: &str, namespace: &str) -> Self {
        let dhow = Self::make(name, Some(namespace.to_owned()));
        dhow.load(&Image::busybox("busybox:latest"));
        dhow
    }

    #[track_caller]
    fn make(name: &str, namespace: Option<String>) -> Self {
        let home = real_directory(name);
        let path = home.path().to_owned();
        std::fs::write(path.join("config.toml"), "").unwrap();
        let mut dhow = Self { home: Some(home), path, global_name: String::new(), namespace };
        let info = dhow.json(&["info", "--format", "json"]);
        info["CgroupParent"].as_str().expect("info names the cgroup").clone_into(&mut dhow.global_name);
        assert!(dhow.global_name.len() > "dhow-".len(), "an instance for tests has a name of its own");
        dhow
    }

    /// `dhow` with these arguments.
    pub fn command(&self, args: &[&str]) -> Invocation {
        let program = bin_dir().join("dhow");
        let invocation = match &self.namespace {
            // not `ip netns exec`, which hides the cgroups behind a /sys of its own
            Some(name) => Invocation::new("nsenter").arg(format!("--net=/run/netns/{name}")).arg(program),
            None => Invocation::new(program),
        };
        self.equip(invocation).args(args)
    }

    /// The same behind another program that executes its arguments.
    pub fn on(&self, invocation: Invocation, args: &[&str]) -> Invocation {
        self.equip(invocation.arg(bin_dir().join("dhow"))).args(args)
    }

    /// Any command line, with the instance in its environment.
    pub fn wrap(&self, invocation: Invocation) -> Invocation {
        self.equip(invocation)
    }

    fn equip(&self, invocation: Invocation) -> Invocation {
        invocation
            .env("DHOW_ROOT", self.root())
            .env("DHOW_RUN_ROOT", self.run_root())
            .env("DHOW_CONFIG", self.config())
            .env("HOME", &self.path)
            .env("TMPDIR", &self.path)
    }

    /// Runs `dhow` with these arguments to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output()
    }

    /// Starts `dhow` with these arguments.
    pub fn spawn(&self, args: &[&str]) -> Process {
        self.command(args).spawn()
    }

    /// Runs it; it must succeed. Returns standard output without its last line break.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }

    /// Runs it; it must print JSON. Of an array of one, the one.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(args);
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?} prints {text:?}: {e}"));
        match value {
            Value::Array(mut items) if items.len() == 1 => items.remove(0),
            other => other,
        }
    }

    /// Runs it; it must fail with this code, and say why in one line (and hints). Returns that line.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        one_clear_line(&self.run(args), code, args)
    }

    /// A container's `inspect`.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        self.json(&["inspect", name])
    }

    /// The process id, on the host, of a container's init.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        self.inspect(name)["State"]["Pid"].as_u64().expect("a pid is a number") as u32
    }

    /// The process id of a container's monitor.
    #[track_caller]
    pub fn monitor_pid(&self, name: &str) -> u32 {
        let id = self.inspect(name)["Id"].as_str().unwrap().to_owned();
        let live = std::fs::read(self.run_root().join("containers").join(id).join("live.json")).unwrap();
        let live: Value = serde_json::from_slice(&live).unwrap();
        live["monitor_pid"].as_u64().unwrap() as u32
    }

    /// Loads an image.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        self.command(&["load", "--quiet"]).input(image.docker_archive()).ok();
    }

    /// Its root.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Its run root.
    pub fn run_root(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Its configuration file, empty at first.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// A directory for the test's own files. It goes with the instance.
    pub fn scratch(&self) -> &Path {
        &self.path
    }

    /// The name that everything global of it carries.
    pub fn global_name(&self) -> &str {
        &self.global_name
    }

    /// All files below both roots, with their sizes: what "changes nothing" is about.
    pub fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        for root in [self.root(), self.run_root()] {
            list(&root, &mut found);
        }
        // The journal of events is there to grow, whatever else comes and goes.
        found.retain(|line| !line.contains("/root/events/"));
        found.sort();
        found
    }

    fn clean_up(&self) -> Result<(), String> {
        if !self.root().exists() {
            return Ok(());
        }
        let all = self.run(&["ps", "--all", "--quiet", "--no-trunc"]).stdout;
        let names: Vec<&str> = all.lines().collect();
        if !names.is_empty() {
            let removed = self.run(&[&["rm", "--force"], &names[..]].concat());
            if removed.code != 0 {
                return Err(format!("rm --force: {}", removed.stderr));
            }
        }
        self.nothing_runs()
    }

    /// Whether nothing is left of containers: no mount, no group, no process, no file. Waits for a while; else says what there is.
    pub fn nothing_runs(&self) -> Result<(), String> {
        leaks::none(&self.path, &self.global_name, self.namespace.as_deref())
    }
}

impl Drop for Dhow {
    fn drop(&mut self) {
        let cleaned = self.clean_up();
        if let Some(home) = self.home.take() {
            home.close().ok();
        }
        if let Err(left) = cleaned {
            if std::thread::panicking() {
                eprintln!("and of the instance there is still:\n{left}");
            } else {
                panic!("of the instance {} there is still:\n{left}", self.global_name);
            }
        }
    }
}

/// Checks that a failure has this code and says why in one line, but for hints. Returns that line.
#[track_caller]
pub(crate) fn one_clear_line(output: &Output, code: i32, args: &[&str]) -> String {
    assert_eq!(output.code, code, "{args:?}: {output:#?}");
    let lines: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("  hint: ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("dhow: "), "{args:?}: {output:#?}");
    assert_eq!(output.stdout, "", "{args:?}");
    lines[0].to_owned()
}

fn list(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            found.push(format!("{}/", path.display()));
            list(&path, found);
        } else {
            found.push(format!("{} {}", path.display(), metadata.len()));
        }
    }
}
