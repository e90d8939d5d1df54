//! Attacks: mount points on a volume that another container changes while we mount (CVE-2021-30465, CVE-2024-45310).
//!
//! The racer is a container that swaps a directory and a symlink in the shared volume without end. The symlink leads out of
//! any root, to a place where the runtime would find all that it looks for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use harness::attack::{Outside, armed, mount};
use harness::oci::{Bundle, Runtime};
use harness::{Process, eventually, soak};
use serde_json::json;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// A volume with a directory `a` and a symlink `b`, and a container that swaps them for as long as this lives.
struct Race {
    volume: PathBuf,
    _bundle: Bundle,
    _racer: Process,
}

impl Race {
    fn begin(runtime: &Runtime, target: &Path) -> Self {
        let volume = runtime.scratch().join("volume");
        std::fs::create_dir_all(volume.join("a/shm")).unwrap();
        std::fs::create_dir_all(volume.join("a/deep/er")).unwrap();
        std::fs::write(volume.join("a/null"), "").unwrap();
        symlink(target, volume.join("b")).unwrap();
        let bundle = armed(Bundle::running(&["probe", "swap", "/vol/a", "/vol/b"]), PROBE);
        bundle.change(|spec| mount(spec, "/vol", "bind", volume.to_str().unwrap(), &["rbind", "rw"]));
        let racer = runtime.spawn(&["run", "--bundle", bundle.text(), &runtime.id("racer")]);
        racer.expect("up");
        let race = Self { volume, _bundle: bundle, _racer: racer };
        race.assert_running();
        race
    }

    /// Both are seen at that name, again and again.
    fn assert_running(&self) {
        let mut seen = BTreeSet::new();
        eventually("the race to be on", || {
            seen.extend((0..1000).map(|_| self.volume.join("a").is_symlink()));
            (seen.len() == 2).then_some(())
        });
    }
}

/// Where the symlink leads on the host: by an absolute path, and by one that climbs.
fn ways_out(outside: &Outside) -> [PathBuf; 2] {
    let climbing = Path::new(&"../".repeat(30)).join(outside.path().strip_prefix("/").unwrap());
    [outside.path().to_owned(), climbing]
}

#[test]
fn mounts_on_a_volume_that_is_changed_stay_inside() {
    let runtime = Runtime::new();
    let outside = Outside::new(runtime.scratch());
    let target = outside.path().to_owned();
    let race = Race::begin(&runtime, &target);
    let volume = race.volume.to_str().unwrap();
    let source = runtime.scratch().join("source");
    std::fs::create_dir(&source).unwrap();
    let source = source.to_str().unwrap();
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        mount(spec, "/vol", "bind", volume, &["rbind", "rw"]);
        // Onto the swapped name, below it, and where something has to be made first.
        mount(spec, "/vol/a", "bind", source, &["bind"]);
        mount(spec, "/vol/b/shm", "tmpfs", "tmpfs", &["nosuid"]);
        mount(spec, "/vol/b/made/by/us", "tmpfs", "tmpfs", &["nosuid"]);
        mount(spec, "/vol/b/file", "bind", "/etc/hostname", &["bind"]);
        mount(spec, "/vol/b/deep/er/file", "bind", "/etc/hostname", &["bind"]);
        let device = json!({"path": "/vol/b/null2", "type": "c", "major": 1, "minor": 3, "uid": 5, "gid": 5});
        spec["linux"]["devices"] = json!([device]);
        for (list, path) in [("maskedPaths", "/vol/b/null"), ("readonlyPaths", "/vol/b/deep")] {
            spec["linux"][list].as_array_mut().unwrap().push(json!(path));
        }
    });
    let mut ended = BTreeSet::new();
    for _ in 0..soak(200, 5000) {
        let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
        ended.insert(output.code);
        outside.assert_untouched("a race");
    }
    race.assert_running();
    assert!(ended.contains(&0), "none of them ever started: {ended:?}");
}

/// The same where the working directory has to be made.
#[test]
fn a_working_directory_is_made_inside() {
    for way in 0..2 {
        let runtime = Runtime::new();
        let outside = Outside::new(runtime.scratch());
        let race = Race::begin(&runtime, &ways_out(&outside)[way]);
        let bundle = Bundle::running(&["ls", "passwd"]).edit(|spec| {
            spec["process"]["cwd"] = json!("/vol/a/made/here");
            mount(spec, "/vol", "bind", race.volume.to_str().unwrap(), &["rbind", "rw"]);
        });
        for _ in 0..soak(60, 2000) {
            runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
            outside.assert_untouched("a race for the working directory");
        }
        race.assert_running();
        // And further commands, which enter it.
        bundle.change(|spec| {
            spec["process"]["cwd"] = json!("/");
            spec["process"]["args"] = json!(["sleep", "1000"]);
        });
        let id = runtime.id("box");
        runtime.start_detached(&bundle, &id);
        for _ in 0..soak(40, 2000) {
            let output = runtime.run(&["exec", "--cwd", "/vol/a", &id, "cat", "passwd"]);
            assert!(!output.stdout.contains("the host's"), "{output:#?}");
        }
    }
}

/// A source that is swapped for a symlink is the caller's to guard: it names the host's paths. But what has been looked at
/// is what is mounted: never a directory as a file, nor half of one and half of the other.
#[test]
fn a_source_is_looked_up_once() {
    let runtime = Runtime::new();
    let outside = Outside::new(runtime.scratch());
    let race = Race::begin(&runtime, outside.path());
    let source = race.volume.join("a");
    let bundle = Bundle::running(&["ls", "/data"]).edit(|spec| {
        mount(spec, "/data", "bind", source.to_str().unwrap(), &["bind", "ro"]);
    });
    let mut seen = BTreeSet::new();
    for _ in 0..soak(60, 2000) {
        let output = runtime.run(&["run", "--bundle", bundle.text(), &runtime.id("box")]);
        assert_eq!(output.code, 0, "{output:#?}");
        seen.insert(output.stdout);
        outside.assert_untouched("a race for the source");
    }
    assert!(seen.len() <= 2, "one or the other: {seen:?}");
}
