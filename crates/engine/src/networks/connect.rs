//! `network connect` and `network disconnect`; and what the networks of a container to be are.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::Path;

use base::fs::At;
use base::{Failure, Id, Kind};
use network::{Definition, Endpoint, Firewall, Running, Wish};
use state::container::{Live as Run, Record, Status};
use state::lock::Lock;
use state::options::{ContainerOptions, EndpointOptions, NetworkMode, PortMapping};

use crate::Engine;
use crate::containers::records::{self, Found};
use crate::error::Result;
use crate::networks::{bandwidth, endpoints};

/// Why a container's networks are not changed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("container {container} is on the network `{network}` already")]
    Already { container: String, network: String },
    #[error("container {container} is not on the network `{network}`")]
    NotOn { container: String, network: String },
    #[error("container {container} has {what}, and no networks of its own")]
    NoNetworks { container: String, what: &'static str },
    #[error("the network `{0}` is the host's, or none: containers are not connected to it")]
    Special(String),
    #[error("a container is on the network `{0}` once, or not at all")]
    Twice(String),
    #[error("the default network has no names: an alias needs a network of your own (dhow network create)")]
    AliasOnDefault,
    #[error("the default network has no names: --allow needs a network of your own (dhow network create)")]
    AllowOnDefault,
    #[error(
        "on the macvlan network `{0}` no rule of ours is between containers: --allow has no effect there"
    )]
    AllowOnMacvlan(String),
    #[error("`{0}` is nothing that can be allowed: want NAME:PORT[/PROTOCOL], as db:5432")]
    Allow(String),
    #[error("`{0}` is no alias: want letters, digits and -_., at most 253")]
    Alias(String),
    #[error("container {0} comes back just now: try again")]
    Unsettled(String),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotOn { .. } => Kind::NotFound,
            Self::Already { .. } | Self::NoNetworks { .. } | Self::Unsettled(_) => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }
}

impl Engine {
    /// Finds the networks that a container to be names, and checks what it wants there. They stay as long as the lock is
    /// held.
    pub(crate) fn resolve_networks(&self, options: &mut ContainerOptions) -> Result<Option<Lock>> {
        if options.network != NetworkMode::Networks {
            return Ok(None);
        }
        let store = self.network_store();
        let lock = store.hold()?;
        for at in 0..options.endpoints.len() {
            let definition = store.find(&options.endpoints[at].network)?;
            check(&options.endpoints[at], &definition)?;
            wish(&options.endpoints[at], &definition, Firewall::default()).check()?;
            if options.endpoints[..at].iter().any(|other| other.network == definition.name) {
                return Err(Error::Twice(definition.name).into());
            }
            options.endpoints[at].network = definition.name;
        }
        Ok(lock)
    }

    /// Claims what a container's networks need.
    pub(crate) fn prepare_networks(&self, record: &Record, ports: &[PortMapping]) -> Result<network::Plan> {
        let options = &record.options;
        let bandwidth = bandwidth::of(options);
        if options.network != NetworkMode::Networks {
            let default = Definition::default_of(&self.instance);
            let firewall = self.config.published_ports;
            let on_default = [Wish { bandwidth, ..Wish::any(&default, firewall) }];
            return Ok(match options.network {
                NetworkMode::Bridge => {
                    network::prepare_on(&self.instance, &record.id, &options.network, &on_default, ports)
                }
                _ => network::prepare(&self.instance, &record.id, &options.network, ports, firewall),
            }?);
        }
        let store = self.network_store();
        // Nobody removes them until they are claimed.
        let _lock = store.hold()?;
        let definitions: Vec<Definition> = options
            .endpoints
            .iter()
            .map(|e| store.find(&e.network))
            .collect::<std::result::Result<_, _>>()?;
        let wishes: Vec<Wish<'_>> = options
            .endpoints
            .iter()
            .zip(&definitions)
            .map(|(e, d)| Wish { bandwidth, ..wish(e, d, self.config.published_ports) })
            .collect();
        Ok(network::prepare_on(&self.instance, &record.id, &options.network, &wishes, ports)?)
    }

