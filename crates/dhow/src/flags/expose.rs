//! `--expose PORT[-PORT][/PROTOCOL]`.

use std::str::FromStr;

use state::options::{ExposedPort, PortMapping};

use super::port::{NotAPort, Publish};

/// A port, or a range of them, on which a container listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expose(pub(crate) Vec<ExposedPort>);

impl FromStr for Expose {
    type Err = NotAPort;
    fn from_str(text: &str) -> Result<Self, NotAPort> {
        // The container's half of what `-p` takes.
        if text.contains(':') {
            return Err(NotAPort::Exposed);
        }
        let Publish(ports) = text.parse()?;
        let exposed = |p: PortMapping| ExposedPort { port: p.container_port, protocol: p.protocol };
        Ok(Self(ports.into_iter().map(exposed).collect()))
    }
}

#[cfg(test)]
mod tests {
    use state::options::Protocol;

    use super::*;

    #[test]
    fn ports_ranges_and_protocols() {
        let port = |port, protocol| ExposedPort { port, protocol };
        assert_eq!("80".parse(), Ok(Expose(vec![port(80, Protocol::Tcp)])));
        let range = vec![port(53, Protocol::Udp), port(54, Protocol::Udp)];
        assert_eq!("53-54/udp".parse(), Ok(Expose(range)));
        for bad in ["", "0", "80:80", "x", "80/", "9-8"] {
            assert!(bad.parse::<Expose>().is_err(), "{bad}");
        }
    }
}
