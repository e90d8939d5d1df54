//! `features`: what this runtime knows of the specification (features.md, features-linux.md). It says nothing of the
//! machine: what a kernel lacks shows when it is asked for.

use serde_json::{Value, json};

use crate::arguments::{Command, Parsed};
use crate::error::Error;
use crate::globals::Globals;
use crate::report::answer;

pub(crate) const COMMAND: Command = Command {
    name: "features",
    about: "tell what this runtime knows of the specification, as JSON",
    usage: "",
    flags: &[],
    arguments: (0, 0),
    in_order: false,
    run,
};

fn run(_: &Globals, _: &Parsed) -> Result<u8, Error> {
    answer(&format!("{:#}\n", features())).map(|()| 0)
}

fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci::runtime::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": runtime::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": runtime::capability::Set::KNOWN.names(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": runtime::seccomp::actions(),
                "operators": runtime::seccomp::operators(),
                "archs": runtime::seccomp::architectures(),
                "knownFlags": runtime::seccomp::flags_known(),
                "supportedFlags": runtime::seccomp::flags_supported(),
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {"modes": runtime::MEMORY_POLICY_MODES, "flags": runtime::MEMORY_POLICY_FLAGS},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "org.opencontainers.runtime-spec.runtime": "dhow-runtime",
            "org.dhow.version": env!("CARGO_PKG_VERSION"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// features-linux.md: whatever is listed MUST be recognized.
    #[test]
    fn what_is_said_is_so() {
        let features = features();
        let texts = |pointer: &str| -> Vec<String> {
            serde_json::from_value(features.pointer(pointer).unwrap().clone()).unwrap()
        };
        for action in texts("/linux/seccomp/actions") {
            let filter = json!({"defaultAction": action});
            if action != "SCMP_ACT_NOTIFY" {
                assert!(
                    runtime::seccomp::compile(&serde_json::from_value(filter).unwrap()).is_ok(),
                    "{action}"
                );
            }
        }
        for op in texts("/linux/seccomp/operators") {
            let rule = json!({"names": ["getpid"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": op}]});
            let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
            assert!(runtime::seccomp::compile(&serde_json::from_value(filter).unwrap()).is_ok(), "{op}");
        }
        for arch in texts("/linux/seccomp/archs") {
            let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch]});
            assert!(runtime::seccomp::compile(&serde_json::from_value(filter).unwrap()).is_ok(), "{arch}");
        }
        let namespaces = texts("/linux/namespaces");
        assert_eq!(namespaces.len(), 8);
        for kind in namespaces {
            let namespace = json!({"type": kind});
            assert!(serde_json::from_value::<oci::runtime::Namespace>(namespace).is_ok(), "{kind}");
        }
        assert!(runtime::capability::Set::from_names(&texts("/linux/capabilities")).is_ok());
        for version in ["ociVersionMin", "ociVersionMax"] {
            crate::config::check_version(features[version].as_str().unwrap()).unwrap();
        }
    }
}
