//! The table of an instance. Nothing outside it is ever changed.
//!
//! ```text
//! table ip dhow {
//!   map ports    { type inet_proto . inet_service : ipv4_addr . inet_service }              published on all addresses
//!   map ports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }  … on one
//!
//!   chain guard       { prerouting, raw:  from the bridge with a source that is not the subnet's: drop
//!                                         from the bridge to 127.0.0.0/8: drop }
//!   chain prerouting  { prerouting, dstnat: to an address of this host but 127.0.0.0/8: by the maps }
//!   chain output      { output, dstnat:   to an address of this host: by the maps }
//!   chain forward     { forward, filter:  not to the bridge: accept
//!                                         from the bridge; known connections; published ports: accept
//!                                         the rest: drop }
//!   chain postrouting { postrouting, srcnat: to the bridge from 127.0.0.0/8: masquerade
//!                                         to the bridge from the subnet, translated: masquerade
//!                                         from the subnet to elsewhere: masquerade }
//! }
//! ```
//!
//! Why so:
//! - A port published on loopback is translated in `output` only. In `prerouting` a neighbour's packet to
//!   127.0.0.1 would be translated before the kernel's own check could drop it.
//! - Connections from 127.0.0.1 reach a container only if the bridge has `route_localnet`; that would also let
//!   containers reach what listens on the host's loopback (CVE-2020-8558), and fake loopback sources: the guard.
//! - `forward` keeps machines that route to our subnet through this host away from what is not published.
//!   `accept` there ends our chain only, not those of others.
//! - A container that uses a published port of its own bridge would get the answer directly from its
//!   neighbour, from an address it did not ask: hence the second masquerade.
//!
//! Each rule names the bridge or the subnet, or needs an element in a map: nobody else's packets match.

use rustix::io::Errno;

use crate::netlink::{APPEND, CREATE, Protocol, Refusal, Request, Socket, parse};
use crate::subnet::Subnet;

use super::rule::Address::{Destination, Source};
use super::rule::Verdict::{Accept, Drop};
use super::rule::{Interface, Is, Rule};
use super::{DELTABLE, GETTABLE, IPV4, NEWCHAIN, NEWRULE, NEWSET, NEWTABLE, Transaction, family, kind};

/// The map of ports published on all addresses.
pub(super) const PORTS: &str = "ports";
/// The map of ports published on one address.
pub(super) const PORTS_AT: &str = "ports_at";

/// The table's comment, in nftables' encoding (type, length, text with terminator). Its number is raised with
/// every change below: a table with another one is made anew.
const MARK: &[u8] = b"\0\x07dhow 1\0";

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;

/// Whether the table stands and is of our making.
pub(crate) fn exists(table: &str) -> Result<bool, Refusal> {
    let mut request = Request::new();
    request.message(kind(GETTABLE), 0, &family(IPV4), |r| r.string(TABLE_NAME, table));
    let mark = |payload: &[u8]| {
        payload.get(4..).and_then(|attributes| parse::attribute(attributes, TABLE_USERDATA)) == Some(MARK)
    };
    match Socket::open(Protocol::Netfilter)?.ask(&request, mark) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(false),
        other => other,
    }
}

/// Makes the table, instead of one that may stand.
pub(crate) fn create(table: &str, bridge: &str, subnet: Subnet) -> Result<(), Refusal> {
    let mut writer = Writer { transaction: Transaction::new(), table };
    // Made if missing, so that it can be removed whatever was there.
    writer.transaction.message(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table));
    writer.transaction.message(DELTABLE, 0, |r| r.string(TABLE_NAME, table));
    writer.transaction.message(NEWTABLE, CREATE, |r| {
        r.string(TABLE_NAME, table);
        r.bytes(TABLE_USERDATA, MARK);
    });
    writer.map(PORTS, &[Type::Protocol, Type::Service]);
    writer.map(PORTS_AT, &[Type::Ipv4Address, Type::Protocol, Type::Service]);
    writer.chain("guard", "filter", PREROUTING, -300);
    writer.chain("prerouting", "nat", PREROUTING, -100);
    writer.chain("output", "nat", OUTPUT, -100);
    writer.chain("forward", "filter", FORWARD, 0);
    writer.chain("postrouting", "nat", POSTROUTING, 100);
    writer.rules(bridge, subnet);
    // The transaction wants an acknowledged last message; the table once more changes nothing.
    writer.transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table))
}

