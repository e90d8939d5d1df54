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

use crate::netlink::{CREATE, Refusal};

use super::rule::Address::{Destination, Source};
use super::rule::Ported;
use super::zone::Writer;
use super::{DELTABLE, IPV4, NEWTABLE, Transaction, base_chain};

const TABLE: &str = "dhow_names";
const CHAIN: &str = "output";
const OUTPUT: u32 = 3;
/// Before conntrack: whoever tracks connections in there tracks those that there are.
const RAW: i32 = -300;
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
    base_chain(&mut transaction, TABLE, CHAIN, "filter", (OUTPUT, RAW));
    let mut writer = Writer { transaction: &mut transaction, table: TABLE };
    for (protocol, ours) in [(Ported::Udp, udp), (Ported::Tcp, tcp)] {
        writer.rule(CHAIN, |r| {
            r.is_address(Destination, address).is_port(Destination, protocol, PORT);
            r.set_port(Destination, protocol, ours);
        });
        writer.rule(CHAIN, |r| {
            r.is_address(Source, address).is_port(Source, protocol, ours);
            r.set_port(Source, protocol, PORT);
        });
    }
    // The transaction wants an acknowledged last message; the table once more changes nothing.
    transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, TABLE))
}
