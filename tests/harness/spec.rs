//! What the tests of the OCI runtime specification share: containers made for one question, and the features of the
//! machine that some clauses need.
//!
//! `tests/spec/*.toml` lists the clauses and which test shows each; the test program `oci_spec_registry` holds both
//! together.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use crate::instance::bin_dir;
use crate::invocation::{Invocation, Output};
use crate::oci::{Bundle, Runtime, program};

/// A name, and whether it is there.
pub type Feature = (&'static str, fn() -> bool);

/// What some clauses need of the machine or of the runtime.
pub const FEATURES: &[Feature] = &[
    ("cgroup v2", || cgroup_v2().is_some()),
    ("cgroup v1", || Path::new("/sys/fs/cgroup/memory/tasks").exists()),
    ("resctrl", resctrl),
    ("AppArmor", || read("/sys/module/apparmor/parameters/enabled").starts_with('Y')),
    ("SELinux", || Path::new("/sys/fs/selinux/enforce").exists()),
    ("NUMA", || Path::new("/proc/self/numa_maps").exists()),
    ("time namespaces", || Path::new("/proc/self/ns/time").exists()),
    ("id-mapped mounts", || kernel() >= (5, 12)),
    ("veth devices", veth_devices),
    ("CAP_SYS_RESOURCE", || capable(24)),
    ("CAP_SYS_NICE", || capable(23)),
    ("huge page groups", || group_has("hugetlb")),
    ("RDMA groups", || group_has("rdma")),
    ("specification 1.1", || knows((1, 1))),
    ("specification 1.2", || knows((1, 2))),
    ("specification 1.3", || knows((1, 3))),
];

/// Whether all these [`FEATURES`] are there; says which is not. A test that needs them ends where it is false.
///
/// What begins with "specification" is asked of the runtime that is tested: an older one than ours is for testing the
/// tests.
#[track_caller]
pub fn can(features: &[&str]) -> bool {
    features.iter().all(|feature| {
        let has = has(feature);
        if !has {
            skip(whose(feature), feature);
        }
        has
    })
}

/// Says what a test ends for: that this machine, or whoever, lacks something. The line is also added to the file that
/// `DHOW_TEST_SKIPS` names, for runners that hide what a passing test says.
pub fn skip(who: &str, what: &str) {
    let here = std::thread::current();
    let line = format!("skip: {}: {who} lacks {what}\n", here.name().unwrap_or("a test"));
    print!("{line}");
    if let Some(path) = std::env::var_os("DHOW_TEST_SKIPS") {
        use std::io::Write as _;
        let list = std::fs::OpenOptions::new().append(true).create(true).open(path);
        list.and_then(|mut list| list.write_all(line.as_bytes())).expect("the list of skips can be written");
    }
}

/// Whether one of the [`FEATURES`] is there.
#[track_caller]
pub fn has(feature: &str) -> bool {
    let known = FEATURES.iter().find(|(name, _)| *name == feature);
    let (_, there) = known.unwrap_or_else(|| panic!("{feature} is no feature"));
    there()
}

/// Of whom a feature is asked.
pub fn whose(feature: &str) -> &'static str {
    if feature.starts_with("specification") { "the runtime" } else { "this machine" }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The directory of the hierarchy of cgroup v2 where it is the only one.
pub fn cgroup_v2() -> Option<&'static Path> {
    let root = Path::new("/sys/fs/cgroup");
    root.join("cgroup.controllers").exists().then_some(root)
}

fn resctrl() -> bool {
    read("/proc/self/mountinfo").lines().any(|line| line.contains(" - resctrl "))
}

fn group_has(controller: &str) -> bool {
    let enabled = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some(controller) && words.last() == Some("1")
    };
    read("/proc/cgroups").lines().any(enabled)
        && (cgroup_v2().is_some() || Path::new("/sys/fs/cgroup").join(controller).exists())
}

