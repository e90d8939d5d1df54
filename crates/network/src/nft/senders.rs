//! Who may send what through which port of a bridge: a table of the family `bridge`, which sees what containers send to one
//! another, too.
//!
//! ```text
//! table bridge dhow {
//!   set ports   { type ifname }                                the host ends of our containers' links
//!   set owners  { type ifname . ether_addr . ipv4_addr }       which container's end has which addresses
//!   set owners6 { type ifname . ether_addr . ipv6_addr }
//!   map neighbours { type ifname : verdict }                   a container's end → its chain below, where it has IPv6
//!   chain guard { prerouting: not from one of the ports: accept
//!                 ip, arp:  port . hardware address . sender @owners: accept
//!                 ip6:      a router's advertisement, a redirection: drop
//!                           ICMP right behind the header: by `neighbours`
//!                           from ::, to many on the link: what it listens to: accept
//!                           messages about neighbours: drop
//!                           the rest, where its protocol can be told: port . hardware address . sender @owners6: accept
//!                 the rest: drop }
//!   chain about_LINK { from ::, to many on the link: whether an own address is free: accept
//!                      port . hardware address . sender @owners6, and what it tells of addresses is its own: accept }
//! }
//! ```
//!
//! So a container can neither answer for its neighbours, nor for the bridge, nor send in anybody's name, and what is no IP
//! at all goes nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::netlink::{CREATE, Refusal};
use crate::subnet6::Subnet6;

use super::rule::Address::Source;
use super::rule::Verdict::{Accept, Drop};
use super::rule::{EtherType, Interface, Is, Neighbour, Version};
use super::set::{self, Element, Holds, Type, interface};
use super::zone::{Writer, chain, rules_of};
use super::{BRIDGE, DELCHAIN, DELTABLE, NEWCHAIN, NEWTABLE, Transaction, base_chain};

const PORTS: &str = "ports";
const OWNERS: &str = "owners";
const OWNERS6: &str = "owners6";
const NEIGHBOURS: &str = "neighbours";
/// Raised with every change above.
const MARK: &[u8] = b"\0\x07dhow 3\0";

const PREROUTING: u32 = 0;
/// Before anybody else's.
const PRIORITY: i32 = -400;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;

/// What one container may send through its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    /// The link's end on the host.
    pub(crate) link: &'a str,
    pub(crate) mac: [u8; 6],
    pub(crate) ip: Ipv4Addr,
    pub(crate) ip6: Option<Ipv6Addr>,
}

impl Owner<'_> {
    fn key(&self, ip: IpAddr) -> Vec<u8> {
        let mut key = interface(self.link).to_vec();
        key.extend_from_slice(&self.mac);
        key.extend_from_slice(&[0, 0]);
        match ip {
            IpAddr::V4(ip) => key.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => key.extend_from_slice(&ip.octets()),
        }
        key
    }

    /// What its chain is called.
    fn chain(&self) -> String {
        format!("about_{}", self.link)
    }

    /// Adds it; what there is of it already is replaced.
    fn add(&self, transaction: &mut Transaction, table: &str) {
        if let Some(ip6) = self.ip6 {
            let name = self.chain();
            chain(transaction, NEWCHAIN, CREATE, table, &name);
            rules_of(transaction, table, &name);
            self.about_neighbours(&mut Writer { transaction, table }, &name, ip6);
        }
        self.elements(|set, element| element.add(transaction, table, set));
    }

    /// Who is where is told by messages of ICMP in IPv6, which name addresses and hardware addresses in their own right: those must
    /// be the sender's, too.
    fn about_neighbours(&self, writer: &mut Writer<'_>, chain: &str, ip6: Ipv6Addr) {
        use Neighbour::{Advertisement, RouterSolicitation, Solicitation};

        let own = [ip6, link_local(self.mac)];
        // Who asks whether the address that it has just got is free; of somebody else's, that would keep it from getting it.
        for (ip, nonce) in own.iter().flat_map(|ip| [(*ip, false), (*ip, true)]) {
            writer.rule(chain, |r| {
                r.ether_type(EtherType::Ipv6).in_subnet6(Source, Is::Equal, Subnet6::UNSPECIFIED);
                r.hardware_sender(self.mac).neighbour(Solicitation).for_many_on_link().target_is(ip);
                (if nonce { r.nonce(Solicitation) } else { r.no_options(Solicitation) }).verdict(Accept);
            });
        }
        let about = [(RouterSolicitation, None), (Solicitation, None)].into_iter();
        for (kind, target) in about.chain(own.map(|ip| (Advertisement, Some(ip)))) {
            for option in [true, false] {
                writer.rule(chain, |r| {
                    r.ether_type(EtherType::Ipv6).neighbour(kind).sender_in_set(EtherType::Ipv6, OWNERS6);
                    if let Some(ip) = target {
                        r.target_is(ip);
                    }
                    (if option { r.hardware_option_is(kind, self.mac) } else { r.no_options(kind) })
                        .verdict(Accept);
                });
            }
        }
    }

    fn elements(&self, mut each: impl FnMut(&str, Element<'_>)) {
        each(OWNERS, Element::Value(&self.key(self.ip.into()), &[]));
        if let Some(ip6) = self.ip6 {
            each(OWNERS6, Element::Value(&self.key(ip6.into()), &[]));
            each(OWNERS6, Element::Value(&self.key(link_local(self.mac).into()), &[]));
            each(NEIGHBOURS, Element::Jump(&interface(self.link), &self.chain()));
        }
        each(PORTS, Element::Value(&interface(self.link), &[]));
    }
}

