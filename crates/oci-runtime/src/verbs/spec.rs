//! `spec`: a configuration to begin with.

use std::path::Path;

use oci::runtime::Spec;
use serde::Serialize as _;
use serde_json::{Value, json};

use crate::arguments::{Command, Parsed, switch, value};
use crate::error::Error;
use crate::globals::Globals;
use crate::{config, globals};

pub(crate) const COMMAND: Command = Command {
    name: "spec",
    about: "write a config.json to begin with",
    usage: "[command options]\n\n   It runs `sh` in the directory `rootfs` beside it; change it to what you want.",
    flags: &[
        value(&["bundle", "b"], "the bundle's directory (default: the working directory)"),
        switch(&["rootless"], "for a container without the rights of root"),
    ],
    arguments: (0, 0),
    in_order: false,
    run,
};

fn run(_: &Globals, flags: &Parsed) -> Result<u8, Error> {
    let path = flags.path("bundle").unwrap_or(Path::new("")).join(config::NAME);
    let mut spec = example();
    if flags.is_on("rootless") {
        make_rootless(&mut spec);
    }
    // In the order of the specification, which a value of JSON does not keep.
    let spec: Spec =
        serde_json::from_value(spec).map_err(|source| Error::Json { path: path.clone(), source })?;
    let text = indented(&spec).map_err(|source| Error::Json { path: path.clone(), source })?;
    base::fs::create_new(&path, text.as_bytes(), 0o644).map_err(|error| {
        if error.source.kind() == std::io::ErrorKind::AlreadyExists {
            Error::State(format!("file {} exists. Remove it first", path.display()))
        } else {
            Error::File(error)
        }
    })?;
    Ok(0)
}

/// With tabs, as runc writes it.
fn indented(spec: &Spec) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The configuration that runc begins with.
fn example() -> Value {
    let few = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let mut mount = json!({"destination": destination, "type": kind, "source": source});
        if !options.is_empty() {
            mount["options"] = json!(options);
        }
        mount
    };
    json!({
        "ociVersion": oci::runtime::VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": few, "effective": few, "permitted": few},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "dhow",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
                "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// What needs the machine's root is left out, and our user becomes root inside.
fn make_rootless(spec: &mut Value) {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let linux = &mut spec["linux"];
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        // The host's network stays: nobody without rights could connect a new one to anything.
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        for mount in mounts {
            if mount["destination"] == "/sys" {
                // A new sysfs belongs to a network namespace of one's own.
                *mount = json!({
                    "destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
                });
            } else if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
                // Only one group is mapped.
                options.retain(|option| {
                    !option.as_str().is_some_and(|o| o.starts_with("gid=") || o.starts_with("uid="))
                });
            }
        }
        if let Some(mounts) = spec["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup" || globals::is_root());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_configuration() {
        let mut example = example();
        let spec: oci::runtime::Spec = serde_json::from_value(example.clone()).unwrap();
        assert_eq!(spec.process.unwrap().args, ["sh"]);
        make_rootless(&mut example);
        let spec: oci::runtime::Spec = serde_json::from_value(example).unwrap();
        let linux = spec.linux.unwrap();
        assert_eq!((linux.uid_mappings.len(), linux.resources.is_none()), (1, true));
        assert!(linux.namespaces.iter().any(|n| n.kind == oci::runtime::NamespaceKind::User));
        assert!(spec.mounts.iter().all(|m| !m.options.iter().any(|o| o.starts_with("gid="))));
    }
}
