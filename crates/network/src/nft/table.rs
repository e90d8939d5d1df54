//! The table of an instance. Nothing outside it is ever changed.
//!
//! ```text
//! table inet dhow {
//!   map ports     { type inet_proto . inet_service : ipv4_addr . inet_service }              published on all addresses
//!   map ports_at  { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }  … on one
//!   map ports6, ports6_at     the same of IPv6
//!   set doors, doors_at, doors6, doors6_at       the keys of the four
//!   set direct        { type inet_proto; timeout }  of which protocols all may come in at once (see direct)
//!   map guards, outward, inward, to_bridge { type ifname : verdict }   a bridge → its network's chains (see zone)
//!   set bridges       { type ifname }  all our bridges
//!   set masqueraded, masqueraded6     the subnets that the world sees as this host
//!
//!   chain guard       { prerouting, raw:    from a bridge: its guard }
//!   chain prerouting  { prerouting, dstnat: from a bridge, or of a protocol in `direct`, to an address of this host but
//!                       127.0.0.0/8: by the maps of ports }
//!   chain input       { input, after all others': from outside, new, to one of the doors: handed to the warden, drop }
//!   chain output      { output, dstnat:     to an address of this host: by the maps of ports }
//!   chain forward     { forward, filter:    from a bridge: may it leave;  to a bridge: may it enter }
//!   chain postrouting { postrouting, srcnat: to a bridge: what its network says;  from a masqueraded subnet: masquerade }
//! }
//! ```
//!
//! Why so:
//! - What comes from outside is not translated at once, so that it meets the rules of whoever says what may come in to this
//!   host; `input` sees what they have let through. See [`crate::warden`]. Where nobody says anything, the warden finds that out,
//!   and for a moment all is translated at once: see [`super::direct`]. ([`Firewall::Open`]: no `input`, and `prerouting`
//!   translates whatever comes.)
//! - A port published on loopback is translated in `output` only. In `prerouting` a neighbour's packet to
//!   127.0.0.1 would be translated before the kernel's own check could drop it.
//! - Connections from 127.0.0.1 reach a container only if the bridge has `route_localnet`; that would also let
//!   containers reach what listens on the host's loopback (CVE-2020-8558), and fake loopback sources: the guard.
//!   IPv6 has no such switch: what is published is not reached by `::1`, and clients fall back to 127.0.0.1.
//! - `forward` keeps machines that route to our subnets through this host, and our networks from one another, away from
//!   what is not published. `accept` there ends our chain only, not those of others.
//! - A container that uses a published port of its own bridge would get the answer directly from its
//!   neighbour, from an address it did not ask: hence the second masquerade.
//!
//! Each rule needs the name of a bridge or an element in a set: nobody else's packets match.

use serde::{Deserialize, Serialize};

use crate::netlink::{CREATE, Refusal};
use crate::subnet6::Subnet6;

use super::elements::Published;
use super::rule::Address::Destination;
use super::rule::{Interface, Is, Verdict, Version};
use super::set::{self, Holds, Type};
use super::zone::{Writer, Zone};
use super::{DELTABLE, INET, IPV4, NEWTABLE, Transaction, base_chain};

/// The map of ports published on all addresses.
pub(super) const PORTS: &str = "ports";
/// The map of ports published on one address.
pub(super) const PORTS_AT: &str = "ports_at";
/// The same of IPv6.
pub(super) const PORTS6: &str = "ports6";
/// The same of IPv6.
pub(super) const PORTS6_AT: &str = "ports6_at";
/// The keys of the maps of ports.
pub(super) const DOORS: &str = "doors";
/// The same.
pub(super) const DOORS_AT: &str = "doors_at";
/// The same.
pub(super) const DOORS6: &str = "doors6";
/// The same.
pub(super) const DOORS6_AT: &str = "doors6_at";
/// Our bridges' names.
pub(super) const BRIDGES: &str = "bridges";
/// What comes in from a bridge.
pub(super) const GUARDS: &str = "guards";
/// What is forwarded from a bridge.
pub(super) const OUTWARD: &str = "outward";
/// What is forwarded to a bridge.
pub(super) const INWARD: &str = "inward";
/// What goes out to a bridge, for translation.
pub(super) const TO_BRIDGE: &str = "to_bridge";
/// Protocols.
pub(super) const DIRECT: &str = "direct";
/// Subnets.
pub(super) const MASQUERADED: &str = "masqueraded";
/// Subnets.
pub(super) const MASQUERADED6: &str = "masqueraded6";

