//! config.md, "Mounts" and "Linux mount options".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use harness::Invocation;
use harness::oci::{Bundle, Runtime};
use harness::spec::{can, inside, push, refused};
use serde_json::{Value, json};

/// A mount as a container sees it.
#[derive(Debug)]
struct Seen {
    /// Of the mount: `rw,nosuid`.
    options: Vec<String>,
    /// Its propagation: `shared:12`.
    propagation: Vec<String>,
    /// Of the file system: `rw,size=4k`.
    superblock: Vec<String>,
}

impl Seen {
    fn of(mounts: &str, at: &str) -> Self {
        let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(at));
        let line = line.unwrap_or_else(|| panic!("nothing is mounted at {at}: {mounts}"));
        let (mount, kind) = line.split_once(" - ").unwrap();
        let words = |list: &str| list.split(',').map(str::to_owned).collect();
        Self {
            options: words(mount.split(' ').nth(5).unwrap()),
            propagation: mount.split(' ').skip(6).map(str::to_owned).collect(),
            superblock: words(kind.split(' ').nth(2).unwrap()),
        }
    }

    fn has(&self, option: &str) -> bool {
        self.options
            .iter()
            .chain(&self.superblock)
            .chain(&self.propagation)
            .any(|one| one.starts_with(option))
    }
}

/// A file system in memory with these options, as a container sees it.
fn tmpfs(options: &[&str]) -> Seen {
    let said = inside("cat /proc/self/mountinfo", |spec| {
        push(
            spec,
            "/mounts",
            json!({"destination": "/mnt", "type": "tmpfs", "source": "x", "options": options}),
        );
    });
    Seen::of(&said, "/mnt")
}