/// The address that an interface gives itself (RFC 4291, appendix A).
pub(crate) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, 0, 0, 0];
    octets[13..].copy_from_slice(&mac[3..]);
    Ipv6Addr::from(octets)
}

/// Whether the table stands and is of our making.
pub(crate) fn exists(table: &str) -> Result<bool, Refusal> {
    super::stands(BRIDGE, table, MARK)
}

/// Makes the table with these, instead of one that may stand.
pub(crate) fn create(table: &str, owners: &[Owner<'_>]) -> Result<(), Refusal> {
    use Type::{EtherAddress, InterfaceName, Ipv4Address, Ipv6Address};

    let mut transaction = Transaction::of(BRIDGE);
    transaction.message(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table));
    transaction.message(DELTABLE, 0, |r| r.string(TABLE_NAME, table));
    transaction.message(NEWTABLE, CREATE, |r| {
        r.string(TABLE_NAME, table);
        r.bytes(TABLE_USERDATA, MARK);
    });
    let sets: [(&str, &[Type]); 3] = [
        (PORTS, &[InterfaceName]),
        (OWNERS, &[InterfaceName, EtherAddress, Ipv4Address]),
        (OWNERS6, &[InterfaceName, EtherAddress, Ipv6Address]),
    ];
    for (id, (name, key)) in (1..).zip(sets) {
        set::make(&mut transaction, table, (name, id), key, &Holds::Nothing);
    }
    set::make(&mut transaction, table, (NEIGHBOURS, 4), &[InterfaceName], &Holds::Verdicts);
    let guard = "guard";
    base_chain(&mut transaction, table, guard, "filter", (PREROUTING, PRIORITY));
    let mut writer = Writer { transaction: &mut transaction, table };
    writer.rule(guard, |r| r.interface_in_set(Interface::Incoming, PORTS, Is::NotEqual).verdict(Accept));
    writer.rule(guard, |r| {
        r.ether_type(EtherType::Ipv4).sender_in_set(EtherType::Ipv4, OWNERS).verdict(Accept);
    });
    writer
        .rule(guard, |r| r.ether_type(EtherType::Arp).sender_in_set(EtherType::Arp, OWNERS).verdict(Accept));
    version6(&mut writer, guard);
    writer.rule(guard, |r| r.count().verdict(Drop));
    for owner in owners {
        owner.add(&mut transaction, table);
    }
    transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table))
}

