//! Attacks: descriptors of the host that leak into a container (CVE-2024-21626, CVE-2016-9962).
//!
//! The caller of the runtime has directories of the host open, without close-on-exec, under every small number: what a
//! careless caller leaks is as good to an attacker as what the runtime leaks itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::symlink;

use harness::Invocation;
use harness::attack::armed;
use harness::oci::{Bundle, Runtime, write_executable};
use serde_json::json;

const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// Runs its arguments with the host's root open as every descriptor from 3 to 40.
const LEAKING: &str = "for n in $(seq 3 40); do eval \"exec $n</\"; done; exec \"$@\"";

fn leaking(runtime: &Runtime, args: &[&str]) -> Invocation {
    runtime.on(Invocation::new("bash").args(&["-c", LEAKING, "leaking"]), args)
}

/// The caller really has them open, and a program that does not take care inherits them.
#[test]
fn there_is_something_to_leak() {
    let listing = Invocation::new("bash").args(&["-c", LEAKING, "leaking", PROBE, "descriptors"]).ok();
    assert!(listing.contains(" 17 "), "{listing}");
    let script = "cd /proc/self/fd/17/etc && ls debian_version";
    let found = Invocation::new("bash").args(&["-c", LEAKING, "leaking", "sh", "-c", script]).ok();
    assert_eq!(found, "debian_version");
}

#[test]
fn no_descriptor_of_the_caller_or_of_ours_comes_along() {
    let runtime = Runtime::new();
    let bundle = armed(Bundle::running(&["probe", "descriptors"]), PROBE);
    let path = bundle.text();
    let id = &runtime.id("box");
    assert_eq!(leaking(&runtime, &["run", "--bundle", path, id]).ok(), "0 1 2\n/");
    let preserving = &["run", "--preserve-fds", "2", "--bundle", path, id];
    assert_eq!(leaking(&runtime, preserving).ok(), "0 1 2 3 4\n/");
    // In two steps, of which the first one's process waits: nor does that hold anything.
    bundle.change(|spec| spec["process"]["args"] = json!(["sleep", "1000"]));
    let quiet = runtime.scratch().join("out");
    let script = format!("{LEAKING} >{} 2>&1 </dev/null", quiet.display());
    let create = ["create", "--bundle", path, id];
    runtime.on(Invocation::new("bash").args(&["-c", &script, "leaking"]), &create).ok();
    let held = format!("/proc/{}/fd", runtime.pid(id));
    let mut open: Vec<String> = std::fs::read_dir(held)
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .filter(|target| !target.ends_with("/out") && target != "/dev/null")
        .collect();
    assert!(open.pop().is_some_and(|listener| listener.starts_with("socket:")), "{open:?}");
    assert_eq!(
        open,
        Vec::<String>::new(),
        "the held process has more than streams and the socket of `start`"
    );
    runtime.ok(&["start", id]);
    assert_eq!(leaking(&runtime, &["exec", id, "probe", "descriptors"]).ok(), "0 1 2\n/");
}

/// CVE-2024-21626: a working directory that is a descriptor of the host's.
#[test]
fn a_working_directory_leads_through_no_descriptor() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["ls", "../../../../../etc/debian_version"]);
    symlink("/proc/self/fd/8", bundle.rootfs().join("link")).unwrap();
    let id = &runtime.id("box");
    let mut directories: Vec<String> = (3..33).map(|n| format!("/proc/self/fd/{n}")).collect();
    let odd = ["/proc/self/fd/7/", "/proc/1/fd/7", "/proc/thread-self/fd/7/etc", "/link", "/proc/self/cwd"];
    directories.extend(odd.map(str::to_owned));
    for directory in &directories {
        bundle.change(|spec| spec["process"]["cwd"] = json!(directory));
        let output = leaking(&runtime, &["run", "--bundle", bundle.text(), id]).output();
        assert_ne!(output.code, 0, "{directory}: {output:#?}");
        assert!(!output.stdout.contains("debian_version"), "{directory}: {output:#?}");
    }
    bundle.change(|spec| {
        spec["process"]["cwd"] = json!("/");
        spec["process"]["args"] = json!(["sleep", "1000"]);
    });
    runtime.start_detached(&bundle, id);
    for directory in &directories {
        let args = ["exec", "--cwd", directory, id, "ls", "../../../../../etc/debian_version"];
        let output = leaking(&runtime, &args).output();
        assert_ne!(output.code, 0, "{directory}: {output:#?}");
        assert!(!output.stdout.contains("debian_version"), "{directory}: {output:#?}");
    }
}

