//! config.md, `apparmorProfile`, `selinuxLabel`; config-linux.md, "Mount Label": what a security module adds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use harness::spec::{can, has, inside, never_runs, skip};
use serde_json::json;

// "Linux Process", `apparmorProfile`: the command is confined by it; one that is not loaded is an error.
#[test]
fn the_profile_of_apparmor_is_applied() {
    if !can(&["AppArmor"]) {
        return;
    }
    never_runs("it is not loaded", |spec| spec["process"]["apparmorProfile"] = json!("nonesuch-profile"));
    let said = inside("cat /proc/self/attr/apparmor/current || cat /proc/self/attr/current", |spec| {
        spec["process"]["apparmorProfile"] = json!("unconfined");
    });
    assert!(said.starts_with("unconfined"), "{said}");
    let Some(profile) = Profile::load() else {
        skip("this machine", "apparmor_parser");
        return;
    };
    let said = inside("cat /proc/self/attr/apparmor/current || cat /proc/self/attr/current", |spec| {
        spec["process"]["apparmorProfile"] = json!(profile.name);
    });
    assert_eq!(said, format!("{} (enforce)", profile.name));
}

/// A profile that allows everything. It goes when it is dropped.
struct Profile {
    name: String,
    text: String,
}

impl Profile {
    fn load() -> Option<Self> {
        let name = format!("dhow-spec-{}", std::process::id());
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{ file, capability, mount, umount, signal, ptrace, network, }}\n"
        );
        let profile = Self { name, text };
        profile.parser("--replace").then_some(profile)
    }

    fn parser(&self, how: &str) -> bool {
        let parser = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];
        let Some(parser) = parser.iter().find(|path| std::path::Path::new(path).exists()) else {
            return false;
        };
        harness::Invocation::new(parser).args(&[how, "--skip-cache"]).input(&self.text).output().code == 0
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parser("--remove");
    }
}

// Where there is no AppArmor, a profile cannot be applied: an error, and not a command without confinement.
#[test]
fn a_profile_that_nobody_can_apply_is_an_error() {
    if has("AppArmor") || !can(&["specification 1.3"]) {
        return;
    }
    never_runs("there is no AppArmor", |spec| spec["process"]["apparmorProfile"] = json!("some-profile"));
}

// "Linux Process", `selinuxLabel`; "Mount Label": the label of the command, and of the files of its mounts.
#[test]
fn the_labels_of_selinux_are_applied() {
    if !can(&["SELinux"]) {
        return;
    }
    let label = "system_u:system_r:container_t:s0:c1,c2";
    let files = "system_u:object_r:container_file_t:s0:c1,c2";
    let said =
        inside("tr -d '\\0' < /proc/self/attr/current; echo; grep ' /dev ' /proc/self/mountinfo", |spec| {
            spec["process"]["selinuxLabel"] = json!(label);
            spec["linux"]["mountLabel"] = json!(files);
        });
    assert!(said.starts_with(label) && said.contains(files), "{said}");
}
