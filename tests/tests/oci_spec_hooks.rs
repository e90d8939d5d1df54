//! config.md, "POSIX-platform Hooks", and the hooks' steps of runtime.md, "Lifecycle".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use harness::oci::{Bundle, Runtime};
use harness::spec::can;
use serde_json::{Value, json};

const CREATING: [&str; 3] = ["prestart", "createRuntime", "createContainer"];
const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A bundle whose hooks write down what they see: a line each in `log`, the state that they read beside it.
struct Story {
    runtime: Runtime,
    bundle: Bundle,
    id: String,
}

impl Story {
    /// With a hook for each of these stages.
    fn new(stages: &[&str], command: &str) -> Self {
        let runtime = Runtime::new();
        // seen from both namespaces by the same path
        let log = runtime.scratch().join("story");
        std::fs::create_dir(&log).unwrap();
        let bundle = Bundle::script(command).file("/marker", "of the container").edit(|spec| {
            spec["mounts"].as_array_mut().unwrap().push(json!({
                "destination": log, "source": log, "options": ["bind", "rw"],
            }));
        });
        let id = runtime.id("box");
        let story = Self { runtime, bundle, id };
        stages.iter().fold(story, |story, stage| story.with(stage, stage, "true"))
    }

    fn directory(&self) -> PathBuf {
        self.runtime.scratch().join("story")
    }

    /// With a further hook, which writes down `name` and then runs a script.
    fn with(mut self, stage: &str, name: &str, script: &str) -> Self {
        let log = self.directory();
        let log = log.display();
        let script = format!(
            "cat > {log}/{name}.state; echo {name} >> {log}/log; \
             for kind in mnt net uts ipc; do readlink /proc/self/ns/$kind; done > {log}/{name}.namespaces; {script}"
        );
        self.bundle = self.bundle.edit(|spec| {
            if spec["hooks"].is_null() {
                spec["hooks"] = json!({});
            }
            let hook =
                json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]});
            harness::spec::push(spec, &format!("/hooks/{stage}"), hook);
        });
        self
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn written(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory().join(name)).unwrap_or_default()
    }

    fn create(&self) {
        self.runtime.create(&self.bundle, &self.id);
    }

    /// `create`, whatever comes of it.
    fn try_create(&self) -> i32 {
        self.runtime.with_files(&["create", "--bundle", self.bundle.argument(), &self.id]).code
    }

    fn run(&self, operation: &str) {
        self.runtime.ok(&[operation, &self.id]);
    }

    fn end(&self) {
        self.runtime.run(&["kill", &self.id, "KILL"]);
        self.runtime.await_status(&self.id, "stopped");
        self.run("delete");
    }

    /// The state that a hook has read.
    fn state(&self, name: &str) -> Value {
        serde_json::from_str(&self.written(&format!("{name}.state"))).unwrap()
    }

    /// Whether a hook ran in the container's namespaces.
    fn was_inside(&self, name: &str) -> bool {
        let of = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let ours: Vec<String> =
            ["mnt", "net", "uts", "ipc"].iter().map(|kind| of(kind).display().to_string()).collect();
        let seen = self.written(&format!("{name}.namespaces"));
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen.len(), 4, "{name}: {seen:?}");
        let inside: Vec<bool> = ours.iter().zip(&seen).map(|(ours, seen)| ours != seen).collect();
        assert!(inside.iter().all(|one| *one == inside[0]), "{name} is neither here nor there: {seen:?}");
        inside[0]
    }
}

// Each stage's section: when it is called. "Summary": the order of the stages. "Lifecycle" 3, 4, 5, 7, 9, 13.
#[test]
fn each_stage_has_its_time() {
    let story = Story::new(&STAGES, "echo command >> $0; sleep 1000");
    let log = story.directory().join("log");
    let story = Story {
        bundle: story.bundle.edit(|spec| {
            let script = "echo command >> \"$0\"; sleep 1000";
            spec["process"]["args"] = json!(["sh", "-c", script, log]);
        }),
        ..story
    };
    if !can(&["specification 1.3"]) {
        // the reference runs poststart as part of create
        return;
    }
    story.create();
    assert_eq!(story.log(), CREATING, "create");
    story.run("start");
    // poststart comes when the command is executed: its first words may come later
    harness::eventually("the command", || (story.log().len() == 6).then_some(()));
    let log = story.log();
    assert_eq!(log[3], "startContainer", "start, before the command");
    assert!(
        log[4..].contains(&"command".to_owned()) && log[4..].contains(&"poststart".to_owned()),
        "{log:?}"
    );
    assert!(!story.written("poststart.state").is_empty(), "before start returns");
    story.end();
    assert_eq!(story.log().last().unwrap(), "poststop", "before delete returns");
}

