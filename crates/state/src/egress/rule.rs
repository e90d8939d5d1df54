//! One rule: where somebody may go.
//!
//! ```text
//! example.org              its web servers: HTTP at port 80, HTTPS at port 443
//! *.example.org            those of all names below it
//! https://example.org      HTTPS alone; with a port of its own: https://example.org:8443
//! http://example.org/a/*   HTTP, and there what begins with /a/ (or one path, without the star)
//! example.org:22           this port of the addresses that the name has; with /udp behind it, of UDP
//! 10.0.0.0/8               addresses, whatever is sent there
//! 10.1.2.3:5432            one port there; 10.0.0.0/8:8000-8100/udp, [2001:db8::/32]:443
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::net::Net;
use super::pattern::Names;

/// A place that may be gone to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Rule {
    /// Web servers, whose name is seen in what is said to them.
    Web {
        /// What they are called.
        host: Names,
        /// How they are spoken to.
        scheme: Scheme,
        /// Their port.
        port: u16,
        /// What may be asked for; none: everything.
        path: Option<Path>,
    },
    /// HTTP and HTTPS at their own ports.
    Host(Names),
    /// A port of whatever addresses a name has.
    Name {
        /// The name.
        host: Names,
        /// The port.
        port: u16,
        /// Its protocol.
        transport: Transport,
    },
    /// Addresses.
    Addresses {
        /// Which.
        net: Net,
        /// Which ports there; none: everything that can be sent.
        ports: Option<(u16, u16)>,
        /// Of which protocol; none: of all.
        transport: Option<Transport>,
    },
}

/// How a web server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Within TLS.
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn of_port(port: u16) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|scheme| scheme.port() == port)
    }
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A path, or all that begin so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    text: String,
    beginning: bool,
}

impl Path {
    /// Whether it is about this path, in which no dots, escapes or double slashes are left.
    pub fn matches(&self, path: &str) -> bool {
        if self.beginning { path.starts_with(&self.text) } else { path == self.text }
    }

    fn and(&self, other: &Self) -> Option<Self> {
        match (self.beginning, other.beginning) {
            (_, true) if self.text.starts_with(&other.text) => Some(self.clone()),
            (true, _) if other.text.starts_with(&self.text) => Some(other.clone()),
            (false, false) if self == other => Some(self.clone()),
            _ => None,
        }
    }
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARule {
    /// Not a name.
    #[error("`{0}` is no name of a host: want letters, digits and - between dots, and *. before them or not")]
    Name(String),
    /// A name in letters that DNS has not.
    #[error("`{0}` has letters that names on the wire have not: write it as they do (xn--…)")]
    Foreign(String),
    /// Not a port.
    #[error("`{0}` is no port: want a number from 1 to 65535")]
    Port(String),
    /// Not addresses.
    #[error(
        "`{0}` is no range of addresses: want an address, and behind it a / and how many bits count or nothing"
    )]
    Net(String),
    /// A path that nobody can see.
    #[error("`{0}` names a path, which is encrypted where HTTPS is spoken: leave it away")]
    Hidden(String),
    /// A path that is none.
    #[error(
        "`{0}` is no path for a rule: want one as servers see it, without %, .., // or ?, and * at its end alone"
    )]
    Path(String),
    /// A protocol without a port.
    #[error("`{0}` says a protocol, but no port of the name")]
    NoPort(String),
    /// What cannot be looked into.
    #[error(
        "`{0}`: QUIC does not show whom it speaks to; allow its addresses, or leave /udp away and it is done by TCP"
    )]
    Quic(String),
    /// Another scheme.
    #[error("`{0}` is no rule about HTTP or HTTPS: want http://… or https://…")]
    Scheme(String),
}

impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        if let Some((scheme, rest)) = text.split_once("://") {
            let scheme = match scheme {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return Err(NotARule::Scheme(text.to_owned())),
            };
            return web(text, scheme, rest);
        }
        let (rest, transport) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Some(Transport::Tcp)),
            Some((rest, "udp")) => (rest, Some(Transport::Udp)),
            _ => (text, None),
        };
        if let Some((net, ports)) = addresses(rest)? {
            // A port alone is one of TCP.
            let transport = transport.or(ports.map(|_| Transport::Tcp));
            return Ok(Self::Addresses { net, ports, transport });
        }
        let Some((host, number)) = rest.rsplit_once(':') else {
            return match transport {
                Some(_) => Err(NotARule::NoPort(text.to_owned())),
                None => Ok(Self::Host(rest.parse()?)),
            };
        };
        let (host, port, transport) = (host.parse()?, port(number)?, transport.unwrap_or(Transport::Tcp));
        match (Scheme::of_port(port), transport) {
            // Who it is for is seen there, so it is looked at.
            (Some(scheme), Transport::Tcp) => Ok(Self::Web { host, scheme, port, path: None }),
            (Some(Scheme::Https), Transport::Udp) => Err(NotARule::Quic(text.to_owned())),
            _ => Ok(Self::Name { host, port, transport }),
        }
    }
}

