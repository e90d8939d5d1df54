//! The table that keeps containers within the limits of where they may go (`--egress`).
//!
//! ```text
//! table inet dhow-egress {
//!   map limited { type ifname . ether_addr : verdict }   a bridge and a container's hardware address → its chain
//!   map proxied { the same }                             … → where its web traffic is turned aside
//!
//!   chain gate { prerouting, mangle: by `limited` }
//!   chain turn { prerouting, before dstnat: by `proxied` }
//!   chain door { input: to the proxy's port what was turned aside: accept;  all else there: drop }
//!
//!   set opened_T, opened6_T { type address . inet_proto . inet_service; timeout }   what was looked up, of rules with a port
//!   chain limits_T { known connections: accept;  to neighbours: accept;  by the rules: accept;
//!                    new connections to ports of web servers: accept;  the rest: logged, refused }
//!   chain turn_T   { to neighbours, by the rules: accept;  to ports of web servers: redirect to the proxy }
//! }
//! ```
//!
//! Why so:
//! - Before any address is translated, so that what counts is where the container wanted to go: the host's own addresses and
//!   published ports are places like any other. Neighbours are not: what stays on a bridge is no egress.
//! - By bridge and hardware address, since the table of senders ties those to a link and to addresses: link-local ones count
//!   as well, and one lookup decides for both versions of IP.
//! - That the link is Ethernet is said before its header is looked into: else nft could not load what it lists.
//! - Web traffic passes only as the first packet of a connection that is known from then on. One that conntrack takes for
//!   nonsense would not be translated, and leave as it is.
//! - Packets of other protocols than TCP and UDP, fragments included (which are put together before), have no way out but by
//!   a rule for all that goes to an address.

use std::net::IpAddr;

use rustix::io::Errno;
use state::egress::link::{Place, Registration};
use state::egress::net::Net;
use state::egress::rule::{Scheme, Transport};
use state::egress::{Egress, Rule as Limit};

use crate::netlink::{CREATE, Refusal};

use super::rule::{Ported, Refuse, Rule, Version};
use super::set::{self, Element, Holds, Type, interface};
use super::zone::{Writer, chain, rules_of};
use super::{DELCHAIN, DELSET, DELTABLE, INET, NEWCHAIN, NEWTABLE, Transaction, base_chain};

const LIMITED: &str = "limited";
const PROXIED: &str = "proxied";
/// Raised with every change above.
const MARK: &[u8] = b"\0\x07dhow 2\0";

const DOOR: &str = "door";
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
/// After connections are looked up (-200), before addresses are translated (-100).
const GATE: i32 = -150;
/// Before published ports.
const TURN: i32 = -105;

const TABLE: u16 = 1;
const USERDATA: u16 = 6;

/// Who listens for what is turned aside, and for what is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ears {
    /// The group to which refusals are logged.
    pub group: u16,
    /// The proxy's port.
    pub proxy: u16,
}

/// A way that a name has opened.
pub type Way = (IpAddr, Transport, u16);

/// What the table of an instance is called whose other tables are called so.
pub(crate) fn table_of(name: &str) -> String {
    format!("{name}-egress")
}

pub(crate) fn exists(table: &str) -> Result<bool, Refusal> {
    super::stands(INET, table, MARK)
}

/// Makes the table, empty, instead of one that may stand.
pub(crate) fn create(table: &str) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    transaction.message(NEWTABLE, CREATE, |r| r.string(TABLE, table));
    transaction.message(DELTABLE, 0, |r| r.string(TABLE, table));
    transaction.message(NEWTABLE, CREATE, |r| {
        r.string(TABLE, table);
        r.bytes(USERDATA, MARK);
    });
    for (id, map) in (1..).zip([LIMITED, PROXIED]) {
        let key = [Type::InterfaceName, Type::EtherAddress];
        set::make(&mut transaction, table, (map, id), &key, &Holds::Verdicts);
    }
    base_chain(&mut transaction, table, "gate", "filter", (PREROUTING, GATE));
    base_chain(&mut transaction, table, "turn", "nat", (PREROUTING, TURN));
    base_chain(&mut transaction, table, DOOR, "filter", (INPUT, 0));
    let mut writer = Writer { transaction: &mut transaction, table };
    writer.rule("gate", |r| r.verdict_by_place(LIMITED));
    writer.rule("turn", |r| r.verdict_by_place(PROXIED));
    finish(transaction, table)
}

/// Removes the table; fine if there is none.
pub(crate) fn remove(table: &str) -> Result<(), Refusal> {
    match Transaction::new().commit(DELTABLE, 0, |r| r.string(TABLE, table)) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// The transaction wants an acknowledged last message; the table once more changes nothing.
fn finish(transaction: Transaction, table: &str) -> Result<(), Refusal> {
    transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE, table))
}

