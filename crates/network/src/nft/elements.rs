//! Published ports: elements of the table's maps.

use std::net::Ipv4Addr;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use state::options::Protocol as Transport;

use crate::netlink::{CREATE, EXCLUSIVE, Protocol, Refusal, Request, Socket, parse};

use super::table::{PORTS, PORTS_AT};
use super::{DELSETELEM, GETSETELEM, IPV4, LIST_ELEMENT, NEWSETELEM, Transaction, VALUE, family, kind};

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// The host's address; none: all.
    pub(crate) host: Option<Ipv4Addr>,
    pub(crate) host_port: u16,
    pub(crate) protocol: Transport,
    pub(crate) container: Ipv4Addr,
    pub(crate) container_port: u16,
}

const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3;
const KEY: u16 = 1;
const DATA: u16 = 2;

impl Published {
    fn map(&self) -> &'static str {
        if self.host.is_some() { PORTS_AT } else { PORTS }
    }

    fn key(&self) -> Vec<u8> {
        let protocol = match self.protocol {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        };
        let [high, low] = self.host_port.to_be_bytes();
        let mut key = Vec::with_capacity(12);
        key.extend(self.host.iter().flat_map(Ipv4Addr::octets));
        key.extend_from_slice(&[protocol, 0, 0, 0, high, low, 0, 0]);
        key
    }

    fn data(&self) -> [u8; 8] {
        let [a, b, c, d] = self.container.octets();
        let [high, low] = self.container_port.to_be_bytes();
        [a, b, c, d, high, low, 0, 0]
    }

    fn write(&self, r: &mut Request, table: &str, with_data: bool) {
        r.string(TABLE, table);
        r.string(SET, self.map());
        r.nest(ELEMENTS, |r| {
            r.nest(LIST_ELEMENT, |r| {
                r.nest(KEY, |r| r.bytes(VALUE, &self.key()));
                if with_data {
                    r.nest(DATA, |r| r.bytes(VALUE, &self.data()));
                }
            });
        });
    }
}

/// Adds all of `ports`, or none: `EEXIST` if one of them is taken.
pub(crate) fn add(table: &str, ports: &[Published]) -> Result<(), Refusal> {
    let Some((last, others)) = ports.split_last() else { return Ok(()) };
    let mut transaction = Transaction::new();
    for port in others {
        transaction.message(NEWSETELEM, CREATE | EXCLUSIVE, |r| port.write(r, table, true));
    }
    transaction.commit(NEWSETELEM, CREATE | EXCLUSIVE, |r| last.write(r, table, true))
}

/// Removes a port if it leads to this container; fine if it does not, or is not there.
///
/// Between look and removal another process must not [`add`] the same port: see the network's lock.
pub(crate) fn remove(table: &str, port: &Published) -> Result<(), Refusal> {
    if target(table, port)? != Some(port.data().to_vec()) {
        return Ok(());
    }
    match Transaction::new().commit(DELSETELEM, 0, |r| port.write(r, table, false)) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// Removes a port, wherever it leads.
pub(crate) fn remove_any(table: &str, port: &Published) -> Result<(), Refusal> {
    match Transaction::new().commit(DELSETELEM, 0, |r| port.write(r, table, false)) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// Where the port leads now, if anywhere: address and port as the map holds them.
fn target(table: &str, port: &Published) -> Result<Option<Vec<u8>>, Refusal> {
    let mut request = Request::new();
    request.message(kind(GETSETELEM), 0, &family(IPV4), |r| port.write(r, table, false));
    let data = |payload: &[u8]| {
        let elements = parse::attribute(payload.get(4..)?, ELEMENTS)?;
        let data = parse::attribute(parse::attribute(elements, LIST_ELEMENT)?, DATA)?;
        Some(parse::attribute(data, VALUE)?.to_vec())
    };
    match Socket::open(Protocol::Netfilter)?.ask(&request, data) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_fill_whole_registers() {
        let mut port = Published {
            host: None,
            host_port: 8080,
            protocol: Transport::Tcp,
            container: Ipv4Addr::new(10, 210, 0, 2),
            container_port: 80,
        };
        assert_eq!(port.key(), [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(port.data(), [10, 210, 0, 2, 0, 80, 0, 0]);
        port.host = Some(Ipv4Addr::LOCALHOST);
        assert_eq!(port.key(), [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
    }
}
