//! What of the table belongs to one network: four chains, which the base chains jump to by the bridge's name, so that a
//! packet costs the same however many networks there are.
//!
//! ```text
//!   chain guard_T { a source that is not of the subnets: drop;  to 127.0.0.0/8: drop;  a router's advertisement: drop }
//!   chain out_T   { only of an internal network:  not to its own bridge: drop }
//!   chain into_T  { from its own bridge: accept (or, where its containers are closed to one another, only what is allowed
//!                   and known connections)
//!                   known connections; published ports: accept;  the rest: drop }
//!   chain nat_T   { from 127.0.0.0/8: masquerade;  from the subnets, translated: masquerade;  from the subnets: accept }
//! ```

use serde::{Deserialize, Serialize};

use crate::netlink::{APPEND, CREATE, Request};
use crate::subnet::Subnet;
use crate::subnet6::Subnet6;

use super::rule::Address::{Destination, Source};
use super::rule::Verdict::{Accept, Drop};
use super::rule::{Ends, Interface, Is, Rule, Version};
use super::set::{self, Element, Holds, Type, interface};
use super::table::{BRIDGES, GUARDS, INWARD, MASQUERADED, MASQUERADED6, OUTWARD, TO_BRIDGE};
use super::{DELCHAIN, DELRULE, NEWCHAIN, NEWRULE, Transaction};

/// A network as the table sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Zone {
    /// What its chains are called after; unique in the table.
    pub(crate) tag: String,
    /// The bridge's name.
    pub(crate) bridge: String,
    pub(crate) subnet: Subnet,
    pub(crate) subnet6: Option<Subnet6>,
    /// Nothing leaves it, and nothing comes in.
    pub(crate) internal: bool,
    /// Its containers may speak to one another.
    pub(crate) open: bool,
    /// What leaves it has the host's address.
    pub(crate) masquerade: bool,
}

const TABLE: u16 = 1;
/// Who may speak to whom on closed networks: in the table only where there is such a network.
pub(super) const PAIRS: &str = "pairs";
/// The same of IPv6.
pub(super) const PAIRS6: &str = "pairs6";

impl Zone {
    fn chains(&self) -> [String; 4] {
        ["guard", "out", "into", "nat"].map(|purpose| format!("{purpose}_{}", self.tag))
    }

    /// Adds it, whole; what there is of it already is replaced.
    pub(super) fn add(&self, transaction: &mut Transaction, table: &str) {
        let chains = self.chains();
        for name in &chains {
            chain(transaction, NEWCHAIN, CREATE, table, name);
            // Where it stood already.
            rules_of(transaction, table, name);
        }
        if !self.open {
            use Type::{Ipv4Address, Ipv6Address, Protocol, Service};
            // Numbers that no other set of a transaction has. Where they stand already, that is all.
            let four = [Ipv4Address, Ipv4Address, Protocol, Service];
            set::make(transaction, table, (PAIRS, 101), &four, &Holds::Nothing);
            let six = [Ipv6Address, Ipv6Address, Protocol, Service];
            set::make(transaction, table, (PAIRS6, 102), &six, &Holds::Nothing);
        }
        let mut writer = Writer { transaction, table };
        let [guard, out, into, nat] = &chains;
        self.guard(&mut writer, guard);
        self.out(&mut writer, out);
        self.into(&mut writer, into);
        self.nat(&mut writer, nat);
        self.elements(|set, element| element.add(transaction, table, set));
    }

    /// Removes it, however much of it there is.
    pub(super) fn remove(&self, transaction: &mut Transaction, table: &str) {
        self.add(transaction, table);
        self.elements(|set, element| element.remove(transaction, table, set));
        for name in &self.chains() {
            rules_of(transaction, table, name);
            chain(transaction, DELCHAIN, 0, table, name);
        }
    }

    fn guard(&self, writer: &mut Writer<'_>, chain: &str) {
        writer.rule(chain, |r| r.address(Source, Is::NotEqual, self.subnet).count().verdict(Drop));
        writer.rule(chain, |r| r.loopback(Destination, Is::Equal).count().verdict(Drop));
        // CVE-2020-13401, CVE-2024-32473: a container is nobody's router.
        writer.rule(chain, |r| r.router_advertisement().count().verdict(Drop));
        let Some(subnet) = self.subnet6 else {
            return writer.rule(chain, |r| r.version(Version::V6).count().verdict(Drop));
        };
        writer.rule(chain, |r| {
            r.address6(Source, Is::NotEqual, subnet)
                .in_subnet6(Source, Is::NotEqual, Subnet6::LINK_LOCAL)
                .in_subnet6(Source, Is::NotEqual, Subnet6::UNSPECIFIED)
                .count()
                .verdict(Drop);
        });
    }