// "Poststart": it is called after the command is executed, and before `start` returns.
#[test]
fn poststart_sees_the_command_and_start_waits_for_it() {
    if !can(&["specification 1.3"]) {
        return;
    }
    let story = Story::new(&[], "exec sleep 1000");
    let seen = story.directory().join("seen");
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' {0}/poststart.state | tail -1); \
         tr '\\0' ' ' < /proc/$pid/cmdline > {1}; sleep 0.3; echo done >> {1}",
        story.directory().display(),
        seen.display()
    );
    let story = story.with("poststart", "poststart", &script);
    story.create();
    story.run("start");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.starts_with("sh -c exec sleep 1000") || seen.starts_with("sleep 1000"), "{seen}");
    assert!(seen.ends_with("done\n"), "start returned before: {seen}");
}

// Each stage's section: the namespaces that its hooks run in, and that its path is found in.
#[test]
fn each_stage_runs_in_its_namespaces() {
    let story = Story::new(&STAGES, "sleep 1000");
    story.create();
    story.run("start");
    story.end();
    for stage in STAGES {
        let container = ["createContainer", "startContainer"].contains(&stage);
        assert_eq!(story.was_inside(stage), container, "{stage}");
    }
}

// "CreateContainer", "StartContainer" and the rest: whose file system the path is found in.
#[test]
fn a_path_is_found_where_the_specification_says() {
    let story = Story::new(&[], "sleep 1000");
    let ours = story.directory().join("ours");
    harness::oci::write_executable(&ours, b"#!/bin/sh\necho ours >> \"$1\"\n");
    let host = story.directory().join("host-only");
    std::fs::create_dir(&host).unwrap();
    let only_here = story.runtime.scratch().join("only-here");
    harness::oci::write_executable(&only_here, b"#!/bin/sh\necho \"$2\" >> \"$1\"\n");
    let log = story.directory().join("log");
    let hook = |path: &Path, stage: &str| json!({"path": path, "args": ["hook", log, stage]});
    let bundle = story.bundle.file("/only/inside", "#!/bin/sh\necho \"$2\" >> \"$1\"\n").edit(|spec| {
        for stage in STAGES {
            let path = if stage == "startContainer" { Path::new("/only/inside") } else { &only_here };
            spec["hooks"][stage] = json!([hook(path, stage)]);
        }
    });
    let story = Story { bundle, ..story };
    story.create();
    story.run("start");
    story.end();
    let mut log = story.log();
    log.sort_unstable();
    let mut all = STAGES;
    all.sort_unstable();
    assert_eq!(log, all);
    // and not in the other one
    for stage in STAGES {
        let wrong = if stage == "startContainer" { &*only_here } else { Path::new("/only/inside") };
        let story = Story::new(&[], "sleep 1000");
        let bundle = story.bundle.file("/only/inside", "#!/bin/sh\ntrue\n").edit(|spec| {
            spec["hooks"][stage] = json!([{"path": wrong}]);
        });
        let story = Story { bundle, ..story };
        let failed = story.try_create() != 0 || story.runtime.run(&["start", &story.id]).code != 0;
        // one of poststop is only warned of; the reference's start does not notice one of startContainer
        let unseen = stage == "poststop" || (stage == "startContainer" && !can(&["specification 1.3"]));
        assert!(failed || unseen, "{stage}");
    }
}