/// What of the table belongs to one container.
struct Names {
    limits: String,
    turn: String,
    opened: String,
    opened6: String,
}

impl Names {
    fn of(container: &base::Id) -> Self {
        let of = |what: &str| format!("{what}_{}", container.short());
        Self { limits: of("limits"), turn: of("turn"), opened: of("opened"), opened6: of("opened6") }
    }
}

fn key(place: &Place) -> Vec<u8> {
    let mut key = interface(&place.bridge).to_vec();
    key.extend_from_slice(&place.mac);
    key.extend_from_slice(&[0, 0]);
    key
}

/// Puts a container into the table; what there is of it already is replaced, but for what its names have opened.
pub(crate) fn admit(table: &str, registration: &Registration, ears: Ears) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    // The port is another one with each process that listens there.
    rules_of(&mut transaction, table, DOOR);
    let mut writer = Writer { transaction: &mut transaction, table };
    let port = (ears.proxy, ears.proxy);
    writer.rule(DOOR, |r| r.leads_to_port(Ported::Tcp, port).translated().accept());
    writer.rule(DOOR, |r| r.leads_to_port(Ported::Tcp, port).drop());
    add(&mut transaction, table, registration, ears);
    finish(transaction, table)
}

fn add(transaction: &mut Transaction, table: &str, registration: &Registration, ears: Ears) {
    let names = Names::of(&registration.container);
    for (id, (name, address)) in
        (1..).zip([(&names.opened, Type::Ipv4Address), (&names.opened6, Type::Ipv6Address)])
    {
        let key = [address, Type::Protocol, Type::Service];
        set::make(transaction, table, (name, id), &key, &Holds::Timeouts);
    }
    for name in [&names.limits, &names.turn] {
        chain(transaction, NEWCHAIN, CREATE, table, name);
        rules_of(transaction, table, name);
    }
    let mut writer = Writer { transaction, table };
    limits(&mut writer, &names, registration, ears);
    if let Egress::Only(rules) = &registration.egress {
        turn(&mut writer, &names, registration, rules, ears);
    }
    for place in &registration.places {
        let key = key(place);
        for (map, chain) in [(LIMITED, &names.limits), (PROXIED, &names.turn)] {
            // Another container may have had the address, and not be gone yet.
            Element::Jump(&key, chain).replace(transaction, table, map);
        }
    }
}

/// Takes a container out of the table; `places` are those that are not another's by now.
pub(crate) fn dismiss(table: &str, registration: &Registration, places: &[&Place]) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    let names = Names::of(&registration.container);
    // Made first, so that the removal finds it, whatever there was.
    add(
        &mut transaction,
        table,
        &Registration { places: Vec::new(), ..registration.clone() },
        Ears { group: 0, proxy: 0 },
    );
    for place in places {
        let key = key(place);
        for (map, chain) in [(LIMITED, &names.limits), (PROXIED, &names.turn)] {
            Element::Jump(&key, chain).replace(&mut transaction, table, map);
            Element::Value(&key, &[]).remove(&mut transaction, table, map);
        }
    }
    for name in [&names.limits, &names.turn] {
        rules_of(&mut transaction, table, name);
        chain(&mut transaction, DELCHAIN, 0, table, name);
    }
    for name in [&names.opened, &names.opened6] {
        transaction.message(DELSET, 0, |r| {
            const NAME: u16 = 2;
            r.string(TABLE, table);
            r.string(NAME, name);
        });
    }
    finish(transaction, table)
}

/// Opens ways for so many seconds from now.
pub(crate) fn open(table: &str, container: &base::Id, ways: &[Way], seconds: u32) -> Result<(), Refusal> {
    let names = Names::of(container);
    let mut transaction = Transaction::new();
    for (address, transport, port) in ways {
        let (set, mut key) = match address {
            IpAddr::V4(ip) => (&names.opened, ip.octets().to_vec()),
            IpAddr::V6(ip) => (&names.opened6, ip.octets().to_vec()),
        };
        key.extend_from_slice(&[protocol(*transport) as u8, 0, 0, 0]);
        key.extend_from_slice(&port.to_be_bytes());
        key.extend_from_slice(&[0, 0]);
        Element::Until(&key, u64::from(seconds) * 1000).replace(&mut transaction, table, set);
    }
    finish(transaction, table)
}

fn protocol(transport: Transport) -> Ported {
    match transport {
        Transport::Tcp => Ported::Tcp,
        Transport::Udp => Ported::Udp,
    }
}

