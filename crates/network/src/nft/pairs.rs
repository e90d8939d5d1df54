//! Which container may speak to which, where one is closed but for what it was allowed (`--allow`).
//!
//! ```text
//! table bridge dhow_pairs          what passes from port to port of a bridge: no connection is known there
//! table inet dhow_pairs            what is routed from a bridge back into it (and all of that with `br_netfilter`)
//!   set closed, closed6     { type ipv4_addr }                                       who speaks to nobody else
//!   set allowed, allowed6   { type ipv4_addr . ipv4_addr . inet_proto . inet_service }   but to those
//!   set pieces, pieces6     { type ipv4_addr . ipv4_addr . inet_proto }  (bridge)    the same without ports, but for TCP
//!   set within (inet)       { type ifname . ifname }                                 a bridge, and itself
//! ```
//!
//! Of a datagram in pieces only the first tells a port. The others pass between those who may speak by its protocol, and are
//! nothing without the first. TCP sends no pieces; and what of TCP is too short to tell what it is, is no answer.
//!
//! Addresses are enough: a container sends in its own name alone ([`super::senders`]). Both tables stand only while somebody
//! is closed. A network that is closed altogether has the allowed pairs in its own chains, too ([`super::zone`]).

use std::net::IpAddr;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use state::options::Protocol as Transport;

use crate::netlink::{CREATE, Protocol, Refusal, Request, Socket, parse};

use super::rule::Verdict::{Accept, Drop};
use super::rule::{Ends, EtherType, TcpFlag, Version};
use super::set::{self, Element, Holds, Type, interface};
use super::zone::{PAIRS, PAIRS6, Writer};
use super::{
    BRIDGE, DELTABLE, GETSETELEM, INET, LIST_ELEMENT, NEWTABLE, Transaction, VALUE, base_chain, family, kind,
};

const CLOSED: &str = "closed";
const CLOSED6: &str = "closed6";
const ALLOWED: &str = "allowed";
const ALLOWED6: &str = "allowed6";
const PIECES: &str = "pieces";
const PIECES6: &str = "pieces6";
const WITHIN: &str = "within";
/// Raised with every change above.
const MARK: &[u8] = b"\0\x07dhow 2\0";
const CHAIN: &str = "forward";
/// Of both families.
const FORWARD: u32 = 2;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;

/// A container's address may speak to a port of another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: Transport,
    pub(crate) port: u16,
}

impl Pair {
    /// Nothing where the two are of different versions.
    fn key(&self) -> Option<Vec<u8>> {
        if self.from.is_ipv4() != self.to.is_ipv4() {
            return None;
        }
        let mut key = octets(self.from);
        key.extend(octets(self.to));
        let protocol = match self.protocol {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        };
        key.extend_from_slice(&[protocol, 0, 0, 0]);
        key.extend_from_slice(&self.port.to_be_bytes());
        key.extend_from_slice(&[0, 0]);
        Some(key)
    }

    fn set(&self) -> &'static str {
        if self.from.is_ipv4() { ALLOWED } else { ALLOWED6 }
    }

    /// The set of pieces, and the key there: the beginning of the other.
    fn piece(&self) -> Option<(&'static str, Vec<u8>)> {
        if self.protocol == Transport::Tcp {
            return None;
        }
        let (set, length) = if self.from.is_ipv4() { (PIECES, 12) } else { (PIECES6, 36) };
        Some((set, self.key()?[..length].to_vec()))
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The name of both tables.
pub(crate) fn name(table: &str) -> String {
    format!("{table}_pairs")
}

/// Whether both tables stand and are of our making.
pub(crate) fn exist(table: &str) -> Result<bool, Refusal> {
    let name = name(table);
    Ok(super::stands(BRIDGE, &name, MARK)? && super::stands(INET, &name, MARK)?)
}

/// A container that is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) bridge: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// To whom it may speak.
    pub(crate) pairs: Vec<Pair>,
}

