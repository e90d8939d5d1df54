//! What is to be reached.

use std::net::IpAddr;
use std::str::FromStr;

/// A name or an address, with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) udp: bool,
}

impl Target {
    /// The address, where it is no name.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub(super) fn protocol(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        const LONGEST: usize = 253;
        let (rest, default) = match text.split_once("://") {
            Some(("http", rest)) => (rest, Some(80)),
            Some(("https", rest)) => (rest, Some(443)),
            Some(_) => return Err(()),
            None => (text, None),
        };
        let (rest, udp) = match (default, rest.split_once('/')) {
            (_, None) => (rest, false),
            (Some(_), Some((authority, _))) => (authority, false),
            (None, Some((rest, "tcp"))) => (rest, false),
            (None, Some((rest, "udp"))) => (rest, true),
            (None, Some(_)) => return Err(()),
        };
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(())?;
                (host, after.strip_prefix(':'))
            }
            None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = match (port, default) {
            (Some(port), _) => port.parse().map_err(|_| ())?,
            (None, Some(port)) => port,
            (None, None) => return Err(()),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        let good = !host.is_empty() && host.len() <= LONGEST && host.bytes().all(plain) && port > 0;
        good.then(|| Self { host: host.to_owned(), port, udp }).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_addresses_and_urls() {
        for (text, host, port, udp) in [
            ("db:5432", "db", 5432, false),
            ("dns:53/udp", "dns", 53, true),
            ("10.5.0.2:80/tcp", "10.5.0.2", 80, false),
            ("[fd00::2]:80", "fd00::2", 80, false),
            ("http://web/a/b:c", "web", 80, false),
            ("https://user:pw@example.org:8443/x", "example.org", 8443, false),
            ("https://example.org", "example.org", 443, false),
        ] {
            assert_eq!(text.parse(), Ok(Target { host: host.to_owned(), port, udp }), "{text}");
        }
        for bad in ["", "db", "db:", ":80", "db:0", "db:80/icmp", "ftp://x", "a b:80", "[::1:80", "db:99999"]
        {
            assert_eq!(bad.parse::<Target>(), Err(()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            text.parse::<Target>().ok();
        }
    }
}
