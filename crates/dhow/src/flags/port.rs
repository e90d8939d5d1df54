//! `-p [[ADDRESS:]HOST_PORT:]CONTAINER_PORT[/PROTOCOL]`, ports maybe as ranges `8000-8010`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use state::options::{PortMapping, Protocol};

/// What one `-p` publishes: a port, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish(pub(crate) Vec<PortMapping>);

/// Not a published port.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NotAPort {
    /// Not even the form.
    #[error("want [[ADDRESS:]HOST_PORT:]CONTAINER_PORT[/PROTOCOL], such as 8080:80 or 127.0.0.1:53:53/udp")]
    Form,
    /// A port that is none.
    #[error("`{0}` is not a port: want 1 to 65535, or a range such as 8000-8010")]
    Port(String),
    /// A host's address that is none.
    #[error("`{0}` is not an IP address; IPv6 addresses stand in brackets")]
    Address(String),
    /// A protocol that is not published.
    #[error("`{0}` is not a protocol: want tcp, udp or sctp")]
    Protocol(String),
    /// More than a container's port.
    #[error("want PORT[-PORT][/PROTOCOL], such as 80 or 5000-5010/udp")]
    Exposed,
    /// Two ranges that do not match.
    #[error("the two ranges differ in length")]
    Ranges,
}

impl FromStr for Publish {
    type Err = NotAPort;
    fn from_str(text: &str) -> Result<Self, NotAPort> {
        let (rest, protocol) = match text.split_once('/') {
            Some((rest, name)) => match name.to_ascii_lowercase().as_str() {
                "tcp" => (rest, Protocol::Tcp),
                "udp" => (rest, Protocol::Udp),
                "sctp" => (rest, Protocol::Sctp),
                _ => return Err(NotAPort::Protocol(name.to_owned())),
            },
            None => (text, Protocol::Tcp),
        };
        // From the right: an IPv6 address in front holds colons of its own.
        let mut parts = rest.rsplitn(3, ':');
        let container = parts.next().unwrap_or_default();
        let host = parts.next();
        let address = parts.next();
        if container.is_empty() {
            return Err(NotAPort::Form);
        }
        let container = range(container, 1)?;
        let host = match host {
            // None given, or `ADDRESS::PORT`: any free one.
            None | Some("") => None,
            Some(text) => Some(range(text, 0)?),
        };
        let host_ip = match address {
            None | Some("") => None,
            Some(text) => Some(self::address(text)?),
        };
        let host_ports: Vec<u16> = match host {
            None => vec![0; container.clone().count()],
            Some(range) if range == (0..=0) => vec![0; container.clone().count()],
            Some(range) => range.collect(),
        };
        if host_ports.len() != container.clone().count() {
            return Err(NotAPort::Ranges);
        }
        let pairs = host_ports.into_iter().zip(container);
        Ok(Self(
            pairs
                .map(|(host_port, container_port)| PortMapping {
                    host_ip,
                    host_port,
                    container_port,
                    protocol,
                })
                .collect(),
        ))
    }
}

fn range(text: &str, least: u16) -> Result<RangeInclusive<u16>, NotAPort> {
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|p| digits && *p >= least)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(NotAPort::Port(text.to_owned())),
    }
}

fn address(text: &str) -> Result<IpAddr, NotAPort> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let parsed = match bare {
        Some(bare) => bare.parse().map(IpAddr::V6).ok(),
        None => text.parse().map(IpAddr::V4).ok(),
    };
    parsed.ok_or_else(|| NotAPort::Address(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(ip: Option<&str>, host_port: u16, container_port: u16, protocol: Protocol) -> PortMapping {
        PortMapping { host_ip: ip.map(|ip| ip.parse().unwrap()), host_port, container_port, protocol }
    }

    #[test]
    fn dockers_forms() {
        use Protocol::{Tcp, Udp};
        let good = [
            ("80", vec![mapping(None, 0, 80, Tcp)]),
            ("8080:80", vec![mapping(None, 8080, 80, Tcp)]),
            ("0:80", vec![mapping(None, 0, 80, Tcp)]),
            ("53:53/UDP", vec![mapping(None, 53, 53, Udp)]),
            ("127.0.0.1:8080:80", vec![mapping(Some("127.0.0.1"), 8080, 80, Tcp)]),
            ("127.0.0.1::80", vec![mapping(Some("127.0.0.1"), 0, 80, Tcp)]),
            ("[::1]:8080:80/tcp", vec![mapping(Some("::1"), 8080, 80, Tcp)]),
            ("8000-8001:80-81", vec![mapping(None, 8000, 80, Tcp), mapping(None, 8001, 81, Tcp)]),
            ("80-81", vec![mapping(None, 0, 80, Tcp), mapping(None, 0, 81, Tcp)]),
        ];
        for (text, expected) in good {
            assert_eq!(text.parse(), Ok(Publish(expected)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for bad in [
            "",
            "8080:",
            "x",
            "0",
            "80:0",
            "65536",
            "+80",
            "1:2:3:4",
            "localhost:80:80",
            "::1:80:80",
            "80/icmp",
            "80/",
            "90-80",
            "8000-8002:80-81",
            "8000-8001:80",
            "[1.2.3.4]:80:80",
        ] {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-z:./\\[\\]-]{0,30}") {
            let _ = text.parse::<Publish>();
        }
    }
}