    fn out(&self, writer: &mut Writer<'_>, chain: &str) {
        if self.internal {
            writer.rule(chain, |r| {
                r.interface(Interface::Outgoing, Is::NotEqual, &self.bridge).count().verdict(Drop);
            });
        }
    }

    fn into(&self, writer: &mut Writer<'_>, chain: &str) {
        if self.open {
            writer.rule(chain, |r| {
                r.interface(Interface::Incoming, Is::Equal, &self.bridge).verdict(Accept);
            });
        }
        if !self.open {
            for (version, pairs) in [(Version::V4, PAIRS), (Version::V6, PAIRS6)] {
                writer.rule(chain, |r| {
                    r.version(version).pair_in_set(version, Ends::AsSent, pairs).verdict(Accept);
                });
            }
        }
        if !self.internal || !self.open {
            writer.rule(chain, |r| r.established().verdict(Accept));
            writer.rule(chain, |r| r.translated().verdict(Accept));
        }
        writer.rule(chain, |r| r.count().verdict(Drop));
    }

    fn nat(&self, writer: &mut Writer<'_>, chain: &str) {
        writer.rule(chain, |r| r.loopback(Source, Is::Equal).masquerade());
        writer.rule(chain, |r| r.address(Source, Is::Equal, self.subnet).translated().masquerade());
        // What stays on the bridge keeps its source.
        writer.rule(chain, |r| r.address(Source, Is::Equal, self.subnet).verdict(Accept));
        if let Some(subnet) = self.subnet6 {
            writer.rule(chain, |r| r.address6(Source, Is::Equal, subnet).translated().masquerade());
            writer.rule(chain, |r| r.address6(Source, Is::Equal, subnet).verdict(Accept));
        }
    }

    /// Its elements of the sets and maps that all networks share.
    fn elements(&self, mut each: impl FnMut(&str, Element<'_>)) {
        let [guard, out, into, nat] = &self.chains();
        let key = interface(&self.bridge);
        for (map, chain) in [(GUARDS, guard), (OUTWARD, out), (INWARD, into), (TO_BRIDGE, nat)] {
            each(map, Element::Jump(&key, chain));
        }
        each(BRIDGES, Element::Value(&key, &[]));
        if !self.masquerade {
            return;
        }
        let first = self.subnet.network().octets();
        each(MASQUERADED, Element::From(&first));
        if let Some(after) = self.subnet.broadcast().to_bits().checked_add(1) {
            each(MASQUERADED, Element::To(&after.to_be_bytes()));
        }
        if let Some(subnet) = self.subnet6 {
            each(MASQUERADED6, Element::From(&subnet.network().octets()));
            if let Some(after) = subnet.address(u128::MAX).to_bits().checked_add(1) {
                each(MASQUERADED6, Element::To(&after.to_be_bytes()));
            }
        }
    }
}

pub(super) fn chain(transaction: &mut Transaction, message: u16, flags: u16, table: &str, name: &str) {
    const NAME: u16 = 3;
    transaction.message(message, flags, |r| {
        r.string(TABLE, table);
        r.string(NAME, name);
    });
}

/// Removes all rules of a chain.
pub(super) fn rules_of(transaction: &mut Transaction, table: &str, chain: &str) {
    const CHAIN: u16 = 2;
    transaction.message(DELRULE, 0, |r| {
        r.string(TABLE, table);
        r.string(CHAIN, chain);
    });
}

/// Writes rules.
pub(super) struct Writer<'a> {
    pub(super) transaction: &'a mut Transaction,
    pub(super) table: &'a str,
}

impl Writer<'_> {
    pub(super) fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Rule<'_>)) {
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        let table = self.table;
        self.transaction.message(NEWRULE, CREATE | APPEND, |r: &mut Request| {
            r.string(TABLE, table);
            r.string(CHAIN, chain);
            r.nest(EXPRESSIONS, |r| write(&mut Rule::new(r)));
        });
    }
}
