//! What a container shares, and what it sets of the kernel: Docker's checks, and the specification's namespaces.

use std::path::PathBuf;

use base::{Failure, Kind};
use oci::runtime::{Namespace, NamespaceKind};
use state::options::{ContainerOptions, IpcMode, NetworkMode, PidMode};

/// What stands in a path for the process whose namespaces are joined: the monitor knows it, at each start.
pub(crate) use monitor::JOINED;

/// Docker's settings of an IPC namespace.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];
/// The kernel's (`__NEW_UTS_LEN`).
const LONGEST_NAME: usize = 64;
/// More is no list that anybody would want.
const MOST: usize = 1000;

/// Surroundings that make no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("the sysctl `{0}` is not one of a container's own namespaces")]
    Sysctl(String),
    #[error("the sysctl `{0}` has a value of more than one line")]
    SysctlValue(String),
    #[error("the sysctl `{name}` is the host's, whose {namespace} namespace the container is in")]
    SysctlOfHost { name: String, namespace: &'static str },
    #[error("a container in the host's UTS namespace has the host's names: leave {0} out")]
    HostUts(&'static str),
    #[error("invalid domain name `{0}`: want at most 64 letters, digits, dots, dashes and underscores")]
    Domain(String),
    #[error("invalid cgroup parent `{0}`: want a path of plain names")]
    CgroupParent(String),
    #[error("invalid group `{0}`: want a name, or a number up to 2147483647")]
    Group(String),
    #[error("invalid host `{0}` for --add-host: want a name without white space")]
    Host(String),
    #[error("invalid {flag} `{text}`: want a word without white space")]
    Dns { flag: &'static str, text: String },
    #[error("invalid annotation `{0}`")]
    Annotation(String),
    #[error("more than {MOST} {0}")]
    TooMany(&'static str),
    #[error("--shm-size is about a /dev/shm of its own, which a container with --ipc {0} has not")]
    ShmSize(&'static str),
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        match self {
            Self::HostUts(_) | Self::SysctlOfHost { .. } | Self::ShmSize(_) => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Sysctl(_) => {
                vec!["those are net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm*".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Refuses what makes no sense.
pub(super) fn check(options: &ContainerOptions) -> Result<(), Invalid> {
    let counts = [
        ("devices", options.devices.len() + options.device_rules.len()),
        ("groups", options.groups.len()),
        ("sysctls", options.sysctls.len()),
        ("hosts", options.hosts.len()),
        ("annotations", options.annotations.len()),
        ("words about name servers", {
            let dns = &options.dns;
            dns.servers.len() + dns.search.len() + dns.options.len()
        }),
    ];
    if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count > MOST) {
        return Err(Invalid::TooMany(what));
    }
    options.sysctls.iter().try_for_each(|(name, value)| check_sysctl(options, name, value))?;
    let namespaces = &options.namespaces;
    if namespaces.host_uts {
        let names = [("--hostname", &options.hostname), ("--domainname", &options.domainname)];
        if let Some((flag, _)) = names.into_iter().find(|(_, name)| name.is_some()) {
            return Err(Invalid::HostUts(flag));
        }
    }
    if options.limits.shm_size.is_some() {
        match namespaces.ipc {
            IpcMode::Host => return Err(Invalid::ShmSize("host")),
            IpcMode::None => return Err(Invalid::ShmSize("none")),
            IpcMode::Container(_) => return Err(Invalid::ShmSize("container")),
            IpcMode::Private | IpcMode::Shareable => {}
        }
    }
    if let Some(name) = options.domainname.as_ref().filter(|name| !is_domain(name)) {
        return Err(Invalid::Domain(short(name)));
    }
    if let Some(parent) = options.cgroup_parent.as_ref().filter(|parent| !is_plain_path(parent)) {
        return Err(Invalid::CgroupParent(short(parent)));
    }
    if let Some(group) = options.groups.iter().find(|group| !is_group(group)) {
        return Err(Invalid::Group(short(group)));
    }
    if let Some(host) = options.hosts.iter().find(|host| !is_word(&host.name) || host.name.len() > 255) {
        return Err(Invalid::Host(short(&host.name)));
    }
    for (flag, words) in [("--dns-search", &options.dns.search), ("--dns-option", &options.dns.options)] {
        if let Some(text) = words.iter().find(|word| !is_word(word) || word.len() > 255) {
            return Err(Invalid::Dns { flag, text: short(text) });
        }
    }
    let bad =
        |(key, value): &(&String, &String)| key.is_empty() || key.contains('\0') || value.contains('\0');
    match options.annotations.iter().find(bad) {
        Some((key, _)) => Err(Invalid::Annotation(short(key))),
        None => Ok(()),
    }
}

/// Docker's list, and nothing that only looks like one of it (CVE-2022-0811).
fn check_sysctl(options: &ContainerOptions, name: &str, value: &str) -> Result<(), Invalid> {
    let plain = name.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/'))
    });
    let (network, ipc) = (name.starts_with("net."), name.starts_with("fs.mqueue.") || OF_IPC.contains(&name));
    if !plain || name.contains("//") || !(network || ipc) {
        return Err(Invalid::Sysctl(short(name)));
    }
    if value.contains(['\n', '\0']) {
        return Err(Invalid::SysctlValue(short(name)));
    }
    let of_host = |namespace| Err(Invalid::SysctlOfHost { name: short(name), namespace });
    if network && matches!(options.network, NetworkMode::Host | NetworkMode::Container(_)) {
        return of_host("network");
    }
    if ipc && options.namespaces.ipc == IpcMode::Host {
        return of_host("IPC");
    }
    Ok(())
}

fn is_domain(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// Names of letters, digits and a few signs, so that no group of another tree is meant.
fn is_plain_path(path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@'))
    };
    path.len() <= 1024 && path.split('/').all(plain)
}

fn is_group(group: &str) -> bool {
    if group.bytes().all(|b| b.is_ascii_digit()) {
        // A number that wraps would be somebody else's (CVE-2024-40635).
        return group.parse::<i32>().is_ok();
    }
    group.len() <= 256 && !group.starts_with(['-', '+']) && !group.contains([':', '\0', '\n', ' ', ','])
}

/// The namespaces of a container.
pub(super) fn namespaces(options: &ContainerOptions, network: bool) -> Vec<Namespace> {
    use NamespaceKind as K;
    let shared = &options.namespaces;
    let own = |kind| Some(Namespace { kind, path: None });
    let joined = |kind, name: &str| Some(Namespace { kind, path: Some(joined_path(&format!("ns/{name}"))) });
    let all = [
        own(K::Mount),
        match shared.pid {
            PidMode::Private => own(K::Pid),
            PidMode::Host => None,
            PidMode::Container(_) => joined(K::Pid, "pid"),
        },
        match shared.ipc {
            IpcMode::Private | IpcMode::None | IpcMode::Shareable => own(K::Ipc),
            IpcMode::Host => None,
            IpcMode::Container(_) => joined(K::Ipc, "ipc"),
        },
        own(K::Uts).filter(|_| !shared.host_uts),
        own(K::Cgroup).filter(|_| !shared.host_cgroup),
        match options.network {
            NetworkMode::Container(_) => joined(K::Network, "net"),
            _ => own(K::Network).filter(|_| network),
        },
    ];
    all.into_iter().flatten().collect()
}

/// A path that leads nowhere until the monitor has put a process into it.
pub(super) fn joined_path(rest: &str) -> PathBuf {
    PathBuf::from("/proc").join(JOINED).join(rest)
}

#[cfg(test)]
mod tests {
    use state::options::{HostEntry, Namespaces};

    use super::*;

    fn with(change: impl FnOnce(&mut ContainerOptions)) -> Result<(), Invalid> {
        let mut options = ContainerOptions::default();
        change(&mut options);
        check(&options)
    }

    fn sysctl(name: &str, change: impl FnOnce(&mut ContainerOptions)) -> Result<(), Invalid> {
        with(|options| {
            options.sysctls.insert(name.to_owned(), "1".to_owned());
            change(options);
        })
    }

    #[test]
    fn sysctls_are_those_of_the_containers_namespaces() {
        for name in
            ["net.ipv4.ip_forward", "net.ipv4.conf.eth0/1.forwarding", "fs.mqueue.msg_max", "kernel.shmmax"]
        {
            sysctl(name, |_| {}).unwrap();
        }
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "fs.file-max",
            "kernel.shm",
            "net",
            "netx.a",
            "net..a",
            "net.a b",
            "net.../../kernel.core_pattern",
            "net.a//b",
            "",
            "kernel.shmmax+kernel.core_pattern",
        ] {
            assert!(matches!(sysctl(name, |_| {}), Err(Invalid::Sysctl(_))), "{name}");
        }
        assert!(sysctl("net.a", |o| o.network = NetworkMode::Host).is_err());
        assert!(sysctl("kernel.sem", |o| o.network = NetworkMode::Host).is_ok());
        assert!(sysctl("kernel.sem", |o| o.namespaces.ipc = IpcMode::Host).is_err());
        let lines = with(|o| {
            o.sysctls.insert("net.a".to_owned(), "1\n2".to_owned());
        });
        assert!(matches!(lines, Err(Invalid::SysctlValue(_))));
    }

    #[test]
    fn what_contradicts_itself_or_is_no_name_is_refused() {
        let uts = Namespaces { host_uts: true, ..Namespaces::default() };
        let entry = |name: &str| vec![HostEntry { name: name.to_owned(), address: None }];
        let group = |text: &str| with(|o| o.groups = vec![text.to_owned()]);
        assert!(with(|o| (o.namespaces, o.hostname) = (uts.clone(), Some("x".to_owned()))).is_err());
        assert!(with(|o| o.namespaces = uts.clone()).is_ok());
        assert!(with(|o| o.domainname = Some("a b".to_owned())).is_err());
        for bad in ["../x", "a//b", "/", "a/../b", "a b", ".hidden", ""] {
            assert!(with(|o| o.cgroup_parent = Some(bad.to_owned())).is_err(), "{bad}");
        }
        for good in ["/a/b", "machine.slice", "a/b/"] {
            assert!(with(|o| o.cgroup_parent = Some(good.to_owned())).is_ok(), "{good}");
        }
        for bad in ["", "2147483648", "-1", "a:b", "a\nb"] {
            assert!(group(bad).is_err(), "{bad}");
        }
        assert!(group("audio").is_ok() && group("29").is_ok());
        assert!(
            with(|o| o.hosts = entry("a\n1.2.3.4 bank")).is_err() && with(|o| o.hosts = entry("a")).is_ok()
        );
        assert!(with(|o| o.dns.search = vec!["a b".to_owned()]).is_err());
        assert!(with(|o| o.dns.options = vec!["ndots:1\nnameserver 6.6.6.6".to_owned()]).is_err());
    }

    #[test]
    fn what_is_shared_is_not_made() {
        let kinds = |namespaces: Namespaces| {
            let options = ContainerOptions { namespaces, ..ContainerOptions::default() };
            let list = super::namespaces(&options, false);
            list.into_iter().map(|n| (n.kind, n.path.map(|p| p.display().to_string()))).collect::<Vec<_>>()
        };
        use NamespaceKind::{Cgroup, Ipc, Mount, Pid, Uts};
        let own: Vec<_> = [Mount, Pid, Ipc, Uts, Cgroup].map(|kind| (kind, None)).into();
        assert_eq!(kinds(Namespaces::default()), own);
        let host = Namespaces { ipc: IpcMode::Host, pid: PidMode::Host, host_uts: true, host_cgroup: true };
        assert_eq!(kinds(host), [(Mount, None)]);
        let joined = kinds(Namespaces {
            ipc: IpcMode::Container("x".to_owned()),
            pid: PidMode::Container("x".to_owned()),
            ..Namespaces::default()
        });
        assert_eq!(joined[1], (Pid, Some(format!("/proc/{JOINED}/ns/pid"))));
        assert_eq!(joined[2], (Ipc, Some(format!("/proc/{JOINED}/ns/ipc"))));
    }
}