/// Removes the table; fine if there is none.
pub(crate) fn remove(table: &str) -> Result<(), Refusal> {
    match Transaction::new().commit(DELTABLE, 0, |r| r.string(TABLE_NAME, table)) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// The types of keys and values, as `nft` numbers them so that it can print them.
#[derive(Clone, Copy)]
enum Type {
    Ipv4Address = 7,
    Protocol = 12,
    Service = 13,
}

/// The number of a concatenation: six bits each.
fn concatenation(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, part| (number << 6) | *part as u32)
}

struct Writer<'a> {
    transaction: Transaction,
    table: &'a str,
}

impl Writer<'_> {
    fn rules(&mut self, bridge: &str, subnet: Subnet) {
        use Interface::{Incoming, Outgoing};
        use Is::{Equal, NotEqual};

        self.rule("guard", |r| {
            r.interface(Incoming, Equal, bridge).address(Source, NotEqual, subnet).count().verdict(Drop);
        });
        self.rule("guard", |r| {
            r.interface(Incoming, Equal, bridge).loopback(Destination, Equal).count().verdict(Drop);
        });

        for map in [PORTS_AT, PORTS] {
            self.rule("prerouting", |r| {
                r.destination_is_local()
                    .loopback(Destination, NotEqual)
                    .translate_by_map(map, map == PORTS_AT);
            });
            self.rule("output", |r| r.destination_is_local().translate_by_map(map, map == PORTS_AT));
        }

        self.rule("forward", |r| r.interface(Outgoing, NotEqual, bridge).verdict(Accept));
        self.rule("forward", |r| r.interface(Incoming, Equal, bridge).verdict(Accept));
        self.rule("forward", |r| r.established().verdict(Accept));
        self.rule("forward", |r| r.translated().verdict(Accept));
        self.rule("forward", |r| r.count().verdict(Drop));

        self.rule("postrouting", |r| {
            r.interface(Outgoing, Equal, bridge).loopback(Source, Equal).masquerade();
        });
        self.rule("postrouting", |r| {
            r.interface(Outgoing, Equal, bridge).address(Source, Equal, subnet).translated().masquerade();
        });
        self.rule("postrouting", |r| {
            r.interface(Outgoing, NotEqual, bridge).address(Source, Equal, subnet).masquerade();
        });
    }

    fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Rule<'_>)) {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        let table = self.table;
        self.transaction.message(NEWRULE, CREATE | APPEND, |r| {
            r.string(TABLE, table);
            r.string(CHAIN, chain);
            r.nest(EXPRESSIONS, |r| write(&mut Rule::new(r)));
        });
    }

    /// A base chain that lets pass what no rule of it drops.
    fn chain(&mut self, name: &str, purpose: &str, hook: u32, priority: i32) {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const HOOK_NUMBER: u16 = 1;
        const HOOK_PRIORITY: u16 = 2;
        const TYPE: u16 = 7;
        let table = self.table;
        self.transaction.message(NEWCHAIN, CREATE, |r| {
            r.string(TABLE, table);
            r.string(NAME, name);
            r.nest(HOOK, |r| {
                r.be32(HOOK_NUMBER, hook);
                r.be32(HOOK_PRIORITY, priority.cast_unsigned());
            });
            r.string(TYPE, purpose);
        });
    }

    /// A map from `key` to an address and a port.
    fn map(&mut self, name: &str, key: &[Type]) {
        const TABLE: u16 = 1;
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LENGTH: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const DATA_LENGTH: u16 = 7;
        const ID: u16 = 10;
        const IS_MAP: u32 = 8;
        let table = self.table;
        // An id is obligatory; it would only serve to name a set in the transaction that makes it.
        let id = key.len() as u32;
        self.transaction.message(NEWSET, CREATE, |r| {
            r.string(TABLE, table);
            r.string(NAME, name);
            r.be32(FLAGS, IS_MAP);
            r.be32(KEY_TYPE, concatenation(key));
            r.be32(KEY_LENGTH, 4 * key.len() as u32); // each part takes a register
            r.be32(DATA_TYPE, concatenation(&[Type::Ipv4Address, Type::Service]));
            r.be32(DATA_LENGTH, 8);
            r.be32(ID, id);
        });
    }
}