// "Prestart", "CreateRuntime", "CreateContainer": the environment is there, the root not changed yet.
#[test]
fn hooks_of_create_see_the_environment_before_the_root_is_changed() {
    let story = Story::new(&[], "sleep 1000");
    let (log, root) = (story.directory(), story.bundle.rootfs());
    let (log, root) = (log.display().to_string(), root.display().to_string());
    let outside = |name: &str| {
        format!(
            "pid=$(tr -d ' \\n\\t' < {log}/{name}.state | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
             {{ readlink /proc/$pid/ns/net; readlink /proc/$pid/ns/mnt; ls /proc/$pid/root/marker; }} > {log}/{name}.seen 2>&1; true"
        )
    };
    let inside = format!(
        "{{ ls /marker; ls {root}/marker; grep -c ' {root}/proc ' /proc/self/mountinfo; }} > {log}/inside.seen 2>&1; true"
    );
    let story = story
        .with("prestart", "prestart", &outside("prestart"))
        .with("createRuntime", "createRuntime", &outside("createRuntime"))
        .with("createContainer", "createContainer", &inside);
    story.create();
    let ours = ["net", "mnt"].map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
    for name in ["prestart", "createRuntime"] {
        let seen = story.written(&format!("{name}.seen"));
        let lines: Vec<&str> = seen.lines().collect();
        for (line, ours) in lines.iter().zip(&ours) {
            assert!(line.contains(":[") && Path::new(line) != ours, "{name}: {seen}");
        }
        assert!(lines[2].contains("No such file"), "{name}, the root is the host's: {seen}");
    }
    let seen = story.written("inside.seen");
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].contains("No such file"), "the root is the host's: {seen}");
    assert_eq!(lines[1..], [&*format!("{root}/marker"), "1"], "what is to be mounted is: {seen}");
}

// "Hooks": in the listed order, stage after stage.
#[test]
fn hooks_are_called_in_the_listed_order() {
    let mut story = Story::new(&[], "sleep 1000");
    let mut all = Vec::new();
    for stage in STAGES {
        for number in 1..=3 {
            let name = format!("{stage}{number}");
            story = story.with(stage, &name, "true");
            all.push(name);
        }
    }
    story.create();
    assert_eq!(story.log()[..9], all[..9]);
    story.run("start");
    story.end();
    let of = |stage: &str| {
        let log = story.log();
        log.into_iter().filter(|name| name.starts_with(stage)).collect::<Vec<_>>()
    };
    for stage in STAGES {
        assert_eq!(of(stage), [1, 2, 3].map(|number| format!("{stage}{number}")), "{stage}");
    }
}

// "Hooks": each reads the container's state from its standard input.
#[test]
fn hooks_read_the_state() {
    let story = Story::new(&STAGES, "sleep 1000");
    let bundle = story.bundle.edit(|spec| spec["annotations"] = json!({"org.example": "told"}));
    let story = Story { bundle, ..story };
    story.create();
    let pid = story.runtime.pid(&story.id);
    story.run("start");
    story.end();
    for stage in STAGES {
        let state = story.state(stage);
        assert_eq!(state["id"], json!(story.id), "{stage}");
        assert_eq!(state["bundle"], json!(story.bundle.path()), "{stage}");
        assert_eq!(state["annotations"]["org.example"], "told", "{stage}");
        assert!(state["ociVersion"].is_string(), "{stage}");
        let status = state["status"].as_str().unwrap();
        let expected: &[&str] = match stage {
            "poststop" => &["stopped"],
            "startContainer" => &["created"],
            // the reference says so before the command is executed
            "poststart" => &["running", "created"],
            _ => &["creating", "created"],
        };
        assert!(expected.contains(&status), "{stage}: {state}");
        if ["prestart", "createRuntime", "poststart"].contains(&stage) {
            assert_eq!(state["pid"], json!(pid), "{stage}");
        }
    }
    if can(&["specification 1.3"]) {
        for stage in ["createContainer", "startContainer"] {
            assert_eq!(story.state(stage)["pid"], 1, "{stage}: as the container sees it");
        }
    }
}

