//! The plan of the `/proc/sys` settings: only those of namespaces that the container has to itself.

use std::collections::BTreeMap;
use std::ffi::CString;

use oci::runtime::NamespaceKind;

use super::namespaces::NamespacePlan;
use super::{PlanError, c_string};

/// Those of `kernel.` that belong to an IPC namespace: ipc_namespaces(7).
const OF_IPC: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shm_rmid_forced", "shmall", "shmmax", "shmmni"];

/// Paths below `/proc`, and what is written there.
pub(super) fn plan(
    list: &BTreeMap<String, String>,
    namespaces: &NamespacePlan,
) -> Result<Vec<(CString, Vec<u8>)>, PlanError> {
    let mut settings = Vec::new();
    for (key, value) in list {
        let invalid =
            |what: &str| PlanError::Invalid { field: "sysctl", value: format!("`{key}={value}`{what}") };
        let path = path_of(key).filter(|_| !value.contains(['\n', '\0'])).ok_or_else(|| invalid(""))?;
        let wanted = namespace_of(&path).map_err(|why| invalid(&format!(": {why}")))?;
        if !namespaces.has(wanted) {
            let kind = match wanted {
                NamespaceKind::Network => "network",
                NamespaceKind::Ipc => "ipc",
                _ => "uts",
            };
            return Err(invalid(&format!(": the container has no {kind} namespace of its own")));
        }
        settings.push((c_string("sysctl", format!("sys/{path}"))?, value.clone().into_bytes()));
    }
    Ok(settings)
}

/// A key's path: sysctl(8) takes dots, with slashes for the dots of a name, or the other way round, by which comes
/// first. Nothing else of it is trusted: no `..`, no empty name (CVE-2022-0811 smuggled a setting in another's value).
fn path_of(key: &str) -> Option<String> {
    let path = match key.find(['.', '/']) {
        Some(first) if key.as_bytes()[first] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    };
    let good = |name: &str| {
        !matches!(name, "" | "." | "..")
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    path.split('/').all(good).then_some(path)
}

/// To which namespace a setting belongs.
fn namespace_of(path: &str) -> Result<NamespaceKind, &'static str> {
    match path.split_once('/') {
        Some(("net", _)) => Ok(NamespaceKind::Network),
        Some(("kernel", name)) if OF_IPC.contains(&name) => Ok(NamespaceKind::Ipc),
        Some(("fs", name)) if name.starts_with("mqueue/") => Ok(NamespaceKind::Ipc),
        // There is a field for the host's name, and there was none for the domain's.
        Some(("kernel", "hostname")) => Err("the field `hostname` is for that"),
        Some(("kernel", "domainname")) => Ok(NamespaceKind::Uts),
        _ => Err("it is not of a namespace, but of the whole machine"),
    }
}

#[cfg(test)]
mod tests {
    use oci::runtime::{Linux, Namespace};

    use super::*;

    fn of(key: &str, kinds: &[NamespaceKind]) -> Result<String, String> {
        let list = kinds.iter().map(|kind| Namespace { kind: *kind, path: None }).collect();
        let namespaces =
            super::super::namespaces::plan(&Linux { namespaces: list, ..Linux::default() }).unwrap();
        let settings = plan(&BTreeMap::from([(key.to_owned(), "1".to_owned())]), &namespaces);
        settings.map(|s| s[0].0.to_str().unwrap().to_owned()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_setting_needs_its_namespace() {
        use NamespaceKind::*;
        assert_eq!(of("net.ipv4.ip_forward", &[Network]).unwrap(), "sys/net/ipv4/ip_forward");
        assert_eq!(of("kernel.shmmax", &[Ipc]).unwrap(), "sys/kernel/shmmax");
        assert_eq!(of("fs.mqueue.msg_max", &[Ipc]).unwrap(), "sys/fs/mqueue/msg_max");
        assert_eq!(of("kernel.domainname", &[Uts]).unwrap(), "sys/kernel/domainname");
        for (key, kinds) in [
            ("net.ipv4.ip_forward", &[Ipc, Uts][..]),
            ("kernel.shmmax", &[Network, Uts]),
            ("fs.mqueue.msg_max", &[Network]),
            ("kernel.domainname", &[Ipc]),
            ("kernel.hostname", &[Uts]),
            ("kernel.core_pattern", &[Network, Ipc, Uts]),
            ("vm.swappiness", &[Network, Ipc, Uts]),
            ("fs.file-max", &[Ipc]),
            ("net", &[Network]),
        ] {
            assert!(of(key, kinds).is_err(), "{key}");
        }
    }

    #[test]
    fn both_ways_of_writing_a_key_are_one_and_no_way_leads_elsewhere() {
        for key in ["net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"] {
            assert_eq!(path_of(key).unwrap(), "net/ipv4/conf/eth0.100/forwarding");
        }
        for key in [
            "",
            ".",
            "net..x",
            "net/../kernel/core_pattern",
            "net.//.x",
            "/net/x",
            "net.x.",
            "net.a b",
            "net.a\0",
        ] {
            assert_eq!(path_of(key), None, "{key}");
        }
    }
}
