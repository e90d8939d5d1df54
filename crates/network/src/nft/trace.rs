//! Marks packets so that the kernel tells which rules they meet, and reads what it tells. Drawn in [`crate::look`].

use std::net::IpAddr;

use crate::look::{Dropped, Flow};
use crate::netlink::{CREATE, Refusal, parse};
use crate::subnet::Subnet;
use crate::subnet6::Subnet6;

use super::rule::Address::Destination;
use super::rule::{EtherType, Is, Ported};
use super::zone::Writer;
use super::{BRIDGE, DELTABLE, INET, IPV4, IPV6, NEWTABLE, Transaction, base_chain, kind};

/// The multicast group of traces.
pub(crate) const GROUP: u32 = 9;
const TRACE: u16 = 17;
const TABLE_NAME: u16 = 1;
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
/// Before everybody, but for what takes packets apart.
const FIRST: i32 = -450;

/// Marks the packets of a flow.
pub(crate) fn mark(table: &str, flow: Flow) -> Result<(), Refusal> {
    for (of, hooks) in [(INET, &[("in", PREROUTING), ("out", OUTPUT)][..]), (BRIDGE, &[("in", PREROUTING)])] {
        let mut transaction = Transaction::of(of);
        transaction.message(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table));
        for (name, hook) in hooks {
            base_chain(&mut transaction, table, name, "filter", (*hook, FIRST));
            let mut writer = Writer { transaction: &mut transaction, table };
            writer.rule(name, |r| {
                let protocol = if flow.udp { Ported::Udp } else { Ported::Tcp };
                match (flow.to, of) {
                    (Some(IpAddr::V4(ip)), BRIDGE) => {
                        r.ether_type(EtherType::Ipv4).is_address(Destination, ip);
                    }
                    (Some(IpAddr::V4(ip)), _) => {
                        r.address(Destination, Is::Equal, Subnet::around(ip, 32));
                    }
                    (Some(IpAddr::V6(ip)), BRIDGE) => {
                        r.ether_type(EtherType::Ipv6).in_subnet6(
                            Destination,
                            Is::Equal,
                            Subnet6::around(ip, 128),
                        );
                    }
                    (Some(IpAddr::V6(ip)), _) => {
                        r.address6(Destination, Is::Equal, Subnet6::around(ip, 128));
                    }
                    (None, _) => {}
                }
                r.is_port(Destination, protocol, flow.port);
                r.trace();
            });
        }
        let done = transaction.commit(NEWTABLE, CREATE, |r| r.string(TABLE_NAME, table));
        // Without the family bridge there is nothing to be told of it.
        if of != BRIDGE {
            done?;
        }
    }
    Ok(())
}

/// Marks no more.
pub(crate) fn unmark(table: &str) -> Result<(), Refusal> {
    let of = |family| Transaction::of(family).commit(DELTABLE, 0, |r| r.string(TABLE_NAME, table));
    of(BRIDGE).ok();
    of(INET)
}

/// What a message says has dropped a packet; none where it says something else.
pub(crate) fn read(message: &parse::Message<'_>) -> Option<Dropped> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const HANDLE: u16 = 3;
    const TYPE: u16 = 4;
    const VERDICT: u16 = 5;
    const POLICY: u16 = 16;
    const VERDICT_CODE: u16 = 1;
    const BY_POLICY: u32 = 1;
    const BY_RULE: u32 = 3;
    const DROP: u32 = 0;
    if message.kind != kind(TRACE) {
        return None;
    }
    let attributes = message.payload.get(4..)?;
    let number = |which| parse::attribute(attributes, which).and_then(parse::be32);
    let verdict = || parse::be32(parse::attribute(parse::attribute(attributes, VERDICT)?, VERDICT_CODE)?);
    let rule = match number(TYPE)? {
        BY_POLICY if number(POLICY)? == DROP => None,
        BY_RULE if verdict()? == DROP => {
            let handle = parse::attribute(attributes, HANDLE)?;
            Some(u64::from_be_bytes(handle.get(..8)?.try_into().ok()?))
        }
        _ => return None,
    };
    let text = |which| parse::attribute(attributes, which).map(|value| parse::string(value).to_owned());
    Some(Dropped {
        family: match *message.payload.first()? {
            INET => "inet",
            IPV4 => "ip",
            IPV6 => "ip6",
            BRIDGE => "bridge",
            5 => "netdev",
            _ => "?",
        },
        table: text(TABLE)?,
        chain: text(CHAIN)?,
        rule,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_message_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..160)) {
            read(&parse::Message { kind: kind(TRACE), flags: 0, sequence: 0, payload: &payload });
        }
    }
}
