//! nftables over netlink, without `nft`: a whole transaction takes 0.14 ms, a run of the tool 2.4.
//!
//! - [`rule`]: writes the expressions of rules.
//! - [`table`]: the table of an instance: what is in it and why.
//! - [`zone`]: what of it belongs to one network.
//! - [`senders`]: the table that keeps containers from sending in others' names.
//! - [`pairs`]: the tables of who may speak to whom, where somebody is closed.
//! - [`set`]: sets and maps, and their elements.
//! - [`egress`]: the table that keeps containers within the limits of where they may go.
//! - [`elements`]: published ports, each one element of a map in that table.
//! - [`direct`]: for a moment, what comes to published ports is translated at once.
//! - [`resolver`]: the table within a container by which its questions about names find our server.
//! - [`trace`]: marks packets, so that the kernel tells which rules they meet.
//! - [`others`]: what other tools' chains do to forwarded packets (read only).

pub(crate) mod direct;
pub(crate) mod egress;
pub(crate) mod elements;
pub(crate) mod others;
pub(crate) mod pairs;
pub(crate) mod resolver;
mod rule;
pub(crate) mod senders;
mod set;
pub(crate) mod table;
pub(crate) mod trace;
pub(crate) mod zone;

use rustix::io::Errno;

use crate::netlink::{ACK, CREATE, Protocol, Refusal, Request, Socket, parse};

const SUBSYSTEM: u16 = 10;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
const IPV4: u8 = 2;
const BRIDGE: u8 = 7;
const IPV6: u8 = 10;

/// An item of a list.
const LIST_ELEMENT: u16 = 1;
/// A value in a nest that may hold a value or a verdict.
const VALUE: u16 = 1;

fn kind(message: u16) -> u16 {
    (SUBSYSTEM << 8) | message
}

/// `nfgenmsg`: the family and nothing else.
fn family(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// Messages that take effect together or not at all.
#[derive(Debug)]
struct Transaction {
    request: Request,
    family: u8,
}

impl Transaction {
    /// About tables of the family `inet`, which is both IPv4 and IPv6.
    fn new() -> Self {
        Self::of(INET)
    }

    /// About tables of this family.
    fn of(family: u8) -> Self {
        const BATCH_BEGIN: u16 = 16;
        let mut request = Request::new();
        request.message(BATCH_BEGIN, 0, &batch_header(), |_| {});
        Self { request, family }
    }

    /// A message. Only refusals are answered.
    fn message(&mut self, message: u16, flags: u16, attributes: impl FnOnce(&mut Request)) {
        self.message_of(self.family, message, flags, attributes);
    }

    fn message_of(&mut self, of: u8, message: u16, flags: u16, attributes: impl FnOnce(&mut Request)) {
        self.request.message(kind(message), flags, &family(of), attributes);
    }

    /// Commits. The last message must be `last`, which is acknowledged: no kernel before 6.10 acknowledges the
    /// batch's end.
    fn commit(mut self, message: u16, flags: u16, last: impl FnOnce(&mut Request)) -> Result<(), Refusal> {
        const BATCH_END: u16 = 17;
        self.message(message, flags | ACK, last);
        self.request.message(BATCH_END, 0, &batch_header(), |_| {});
        Socket::open(Protocol::Netfilter)?.transact(&self.request, 1)
    }
}

/// Where a chain sits in a packet's way: the hook's number, and the place among the others there.
type Place = (u32, i32);

/// A base chain that lets pass what no rule of it drops.
fn base_chain(
    transaction: &mut Transaction,
    table: &str,
    name: &str,
    purpose: &str,
    (hook, priority): Place,
) {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const HOOK_NUMBER: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    const TYPE: u16 = 7;
    transaction.message(NEWCHAIN, CREATE, |r| {
        r.string(TABLE, table);
        r.string(NAME, name);
        r.nest(HOOK, |r| {
            r.be32(HOOK_NUMBER, hook);
            r.be32(HOOK_PRIORITY, priority.cast_unsigned());
        });
        r.string(TYPE, purpose);
    });
}

/// The names of all tables of an instance on the host.
pub(crate) fn tables_of(table: &str) -> [String; 3] {
    [table.to_owned(), egress::table_of(table), pairs::name(table)]
}

/// Whether a table of this family stands that carries our mark.
fn stands(of: u8, table: &str, mark: &[u8]) -> Result<bool, Refusal> {
    Ok(mark_of(of, table)?.as_deref() == Some(mark))
}

/// The comment of a table of this family, where it stands.
fn mark_of(of: u8, table: &str) -> Result<Option<Vec<u8>>, Refusal> {
    const NAME: u16 = 1;
    const USERDATA: u16 = 6;
    let mut request = Request::new();
    request.message(kind(GETTABLE), 0, &family(of), |r| r.string(NAME, table));
    let mark = |payload: &[u8]| {
        let mark = payload.get(4..).and_then(|attributes| parse::attribute(attributes, USERDATA));
        Some(mark.unwrap_or_default().to_vec())
    };
    match Socket::open(Protocol::Netfilter)?.ask(&request, mark) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(None),
        other => other,
    }
}

fn batch_header() -> [u8; 4] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [UNSPECIFIED, 0, high, low]
}
