//! In what a container's new record differs from its old one, and what it takes for that to be in force.

use std::collections::BTreeMap;

use state::container::Record;
use state::options::{ContainerOptions, NetworkMode, PortMapping};

use super::changes::{has, name_of};
use crate::networks;

/// A kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Labels,
    RestartPolicy,
    Limits,
    Ports,
    Network,
    Environment,
    Mounts,
    Command,
    User,
    WorkingDirectory,
    Hostname,
}

/// One difference, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facet {
    pub kind: Kind,
    pub words: String,
}

/// How changes come into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All is so already.
    Nothing,
    /// The container does not run: they are written down for its next start.
    NextStart,
    /// At once, while it runs on.
    AtOnce,
    /// It is stopped and started again.
    Restart,
}

/// `live_ports`: what is published can be changed while the container runs.
pub(super) fn way(up: bool, facets: &[Facet], live_ports: bool) -> Way {
    let at_once = |kind| match kind {
        Kind::Labels | Kind::RestartPolicy | Kind::Limits => true,
        Kind::Ports => live_ports,
        Kind::Network
        | Kind::Environment
        | Kind::Mounts
        | Kind::Command
        | Kind::User
        | Kind::WorkingDirectory
        | Kind::Hostname => false,
    };
    match (up, facets) {
        (_, []) => Way::Nothing,
        (false, _) => Way::NextStart,
        (true, facets) if facets.iter().all(|facet| at_once(facet.kind)) => Way::AtOnce,
        _ => Way::Restart,
    }
}

/// All differences.
pub(super) fn between(old: &Record, new: &Record) -> Vec<Facet> {
    let mut facets = Vec::new();
    let mut add = |kind, words: String| facets.push(Facet { kind, words });
    let (before, after) = (&old.options, &new.options);
    for (key, value) in &after.labels {
        if before.labels.get(key) != Some(value) {
            add(Kind::Labels, format!("label {key}={value}"));
        }
    }
    for key in before.labels.keys().filter(|key| !after.labels.contains_key(*key)) {
        add(Kind::Labels, format!("no label {key}"));
    }
    if before.restart != after.restart {
        add(Kind::RestartPolicy, format!("restart policy {}", after.restart));
    }
    let limits = |o: &ContainerOptions| (o.memory, o.nano_cpus, o.pids_limit, o.limits.clone());
    if limits(before) != limits(after) {
        add(Kind::Limits, "limits".to_owned());
    }
    for port in more(&after.ports, &before.ports) {
        add(Kind::Ports, format!("publish {}", shown(port)));
    }
    for port in more(&before.ports, &after.ports) {
        add(Kind::Ports, format!("no longer publish {}", shown(port)));
    }
    if (&before.network, &before.endpoints) != (&after.network, &after.endpoints) {
        let words = match &after.network {
            NetworkMode::Container(_) => networks::mode(after),
            _ => networks::names(after).join(", "),
        };
        add(Kind::Network, format!("network {words}"));
    }
    let hostname = old.resolved.hostname != new.resolved.hostname;
    for (words, from, to) in [
        ("environment variable", &old.resolved.env, &new.resolved.env),
        ("no environment variable", &new.resolved.env, &old.resolved.env),
    ] {
        let is_new = |entry: &&String| match words {
            "environment variable" => !from.contains(entry),
            _ => !has(from, name_of(entry)),
        };
        for entry in to.iter().filter(is_new) {
            // The one that follows from the host's name need not be told apart.
            if !(hostname && name_of(entry) == "HOSTNAME") {
                add(Kind::Environment, format!("{words} {}", name_of(entry)));
            }
        }
    }
    let (were, are) = (mounts(before), mounts(after));
    for (path, mount) in &are {
        if were.get(path) != Some(mount) {
            add(Kind::Mounts, format!("mount {path}"));
        }
    }
    for path in were.keys().filter(|path| !are.contains_key(*path)) {
        add(Kind::Mounts, format!("no mount {path}"));
    }
    if old.args != new.args {
        add(Kind::Command, format!("command `{}`", new.args.join(" ")));
    }
    if old.resolved.user != new.resolved.user {
        add(Kind::User, format!("user {}", or_root(&new.resolved.user)));
    }
    if old.resolved.working_dir != new.resolved.working_dir {
        add(Kind::WorkingDirectory, format!("working directory {}", new.resolved.working_dir));
    }
    if hostname {
        add(Kind::Hostname, format!("host name {}", new.resolved.hostname));
    }
    facets
}

