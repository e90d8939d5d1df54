//! Who can really reach a published port.
//!
//! Rules are programs; what they say about a packet is known when it has met them. So nothing is guessed from their text: the
//! host's rules are loaded into a network namespace that is thrown away afterwards, whose links have the names and addresses of the
//! host's (`model`); there, packets of every kind of sender that the rules or the links name, and of some that they do not, are
//! sent to each port (`probes`); and it is looked which of them come as far as our own chain. Nothing is sent on the host itself.
//!
//! What lies elsewhere (a firewall between hosts, a provider's groups, programs of eBPF on a link) is not known here. What cannot be
//! loaded is not known either, and said so.

mod model;
mod probes;
mod rules;

use std::collections::BTreeSet;
use std::net::IpAddr;

use state::Instance;
use state::options::{PortMapping, Protocol};

use crate::Result;
use crate::bridge::Bridge;
use crate::error::Attempt;
use crate::nft;
use crate::nft::table::Firewall;
use crate::ports;

use model::Link;
use probes::{Arrived, Sender};

/// Who can reach a published port, beside the host itself and its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Everybody who can send a packet to this host.
    All,
    /// Nobody.
    Host,
    /// Those: an address, a range, or `all`, each perhaps with `by LINK` or a version of the protocol.
    Some(Vec<String>),
    /// It cannot be known, and why.
    Unknown(String),
}

/// Who can reach these published ports of running containers; `ipv6` says whether the container has an address of that kind.
/// None of the host's ports is 0.
pub fn exposure(instance: &Instance, published: &[(PortMapping, bool)]) -> Result<Vec<Reach>> {
    let table = Bridge::of(instance).table;
    let standing = nft::table::standing(&table).firewall(|| format!("look for the table `{table}`"))?;
    let unknown = |why: &str| Ok(vec![Reach::Unknown(why.to_owned()); published.len()]);
    let own = nft::tables_of(&table);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let others = match rules::of_others(&own) {
        Ok(others) => others,
        Err(why) => return unknown(&why),
    };
    match standing {
        None => return unknown("the firewall table is gone"),
        Some(Firewall::Open) if !others.filter_forwarded => {
            return Ok(published.iter().map(|(port, _)| unfiltered(port)).collect());
        }
        Some(Firewall::Open) => {
            let why = "published-ports = \"open\", and rules of others about forwarded packets";
            return Ok(published
                .iter()
                .map(|(port, _)| local(port).unwrap_or(Reach::Unknown(why.to_owned())))
                .collect());
        }
        Some(Firewall::ObeyHostFirewall) if others.is_empty() => {
            return Ok(published.iter().map(|(port, _)| unfiltered(port)).collect());
        }
        Some(Firewall::ObeyHostFirewall) => {}
    }
    let links = model::links(instance)?;
    let senders = probes::senders(&others, &links);
    let targets: Vec<PortMapping> =
        published.iter().map(|(port, _)| port).filter(|port| local(port).is_none()).cloned().collect();
    match model::inside(&table, &links, &others, &targets, &senders) {
        Ok(arrived) => Ok(published
            .iter()
            .map(|(port, ipv6)| {
                local(port).unwrap_or_else(|| conclude(port, *ipv6, &links, &senders, &arrived))
            })
            .collect()),
        Err(why) => Ok(published
            .iter()
            .map(|(port, _)| local(port).unwrap_or_else(|| Reach::Unknown(why.clone())))
            .collect()),
    }
}

/// What is published on loopback nobody else can reach, whatever the rules say.
fn local(port: &PortMapping) -> Option<Reach> {
    port.host_ip.is_some_and(|ip| ip.is_loopback()).then_some(Reach::Host)
}

fn unfiltered(port: &PortMapping) -> Reach {
    local(port).unwrap_or(Reach::All)
}

/// What is said when it is clear which packets arrive.
fn conclude(
    port: &PortMapping,
    ipv6: bool,
    links: &[Link],
    senders: &[Sender],
    arrived: &BTreeSet<Arrived>,
) -> Reach {
    if port.protocol == Protocol::Sctp {
        return Reach::Unknown("SCTP is not tried".to_owned());
    }
    let mut found: Vec<(String, &str, bool)> = Vec::new();
    let (mut tried, mut open) = (0, 0);
    for link in links {
        for six in [false, true] {
            let Some(target) = probes::target(port, link, six).filter(|_| !six || ipv6) else { continue };
            let came = |sender: &&Sender| {
                let who = (sender.address, target, port.host_port, port.protocol);
                arrived.contains(&Arrived::by(link, who))
            };
            let of_kind = |anybody: bool| {
                senders.iter().filter(move |s| s.address.is_ipv6() == six && s.name.is_none() == anybody)
            };
            let strangers = of_kind(true).count();
            let strangers_came = of_kind(true).filter(came).count();
            tried += 1;
            if strangers_came > 0 && strangers_came < strangers {
                return Reach::Unknown("the rules tell senders apart by more than was tried".to_owned());
            }
            if strangers_came > 0 {
                open += 1;
                found.push(("all".to_owned(), &link.name, six));
            } else {
                found.extend(
                    of_kind(false).filter(came).filter_map(|s| Some((s.name.clone()?, &*link.name, six))),
                );
            }
        }
    }
    match (tried, open) {
        (0, _) => Reach::Unknown("no link of this host leads to the port's address".to_owned()),
        _ if tried == open => Reach::All,
        _ if found.is_empty() => Reach::Host,
        _ => Reach::Some(say(&found, links.len() > 1, ipv6 && port.host_ip.is_none())),
    }
}

fn say(found: &[(String, &str, bool)], several_links: bool, both_versions: bool) -> Vec<String> {
    let said = found.iter().map(|(who, link, six)| {
        let version = match (who == "all" && both_versions, six) {
            (false, _) => "",
            (true, false) => " by IPv4",
            (true, true) => " by IPv6",
        };
        let by = if several_links { format!(" at {link}") } else { String::new() };
        format!("{who}{version}{by}")
    });
    said.collect::<BTreeSet<String>>().into_iter().collect()
}

/// The elements of a table that has these ports published, wherever they lead.
fn elements(targets: &[PortMapping]) -> Vec<nft::elements::Published> {
    let nowhere = (std::net::Ipv4Addr::UNSPECIFIED, std::net::Ipv6Addr::UNSPECIFIED);
    let mut all = std::collections::BTreeMap::new();
    for port in ports::published(targets, nowhere.0, Some(nowhere.1)) {
        all.insert(port.place(), port);
    }
    all.into_values().collect()
}

/// An address and how many bits of it are common to a range.
type Range = (IpAddr, u8);
