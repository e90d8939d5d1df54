//! `--allow NAME:PORT[/PROTOCOL]`.

use std::str::FromStr;

use state::options::{AllowRule, Protocol};

/// A neighbour's port that a container may speak to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allow(pub(crate) AllowRule);

/// Not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "want NAME:PORT[/PROTOCOL], as db:5432 or dns:53/udp; a container's name or an alias, and tcp, udp or sctp"
)]
pub(crate) struct NotAllowed;

impl FromStr for Allow {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(NotAllowed),
        };
        let (name, port) = rest.split_once(':').ok_or(NotAllowed)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(NotAllowed)?;
        if name.is_empty() {
            Err(NotAllowed)
        } else {
            Ok(Self(AllowRule { name: name.to_owned(), port, protocol }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_a_port_and_a_protocol() {
        for (text, shown) in [("db:5432", "db:5432/tcp"), ("dns:53/UDP", "dns:53/udp")] {
            let Allow(rule) = text.parse().unwrap();
            assert_eq!(rule.to_string(), shown);
        }
        for bad in ["", "db", "db:", ":80", "db:0", "db:80/icmp", "db:70000", "a:b:80"] {
            assert_eq!(bad.parse::<Allow>(), Err(NotAllowed), "{bad}");
        }
    }
}