fn limits(writer: &mut Writer<'_>, names: &Names, registration: &Registration, ears: Ears) {
    let chain = names.limits.as_str();
    writer.rule(chain, |r| r.established().accept());
    for place in &registration.places {
        neighbours(writer, chain, place);
    }
    // How neighbours are found, and groups are joined, where there is IPv6.
    writer.rule(chain, |r| r.finds_neighbours().accept());
    writer.rule(chain, |r| r.manages_groups().drop());
    let prefix = match &registration.egress {
        Egress::Only(rules) => {
            allowed(writer, chain, names, rules);
            for port in web_ports(rules) {
                writer.rule(chain, |r| r.leads_to_port(Ported::Tcp, (port, port)).begins().accept());
            }
            String::from(registration.container.short())
        }
        Egress::Allow | Egress::Learn => format!("+{}", registration.container.short()),
    };
    if !matches!(registration.egress, Egress::Only(_)) {
        writer.rule(chain, |r| r.begins().limit().log(ears.group, &prefix));
        return writer.rule(chain, |r| r.accept());
    }
    writer.rule(chain, |r| r.limit().log(ears.group, &prefix));
    writer.rule(chain, |r| r.is_protocol(Ported::Tcp).refuse(Refuse::Reset));
    writer.rule(chain, |r| r.refuse(Refuse::Prohibited));
}

/// Other containers of the network: what the bridge itself carries to them is seen here on hosts that look into bridges.
fn neighbours(writer: &mut Writer<'_>, chain: &str, place: &Place) {
    for subnet in &place.subnets {
        let hosts: Vec<&IpAddr> =
            place.gateways.iter().filter(|ip| ip.is_ipv4() == subnet.address.is_ipv4()).collect();
        writer.rule(chain, |r| {
            r.enters_by(&place.bridge).leads_to(subnet.address, subnet.prefix);
            for host in &hosts {
                r.not_to(**host);
            }
            if let Some(last) = broadcast(subnet.address, subnet.prefix) {
                r.not_to(last);
            }
            r.accept();
        });
    }
}

fn broadcast(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let IpAddr::V4(ip) = address else { return None };
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    Some(IpAddr::V4((ip.to_bits() | hosts).into()))
}

/// What needs nobody to look into it.
fn allowed(writer: &mut Writer<'_>, chain: &str, names: &Names, rules: &[Limit]) {
    for rule in rules {
        if let Limit::Addresses { net, ports, transport } = rule {
            writer.rule(chain, |r| addresses(r, *net, *ports, *transport));
        }
    }
    if rules.iter().any(|rule| matches!(rule, Limit::Name { .. })) {
        for (version, set) in [(Version::V4, &names.opened), (Version::V6, &names.opened6)] {
            writer.rule(chain, |r| r.way_in_set(version, set).accept());
        }
    }
}

fn addresses(r: &mut Rule<'_>, net: Net, ports: Option<(u16, u16)>, transport: Option<Transport>) {
    r.leads_to(net.address(), net.prefix());
    match (ports, transport) {
        (Some(ports), transport) => {
            r.leads_to_port(protocol(transport.unwrap_or(Transport::Tcp)), ports);
        }
        (None, Some(transport)) => {
            r.is_protocol(protocol(transport));
        }
        (None, None) => {}
    }
    r.accept();
}

/// The ports at which the proxy looks who is spoken to.
pub fn web_ports(rules: &[Limit]) -> Vec<u16> {
    let mut ports: Vec<u16> = rules
        .iter()
        .flat_map(|rule| match rule {
            Limit::Web { port, .. } => vec![*port],
            Limit::Host(_) => vec![80, 443],
            _ => Vec::new(),
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// How the proxy is to be spoken to at a port: where rules differ, it looks what comes.
pub fn schemes(rules: &[Limit], at: u16) -> Vec<Scheme> {
    let has = |wanted: Scheme| {
        rules.iter().any(|rule| match rule {
            Limit::Web { port, scheme, .. } => *port == at && *scheme == wanted,
            Limit::Host(_) => at == if wanted == Scheme::Http { 80 } else { 443 },
            _ => false,
        })
    };
    [Scheme::Http, Scheme::Https].into_iter().filter(|scheme| has(*scheme)).collect()
}

fn turn(writer: &mut Writer<'_>, names: &Names, registration: &Registration, rules: &[Limit], ears: Ears) {
    let chain = names.turn.as_str();
    for place in &registration.places {
        neighbours(writer, chain, place);
    }
    allowed(writer, chain, names, rules);
    for port in web_ports(rules) {
        writer.rule(chain, |r| r.leads_to_port(Ported::Tcp, (port, port)).redirect(ears.proxy));
    }
}