    /// Connects a container to a network, at once where it runs. Returns what the user should be told.
    pub fn connect_network(&self, container: &str, asked: &EndpointOptions) -> Result<Vec<String>> {
        if matches!(asked.network.as_str(), "host" | "none") {
            return Err(Error::Special(asked.network.clone()).into());
        }
        let store = self.network_store();
        let _networks_stay = store.hold()?;
        let definition = store.find(&asked.network)?;
        check(asked, &definition)?;
        let found = self.find(container)?;
        let mut warnings = Vec::new();
        let asked = EndpointOptions { network: definition.name.clone(), ..asked.clone() };
        // Who changes it at the same time waits until this is done.
        let record = records::change::<crate::Error>(&self.instance, &found.record.id, |record| {
            let mut all = networks_of(record, container)?;
            if all.iter().any(|other| other.network == definition.name) {
                return Err(already(container, &definition).into());
            }
            let mut then = record.clone();
            set(&mut then.options, all.iter().chain([&asked]).cloned().collect());
            self.check_wire(&then)?;
            if let Some(run) = self.run_of(&record.id, container)? {
                self.check_connection(record, &definition)?;
                let running = self.running(&record.id, run, container)?;
                let wish = Wish {
                    bandwidth: bandwidth::of(&record.options),
                    ..wish(&asked, &definition, self.config.published_ports)
                };
                let (endpoint, said) = running.change().connect(&wish)?;
                warnings = said;
                let addresses = addresses(&endpoint);
                self.edit_file(&record.id, "hosts", |text| {
                    add_lines(text, &addresses, &record.resolved.hostname)
                })?;
            }
            all.push(asked.clone());
            set(&mut record.options, all);
            Ok(())
        })?;
        self.tell_names(&record)?;
        self.note_network("connect", &definition, Some(&record.id));
        Ok(warnings)
    }

    /// Takes a container off a network, at once where it runs.
    pub fn disconnect_network(&self, container: &str, network: &str, force: bool) -> Result<()> {
        let store = self.network_store();
        let _networks_stay = store.hold()?;
        let found = self.find(container);
        let definition = store.find(network)?;
        let not_on = || Error::NotOn { container: container.to_owned(), network: definition.name.clone() };
        let found = match found {
            // It is off, since it is not there.
            Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        let record = records::change::<crate::Error>(&self.instance, &found.record.id, |record| {
            let mut all = networks_of(record, container)?;
            let at = all.iter().position(|other| other.network == definition.name).ok_or_else(not_on)?;
            if let Some(run) = self.run_of(&record.id, container)? {
                self.check_connection(record, &definition)?;
                let running = self.running(&record.id, run, container)?;
                let leaving = running.plan.endpoints().find(|e| e.network() == definition.name).cloned();
                if let Some(leaving) = leaving {
                    running.change().disconnect(&leaving)?;
                    let addresses = addresses(&leaving);
                    self.edit_file(&record.id, "hosts", |text| remove_lines(text, &addresses))?;
                }
            }
            all.remove(at);
            set(&mut record.options, all);
            Ok(())
        })?;
        self.tell_names(&record)?;
        self.note_network("disconnect", &definition, Some(&record.id));
        Ok(())
    }

    /// How a container runs, if it does.
    pub(super) fn run_of(&self, id: &Id, name: &str) -> Result<Option<Run>> {
        let Found { status, live, .. } = self.find(id.as_str())?;
        match status {
            Status::Running | Status::Paused => Ok(live),
            Status::Restarting => Err(Error::Unsettled(name.to_owned()).into()),
            _ => Ok(None),
        }
    }

    pub(super) fn running(&self, id: &Id, run: Run, name: &str) -> Result<Live<'_>> {
        let unsettled = || Error::Unsettled(name.to_owned());
        let namespace = network::namespace_of(run.pid)?;
        // Asked once more: now that the namespace is held, it was the container's if this is its process still.
        if self.run_of(id, name)?.map(|now| now.pid) != Some(run.pid) {
            return Err(unsettled().into());
        }
        let plan = self.plan_of(id)?.ok_or_else(unsettled)?;
        Ok(Live { engine: self, id: id.clone(), plan, ports: run.ports, namespace })
    }

    /// Changes the container's `/etc/hosts`, or another file of that kind, in place: it is bound into the container.
    pub(crate) fn edit_file(&self, id: &Id, name: &str, edit: impl FnOnce(&str) -> String) -> Result<()> {
        let path = self.instance.live(id).join(name);
        let mut text = String::new();
        let mut file = File::options().read(true).write(true).open(&path).at("open", &path)?;
        // The container may have written into it; what is no text is none of ours.
        if file.read_to_string(&mut text).is_err() {
            return Ok(());
        }
        let new = edit(&text);
        if new == text {
            return Ok(());
        }
        let write = |file: &mut File| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(new.as_bytes())?;
            file.set_len(new.len() as u64)
        };
        Ok(write(&mut file).at("write", &path)?)
    }
}

/// A running container, held by its network namespace.
pub(super) struct Live<'a> {
    engine: &'a Engine,
    id: Id,
    plan: network::Plan,
    ports: Vec<PortMapping>,
    namespace: File,
}

impl Live<'_> {
    pub(super) fn change(&self) -> Running<'_> {
        Running {
            instance: &self.engine.instance,
            id: &self.id,
            plan: &self.plan,
            ports: &self.ports,
            namespace: &self.namespace,
        }
    }
}