fn web(text: &str, scheme: Scheme, rest: &str) -> Result<Rule, NotARule> {
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, number)) => (host, port(number)?),
        None => (authority, scheme.port()),
    };
    let path = match path {
        None | Some("/" | "/*") => None,
        Some(_) if scheme == Scheme::Https => return Err(NotARule::Hidden(text.to_owned())),
        Some(path) => {
            let (beginning, stem) = path.strip_suffix('*').map_or((false, path), |stem| (true, stem));
            let dots = stem.split('/').any(|part| part == "." || part == "..");
            let odd = stem.bytes().any(|b| !b.is_ascii_graphic() || b"%?#*\\".contains(&b));
            if dots || odd || stem.contains("//") {
                return Err(NotARule::Path(text.to_owned()));
            }
            Some(Path { text: stem.to_owned(), beginning })
        }
    };
    Ok(Rule::Web { host: host.parse()?, scheme, port, path })
}

type Ports = Option<(u16, u16)>;

/// Addresses and ports; none where the text is about a name.
fn addresses(text: &str) -> Result<Option<(Net, Ports)>, NotARule> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']').ok_or_else(|| NotARule::Net(text.to_owned()))?;
        let range = match rest.strip_prefix(':') {
            Some(range) => Some(ports(range)?),
            None if rest.is_empty() => None,
            None => return Err(NotARule::Net(text.to_owned())),
        };
        return Ok(Some((inner.parse()?, range)));
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let head = text.split(['/', ':']).next().unwrap_or(text);
    if text.parse::<Ipv6Addr>().is_ok()
        || text.split_once('/').is_some_and(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok())
    {
        return Ok(Some((text.parse()?, None)));
    }
    if !digits(head) {
        return Ok(None);
    }
    match text.rsplit_once(':') {
        Some((inner, range)) => Ok(Some((inner.parse()?, Some(ports(range)?)))),
        None => Ok(Some((text.parse()?, None))),
    }
}

fn port(text: &str) -> Result<u16, NotARule> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().unwrap_or(0) } else { 0 };
    if number == 0 { Err(NotARule::Port(text.to_owned())) } else { Ok(number) }
}

fn ports(text: &str) -> Result<(u16, u16), NotARule> {
    let (first, last) = text.split_once('-').map_or((text, text), |both| both);
    let (first, last) = (port(first)?, port(last)?);
    if first > last { Err(NotARule::Port(text.to_owned())) } else { Ok((first, last)) }
}

