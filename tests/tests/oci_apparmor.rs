//! AppArmor, in force: in containers of `dhow-runtime`, in further commands, and Dhow's own profile with `dhow run`.
//! `cargo xtask vm --apparmor oci_apparmor` has a kernel and a parser for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::oci::{Bundle, Runtime};
use harness::spec::{can, has, skip};
use harness::{Dhow, Invocation, eventually};
use serde_json::json;

/// A loaded profile. It goes when it is dropped.
struct Profile {
    name: String,
    text: String,
}

impl Profile {
    /// With these rules beside all that a container needs; none where there is no parser.
    fn load(name: &str, rules: &str) -> Option<Self> {
        let name = format!("dhow-test-{name}-{}", std::process::id());
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n\
             file, capability, mount, umount, pivot_root, signal, ptrace, network, {rules}\n}}\n"
        );
        let profile = Self { name, text };
        profile.parser("--replace").map(|()| profile)
    }

    fn parser(&self, how: &str) -> Option<()> {
        let places = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
        let parser = places.into_iter().find(|path| Path::new(path).exists());
        let Some(parser) = parser else {
            skip("this machine", "apparmor_parser");
            return None;
        };
        Invocation::new(parser).args(&[how, "--skip-cache"]).input(&self.text).ok();
        Some(())
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

const CURRENT: &str = "cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current";

#[test]
fn a_container_obeys_its_profile() {
    if !can(&["AppArmor"]) {
        return;
    }
    let Some(profile) = Profile::load("one", "deny /etc/secret rw,") else { return };
    let runtime = Runtime::new();
    let script = format!("{CURRENT}; cat /etc/open; cat /etc/secret; echo x > /etc/secret; echo on");
    let bundle = Bundle::script(&script)
        .file("/etc/open", "open\n")
        .file("/etc/secret", "secret\n")
        .edit(|spec| spec["process"]["apparmorProfile"] = json!(profile.name));
    let output = runtime.run_to_end(&bundle);
    let enforced = format!("{} (enforce)\nopen\non\n", profile.name);
    assert_eq!((output.code, output.stdout.as_str()), (0, enforced.as_str()), "{output:#?}");
    assert_eq!(output.stderr.matches("Permission denied").count(), 2, "{output:#?}");
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("etc/secret")).unwrap(), "secret\n");

    // without the profile it can
    let bundle = bundle.edit(|spec| drop(spec["process"].as_object_mut().unwrap().remove("apparmorProfile")));
    let output = runtime.run_to_end(&bundle);
    assert_eq!(output.stdout, "unconfined\nopen\nsecret\non\n", "{output:#?}");
}

#[test]
fn a_further_command_obeys_its_own() {
    if !can(&["AppArmor"]) {
        return;
    }
    let (Some(one), Some(two)) =
        (Profile::load("first", "deny /etc/one r,"), Profile::load("second", "deny /etc/two r,"))
    else {
        return;
    };
    let runtime = Runtime::new();
    let id = &runtime.id("box");
    let bundle = Bundle::running(&["sleep", "1000"])
        .file("/etc/one", "1\n")
        .file("/etc/two", "2\n")
        .edit(|spec| spec["process"]["apparmorProfile"] = json!(one.name));
    runtime.start_detached(&bundle, id);
    let script = format!("{CURRENT}; cat /etc/one /etc/two 2>/dev/null");
    let exec = |flags: &[&str]| runtime.run(&[&["exec"], flags, &[id, "sh", "-c", &script]].concat()).stdout;
    assert_eq!(exec(&[]), format!("{} (enforce)\n2\n", one.name), "the container's, if nothing else is said");
    assert_eq!(exec(&["--apparmor", &two.name]), format!("{} (enforce)\n1\n", two.name));
    assert_eq!(exec(&["--apparmor", "unconfined"]), "unconfined\n1\n2\n");
    let missing = runtime.fails(255, &["exec", "--apparmor", "dhow-test-nonesuch", id, "true"]);
    assert!(missing.contains("AppArmor") && missing.contains("dhow-test-nonesuch"), "{missing}");
}

#[test]
fn a_profile_that_is_not_loaded_is_an_error() {
    if !can(&["AppArmor"]) {
        return;
    }
    let runtime = Runtime::new();
    let bundle = Bundle::script("echo it ran")
        .edit(|spec| spec["process"]["apparmorProfile"] = json!("dhow-test-nonesuch"));
    let said = runtime.never_runs(&bundle, "it is not loaded");
    assert!(said.contains("AppArmor") && said.contains("dhow-test-nonesuch"), "{said}");
}

#[test]
fn without_apparmor_a_profile_is_an_error_that_says_so() {
    if has("AppArmor") {
        return;
    }
    let runtime = Runtime::new();
    let bundle =
        Bundle::script("echo it ran").edit(|spec| spec["process"]["apparmorProfile"] = json!("dhow-default"));
    let said = runtime.never_runs(&bundle, "there is no AppArmor");
    assert!(said.contains("this kernel has no AppArmor, or it is switched off"), "{said}");
    let id = &runtime.id("box");
    runtime.start_detached(&Bundle::running(&["sleep", "1000"]), id);
    let said = runtime.fails(255, &["exec", "--apparmor", "dhow-default", id, "true"]);
    assert!(said.contains("this kernel has no AppArmor, or it is switched off"), "{said}");
}

#[test]
fn dhows_own_profile_is_loaded_and_obeyed() {
    if !can(&["AppArmor"]) || !Path::new("/usr/sbin/apparmor_parser").exists() {
        return;
    }
    let dhow = Dhow::new("apparmor");
    let run = |flags: &[&str], script: &str| {
        let head = ["run", "--rm", "--network", "none"];
        dhow.run(&[&head, flags, &["busybox", "sh", "-c", script]].concat())
    };
    let output = run(&[], CURRENT);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("dhow-default (enforce)\n", ""));
    // What capabilities and masks would let through: the profile alone is in the way.
    let open = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    let mount = run(&open, "mount -t tmpfs x /tmp");
    assert!(mount.code != 0 && mount.stderr.contains("denied"), "{mount:#?}");
    let unconfined =
        run(&[&open[..], &["--security-opt", "apparmor=unconfined"]].concat(), "mount -t tmpfs x /tmp");
    assert_eq!(unconfined.code, 0, "{unconfined:#?}");
    // Processes of a container may signal one another, and the host may signal them.
    // The first process outlives the signal: its end would be a killed `exec` as well.
    let waits = "sleep 1000 & wait; touch /signalled; exec tail -f /dev/null";
    dhow.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", waits]);
    assert_eq!(dhow.ok(&["exec", "box", "sh", "-c", CURRENT]), "dhow-default (enforce)");
    dhow.ok(&["exec", "box", "sh", "-c", "kill $(pidof sleep)"]);
    eventually("the signal's arrival", || {
        (dhow.run(&["exec", "box", "test", "-e", "/signalled"]).code == 0).then_some(())
    });
    dhow.ok(&["kill", "box"]);
    eventually("its end", || dhow.ok(&["ps", "-q"]).is_empty().then_some(()));
    let named = run(&["--security-opt", "apparmor=dhow-test-nonesuch"], "true");
    assert!(named.code != 0 && named.stderr.contains("dhow-test-nonesuch"), "{named:#?}");
}