fn wish<'a>(asked: &EndpointOptions, definition: &'a Definition, firewall: Firewall) -> Wish<'a> {
    Wish {
        ip: asked.ip,
        ip6: asked.ip6,
        mac: asked.mac,
        closed: !asked.allow.is_empty(),
        ..Wish::any(definition, firewall)
    }
}

fn already(container: &str, definition: &Definition) -> Error {
    Error::Already { container: container.to_owned(), network: definition.name.clone() }
}

/// The networks of a container that has some of its own.
fn networks_of(record: &Record, container: &str) -> Result<Vec<EndpointOptions>> {
    let what = match &record.options.network {
        NetworkMode::Host => "the host's network",
        NetworkMode::Container(_) => "another container's network",
        NetworkMode::None => "the network mode `none`",
        NetworkMode::Bridge | NetworkMode::Networks => return Ok(endpoints(&record.options)),
    };
    Err(Error::NoNetworks { container: container.to_owned(), what }.into())
}

fn set(options: &mut ContainerOptions, endpoints: Vec<EndpointOptions>) {
    let default_alone = matches!(&endpoints[..], [only] if *only == EndpointOptions::on(network::DEFAULT));
    options.network = if default_alone { NetworkMode::Bridge } else { NetworkMode::Networks };
    options.endpoints = if default_alone { Vec::new() } else { endpoints };
}

fn check(asked: &EndpointOptions, definition: &Definition) -> std::result::Result<(), Error> {
    const LONGEST: usize = 253;
    if let Some(rule) = asked.allow.first() {
        if definition.is_default() {
            return Err(Error::AllowOnDefault);
        }
        if definition.is_macvlan() {
            return Err(Error::AllowOnMacvlan(definition.name.clone()));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let bad = asked.allow.iter().find(|rule| {
            rule.port == 0 || !(1..=LONGEST).contains(&rule.name.len()) || !rule.name.bytes().all(plain)
        });
        if bad.is_some() {
            return Err(Error::Allow(bad.unwrap_or(rule).to_string().chars().take(80).collect()));
        }
    }
    if definition.is_default() && !asked.aliases.is_empty() {
        return Err(Error::AliasOnDefault);
    }
    let good = |alias: &&String| {
        (1..=LONGEST).contains(&alias.len())
            && alias.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !alias.starts_with(['-', '.'])
    };
    match asked.aliases.iter().find(|alias| !good(alias)) {
        Some(bad) => Err(Error::Alias(bad.chars().take(80).collect())),
        None => Ok(()),
    }
}

/// All addresses of a place on a network.
pub(crate) fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    let six = endpoint.address6().map(|(ip, _, _)| ip.into());
    std::iter::once(endpoint.address().ip.into()).chain(six).collect()
}

fn add_lines(text: &str, addresses: &[IpAddr], hostname: &str) -> String {
    let mut new = text.to_owned();
    if !new.is_empty() && !new.ends_with('\n') {
        new.push('\n');
    }
    new.extend(addresses.iter().map(|ip| format!("{ip}\t{hostname}\n")));
    new
}

fn remove_lines(text: &str, addresses: &[IpAddr]) -> String {
    let about = |line: &&str| {
        let first = line.split_whitespace().next().and_then(|word| word.parse::<IpAddr>().ok());
        first.is_some_and(|ip| addresses.contains(&ip))
    };
    text.split_inclusive('\n').filter(|line| !about(line)).collect()
}

/// Where the files are that a container in another's network shares with it.
pub(crate) fn files_of<'a>(
    engine: &Engine,
    joins: &[monitor::Join],
    own: &'a Path,
) -> std::borrow::Cow<'a, Path> {
    let joined = joins.iter().find(|join| join.kind == oci::runtime::NamespaceKind::Network);
    joined.map_or(own.into(), |join| engine.instance.live(&join.container).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_hosts_come_and_go_with_the_network() {
        let ips = ["10.5.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let text = "127.0.0.1\tlocalhost\n10.5.0.20\tother";
        let more = add_lines(text, &ips, "web");
        assert_eq!(more, "127.0.0.1\tlocalhost\n10.5.0.20\tother\n10.5.0.2\tweb\nfd00::2\tweb\n");
        assert_eq!(remove_lines(&more, &ips), "127.0.0.1\tlocalhost\n10.5.0.20\tother\n");
    }

    #[test]
    fn one_that_is_on_the_default_network_alone_is_in_that_mode() {
        let mut options = ContainerOptions::default();
        set(&mut options, vec![EndpointOptions::on("bridge"), EndpointOptions::on("x")]);
        assert_eq!((&options.network, options.endpoints.len()), (&NetworkMode::Networks, 2));
        set(&mut options, vec![EndpointOptions::on("bridge")]);
        assert_eq!((&options.network, options.endpoints.len()), (&NetworkMode::Bridge, 0));
        set(&mut options, Vec::new());
        assert_eq!((&options.network, options.endpoints.len()), (&NetworkMode::Networks, 0));
    }
}
