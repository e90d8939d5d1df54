//! The process itself: who it is, what it may do, where it is.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::report::{Section, Value};

/// The capabilities' names by number (`linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// `/proc/self/status`, once.
pub(crate) struct Status(String);

impl Status {
    pub(crate) fn read() -> Self {
        Self(fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn field(&self, name: &str) -> &str {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map_or("?", str::trim)
    }
}

pub(crate) fn process(status: &Status) -> Section {
    let uname = rustix::system::uname();
    let pid = match (rustix::process::getpid().as_raw_nonzero().get(), others()) {
        (1, 0) => "1, and nobody else is here".to_owned(),
        (pid, others) => format!("{pid}, and {others} other processes are in sight"),
    };
    let working_dir = std::env::current_dir().map_or("?".to_owned(), |dir| dir.display().to_string());
    Section::facts(
        "Process",
        vec![
            ("pid", Value::text(pid)),
            ("user and group", Value::text(ids(status))),
            ("user id map", Value::text(id_map("/proc/self/uid_map"))),
            ("group id map", Value::text(id_map("/proc/self/gid_map"))),
            ("host name", Value::text(uname.nodename().to_string_lossy())),
            (
                "kernel",
                Value::text(format!(
                    "{} {}",
                    uname.release().to_string_lossy(),
                    uname.machine().to_string_lossy()
                )),
            ),
            ("working directory", Value::text(working_dir)),
            (
                "environment",
                Value::Words(
                    std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect(),
                ),
            ),
        ],
    )
}

/// How many other processes `/proc` shows.
fn others() -> usize {
    let is_pid = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_pid)).count().saturating_sub(1)
}

fn ids(status: &Status) -> String {
    let effective = |name| status.field(name).split_whitespace().nth(1).unwrap_or("?").to_owned();
    let (user, group) = (effective("Uid"), effective("Gid"));
    match status.field("Groups") {
        "" => format!("{user}:{group}"),
        groups => format!("{user}:{group}, also in {groups}"),
    }
}

/// `0 100000 65536` → `0–65535 are 100000–165535 outside`.
fn id_map(path: &str) -> String {
    let Ok(map) = fs::read_to_string(path) else { return "?".to_owned() };
    let ranges = map.lines().filter_map(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [inside, outside, length] = numbers[..] else { return None };
        let last = |first: u64| first + length.saturating_sub(1);
        Some(if (inside, outside, length) == (0, 0, u64::from(u32::MAX)) {
            "none: ids are the host's".to_owned()
        } else {
            format!("{inside}-{} are {outside}-{} outside", last(inside), last(outside))
        })
    });
    ranges.collect::<Vec<_>>().join("; ")
}

pub(crate) fn namespaces() -> Section {
    let facts = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"].map(|kind| {
        let text = match fs::metadata(format!("/proc/self/ns/{kind}")) {
            // The initial ones' numbers are fixed (PROC_*_INIT_INO in linux/proc_ns.h).
            Ok(stat) => match initial(kind) {
                Some(number) if number == stat.ino() => format!("{}  the host's", stat.ino()),
                _ => stat.ino().to_string(),
            },
            Err(_) => "not in this kernel".to_owned(),
        };
        (kind, Value::text(text))
    });
    Section::facts("Namespaces", facts.into())
}

fn initial(kind: &str) -> Option<u64> {
    Some(match kind {
        "ipc" => 0xEFFF_FFFF,
        "uts" => 0xEFFF_FFFE,
        "user" => 0xEFFF_FFFD,
        "pid" => 0xEFFF_FFFC,
        "cgroup" => 0xEFFF_FFFB,
        "time" => 0xEFFF_FFFA,
        _ => return None,
    })
}

pub(crate) fn confinement(status: &Status) -> Section {
    let sets = ["CapEff", "CapBnd", "CapInh", "CapAmb"].map(|set| capabilities(status.field(set)));
    let [effective, bounding, inheritable, ambient] = sets;
    let mut facts = vec![("capabilities", Value::Words(all_or(&effective)))];
    if bounding == effective {
        facts.push(("bounding set", Value::text("the same")));
    } else {
        facts.push(("bounding set", Value::Words(all_or(&bounding))));
    }
    for (label, set) in [("inheritable set", inheritable), ("ambient set", ambient)] {
        if !set.is_empty() {
            facts.push((label, Value::Words(all_or(&set))));
        }
    }
    let filters = status.field("Seccomp_filters");
    let seccomp = match status.field("Seccomp") {
        "0" => "off: every system call is open".to_owned(),
        "1" => "strict".to_owned(),
        "2" if filters == "1" => "1 filter".to_owned(),
        "2" => format!("{filters} filters"),
        other => other.to_owned(),
    };
    facts.push(("seccomp", Value::text(seccomp)));
    let no_new_privs = match status.field("NoNewPrivs") {
        "1" => "on: setuid programs gain nothing",
        "0" => "off",
        other => other,
    };
    facts.push(("no_new_privs", Value::text(no_new_privs)));
    if let Ok(label) = fs::read_to_string("/proc/self/attr/current")
        && !label.trim_matches(['\0', '\n', ' ']).is_empty()
    {
        facts.push(("security label", Value::text(label.trim_matches(['\0', '\n', ' ']))));
    }
    Section::facts("Confinement", facts)
}

fn capabilities(hex: &str) -> Vec<String> {
    let bits = u64::from_str_radix(hex, 16).unwrap_or(0);
    let name = |i: usize| CAPABILITIES.get(i).map_or_else(|| i.to_string(), |name| (*name).to_owned());
    (0..64).filter(|i| bits >> i & 1 == 1).map(|i| name(i as usize)).collect()
}

fn all_or(set: &[String]) -> Vec<String> {
    if set.len() >= CAPABILITIES.len() { vec![format!("all {}", set.len())] } else { set.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_names() {
        assert_eq!(capabilities("00000000a80425fb").len(), 14);
        assert_eq!(capabilities("0000000000200001"), ["chown", "sys_admin"]);
        assert_eq!(capabilities("000001ffffffffff").len(), 41);
        assert_eq!(all_or(&capabilities("000001ffffffffff")), ["all 41"]);
        assert!(capabilities("?").is_empty());
    }

    #[test]
    fn status_fields_are_found_whole() {
        let status = Status("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t3\nGroups:\t\n".to_owned());
        assert_eq!((status.field("Seccomp"), status.field("Seccomp_filters")), ("2", "3"));
        assert_eq!((status.field("Groups"), status.field("Nope")), ("", "?"));
    }
}