/// The table's comment, in nftables' encoding (type, length, text with terminator). Its number is raised with
/// every change below: a table with another one is made anew.
const MARK: &[u8] = b"\0\x07dhow 4\0";
/// The same of one whose ports are open.
const MARK_OPEN: &[u8] = b"\0\x0cdhow 4 open\0";

/// What decides whether somebody outside reaches a published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    /// What the host's firewall says of packets that come in to that port.
    #[default]
    ObeyHostFirewall,
    /// Nothing: it is published.
    Open,
}

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;

/// Whether the table stands and is of our making.
pub(crate) fn exists(table: &str) -> Result<bool, Refusal> {
    Ok(standing(table)?.is_some())
}

/// What decides about published ports in the table, where it stands and is of our making.
pub(crate) fn standing(table: &str) -> Result<Option<Firewall>, Refusal> {
    Ok(super::mark_of(INET, table)?.and_then(|mark| match &*mark {
        MARK => Some(Firewall::ObeyHostFirewall),
        MARK_OPEN => Some(Firewall::Open),
        _ => None,
    }))
}

/// The number under which the table's `input` hands packets to the warden. Instances in one network namespace differ in it.
pub(crate) fn group(table: &str) -> u16 {
    let hash =
        table.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    ((hash >> 16) ^ hash) as u16
}

/// Makes the table with all of these networks and ports, instead of one that may stand. No two ports have the same key.
pub(crate) fn create(
    table: &str,
    zones: &[Zone],
    ports: &[Published],
    firewall: Firewall,
) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    for family in [IPV4, INET] {
        // Made if missing, so that it can be removed whatever was there. (Until 0.1 it was one of IPv4 alone.)
        transaction.message_of(family, NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table));
        transaction.message_of(family, DELTABLE, 0, |r| r.string(TABLE_NAME, table));
    }
    transaction.message(NEWTABLE, CREATE, |r| {
        r.string(TABLE_NAME, table);
        r.bytes(TABLE_USERDATA, if firewall == Firewall::Open { MARK_OPEN } else { MARK });
    });
    sets(&mut transaction, table);
    for (name, purpose, place) in [
        ("guard", "filter", (PREROUTING, -300)),
        ("prerouting", "nat", (PREROUTING, -100)),
        ("output", "nat", (OUTPUT, -100)),
        ("forward", "filter", (FORWARD, 0)),
        ("postrouting", "nat", (POSTROUTING, 100)),
    ] {
        base_chain(&mut transaction, table, name, purpose, place);
    }
    if firewall == Firewall::ObeyHostFirewall {
        base_chain(&mut transaction, table, INPUT_CHAIN, "filter", (INPUT, LATE));
        input(&mut Writer { transaction: &mut transaction, table });
    }
    rules(&mut Writer { transaction: &mut transaction, table }, firewall);
    for zone in zones {
        zone.add(&mut transaction, table);
    }
    for port in ports {
        port.add_to(&mut transaction, table);
    }
    finish(transaction, table)
}

/// Adds a network to the table.
pub(crate) fn add(table: &str, zone: &Zone) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    zone.add(&mut transaction, table);
    finish(transaction, table)
}

/// Takes a network out of the table; fine if there is no table.
pub(crate) fn take_out(table: &str, zone: &Zone) -> Result<(), Refusal> {
    if !exists(table)? {
        return Ok(());
    }
    let mut transaction = Transaction::new();
    zone.remove(&mut transaction, table);
    finish(transaction, table)
}

/// The transaction wants an acknowledged last message; the table once more changes nothing.
fn finish(transaction: Transaction, table: &str) -> Result<(), Refusal> {
    transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table))
}

/// Removes the table; fine if there is none.
pub(crate) fn remove(table: &str) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    for family in [IPV4, INET] {
        transaction.message_of(family, NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table));
    }
    transaction.message_of(IPV4, DELTABLE, 0, |r| r.string(TABLE_NAME, table));
    transaction.commit(DELTABLE, 0, |r| r.string(TABLE_NAME, table))
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// Behind everybody else's chains (firewalld's is at 10, those of iptables at 0), and before the kernel remembers the
/// connection.
const LATE: i32 = 300;
const INPUT_CHAIN: &str = "input";