impl Rule {
    /// What both allow. (Rules about names and rules about addresses have nothing in common: whoever wrote the one cannot
    /// have known the other.)
    pub fn and(&self, other: &Self) -> Vec<Self> {
        let one = |rule: Option<Self>| rule.into_iter().collect();
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => one(a.and(b).map(Self::Host)),
            (Self::Host(a), Self::Web { host, scheme, port, path })
            | (Self::Web { host, scheme, port, path }, Self::Host(a)) => {
                let both = a.and(host).filter(|_| *port == scheme.port());
                one(both.map(|host| Self::Web { host, scheme: *scheme, port: *port, path: path.clone() }))
            }
            (
                Self::Web { host, scheme, port, path },
                Self::Web { host: host2, scheme: scheme2, port: port2, path: path2 },
            ) if scheme == scheme2 && port == port2 => {
                let path = match (path, path2) {
                    (Some(a), Some(b)) => match a.and(b) {
                        Some(path) => Some(path),
                        None => return Vec::new(),
                    },
                    (a, b) => a.clone().or_else(|| b.clone()),
                };
                one(host.and(host2).map(|host| Self::Web { host, scheme: *scheme, port: *port, path }))
            }
            (
                Self::Name { host, port, transport },
                Self::Name { host: host2, port: port2, transport: transport2 },
            ) if port == port2 && transport == transport2 => {
                one(host.and(host2).map(|host| Self::Name { host, port: *port, transport: *transport }))
            }
            (
                Self::Addresses { net, ports, transport },
                Self::Addresses { net: net2, ports: ports2, transport: transport2 },
            ) => {
                let transport = match (transport, transport2) {
                    (Some(a), Some(b)) if a != b => return Vec::new(),
                    (a, b) => a.or(*b),
                };
                let ports = match (ports, ports2) {
                    (Some(a), Some(b)) if a.0.max(b.0) > a.1.min(b.1) => return Vec::new(),
                    (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.min(b.1))),
                    (a, b) => a.or(*b),
                };
                one(net.and(*net2).map(|net| Self::Addresses { net, ports, transport }))
            }
            _ => Vec::new(),
        }
    }

    /// Whether its name is looked up for it.
    pub fn names(&self) -> Option<&Names> {
        match self {
            Self::Web { host, .. } | Self::Host(host) | Self::Name { host, .. } => Some(host),
            Self::Addresses { .. } => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{host}"),
            Self::Web { host, scheme, port, path } => {
                let name = if *scheme == Scheme::Http { "http" } else { "https" };
                write!(f, "{name}://{host}")?;
                if *port != scheme.port() {
                    write!(f, ":{port}")?;
                }
                match path {
                    Some(Path { text, beginning }) => {
                        write!(f, "{text}{}", if *beginning { "*" } else { "" })
                    }
                    None => Ok(()),
                }
            }
            Self::Name { host, port, transport } => write!(f, "{host}:{port}/{}", transport.as_str()),
            Self::Addresses { net, ports, transport } => {
                match (net.address(), ports) {
                    (IpAddr::V6(_), Some(_)) => write!(f, "[{net}]")?,
                    _ => write!(f, "{net}")?,
                }
                match ports {
                    Some((first, last)) if first == last => write!(f, ":{first}")?,
                    Some((first, last)) => write!(f, ":{first}-{last}")?,
                    None => {}
                }
                transport.map_or(Ok(()), |transport| write!(f, "/{}", transport.as_str()))
            }
        }
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for Rule {
    type Error = NotARule;

    fn try_from(text: String) -> Result<Self, NotARule> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn rules_are_read_and_written() {
        for (text, written) in [
            ("Example.org.", "example.org"),
            ("*.example.org", "*.example.org"),
            ("https://example.org/", "https://example.org"),
            ("https://example.org:8443", "https://example.org:8443"),
            ("http://example.org/a/*", "http://example.org/a/*"),
            ("http://example.org/a", "http://example.org/a"),
            ("example.org:443", "https://example.org"),
            ("example.org:80/tcp", "http://example.org"),
            ("example.org:22", "example.org:22/tcp"),
            ("example.org:53/udp", "example.org:53/udp"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.0.0.0/8/udp", "10.0.0.0/8/udp"),
            ("10.1.2.3:5432", "10.1.2.3/32:5432/tcp"),
            ("10.0.0.0/8:8000-8100/udp", "10.0.0.0/8:8000-8100/udp"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443/tcp"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(rule(text).to_string(), written);
            assert_eq!(rule(written), rule(text));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        use NotARule::{Hidden, Name, Net, NoPort, Path, Port, Quic, Scheme};
        let why = |text: &str| text.parse::<Rule>().unwrap_err();
        assert_eq!(why("ftp://a.b"), Scheme("ftp://a.b".into()));
        assert_eq!(why("https://a.b/path"), Hidden("https://a.b/path".into()));
        assert_eq!(why("a.b/udp"), NoPort("a.b/udp".into()));
        assert_eq!(why("a.b:443/udp"), Quic("a.b:443/udp".into()));
        assert_eq!(why("a.b:0"), Port("0".into()));
        assert_eq!(why("1.2.3.4:9-8"), Port("9-8".into()));
        assert_eq!(why("1.2.3.4/33"), Net("1.2.3.4/33".into()));
        assert_eq!(why("1.2.3"), Net("1.2.3".into()));
        assert_eq!(why("[::1"), Net("[::1".into()));
        assert_eq!(why("a b"), Name("a b".into()));
        for path in ["/a/../b", "/%61", "/a//b", "/a?b", "/*/a", "/a\\b"] {
            let text = format!("http://a.b{path}");
            assert_eq!(why(&text), Path(text));
        }
    }

    #[test]
    fn two_rules_have_in_common_what_both_allow() {
        let both = |a: &str, b: &str| {
            let texts = |rules: Vec<Rule>| rules.iter().map(Rule::to_string).collect::<Vec<_>>().join(" ");
            let (ab, ba) = (rule(a).and(&rule(b)), rule(b).and(&rule(a)));
            assert_eq!(ab, ba, "{a} {b}");
            texts(ab)
        };
        assert_eq!(both("*.a.b", "x.a.b"), "x.a.b");
        assert_eq!(both("*.a.b", "https://x.a.b"), "https://x.a.b");
        assert_eq!(both("*.a.b", "https://x.a.b:8443"), "");
        assert_eq!(both("http://a.b", "http://a.b/x/*"), "http://a.b/x/*");
        assert_eq!(both("http://a.b/x/*", "http://a.b/x/y"), "http://a.b/x/y");
        assert_eq!(both("http://a.b/x/*", "http://a.b/y/*"), "");
        assert_eq!(both("http://a.b", "https://a.b"), "");
        assert_eq!(both("a.b:22", "*.b:22"), "a.b:22/tcp");
        assert_eq!(both("a.b:22", "a.b:22/udp"), "");
        assert_eq!(both("10.0.0.0/8", "10.1.0.0/16:53/udp"), "10.1.0.0/16:53/udp");
        assert_eq!(both("10.0.0.0/8:1-99", "10.0.0.0/9:50-200"), "10.0.0.0/9:50-99/tcp");
        assert_eq!(both("10.0.0.0/8", "11.0.0.0/8"), "");
        assert_eq!(both("0.0.0.0/0", "::/0"), "");
        assert_eq!(both("a.b", "10.0.0.0/8"), "");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_is_written_alike(text in "[a-c0-9.:/*\\[\\]%-]{0,24}|\\PC{0,20}") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }
    }
}