fn or_root(user: &str) -> &str {
    if user.is_empty() { "root" } else { user }
}

/// What is more often in one list than in the other.
fn more<'a>(these: &'a [PortMapping], those: &[PortMapping]) -> Vec<&'a PortMapping> {
    let mut others: Vec<&PortMapping> = those.iter().collect();
    let mut more = Vec::new();
    for port in these {
        match others.iter().position(|other| *other == port) {
            Some(at) => drop(others.swap_remove(at)),
            None => more.push(port),
        }
    }
    more
}

fn shown(port: &PortMapping) -> String {
    let host = match (port.host_ip, port.host_port) {
        (Some(ip), 0) => format!("{ip}::"),
        (Some(ip), host_port) => format!("{}:", std::net::SocketAddr::new(ip, host_port)),
        (None, 0) => String::new(),
        (None, host_port) => format!("{host_port}:"),
    };
    format!("{host}{}/{}", port.container_port, port.protocol)
}

/// What is mounted where, in a form that can be compared.
fn mounts(options: &ContainerOptions) -> BTreeMap<String, String> {
    let binds = options.binds.iter().map(|m| (&m.destination, format!("{m:?}")));
    let volumes = options.volumes.iter().map(|m| (&m.destination, format!("{m:?}")));
    let images = options.image_mounts.iter().map(|m| (&m.destination, format!("{m:?}")));
    let tmpfs = options.tmpfs.iter().map(|m| (&m.destination, format!("{m:?}")));
    let all = binds.chain(volumes).chain(images).chain(tmpfs);
    all.map(|(path, mount)| (path.display().to_string(), mount)).collect()
}

#[cfg(test)]
mod tests {
    use state::options::{Protocol, RestartPolicy, TmpfsMount};

    use super::super::tests::record;
    use super::*;

    #[test]
    fn each_difference_is_named_once() {
        let old = record();
        assert_eq!(between(&old, &old), []);
        let mut new = old.clone();
        new.options.labels.insert("a".to_owned(), "b".to_owned());
        new.options.restart = RestartPolicy::OnFailure(3);
        new.options.pids_limit = Some(5);
        let port =
            PortMapping { host_ip: None, host_port: 80, container_port: 8080, protocol: Protocol::Udp };
        new.options.ports = vec![port];
        new.options.network = NetworkMode::None;
        new.options.tmpfs = vec![TmpfsMount { destination: "/t".into(), ..TmpfsMount::default() }];
        new.args = vec!["sleep".into(), "1".into()];
        new.resolved.env = vec!["HOSTNAME=other".into(), "NEW=1".into()];
        new.resolved.hostname = "other".into();
        let words: Vec<String> = between(&old, &new).into_iter().map(|facet| facet.words).collect();
        let expected = [
            "label a=b",
            "restart policy on-failure:3",
            "limits",
            "publish 80:8080/udp",
            "network none",
            "environment variable NEW",
            "no environment variable OLD",
            "mount /t",
            "command `sleep 1`",
            "host name other",
        ];
        assert_eq!(words, expected);
        let back: Vec<String> = between(&new, &old).into_iter().map(|facet| facet.words).collect();
        assert!(back.contains(&"no label a".to_owned()) && back.contains(&"no mount /t".to_owned()));
    }

    #[test]
    fn what_the_kernel_cannot_change_takes_a_restart() {
        let facet = |kind| Facet { kind, words: String::new() };
        for (up, kinds, live_ports, expected) in [
            (true, &[][..], true, Way::Nothing),
            (false, &[Kind::Labels][..], false, Way::NextStart),
            (false, &[Kind::Environment][..], false, Way::NextStart),
            (true, &[Kind::Labels, Kind::Limits, Kind::RestartPolicy][..], false, Way::AtOnce),
            (true, &[Kind::Ports][..], true, Way::AtOnce),
            (true, &[Kind::Ports][..], false, Way::Restart),
            (true, &[Kind::Limits, Kind::Mounts][..], true, Way::Restart),
            (true, &[Kind::Environment][..], true, Way::Restart),
        ] {
            let facets: Vec<Facet> = kinds.iter().map(|kind| facet(*kind)).collect();
            assert_eq!(way(up, &facets, live_ports), expected, "{up} {kinds:?}");
        }
    }
}
