//! What somebody wants to be different, and what becomes of the options: a pure function of the two.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::{Failure, Kind};
use state::container::Record;
use state::options::{
    BindMount, ContainerOptions, EndpointOptions, ImageMount, NetworkMode, PortMapping, Protocol,
    RestartPolicy, TmpfsMount, VolumeMount,
};

use crate::LimitChanges;

/// What is to be different about a container; what is not named stays. Of each kind, what is taken away goes first.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Limits.
    pub limits: LimitChanges,
    /// `--restart`.
    pub restart: Option<RestartPolicy>,
    /// `--label`: added, or given another value.
    pub labels: BTreeMap<String, String>,
    /// `--label-rm`.
    pub labels_removed: Vec<String>,
    /// `--env`, resolved: `NAME=value`.
    pub env: Vec<String>,
    /// `--env-rm`: names.
    pub env_removed: Vec<String>,
    /// `--publish`.
    pub ports: Vec<PortMapping>,
    /// `--publish-rm`.
    pub ports_removed: Vec<PortName>,
    /// `--volume` and `--mount` of what the host has.
    pub binds: Vec<BindMount>,
    /// `--volume` and `--mount` of volumes.
    pub volumes: Vec<VolumeMount>,
    /// `--mount` of images.
    pub image_mounts: Vec<ImageMount>,
    /// `--tmpfs`.
    pub tmpfs: Vec<TmpfsMount>,
    /// `--mount-rm`: where something is mounted.
    pub mounts_removed: Vec<PathBuf>,
    /// `--network`: the mode, and the networks where that says so.
    pub network: Option<(NetworkMode, Vec<EndpointOptions>)>,
    /// The words behind `--`.
    pub command: Vec<String>,
    /// `--entrypoint`; one empty word clears the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `--user`; empty: the image's.
    pub user: Option<String>,
    /// `--workdir`; empty: the image's.
    pub working_dir: Option<PathBuf>,
    /// `--hostname`; empty: the default.
    pub hostname: Option<String>,
}

/// Which published ports: those of a port of the container, or only those that lead from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortName {
    /// The host's address.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: Option<u16>,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl PortName {
    fn names(&self, port: &PortMapping) -> bool {
        (port.container_port, port.protocol) == (self.container_port, self.protocol)
            && self.host_port.is_none_or(|host_port| host_port == port.host_port)
            && (self.host_ip.is_none() || self.host_ip == port.host_ip)
    }
}

impl std::fmt::Display for PortName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        if let Some(port) = self.host_port {
            write!(f, "{port}:")?;
        }
        write!(f, "{}/{}", self.container_port, self.protocol)
    }
}

/// Changes that do not fit the container.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unfit {
    #[error("container {name} has no {what} `{which}`")]
    NotThere { name: String, what: &'static str, which: String },
    #[error("container {name} has something mounted on {} already", .path.display())]
    Mounted { name: String, path: PathBuf },
}

impl Failure for Unfit {
    fn kind(&self) -> Kind {
        match self {
            Self::NotThere { .. } => Kind::NotFound,
            Self::Mounted { .. } => Kind::Conflict,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotThere { name, .. } => vec![format!("look at what it has: dhow inspect {name}")],
            Self::Mounted { path, .. } => {
                vec![format!("take that away in the same call: --mount-rm {}", path.display())]
            }
        }
    }
}

impl Changes {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
            && self.restart.is_none()
            && self.labels.is_empty()
            && self.labels_removed.is_empty()
            && self.env.is_empty()
            && self.env_removed.is_empty()
            && self.ports.is_empty()
            && self.ports_removed.is_empty()
            && self.mounts().destinations().next().is_none()
            && self.mounts_removed.is_empty()
            && self.network.is_none()
            && self.command.is_empty()
            && self.entrypoint.is_none()
            && self.user.is_none()
            && self.working_dir.is_none()
            && self.hostname.is_none()
    }

    /// Options with nothing in them but the new mounts.
    pub(super) fn mounts(&self) -> ContainerOptions {
        ContainerOptions {
            binds: self.binds.clone(),
            volumes: self.volumes.clone(),
            image_mounts: self.image_mounts.clone(),
            tmpfs: self.tmpfs.clone(),
            ..ContainerOptions::default()
        }
    }

    /// The container's options with all of it but the new mounts, which have to be settled first.
    pub(super) fn apply(&self, record: &Record) -> Result<ContainerOptions, Unfit> {
        let name = &record.name;
        let missing = |what, which: &dyn ToString| Unfit::NotThere {
            name: name.clone(),
            what,
            which: which.to_string(),
        };
        let mut options = record.options.clone();
        self.limits.apply(&mut options);
        options.restart = self.restart.unwrap_or(options.restart);
        for key in &self.labels_removed {
            options.labels.remove(key).ok_or_else(|| missing("label", key))?;
        }
        options.labels.extend(self.labels.clone());
        for variable in &self.env_removed {
            if !has(&record.resolved.env, variable) {
                return Err(missing("environment variable", variable));
            }
            options.env.retain(|entry| name_of(entry) != variable);
        }
        for entry in &self.env {
            options.env.retain(|old| name_of(old) != name_of(entry));
            options.env.push(entry.clone());
        }
        for port in &self.ports_removed {
            let before = options.ports.len();
            options.ports.retain(|published| !port.names(published));
            if options.ports.len() == before {
                return Err(missing("published port", port));
            }
        }
        for port in &self.ports {
            // To publish what is published is no change; a port of the kernel's choice is another one each time.
            if port.host_port == 0 || !options.ports.contains(port) {
                options.ports.push(port.clone());
            }
        }
        for path in &self.mounts_removed {
            if !unmount(&mut options, path) {
                return Err(missing("mount", &path.display()));
            }
        }
        if let Some(path) = self.mounts().destinations().find(|new| is_mounted(&options, new)) {
            return Err(Unfit::Mounted { name: name.clone(), path: path.to_owned() });
        }
        self.replace_plain(&mut options);
        Ok(options)
    }

    fn replace_plain(&self, options: &mut ContainerOptions) {
        if let Some((mode, endpoints)) = &self.network {
            options.network = mode.clone();
            options.endpoints.clone_from(endpoints);
        }
        if let Some(words) = &self.entrypoint {
            options.entrypoint = Some(words.clone());
            // Docker's rule: the words behind another program are of no use to this one.
            options.command.clear();
        }
        if !self.command.is_empty() {
            options.command.clone_from(&self.command);
        }
        if let Some(user) = &self.user {
            options.user = Some(user.clone()).filter(|user| !user.is_empty());
        }
        if let Some(path) = &self.working_dir {
            options.working_dir = Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
        }
        if let Some(hostname) = &self.hostname {
            options.hostname = Some(hostname.clone()).filter(|hostname| !hostname.is_empty());
        }
    }
}

