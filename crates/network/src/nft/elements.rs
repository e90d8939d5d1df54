//! Published ports: elements of the table's maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use state::options::Protocol as Transport;

use crate::netlink::{CREATE, EXCLUSIVE, Protocol, Refusal, Request, Socket, parse};

use super::set::Element;
use super::table::{DOORS, DOORS_AT, DOORS6, DOORS6_AT, PORTS, PORTS_AT, PORTS6, PORTS6_AT};
use super::{DELSETELEM, GETSETELEM, INET, LIST_ELEMENT, NEWSETELEM, Transaction, VALUE, family, kind};

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// The host's address, of the same version as the container's; none: all.
    pub(crate) host: Option<IpAddr>,
    pub(crate) host_port: u16,
    pub(crate) protocol: Transport,
    pub(crate) container: IpAddr,
    pub(crate) container_port: u16,
}

impl Published {
    fn map(&self) -> &'static str {
        match (self.container, self.host.is_some()) {
            (IpAddr::V4(_), false) => PORTS,
            (IpAddr::V4(_), true) => PORTS_AT,
            (IpAddr::V6(_), false) => PORTS6,
            (IpAddr::V6(_), true) => PORTS6_AT,
        }
    }

    fn door(&self) -> &'static str {
        match (self.container, self.host.is_some()) {
            (IpAddr::V4(_), false) => DOORS,
            (IpAddr::V4(_), true) => DOORS_AT,
            (IpAddr::V6(_), false) => DOORS6,
            (IpAddr::V6(_), true) => DOORS6_AT,
        }
    }

    /// Its place in the table: of two that share it, one can be there.
    pub(crate) fn place(&self) -> (&'static str, Vec<u8>) {
        (self.map(), self.key())
    }

    fn key(&self) -> Vec<u8> {
        let protocol = match self.protocol {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        };
        let [high, low] = self.host_port.to_be_bytes();
        let mut key = self.host.map(octets).unwrap_or_default();
        key.extend_from_slice(&[protocol, 0, 0, 0, high, low, 0, 0]);
        key
    }

    fn data(&self) -> Vec<u8> {
        let [high, low] = self.container_port.to_be_bytes();
        let mut data = octets(self.container);
        data.extend_from_slice(&[high, low, 0, 0]);
        data
    }

    /// Lets the warden have what comes to it from outside.
    fn open_door(&self, transaction: &mut Transaction, table: &str) {
        Element::Value(&self.key(), &[]).add(transaction, table, self.door());
    }

    /// Adds it.
    pub(super) fn add_to(&self, transaction: &mut Transaction, table: &str) {
        self.open_door(transaction, table);
        transaction.message(NEWSETELEM, CREATE | EXCLUSIVE, |r| self.write(r, table, true));
    }

    fn write(&self, r: &mut Request, table: &str, with_data: bool) {
        let data = if with_data { self.data() } else { Vec::new() };
        Element::Value(&self.key(), &data).write(r, table, self.map());
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Adds all of `ports`, or none: `EEXIST` if one of them is taken.
pub(crate) fn add(table: &str, ports: &[Published]) -> Result<(), Refusal> {
    let Some((last, others)) = ports.split_last() else { return Ok(()) };
    let mut transaction = Transaction::new();
    for port in others {
        port.add_to(&mut transaction, table);
    }
    last.open_door(&mut transaction, table);
    transaction.commit(NEWSETELEM, CREATE | EXCLUSIVE, |r| last.write(r, table, true))
}

/// Removes a port if it leads to this container; fine if it does not, or is not there.
///
/// Between look and removal another process must not [`add`] the same port: see the network's lock.
pub(crate) fn remove(table: &str, port: &Published) -> Result<(), Refusal> {
    if target(table, port)? != Some(port.data()) {
        return Ok(());
    }
    take_out(table, port)
}

/// Removes a port, wherever it leads.
pub(crate) fn remove_any(table: &str, port: &Published) -> Result<(), Refusal> {
    take_out(table, port)
}

fn take_out(table: &str, port: &Published) -> Result<(), Refusal> {
    let mut transaction = Transaction::new();
    // Opened first, so that it is there to be closed.
    port.open_door(&mut transaction, table);
    Element::Value(&port.key(), &[]).remove(&mut transaction, table, port.door());
    match transaction.commit(DELSETELEM, 0, |r| port.write(r, table, false)) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// Where the port leads now, if anywhere: address and port as the map holds them.
fn target(table: &str, port: &Published) -> Result<Option<Vec<u8>>, Refusal> {
    look_up(&Socket::open(Protocol::Netfilter)?, table, port)
}

/// Which container, and which port of it, what comes to this address and port leads to, if any.
pub(crate) fn leads_to(
    socket: &Socket,
    table: &str,
    (host, host_port): (IpAddr, u16),
    protocol: Transport,
) -> Result<Option<(IpAddr, u16)>, Refusal> {
    let container = if host.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    for host in [Some(host), None] {
        let asked = Published { host, host_port, protocol, container, container_port: 0 };
        if let Some(data) = look_up(socket, table, &asked)? {
            return Ok(read_data(&data));
        }
    }
    Ok(None)
}

/// Reverses [`Published::data`].
fn read_data(data: &[u8]) -> Option<(IpAddr, u16)> {
    let (ip, port) = data.split_at_checked(data.len().checked_sub(4)?)?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    Some((ip, u16::from_be_bytes([port[0], port[1]])))
}

fn look_up(socket: &Socket, table: &str, port: &Published) -> Result<Option<Vec<u8>>, Refusal> {
    let mut request = Request::new();
    request.message(kind(GETSETELEM), 0, &family(INET), |r| port.write(r, table, false));
    let data = |payload: &[u8]| {
        const ELEMENTS: u16 = 3;
        const DATA: u16 = 2;
        let elements = parse::attribute(payload.get(4..)?, ELEMENTS)?;
        let data = parse::attribute(parse::attribute(elements, LIST_ELEMENT)?, DATA)?;
        Some(parse::attribute(data, VALUE)?.to_vec())
    };
    match socket.ask(&request, data) {
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
            container: [10, 210, 0, 2].into(),
            container_port: 80,
        };
        assert_eq!(port.key(), [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(port.data(), [10, 210, 0, 2, 0, 80, 0, 0]);
        assert_eq!(read_data(&port.data()), Some(([10, 210, 0, 2].into(), 80)));
        port.host = Some([127, 0, 0, 1].into());
        assert_eq!(port.key(), [127, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        port.container = std::net::Ipv6Addr::LOCALHOST.into();
        assert_eq!((port.map(), port.data().len()), (PORTS6_AT, 20));
        assert_eq!(read_data(&port.data()), Some((port.container, 80)));
        assert_eq!((read_data(&[]), read_data(&[0; 9])), (None, None));
    }
}