/// What of IPv6 a container may send.
fn version6(writer: &mut Writer<'_>, guard: &str) {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const REDIRECT: u8 = 137;
    /// Who hears what was sent to many.
    const LISTENER_REPORT: u8 = 143;

    // Nothing below would let them pass; so a person sees that somebody tries.
    for kind in [ROUTER_ADVERTISEMENT, REDIRECT] {
        writer.rule(guard, |r| {
            r.ether_type(EtherType::Ipv6).icmpv6(Is::Equal).icmp_type(Is::Equal, kind).count().verdict(Drop);
        });
    }
    writer.rule(guard, |r| {
        r.ether_type(EtherType::Ipv6).plain_icmpv6().verdict_by_interface(Interface::Incoming, NEIGHBOURS);
    });
    writer.rule(guard, |r| {
        r.ether_type(EtherType::Ipv6).in_subnet6(Source, Is::Equal, Subnet6::UNSPECIFIED).for_many_on_link();
        r.icmpv6(Is::Equal).icmp_type(Is::Equal, LISTENER_REPORT).verdict(Accept);
    });
    // Nobody else has no address, and all that follows is in the sender's own name. Messages of ICMP, wherever they are in the
    // packet: those about neighbours are none of these.
    for (is, kind) in [(Is::AtMost, ROUTER_ADVERTISEMENT - 2), (Is::AtLeast, REDIRECT + 1)] {
        writer.rule(guard, |r| {
            r.ether_type(EtherType::Ipv6).icmpv6(Is::Equal).icmp_type(is, kind);
            r.sender_in_set(EtherType::Ipv6, OWNERS6).verdict(Accept);
        });
    }
    // The first piece has met these rules, and is nothing without.
    writer.rule(guard, |r| {
        r.ether_type(EtherType::Ipv6).icmpv6(Is::Equal).later_piece(Version::V6);
        r.sender_in_set(EtherType::Ipv6, OWNERS6).verdict(Accept);
    });
    // Where headers hide what it is, neither of both holds.
    writer.rule(guard, |r| {
        r.ether_type(EtherType::Ipv6).icmpv6(Is::NotEqual);
        r.sender_in_set(EtherType::Ipv6, OWNERS6).verdict(Accept);
    });
}

/// Adds a container's link. `ENOENT` where the table is gone.
pub(crate) fn add(table: &str, owner: &Owner<'_>) -> Result<(), Refusal> {
    let mut transaction = Transaction::of(BRIDGE);
    owner.add(&mut transaction, table);
    // Acknowledged, and changes nothing: an element that was just added.
    transaction.commit(super::NEWSETELEM, CREATE, |r| {
        Element::Value(&interface(owner.link), &[]).write(r, table, PORTS);
    })
}

/// Removes a container's link; fine if it is not there.
pub(crate) fn remove(table: &str, owner: &Owner<'_>) -> Result<(), Refusal> {
    let mut transaction = Transaction::of(BRIDGE);
    // Added first, so that the removal finds it, whatever there was.
    owner.add(&mut transaction, table);
    owner.elements(|set, element| element.remove(&mut transaction, table, set));
    if owner.ip6.is_some() {
        chain(&mut transaction, DELCHAIN, 0, table, &owner.chain());
    }
    gone(transaction.commit(NEWTABLE, 0, |r| r.string(TABLE_NAME, table)))
}

/// Removes the table; fine if there is none.
pub(crate) fn remove_table(table: &str) -> Result<(), Refusal> {
    gone(Transaction::of(BRIDGE).commit(DELTABLE, 0, |r| r.string(TABLE_NAME, table)))
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
    fn keys_fill_whole_registers() {
        let owner =
            Owner { link: "dh0a050002", mac: [2, 0x42, 10, 5, 0, 2], ip: [10, 5, 0, 2].into(), ip6: None };
        let key = owner.key(owner.ip.into());
        assert_eq!(key.len(), 28);
        assert_eq!(key[16..], [2, 0x42, 10, 5, 0, 2, 0, 0, 10, 5, 0, 2]);
        assert_eq!(link_local(owner.mac).to_string(), "fe80::42:aff:fe05:2");
    }
}