/// Makes both with these, instead of those that may stand.
pub(crate) fn create(table: &str, containers: &[Closed]) -> Result<(), Refusal> {
    use Type::{InterfaceName, Ipv4Address, Ipv6Address, Protocol, Service};
    let name = name(table);
    for of in [BRIDGE, INET] {
        let mut transaction = Transaction::of(of);
        transaction.message(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, &name));
        transaction.message(DELTABLE, 0, |r| r.string(TABLE_NAME, &name));
        transaction.message(NEWTABLE, CREATE, |r| {
            r.string(TABLE_NAME, &name);
            r.bytes(TABLE_USERDATA, MARK);
        });
        let sets: [(&str, &[Type]); 7] = [
            (CLOSED, &[Ipv4Address]),
            (CLOSED6, &[Ipv6Address]),
            (ALLOWED, &[Ipv4Address, Ipv4Address, Protocol, Service]),
            (ALLOWED6, &[Ipv6Address, Ipv6Address, Protocol, Service]),
            (WITHIN, &[InterfaceName, InterfaceName]),
            (PIECES, &[Ipv4Address, Ipv4Address, Protocol]),
            (PIECES6, &[Ipv6Address, Ipv6Address, Protocol]),
        ];
        for (id, (set, key)) in (1..).zip(sets) {
            set::make(&mut transaction, &name, (set, id), key, &Holds::Nothing);
        }
        let place = (FORWARD, if of == INET { -1 } else { 0 });
        base_chain(&mut transaction, &name, CHAIN, "filter", place);
        let mut writer = Writer { transaction: &mut transaction, table: &name };
        if of == INET {
            routed(&mut writer);
        } else {
            bridged(&mut writer);
        }
        for container in containers {
            let within = [interface(&container.bridge), interface(&container.bridge)].concat();
            Element::Value(&within, &[]).add(&mut transaction, &name, WITHIN);
            for ip in &container.addresses {
                let set = if ip.is_ipv4() { CLOSED } else { CLOSED6 };
                Element::Value(&octets(*ip), &[]).add(&mut transaction, &name, set);
            }
            for pair in &container.pairs {
                if let Some(key) = pair.key() {
                    Element::Value(&key, &[]).add(&mut transaction, &name, pair.set());
                }
                if let Some((set, key)) = pair.piece() {
                    Element::Value(&key, &[]).add(&mut transaction, &name, set);
                }
            }
        }
        transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, &name))?;
    }
    Ok(())
}

const VERSIONS: [(Version, EtherType, &str, &str); 2] =
    [(Version::V4, EtherType::Ipv4, CLOSED, ALLOWED), (Version::V6, EtherType::Ipv6, CLOSED6, ALLOWED6)];

/// Of ICMP what tells of failures, and of IPv6 what ARP is to IPv4.
const FAILURES: [(Version, EtherType, &[u8]); 2] =
    [(Version::V4, EtherType::Ipv4, &[3]), (Version::V6, EtherType::Ipv6, &[1, 2, 3, 4, 135, 136])];

fn routed(writer: &mut Writer<'_>) {
    writer.rule(CHAIN, |r| r.established().verdict(Accept));
    for (version, _, _, allowed) in VERSIONS {
        writer.rule(CHAIN, |r| {
            r.version(version).pair_in_set(version, Ends::AsSent, allowed).verdict(Accept);
        });
    }
    for (version, _, kinds) in FAILURES {
        for kind in kinds {
            writer.rule(CHAIN, |r| r.version(version).is_icmp(version, *kind).verdict(Accept));
        }
    }
    for (version, _, closed, _) in VERSIONS {
        writer.rule(CHAIN, |r| {
            r.interfaces_in_set(WITHIN)
                .version(version)
                .sender_is_in_set(version, closed)
                .count()
                .verdict(Drop);
        });
    }
}