fn sets(transaction: &mut Transaction, table: &str) {
    use Type::{InterfaceName, Ipv4Address, Ipv6Address, Protocol, Service};
    let (v4, v6) = (Holds::Values(&[Ipv4Address, Service]), Holds::Values(&[Ipv6Address, Service]));
    let all: [(&str, &[Type], &Holds<'_>); 16] = [
        (PORTS, &[Protocol, Service], &v4),
        (PORTS_AT, &[Ipv4Address, Protocol, Service], &v4),
        (PORTS6, &[Protocol, Service], &v6),
        (PORTS6_AT, &[Ipv6Address, Protocol, Service], &v6),
        (DOORS, &[Protocol, Service], &Holds::Nothing),
        (DOORS_AT, &[Ipv4Address, Protocol, Service], &Holds::Nothing),
        (DOORS6, &[Protocol, Service], &Holds::Nothing),
        (DOORS6_AT, &[Ipv6Address, Protocol, Service], &Holds::Nothing),
        (DIRECT, &[Protocol], &Holds::Timeouts),
        (BRIDGES, &[InterfaceName], &Holds::Nothing),
        (GUARDS, &[InterfaceName], &Holds::Verdicts),
        (OUTWARD, &[InterfaceName], &Holds::Verdicts),
        (INWARD, &[InterfaceName], &Holds::Verdicts),
        (TO_BRIDGE, &[InterfaceName], &Holds::Verdicts),
        (MASQUERADED, &[Ipv4Address], &Holds::Intervals),
        (MASQUERADED6, &[Ipv6Address], &Holds::Intervals),
    ];
    for (id, (name, key, holds)) in (1..).zip(all) {
        set::make(transaction, table, (name, id), key, holds);
    }
}

/// What others' chains have let in to a published port goes to the warden.
fn input(writer: &mut Writer<'_>) {
    // The host's own were translated before they got here; and what the warden sends must not come back to it.
    writer.rule(INPUT_CHAIN, |r| r.interface(Interface::Incoming, Is::Equal, "lo").verdict(Verdict::Accept));
    // What somebody else has translated is answered by whom he has chosen.
    writer.rule(INPUT_CHAIN, |r| r.translated().verdict(Verdict::Accept));
    let group = group(writer.table);
    for (version, set, at) in [
        (Version::V4, DOORS_AT, true),
        (Version::V4, DOORS, false),
        (Version::V6, DOORS6_AT, true),
        (Version::V6, DOORS6, false),
    ] {
        writer.rule(INPUT_CHAIN, |r| {
            r.version(version)
                .begins()
                .destination_is_local()
                .port_in_set(version, set, at)
                .hand_over(group)
                .verdict(Verdict::Drop);
        });
    }
}

fn rules(writer: &mut Writer<'_>, firewall: Firewall) {
    use Interface::{Incoming, Outgoing};

    writer.rule("guard", |r| r.verdict_by_interface(Incoming, GUARDS));

    /// From where what comes to a published port is translated at once.
    #[derive(Clone, Copy)]
    enum From {
        Anywhere,
        Bridges,
        AnywhereIfDirect,
    }
    let from: &[From] = match firewall {
        Firewall::Open => &[From::Anywhere],
        Firewall::ObeyHostFirewall => &[From::Bridges, From::AnywhereIfDirect],
    };
    for from in from {
        for (version, map) in
            [(Version::V4, PORTS_AT), (Version::V4, PORTS), (Version::V6, PORTS6_AT), (Version::V6, PORTS6)]
        {
            writer.rule("prerouting", |r| {
                match from {
                    From::Anywhere => {}
                    From::Bridges => drop(r.interface_in_set(Incoming, BRIDGES, Is::Equal)),
                    From::AnywhereIfDirect => drop(r.protocol_in_set(DIRECT)),
                }
                r.version(version).destination_is_local();
                match version {
                    Version::V4 => r.loopback(Destination, Is::NotEqual),
                    Version::V6 => r.in_subnet6(Destination, Is::NotEqual, Subnet6::LOOPBACK),
                };
                r.translate_by_map(version, map, matches!(map, PORTS_AT | PORTS6_AT));
            });
        }
    }
    for map in [PORTS_AT, PORTS] {
        writer.rule("output", |r| {
            r.version(Version::V4).destination_is_local().translate_by_map(Version::V4, map, map == PORTS_AT);
        });
    }
    for map in [PORTS6_AT, PORTS6] {
        writer.rule("output", |r| {
            r.version(Version::V6)
                .destination_is_local()
                .in_subnet6(Destination, Is::NotEqual, Subnet6::LOOPBACK)
                .translate_by_map(Version::V6, map, map == PORTS6_AT);
        });
    }

    writer.rule("forward", |r| r.verdict_by_interface(Incoming, OUTWARD));
    writer.rule("forward", |r| r.verdict_by_interface(Outgoing, INWARD));

    writer.rule("postrouting", |r| r.verdict_by_interface(Outgoing, TO_BRIDGE));
    writer.rule("postrouting", |r| r.source_in_set(Version::V4, MASQUERADED).masquerade());
    writer.rule("postrouting", |r| r.source_in_set(Version::V6, MASQUERADED6).masquerade());
}
