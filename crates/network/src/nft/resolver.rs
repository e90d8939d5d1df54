//! The table within a container by which its questions about names find our server.
//!
//! ```text
//! table ip dhow_names {
//!   chain output { output, raw:  to 127.0.0.11, udp/tcp port 53:        the port becomes ours
//!                                from 127.0.0.11, our udp/tcp port:     the port becomes 53 }
//! }
//! ```
//!
//! Our sockets have ports that the kernel has chosen, so that a name server in the container may have port 53 of all
//! addresses. The ports are written into the packets as they leave, here and back: without conntrack, whose table a container
//! that asks much would fill, and without a rule of the host's.

use std::net::Ipv4Addr;

use crate::netlink::{APPEND, CREATE, Refusal};

use super::rule::Address::{Destination, Source};
use super::rule::{Ported, Rule};
use super::{DELTABLE, IPV4, NEWCHAIN, NEWRULE, NEWTABLE, Transaction};

const TABLE: &str = "dhow_names";
const CHAIN: &str = "output";
/// Where resolvers ask.
const PORT: u16 = 53;

/// Leads what goes to port 53 of this address to these ports of it, in this thread's network namespace.
pub(crate) fn lead(address: Ipv4Addr, udp: u16, tcp: u16) -> Result<(), Refusal> {
    const TABLE_NAME: u16 = 1;
    let mut transaction = Transaction::of(IPV4);
    // A namespace may be used again.
    transaction.message(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, TABLE));
    transaction.message(DELTABLE, 0, |r| r.string(TABLE_NAME, TABLE));
    transaction.message(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, TABLE));
    chain(&mut transaction);
    for (protocol, ours) in [(Ported::Udp, udp), (Ported::Tcp, tcp)] {
        rule(&mut transaction, |r| {
            r.is_address(Destination, address).is_port(Destination, protocol, PORT);
            r.set_port(Destination, protocol, ours);
        });
        rule(&mut transaction, |r| {
            r.is_address(Source, address).is_port(Source, protocol, ours);
            r.set_port(Source, protocol, PORT);
        });
    }
    // The transaction wants an acknowledged last message; the table once more changes nothing.
    transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, TABLE))
}

fn chain(transaction: &mut Transaction) {
    const CHAIN_TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const HOOK_NUMBER: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    const TYPE: u16 = 7;
    const OUTPUT: u32 = 3;
    /// Before conntrack: whoever tracks connections in there tracks those that there are.
    const RAW: i32 = -300;
    transaction.message(NEWCHAIN, CREATE, |r| {
        r.string(CHAIN_TABLE, TABLE);
        r.string(NAME, CHAIN);
        r.nest(HOOK, |r| {
            r.be32(HOOK_NUMBER, OUTPUT);
            r.be32(HOOK_PRIORITY, RAW.cast_unsigned());
        });
        r.string(TYPE, "filter");
    });
}

fn rule(transaction: &mut Transaction, write: impl FnOnce(&mut Rule<'_>)) {
    const RULE_TABLE: u16 = 1;
    const RULE_CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    transaction.message(NEWRULE, CREATE | APPEND, |r| {
        r.string(RULE_TABLE, TABLE);
        r.string(RULE_CHAIN, CHAIN);
        r.nest(EXPRESSIONS, |r| write(&mut Rule::new(r)));
    });
}