/// The name of `NAME=value`, or of a name alone.
pub(super) fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// Whether a variable of this name is set.
pub(super) fn has(env: &[String], name: &str) -> bool {
    env.iter().any(|entry| name_of(entry) == name)
}

fn is_mounted(options: &ContainerOptions, path: &Path) -> bool {
    options.destinations().any(|taken| same(taken, path))
}

/// Takes a mount away. Whether there was one.
fn unmount(options: &mut ContainerOptions, path: &Path) -> bool {
    let there = is_mounted(options, path);
    options.binds.retain(|mount| !same(&mount.destination, path));
    options.volumes.retain(|mount| !same(&mount.destination, path));
    options.image_mounts.retain(|mount| !same(&mount.destination, path));
    options.tmpfs.retain(|mount| !same(&mount.destination, path));
    there
}

/// Whether two paths are the same but for doubled slashes, dots and a slash at the end.
fn same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    fn port(host_port: u16, container_port: u16) -> PortMapping {
        PortMapping { host_ip: None, host_port, container_port, protocol: Protocol::Tcp }
    }

    fn named(host_port: Option<u16>, container_port: u16) -> PortName {
        PortName { host_ip: None, host_port, container_port, protocol: Protocol::Tcp }
    }

    #[test]
    fn what_is_taken_away_goes_first_and_what_is_not_named_stays() {
        let mut record = record();
        record.options.ports = vec![port(8080, 80), port(8081, 80), port(0, 443)];
        record.options.env = vec!["A=1".into(), "B=2".into()];
        record.resolved.env.clone_from(&record.options.env);
        record.options.labels = [("x".to_owned(), "1".to_owned()), ("y".to_owned(), "2".to_owned())].into();
        record.options.volumes =
            vec![VolumeMount { name: "v".into(), destination: "/data".into(), ..VolumeMount::default() }];
        let changes = Changes {
            ports: vec![port(8080, 80), port(9090, 90)],
            ports_removed: vec![named(Some(8080), 80), named(None, 443)],
            env: vec!["A=3".into(), "C=4".into()],
            env_removed: vec!["B".into()],
            labels: [("x".to_owned(), "9".to_owned())].into(),
            labels_removed: vec!["y".into()],
            mounts_removed: vec!["/data/".into()],
            tmpfs: vec![TmpfsMount { destination: "//data".into(), ..TmpfsMount::default() }],
            user: Some(String::new()),
            ..Changes::default()
        };
        assert!(!changes.is_empty() && Changes::default().is_empty());
        let options = changes.apply(&record).unwrap();
        assert_eq!(options.ports, [port(8081, 80), port(8080, 80), port(9090, 90)]);
        assert_eq!(options.env, ["A=3", "C=4"]);
        assert_eq!(options.labels, [("x".to_owned(), "9".to_owned())].into());
        assert_eq!((options.volumes.len(), options.user), (0, None));
        let same = Changes::default().apply(&record).unwrap();
        assert_eq!(same, record.options);
    }

    #[test]
    fn what_is_not_there_cannot_be_taken_away_and_what_is_taken_not_be_mounted_on() {
        let mut record = record();
        record.options.ports = vec![port(8080, 80)];
        record.options.binds =
            vec![BindMount { source: "/a".into(), destination: "/b".into(), ..BindMount::default() }];
        let none = Changes::default;
        let refused = [
            Changes { ports_removed: vec![named(None, 81)], ..none() },
            Changes { ports_removed: vec![named(Some(81), 80)], ..none() },
            Changes { labels_removed: vec!["no".into()], ..none() },
            Changes { env_removed: vec!["NO".into()], ..none() },
            Changes { mounts_removed: vec!["/no".into()], ..none() },
        ];
        for changes in refused {
            assert!(matches!(changes.apply(&record), Err(Unfit::NotThere { .. })), "{changes:?}");
        }
        let tmpfs = vec![TmpfsMount { destination: "/b/.".into(), ..TmpfsMount::default() }];
        let error = Changes { tmpfs, ..none() }.apply(&record).unwrap_err();
        assert_eq!(error.to_string(), "container box has something mounted on /b/. already");
    }

    #[test]
    fn another_program_does_not_get_the_words_of_the_old_one() {
        let mut record = record();
        record.options.command = vec!["old".into()];
        let entrypoint = Some(vec!["/bin/x".to_owned()]);
        let options =
            Changes { entrypoint: entrypoint.clone(), ..Changes::default() }.apply(&record).unwrap();
        assert!(options.command.is_empty());
        let command = vec!["new".to_owned()];
        let options = Changes { command, entrypoint, ..Changes::default() }.apply(&record).unwrap();
        assert_eq!(options.command, ["new"]);
    }
}
