//! The connection, tried for real, while the kernel tells which rules drop packets of it.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use network::look::{self, Dropped, Flow, Trace};

use super::target::Target;

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The connection was made.
    Made,
    /// A datagram was sent, and nothing came back, which need not mean anything.
    Sent,
    /// Somebody said that nobody listens.
    Refused,
    /// Nothing came back.
    Silent,
    /// It failed otherwise.
    Failed(String),
}

/// Where a rule was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the namespace of who asks.
    From,
    /// On the host.
    Host,
    /// In the namespace of whom it is about.
    To,
}

/// Tries it, from one namespace to an address. The ports are those that packets have on the host, and in the other namespace.
pub(super) fn attempt(
    from: Option<&File>,
    to: Option<&File>,
    address: IpAddr,
    target: &Target,
    inner_port: u16,
) -> crate::error::Result<(Attempt, Vec<(Place, Dropped)>)> {
    let flow = Flow { to: Some(address), port: target.port, udp: target.udp };
    // Behind a translation it has another address.
    let inner = Flow { to: None, port: inner_port, udp: target.udp };
    let mut traces = vec![(Place::Host, Trace::begin(None, flow).ok())];
    if let Some(from) = from {
        traces.push((Place::From, Trace::begin(Some(from), flow).ok()));
    }
    if let Some(to) = to {
        traces.push((Place::To, Trace::begin(Some(to), inner).ok()));
    }
    let udp = target.udp;
    let peer = SocketAddr::new(address, target.port);
    let outcome = look::try_inside(from, move || Ok(if udp { datagram(peer) } else { stream(peer) }))?;
    let attempt = outcome.unwrap_or_else(|error| Attempt::Failed(error.to_string()));
    let mut dropped = Vec::new();
    for (place, trace) in &traces {
        let found = trace.as_ref().map(Trace::dropped).unwrap_or_default();
        dropped.extend(found.into_iter().map(|dropped| (*place, dropped)));
    }
    Ok((attempt, dropped))
}

fn stream(peer: SocketAddr) -> Attempt {
    match TcpStream::connect_timeout(&peer, Trace::PATIENCE) {
        Ok(_) => Attempt::Made,
        Err(error) => failed(&error),
    }
}

fn datagram(peer: SocketAddr) -> Attempt {
    let exchange = || {
        let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(peer)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send(b"\n")?;
        socket.recv(&mut [0; 1])
    };
    match exchange() {
        Ok(_) => Attempt::Made,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Attempt::Sent,
        Err(error) => failed(&error),
    }
}

fn failed(error: &std::io::Error) -> Attempt {
    match error.kind() {
        ErrorKind::ConnectionRefused => Attempt::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Attempt::Silent,
        _ => Attempt::Failed(error.to_string()),
    }
}