/// The kernel's version.
pub fn kernel() -> (u32, u32) {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map(|number| number.trim().parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn capable(number: u32) -> bool {
    let status = read("/proc/self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0");
    u64::from_str_radix(effective.trim(), 16).unwrap_or(0) >> number & 1 == 1
}

fn veth_devices() -> bool {
    let made = Invocation::new("unshare")
        .args(&["--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"]);
    made.output().code == 0
}

/// What the runtime says of itself.
pub fn features() -> &'static Value {
    static FEATURES: OnceLock<Value> = OnceLock::new();
    FEATURES.get_or_init(|| {
        let text = Invocation::new(program()).arg("features").ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    })
}

fn knows(wanted: (u32, u32)) -> bool {
    let version = features()["ociVersionMax"].as_str().unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

impl Bundle {
    /// With the tests' own program in its root file system, as `/bin/probe`.
    #[must_use]
    pub fn with_probe(self) -> Self {
        let probe = std::fs::read(bin_dir().join("probe")).expect("the probe is built");
        self.file("/bin/probe", probe)
    }

    /// One that runs a script.
    pub fn script(script: &str) -> Self {
        Self::running(&["sh", "-c", script])
    }

    /// The path to it, as an argument.
    pub fn argument(&self) -> &str {
        self.path().to_str().expect("paths of tests are text")
    }
}

impl Runtime {
    /// Runs a bundle to its end.
    #[track_caller]
    pub fn run_to_end(&self, bundle: &Bundle) -> Output {
        self.run(&["run", "--bundle", bundle.argument(), &self.id("box")])
    }

    /// Runs a bundle to its end, which must be a success; returns what it said.
    #[track_caller]
    pub fn said_by(&self, bundle: &Bundle) -> String {
        self.command(&["run", "--bundle", bundle.argument(), &self.id("box")]).ok()
    }

    /// No container comes of this bundle: an error, and nothing that would stay. Returns what was said.
    #[track_caller]
    pub fn refuses(&self, bundle: &Bundle, why: &str) -> String {
        let id = self.id("refused");
        let output = self.with_files(&["create", "--bundle", bundle.argument(), &id]);
        assert_ne!(output.code, 0, "{why}: it was created");
        assert_ne!(self.run(&["state", &id]).code, 0, "{why}: there is a container");
        assert_eq!(self.left(), Vec::<String>::new(), "{why}: something stays");
        output.stderr
    }

    /// The command of this bundle never runs: `create` or `start` is an error.
    #[track_caller]
    pub fn never_runs(&self, bundle: &Bundle, why: &str) -> String {
        let id = self.id("refused");
        let mut output = self.with_files(&["create", "--bundle", bundle.argument(), &id]);
        if output.code == 0 {
            output = self.run(&["start", &id]);
            assert_ne!(output.code, 0, "{why}: it was started");
            self.run(&["delete", "--force", &id]);
        }
        assert_eq!(self.said(), "", "{why}: the command ran");
        output.stderr
    }
}

/// Runs a script in a container of its own; returns what it said.
#[track_caller]
pub fn inside(script: &str, edit: impl FnOnce(&mut Value)) -> String {
    let runtime = Runtime::new();
    runtime.said_by(&Bundle::script(script).with_probe().edit(edit))
}

/// Makes a container of a bundle that nothing comes of ([`Runtime::refuses`]).
#[track_caller]
pub fn refused(why: &str, edit: impl FnOnce(&mut Value)) -> String {
    let runtime = Runtime::new();
    runtime.refuses(&Bundle::script("echo it ran").with_probe().edit(edit), why)
}

/// Makes a container whose command never runs ([`Runtime::never_runs`]).
#[track_caller]
pub fn never_runs(why: &str, edit: impl FnOnce(&mut Value)) -> String {
    let runtime = Runtime::new();
    runtime.never_runs(&Bundle::script("echo it ran").with_probe().edit(edit), why)
}

/// Adds to an array of the configuration, which may not be there yet.
#[track_caller]
pub fn push(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is there"));
    match &mut parent[name] {
        Value::Array(array) => array.push(value),
        other => *other = Value::Array(vec![value]),
    }
}

/// Removes what is of a kind from the namespaces.
pub fn without_namespace(spec: &mut Value, kind: &str) {
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != kind);
    }
}