// "Linux mount options": those of the mount itself, and what takes them back. The last one counts.
#[test]
fn options_of_the_mount_are_applied() {
    for (options, with, without) in [
        (&["defaults"][..], &["rw"][..], &["ro", "nosuid", "nodev", "noexec", "sync", "noatime"][..]),
        (&["ro"], &["ro"], &["rw"]),
        (&["ro", "rw"], &["rw"], &["ro"]),
        (&["nosuid"], &["nosuid"], &[]),
        (&["nosuid", "suid"], &[], &["nosuid"]),
        (&["nodev"], &["nodev"], &[]),
        (&["nodev", "dev"], &[], &["nodev"]),
        (&["noexec"], &["noexec"], &[]),
        (&["noexec", "exec"], &[], &["noexec"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["noatime", "atime"], &[], &["noatime"]),
        (&["nodiratime"], &["nodiratime"], &[]),
        (&["nodiratime", "diratime"], &[], &["nodiratime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["strictatime"], &[], &["relatime", "noatime"]),
    ] {
        if options == ["defaults"] && !can(&["specification 1.1"]) {
            continue;
        }
        let seen = tmpfs(options);
        for option in with {
            assert!(seen.options.iter().any(|one| one == option), "{options:?}: no {option} in {seen:?}");
        }
        for option in without {
            assert!(!seen.options.iter().any(|one| one == option), "{options:?}: {option} in {seen:?}");
        }
    }
    if can(&["specification 1.3"]) {
        // relatime is the kernel's own way; taking it back leaves it to the kernel
        tmpfs(&["relatime", "norelatime"]);
        assert!(tmpfs(&["strictatime", "nostrictatime"]).has("relatime"));
    }
}

// "Linux mount options": those of the file system.
#[test]
fn options_of_the_file_system_are_applied() {
    for (options, with, without) in [
        (&["sync"][..], &["sync"][..], &[][..]),
        (&["sync", "async"], &[], &["sync"]),
        (&["dirsync"], &["dirsync"], &[]),
        (&["size=8192", "mode=0710"], &["size=8k", "mode=710"], &[]),
    ] {
        let seen = tmpfs(options);
        for option in with {
            assert!(seen.superblock.iter().any(|one| one == option), "{options:?}: no {option} in {seen:?}");
        }
        for option in without {
            assert!(!seen.superblock.iter().any(|one| one == option), "{options:?}: {option} in {seen:?}");
        }
    }
    // what the kernel does not show is at least taken
    for option in ["iversion", "noiversion", "silent", "loud"] {
        tmpfs(&[option]);
    }
    if can(&["specification 1.1"]) {
        assert!(tmpfs(&["lazytime"]).has("lazytime"));
        assert!(!tmpfs(&["lazytime", "nolazytime"]).has("lazytime"));
    }
}

// "Linux mount options": `remount` changes what is mounted already.
#[test]
fn a_remount_changes_what_is_there() {
    let said = inside("cat /proc/self/mountinfo", |spec| {
        push(
            spec,
            "/mounts",
            json!({"destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["size=4096"]}),
        );
        push(
            spec,
            "/mounts",
            json!({
                "destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["remount", "ro", "nosuid"],
            }),
        );
    });
    let seen = Seen::of(&said, "/mnt");
    assert!(seen.has("ro") && seen.has("nosuid"), "{seen:?}");
    assert_eq!(said.lines().filter(|line| line.split(' ').nth(4) == Some("/mnt")).count(), 1, "{said}");
}

/// A bundle that shows its mounts, with a directory to bind in which there is a mount: `inner`.
struct Binding {
    runtime: Runtime,
}

impl Binding {
    fn new() -> Self {
        let runtime = Runtime::new();
        std::fs::create_dir_all(runtime.scratch().join("outer/inner")).unwrap();
        Self { runtime }
    }

    /// What the container sees of a bind of `outer`, which is mounted so on the host.
    fn seen(&self, host: &str, options: &[&str]) -> String {
        let outer = self.runtime.scratch().join("outer");
        let bundle = Bundle::script("cat /proc/self/mountinfo").edit(|spec| {
            push(spec, "/mounts", json!({"destination": "/mnt", "source": outer, "options": options}));
        });
        // in a mount namespace of our own, so that the host's mounts are as they were
        let script = format!(
            "mount -t tmpfs outer {0} && mkdir {0}/inner && mount -t tmpfs inner {0}/inner && mount --make-r{host} {0} \
             && exec \"$@\"",
            outer.display()
        );
        let shell = Invocation::new("unshare").args(&["--mount", "sh", "-c", &script, "sh"]);
        self.runtime.on(shell, &["run", "--bundle", bundle.argument(), &self.runtime.id("box")]).ok()
    }
}

// "Linux mount options", `bind` and `rbind`: a bind mount, without and with what is mounted below.
#[test]
fn binds_are_as_deep_as_they_say() {
    let binding = Binding::new();
    let inner = |said: &str| said.lines().any(|line| line.split(' ').nth(4) == Some("/mnt/inner"));
    let flat = binding.seen("private", &["bind"]);
    assert!(Seen::of(&flat, "/mnt").has("rw") && !inner(&flat), "{flat}");
    assert!(inner(&binding.seen("private", &["rbind"])));
    // options apply to a bind mount as well
    let seen = Seen::of(&binding.seen("private", &["bind", "ro", "nosuid", "noexec"]), "/mnt");
    assert!(
        ["ro", "nosuid", "noexec"].iter().all(|option| seen.options.iter().any(|one| one == option)),
        "{seen:?}"
    );
}

// "Linux mount options": private, rprivate, shared, rshared, slave, rslave, unbindable, runbindable.
#[test]
fn propagation_is_as_configured() {
    let binding = Binding::new();
    for (option, with, without) in [
        ("private", &[][..], &["shared:", "master:", "unbindable"][..]),
        ("shared", &["shared:"], &["unbindable"]),
        ("slave", &["master:"], &["shared:", "unbindable"]),
        ("unbindable", &["unbindable"], &["shared:", "master:"]),
    ] {
        for deep in [false, true] {
            // the reference makes the propagation of all binds deep; ours is as deep as it says
            let name = if deep { format!("r{option}") } else { option.to_owned() };
            let said = binding.seen("shared", &["rbind", &name]);
            let all: &[&str] = if deep { &["/mnt", "/mnt/inner"] } else { &["/mnt"] };
            for at in all {
                let seen = Seen::of(&said, at);
                for wanted in with {
                    assert!(seen.has(wanted), "{name}: no {wanted} at {at}: {seen:?}");
                }
                for unwanted in without {
                    assert!(!seen.has(unwanted), "{name}: {unwanted} at {at}: {seen:?}");
                }
            }
        }
    }
}

// "Mounts": in the listed order: a later one covers an earlier one, and lies in it.
#[test]
fn mounts_are_made_in_the_listed_order() {
    let runtime = Runtime::new();
    for name in ["one", "two"] {
        std::fs::create_dir(runtime.scratch().join(name)).unwrap();
        std::fs::write(runtime.scratch().join(name).join("name"), name).unwrap();
    }
    let bind = |from: &str, to: &str| json!({"destination": to, "source": runtime.scratch().join(from), "options": ["bind"]});
    for (order, expected) in [(["one", "two"], "two"), (["two", "one"], "one")] {
        let bundle = Bundle::script("cat /mnt/name; cat /mnt/deep/name").edit(|spec| {
            push(spec, "/mounts", bind(order[0], "/mnt"));
            push(spec, "/mounts", bind(order[1], "/mnt"));
            push(spec, "/mounts", bind("one", "/mnt/deep"));
        });
        assert_eq!(runtime.said_by(&bundle), format!("{expected}one"));
    }
}

// "Mounts", `destination`: a relative one is relative to "/".
#[test]
fn a_relative_destination_is_relative_to_the_root() {
    if !can(&["specification 1.2"]) {
        return;
    }
    let said = inside("cat /proc/self/mountinfo", |spec| {
        spec["process"]["cwd"] = json!("/usr");
        push(spec, "/mounts", json!({"destination": "mnt/here", "type": "tmpfs", "source": "x"}));
    });
    Seen::of(&said, "/mnt/here");
}

// "Mounts", `source`: of a bind mount it may be relative to the bundle.
#[test]
fn a_relative_source_is_relative_to_the_bundle() {
    let runtime = Runtime::new();
    let bundle = Bundle::running(&["cat", "/mnt/name"]).edit(|spec| {
        push(spec, "/mounts", json!({"destination": "/mnt", "source": "data", "options": ["bind"]}));
    });
    std::fs::create_dir(bundle.path().join("data")).unwrap();
    std::fs::write(bundle.path().join("data/name"), "of the bundle").unwrap();
    let here = runtime.command(&["run", "--bundle", bundle.argument(), &runtime.id("box")]).current_dir("/");
    assert_eq!(here.ok(), "of the bundle");
}

/// Mounts a directory with a file of root's; says who owns it in the container. None: it is refused.
fn owner(spec_edit: impl FnOnce(&mut Value), mount: &Value) -> Result<String, String> {
    let runtime = Runtime::new();
    let source = runtime.scratch().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "x").unwrap();
    let bundle = Bundle::script("stat -c '%u %g' /mnt/file").edit(|spec| {
        let mut mount = mount.clone();
        mount["destination"] = json!("/mnt");
        mount["source"] = json!(source);
        push(spec, "/mounts", mount);
        spec_edit(spec);
    });
    chown_to_nobody(&bundle.rootfs());
    let output = runtime.run_to_end(&bundle);
    if output.code == 0 { Ok(output.stdout.trim().to_owned()) } else { Err(output.stderr) }
}

/// Whoever is mapped to other ids may pass through the root, too.
fn chown_to_nobody(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for directory in [root, root.parent().unwrap()] {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn mapping(container: u32, host: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": 1000}])
}

// "Linux mount options", `idmap`, `ridmap`; "POSIX-platform Mounts": the mapping of the mount is applied.
#[test]
fn the_ids_of_a_mount_are_mapped() {
    if !can(&["specification 1.2", "id-mapped mounts"]) {
        return;
    }
    for option in ["idmap", "ridmap"] {
        let mount = json!({
            "options": ["rbind", option], "uidMappings": mapping(0, 100_000), "gidMappings": mapping(0, 200_000),
        });
        let seen = owner(|_| {}, &mount);
        assert_eq!(seen.as_deref(), Ok("100000 200000"), "{option}");
    }
    // without the option, too: only older runtimes would ignore the mappings then
    let mount =
        json!({"options": ["bind"], "uidMappings": mapping(0, 5000), "gidMappings": mapping(0, 6000)});
    assert_eq!(owner(|_| {}, &mount).as_deref(), Ok("5000 6000"));
}

// "Linux mount options", `idmap`, `ridmap`: without mappings the container's are used, or it is an error; without
// those, it is one.
#[test]
fn without_mappings_the_containers_are_used() {
    if !can(&["specification 1.2", "id-mapped mounts"]) {
        return;
    }
    let users = |spec: &mut Value| {
        push(spec, "/linux/namespaces", json!({"type": "user"}));
        spec["linux"]["uidMappings"] = mapping(0, 100_000);
        spec["linux"]["gidMappings"] = mapping(0, 100_000);
    };
    for option in ["idmap", "ridmap"] {
        let mount = json!({"options": ["rbind", option]});
        match owner(users, &mount) {
            Ok(seen) => assert_eq!(seen, "0 0", "{option}"),
            Err(error) => assert!(error.contains("idmap") || error.contains("map"), "{error}"),
        }
        let refused = owner(|_| {}, &mount);
        assert!(refused.is_err(), "{option} without any mapping: {refused:?}");
    }
    let plain = owner(users, &json!({"options": ["rbind"]}));
    assert_eq!(plain.as_deref(), Ok("65534 65534"), "without the option nothing is mapped");
}

// "POSIX-platform Mounts": `uidMappings` and `gidMappings` come together.
#[test]
fn one_kind_of_mapping_without_the_other_is_an_error() {
    if !can(&["specification 1.2"]) {
        return;
    }
    for kind in ["uidMappings", "gidMappings"] {
        refused(&format!("only {kind}"), |spec| {
            let mut mount = json!({"destination": "/mnt", "source": "/tmp", "options": ["bind", "idmap"]});
            mount[kind] = mapping(0, 1000);
            push(spec, "/mounts", mount);
        });
    }
}

// "Linux mount options": what is not known is the file system's; one that it does not know either is an error.
#[test]
fn an_option_that_nobody_knows_is_an_error() {
    refused("an unknown option", |spec| {
        push(
            spec,
            "/mounts",
            json!({
                "destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["nonesuch"],
            }),
        );
    });
}

// "Linux mount options": those that apply to all mounts below.
#[test]
fn recursive_options_reach_what_is_below() {
    if !can(&["specification 1.1", "id-mapped mounts"]) {
        return;
    }
    let binding = Binding::new();
    for (option, word) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
    ] {
        let said = binding.seen("private", &["rbind", option]);
        for at in ["/mnt", "/mnt/inner"] {
            assert!(Seen::of(&said, at).options.iter().any(|one| one == word), "{option} at {at}: {said}");
        }
    }
}