// "Lifecycle" 3, 4, 5: a hook of `create` that fails is an error, and nothing stays but what poststop is told.
#[test]
fn a_hook_of_create_that_fails_undoes_the_container() {
    for stage in CREATING {
        let story = Story::new(&[], "sleep 1000")
            .with(stage, "failing", "exit 3")
            .with(stage, "after", "true")
            .with("poststop", "poststop", "true");
        assert_ne!(story.try_create(), 0, "{stage}");
        assert_ne!(story.runtime.run(&["state", &story.id]).code, 0, "{stage}");
        assert_eq!(story.runtime.left(), Vec::<String>::new(), "{stage}");
        assert_eq!(story.log().first().unwrap(), "failing");
        assert!(!story.log().contains(&"after".to_owned()), "{stage}: {:?}", story.log());
        if can(&["specification 1.3"]) {
            assert_eq!(story.log(), ["failing", "poststop"], "{stage}");
        }
    }
}

// "Lifecycle" 7: a startContainer hook that fails is an error; the command never runs, the container is undone.
#[test]
fn a_hook_of_start_that_fails_undoes_the_container() {
    if !can(&["specification 1.3"]) {
        // the reference only stops it, and start succeeds
        return;
    }
    let story =
        Story::new(&["poststop"], "echo it ran; sleep 1000").with("startContainer", "failing", "exit 3");
    story.create();
    assert_ne!(story.runtime.run(&["start", &story.id]).code, 0);
    assert_eq!(story.runtime.said(), "", "the command ran");
    assert_ne!(story.runtime.run(&["state", &story.id]).code, 0);
    assert_eq!(story.runtime.left(), Vec::<String>::new());
    assert_eq!(story.log(), ["failing", "poststop"]);
}

// "Lifecycle" 9: a poststart hook that fails is an error; the container is stopped and undone.
#[test]
fn a_poststart_hook_that_fails_undoes_the_container() {
    if !can(&["specification 1.3"]) {
        return;
    }
    let story = Story::new(&["poststop"], "sleep 1000").with("poststart", "failing", "exit 3");
    story.create();
    let pid = story.runtime.pid(&story.id);
    assert_ne!(story.runtime.run(&["start", &story.id]).code, 0);
    assert_ne!(story.runtime.run(&["state", &story.id]).code, 0);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "it still runs: {stat}");
    assert_eq!(story.runtime.left(), Vec::<String>::new());
    assert_eq!(story.log(), ["failing", "poststop"]);
}

// "Lifecycle" 13: a poststop hook that fails is warned of, and the others run all the same.
#[test]
fn a_poststop_hook_that_fails_is_a_warning() {
    let story =
        Story::new(&[], "sleep 1000").with("poststop", "failing", "exit 3").with("poststop", "after", "true");
    story.create();
    story.run("start");
    story.runtime.ok(&["kill", &story.id, "KILL"]);
    story.runtime.await_status(&story.id, "stopped");
    let deleted = story.runtime.run(&["delete", &story.id]);
    assert_eq!(deleted.code, 0, "{deleted:#?}");
    assert!(deleted.stderr.to_lowercase().contains("hook"), "it is said: {deleted:#?}");
    if can(&["specification 1.3"]) {
        assert_eq!(story.log(), ["failing", "after"]);
    }
}

// "Hooks": a path is absolute; a timeout is more than nothing, and kept.
#[test]
fn a_hook_that_is_not_valid_is_an_error() {
    if !can(&["specification 1.3"]) {
        // the reference finds out only when it runs them
        return;
    }
    for stage in STAGES {
        harness::spec::refused(&format!("{stage}: a relative path"), |spec| {
            spec["hooks"][stage] = json!([{"path": "bin/true"}]);
        });
        for timeout in [0, -1] {
            harness::spec::refused(&format!("{stage}: timeout {timeout}"), |spec| {
                spec["hooks"][stage] = json!([{"path": "/bin/true", "timeout": timeout}]);
            });
        }
    }
}

// "Hooks", `timeout`: a hook that takes longer is aborted, and has failed.
#[test]
fn a_hook_that_takes_too_long_has_failed() {
    let begun = std::time::Instant::now();
    harness::spec::refused("it takes too long", |spec| {
        spec["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]);
    });
    assert!(begun.elapsed() < harness::patience(30));
}