fn bridged(writer: &mut Writer<'_>) {
    for (version, carries, closed, allowed) in VERSIONS {
        writer.rule(CHAIN, |r| {
            r.ether_type(carries).pair_in_set(version, Ends::AsSent, allowed).verdict(Accept);
        });
        // What shows that it answers by TCP passes. Whatever else is TCP begins something, or hides what it is.
        for flag in [TcpFlag::Acknowledge, TcpFlag::Reset] {
            writer.rule(CHAIN, |r| r.ether_type(carries).answers_by_tcp(flag).verdict(Accept));
        }
        writer.rule(CHAIN, |r| {
            r.ether_type(carries).is_tcp().sender_is_in_set(version, closed).count().verdict(Drop);
        });
        // By the other protocols those are answered who may ask.
        writer.rule(CHAIN, |r| {
            r.ether_type(carries).pair_in_set(version, Ends::Reversed, allowed).verdict(Accept);
        });
        let pieces = if version == Version::V4 { PIECES } else { PIECES6 };
        for ends in [Ends::AsSent, Ends::Reversed] {
            writer.rule(CHAIN, |r| {
                r.ether_type(carries).later_piece(version).ends_in_set(version, ends, pieces).verdict(Accept);
            });
        }
    }
    for (version, carries, kinds) in FAILURES {
        for kind in kinds {
            writer.rule(CHAIN, |r| r.ether_type(carries).is_icmp(version, *kind).verdict(Accept));
        }
    }
    for (version, carries, closed, _) in VERSIONS {
        writer.rule(CHAIN, |r| {
            r.ether_type(carries).sender_is_in_set(version, closed).count().verdict(Drop);
        });
    }
}

/// Closes a container with these addresses on this bridge. `ENOENT` where the tables are gone.
pub(crate) fn close(table: &str, bridge: &str, addresses: &[IpAddr]) -> Result<(), Refusal> {
    let name = name(table);
    let within = [interface(bridge), interface(bridge)].concat();
    for of in [BRIDGE, INET] {
        let mut transaction = Transaction::of(of);
        for ip in addresses {
            let set = if ip.is_ipv4() { CLOSED } else { CLOSED6 };
            Element::Value(&octets(*ip), &[]).add(&mut transaction, &name, set);
        }
        // Acknowledged.
        transaction.commit(super::NEWSETELEM, CREATE, |r| {
            Element::Value(&within, &[]).write(r, &name, WITHIN);
        })?;
    }
    Ok(())
}

/// Allows some pairs, and others no longer. Fine where tables are gone: then nothing is allowed.
pub(crate) fn change(table: &str, more: &[Pair], less: &[Pair]) -> Result<(), Refusal> {
    let own = name(table);
    for (of, table, sets) in [
        (BRIDGE, &*own, None),
        (INET, &*own, None),
        // Only where a closed network stands.
        (INET, table, Some((PAIRS, PAIRS6))),
    ] {
        let set = |pair: &Pair| match sets {
            None => pair.set(),
            Some((four, six)) => {
                if pair.from.is_ipv4() {
                    four
                } else {
                    six
                }
            }
        };
        // Added first, so that the removal finds them, whatever there was.
        for (pairs, stay) in [(less, false), (more, true)] {
            for pair in pairs {
                let Some(key) = pair.key() else { continue };
                let element = Element::Value(&key, &[]);
                let mut transaction = Transaction::of(of);
                element.add(&mut transaction, table, set(pair));
                if !stay {
                    element.remove(&mut transaction, table, set(pair));
                }
                gone(transaction.commit(NEWTABLE, 0, |r| r.string(TABLE_NAME, table)))?;
            }
        }
    }
    change_pieces(&own, more, less)
}