/// CVE-2024-21626, its other half: the command itself, its interpreter or its PATH lead through a descriptor, and a
/// program of the host is executed inside, where `/proc/self/exe` is a handle on the host's file.
#[test]
fn no_program_of_the_host_is_executed_through_a_descriptor() {
    let runtime = Runtime::new();
    let host = runtime.scratch().join("host-program");
    write_executable(&host, &std::fs::read(PROBE).unwrap());
    let host = host.to_str().unwrap();
    let id = &runtime.id("box");
    let bundle = Bundle::new();
    let exec = format!("/proc/self/fd/9{host}");
    write_executable(&bundle.rootfs().join("script"), format!("#!{exec} descriptors\n").as_bytes());
    symlink(&exec, bundle.rootfs().join("link")).unwrap();
    let directory = exec.rsplit_once('/').unwrap().0;
    let commands = [
        (&[&*exec, "descriptors"][..], "PATH=/bin".to_owned()),
        (&["/link", "descriptors"], "PATH=/bin".to_owned()),
        (&["/script"], "PATH=/bin".to_owned()),
        (&["host-program", "descriptors"], format!("PATH={directory}")),
    ];
    for (args, path) in &commands {
        bundle.change(|spec| {
            spec["process"]["args"] = json!(args);
            spec["process"]["env"] = json!([path]);
        });
        let output = leaking(&runtime, &["run", "--bundle", bundle.text(), id]).output();
        assert_ne!(output.code, 0, "{args:?}: {output:#?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:#?}");
    }
    bundle.change(|spec| spec["process"]["args"] = json!(["/bin/sleep", "1000"]));
    runtime.start_detached(&bundle, id);
    for (args, path) in &commands {
        let output = leaking(&runtime, &[&["exec", "-e", path, id][..], args].concat()).output();
        assert_ne!(output.code, 0, "{args:?}: {output:#?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:#?}");
    }
}

/// A `startContainer` hook is looked up inside: the image may have a symlink there, to a descriptor.
#[test]
fn nor_does_a_hook_that_runs_inside() {
    let runtime = Runtime::new();
    let host = runtime.scratch().join("host-program");
    let mark = runtime.scratch().join("owned");
    write_executable(&host, format!("#!/bin/sh\ntouch /owned {}\n", mark.display()).as_bytes());
    let bundle = Bundle::running(&["true"]).edit(|spec| {
        spec["hooks"] = json!({"startContainer": [{"path": "/hook", "args": ["hook"]}]});
    });
    let id = &runtime.id("box");
    let run = ["run", "--bundle", bundle.text(), id];
    symlink(format!("/proc/self/fd/9{}", host.display()), bundle.rootfs().join("hook")).unwrap();
    let output = leaking(&runtime, &run).output();
    assert!(output.code != 0 && output.stderr.contains("startContainer hook"), "{output:#?}");
    assert!(!mark.exists() && !bundle.rootfs().join("owned").exists());
    // Where it is one, it runs.
    std::fs::remove_file(bundle.rootfs().join("hook")).unwrap();
    let bundle = bundle.file("/hook", "#!/bin/sh\ntouch /owned\n");
    leaking(&runtime, &["run", "--bundle", bundle.text(), id]).ok();
    assert!(bundle.rootfs().join("owned").exists());
}
