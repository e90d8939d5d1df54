//! What a name leads to, and whose that is.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use network::look;
use network::{Definition, Endpoint};
use state::container::Status;
use state::options::Protocol;

use super::dns::{self, Answer};
use super::sockets::listening;
use super::walk::{End, Walk};
use crate::containers::records;
use crate::error::Result;

impl Walk<'_> {
    /// What the name leads to, and whose that is.
    pub(super) fn name(&mut self) -> Result<()> {
        let host = self.target.host.clone();
        // By its name, whether it can be looked up or not.
        let named = if self.target.address().is_none() { self.engine.find(&host).ok() } else { None };
        let running = match named {
            None => None,
            Some(found) => {
                let end = self.running(found)?;
                if self.ended {
                    return Ok(());
                }
                end
            }
        };
        if let Some(address) = self.target.address() {
            self.address = Some(address);
            self.good("name", format!("{address} is an address, and no name to look up"));
        } else if let (true, Some(to)) = (self.from().is_host(), &running) {
            let address = to.endpoints().first().map(|endpoint| IpAddr::V4(endpoint.address().ip));
            self.address = address;
            match address {
                Some(ip) => self
                    .unknown("name", format!("the host does not look up containers' names: {host} has {ip}")),
                None => self.bad("name", "no-address", format!("{host} is on no network of its own"), ""),
            }
        } else {
            self.look_up(&host, running.as_ref())?;
        }
        let Some(address) = self.address else {
            self.ended = true;
            return Ok(());
        };
        let owner = match self.owner(address)? {
            Some(owner) => Some(owner),
            None => self.published(address)?,
        };
        self.to = owner;
        Ok(())
    }

    /// Looks a name up as the container does.
    pub(super) fn look_up(&mut self, host: &str, known: Option<&End>) -> Result<()> {
        let live = self.from().container.as_ref().map(|c| self.engine.instance.live(&c.record.id));
        let file = |name: &str| match &live {
            Some(live) => std::fs::read_to_string(live.join(name)),
            None => std::fs::read_to_string(Path::new("/etc").join(name)),
        };
        let line = |line: &str| {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let address = words.next()?.parse::<IpAddr>().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(host)).then_some(address)
        };
        if let Some(address) = file("hosts").unwrap_or_default().lines().find_map(line) {
            self.address = Some(address);
            self.good("name", format!("{host} is {address}, by /etc/hosts"));
            return Ok(());
        }
        let conf = file("resolv.conf").unwrap_or_default();
        let server =
            conf.lines().find_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
        let Some(server) = server else {
            self.bad(
                "name",
                "no-name-server",
                "there is no name server in /etc/resolv.conf",
                "give one: --dns ADDRESS",
            );
            return Ok(());
        };
        let answer =
            look::try_inside(self.from().namespace(), || dns::ask(SocketAddr::new(server, 53), host))?;
        let from = self.from().name.clone();
        match answer {
            Ok(Answer::Addresses(found)) if !found.is_empty() => {
                self.address = found.first().copied();
                let all: Vec<String> = found.iter().map(ToString::to_string).collect();
                self.good("name", format!("{host} is {}, says {server}", all.join(", ")));
            }
            Ok(Answer::NoSuchName | Answer::Addresses(_)) => match known {
                Some(known) => {
                    let net =
                        known.endpoints().iter().map(Endpoint::network).find(|net| *net != network::DEFAULT);
                    let mend = net.map_or_else(
                        || format!("dhow network create NETWORK && dhow network connect NETWORK {host} && dhow network connect NETWORK {from}"),
                        |net| format!("dhow network connect {net} {from}"),
                    );
                    let words =
                        format!("{host} runs, but is on no network with {from} on which there are names");
                    self.bad("name", "not-on-same-network", words, mend);
                }
                None => {
                    self.bad(
                        "name",
                        "no-such-name",
                        format!("there is no name {host}, says {server}"),
                        "dhow ps -a",
                    );
                }
            },
            Ok(Answer::Refused(code)) => {
                let words = format!(
                    "{server} could not find out what {host} is (code {code}): no server outside has answered it"
                );
                self.bad("name", "dns-silent", words, "see which are asked: /etc/resolv.conf, --dns");
            }
            Ok(Answer::Silent) => {
                let words = format!("the name server {server} does not answer");
                self.bad(
                    "name",
                    "dns-silent",
                    words,
                    format!("see which is asked: /etc/resolv.conf of {from}, --dns"),
                );
            }
            Err(error) => {
                let words = format!("the name server {server} cannot be asked: {error}");
                self.bad("name", "dns-silent", words, self.from().there("ip route"));
            }
        }
        Ok(())
    }

    /// Whose an address is.
    pub(super) fn owner(&mut self, address: IpAddr) -> Result<Option<End>> {
        let store = self.engine.network_store();
        for definition in store.list()?.into_iter().chain([Definition::default_of(&self.engine.instance)]) {
            if let Some(id) = network::users(&self.engine.instance, &definition)?.get(&address) {
                let Ok(found) = self.engine.find(id.as_str()) else { continue };
                return self.running(found);
            }
        }
        Ok(None)
    }

    /// Which container has published the port of the host's that it is about.
    pub(super) fn published(&mut self, address: IpAddr) -> Result<Option<End>> {
        let local = look::route(None, address)?.is_some_and(|route| route.local);
        if !local || (address.is_loopback() && !self.from().is_host()) {
            return Ok(None);
        }
        let wanted = if self.target.udp { Protocol::Udp } else { Protocol::Tcp };
        for id in records::all(&self.engine.instance)? {
            let Some(found) =
                records::load(&self.engine.instance, &id)?.filter(|f| f.status == Status::Running)
            else {
                continue;
            };
            let ports = found.live.as_ref().map(|live| live.ports.clone()).unwrap_or_default();
            let port = ports.iter().find(|port| {
                (port.host_port, port.protocol) == (self.target.port, wanted)
                    && port.host_ip.is_none_or(|ip| ip == address || ip.is_unspecified())
            });
            if let Some(port) = port {
                self.inner_port = port.container_port;
                let name = found.record.name.clone();
                let words = format!(
                    "port {} of the host is published for {name}, port {}",
                    self.target.port, self.inner_port
                );
                self.good("published", words);
                return self.running(found);
            }
        }
        let listens = listening("self", self.target.udp)
            .is_some_and(|all| all.iter().any(|l| l.port == self.target.port && l.hears(address)));
        if listens {
            self.good("published", format!("the host itself listens on port {}", self.target.port));
            return Ok(None);
        }
        let port = self.target.port;
        let words =
            format!("nothing listens on port {port} of the host ({address}), and no container publishes it");
        self.bad("published", "not-published", words, format!("dhow set --publish {port}:PORT CONTAINER"));
        Ok(None)
    }
}