/// The same of pieces, of which several pairs may have the same. What is allowed has changed already.
fn change_pieces(own: &str, more: &[Pair], less: &[Pair]) -> Result<(), Refusal> {
    for (pairs, stay) in [(less, false), (more, true)] {
        for pair in pairs {
            let Some((set, key)) = pair.piece() else { continue };
            if !stay && keys(BRIDGE, own, pair.set())?.iter().any(|other| other.starts_with(&key)) {
                continue;
            }
            let element = Element::Value(&key, &[]);
            let mut transaction = Transaction::of(BRIDGE);
            element.add(&mut transaction, own, set);
            if !stay {
                element.remove(&mut transaction, own, set);
            }
            gone(transaction.commit(NEWTABLE, 0, |r| r.string(TABLE_NAME, own)))?;
        }
    }
    Ok(())
}

/// Whether nobody is closed.
pub(crate) fn nobody(table: &str) -> Result<bool, Refusal> {
    let own = name(table);
    for of in [BRIDGE, INET] {
        for set in [CLOSED, CLOSED6] {
            if !keys(of, &own, set)?.is_empty() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A container with these addresses is gone: nothing is said of it any more, whoever it was.
pub(crate) fn forget(table: &str, addresses: &[IpAddr]) -> Result<(), Refusal> {
    let own = name(table);
    let tables = [
        (BRIDGE, &*own, &[CLOSED, CLOSED6, ALLOWED, ALLOWED6, PIECES, PIECES6][..]),
        (INET, &*own, &[CLOSED, CLOSED6, ALLOWED, ALLOWED6]),
        (INET, table, &[PAIRS, PAIRS6]),
    ];
    for (of, table, sets) in tables {
        for set in sets {
            let mut keys = keys(of, table, set)?;
            keys.retain(|key| addresses.iter().any(|ip| key.starts_with(&octets(*ip))));
            for key in keys {
                let mut transaction = Transaction::of(of);
                Element::Value(&key, &[]).remove(&mut transaction, table, set);
                gone(transaction.commit(NEWTABLE, 0, |r| r.string(TABLE_NAME, table)))?;
            }
        }
    }
    Ok(())
}

/// The keys of a set; none where there is none.
fn keys(of: u8, table: &str, set: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    const SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    const KEY: u16 = 1;
    let mut which = Request::new();
    which.raw(&family(of));
    which.string(TABLE_NAME, table);
    which.string(SET, set);
    let mut keys = Vec::new();
    let listed = Socket::open(Protocol::Netfilter)?.dump(kind(GETSETELEM), which.as_bytes(), |payload| {
        let elements = payload.get(4..).and_then(|attributes| parse::attribute(attributes, ELEMENTS));
        for (_, element) in
            parse::attributes(elements.unwrap_or_default()).filter(|(kind, _)| *kind == LIST_ELEMENT)
        {
            let key = parse::attribute(element, KEY).and_then(|key| parse::attribute(key, VALUE));
            keys.extend(key.map(<[u8]>::to_vec));
        }
    });
    gone(listed)?;
    Ok(keys)
}

/// Removes both tables; fine if there are none.
pub(crate) fn remove(table: &str) -> Result<(), Refusal> {
    let name = name(table);
    for of in [BRIDGE, INET] {
        gone(Transaction::of(of).commit(DELTABLE, 0, |r| r.string(TABLE_NAME, &name)))?;
    }
    Ok(())
}

fn gone(result: Result<(), Refusal>) -> Result<(), Refusal> {
    match result {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fills_whole_registers_and_no_pair_is_of_two_versions() {
        let pair = |from: &str, to: &str| Pair {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            protocol: Transport::Udp,
            port: 53,
        };
        let four = pair("10.5.0.2", "10.5.0.3").key().unwrap();
        assert_eq!(four, [10, 5, 0, 2, 10, 5, 0, 3, 17, 0, 0, 0, 0, 53, 0, 0]);
        assert_eq!(pair("fd00::2", "fd00::3").key().unwrap().len(), 40);
        assert_eq!(pair("fd00::2", "10.5.0.3").key(), None);
    }
}
