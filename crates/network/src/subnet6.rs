//! IPv6 networks: their arithmetic, and the one that a network gets that names none.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network: an address whose host bits are zero, and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet6 {
    network: Ipv6Addr,
    prefix: u8,
}

impl Subnet6 {
    /// Addresses of one link, which every interface gives itself.
    pub(crate) const LINK_LOCAL: Self =
        Self { network: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), prefix: 10 };
    /// The host itself.
    pub(crate) const LOOPBACK: Self = Self { network: Ipv6Addr::LOCALHOST, prefix: 128 };
    /// No address yet: who asks whether the one it wants is free.
    pub(crate) const UNSPECIFIED: Self = Self { network: Ipv6Addr::UNSPECIFIED, prefix: 128 };

    /// The network of this prefix that contains `ip`. A prefix above 128 counts as 128.
    pub(crate) fn around(ip: Ipv6Addr, prefix: u8) -> Self {
        let prefix = prefix.min(128);
        Self { network: Ipv6Addr::from_bits(ip.to_bits() & mask(prefix)), prefix }
    }

    /// A network of 64 bits out of `fd00::/8` that is nobody else's, by all chance (RFC 4193).
    pub(crate) fn unique_local(random: [u8; 7]) -> Self {
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..8].copy_from_slice(&random);
        Self { network: octets.into(), prefix: 64 }
    }

    /// Its first address, whose host bits are zero.
    pub fn network(self) -> Ipv6Addr {
        self.network
    }

    /// The length of its prefix.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub(crate) fn mask(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(mask(self.prefix))
    }

    /// The address with these host bits.
    pub(crate) fn address(self, host: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network.to_bits() | (host & !mask(self.prefix)))
    }

    /// Whether it holds an address.
    pub fn contains(self, ip: Ipv6Addr) -> bool {
        ip.to_bits() & mask(self.prefix) == self.network.to_bits()
    }

    /// Whether the two have addresses in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// A text that is no network.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an IPv6 network")]
pub struct ParseSubnet6Error(String);

impl FromStr for Subnet6 {
    type Err = ParseSubnet6Error;

    fn from_str(text: &str) -> Result<Self, ParseSubnet6Error> {
        let parsed =
            text.split_once('/').and_then(|(ip, prefix)| Some((ip.parse().ok()?, prefix.parse().ok()?)));
        match parsed {
            Some((ip, prefix)) if prefix <= 128 && Self::around(ip, prefix).network == ip => {
                Ok(Self::around(ip, prefix))
            }
            _ => Err(ParseSubnet6Error(text.chars().take(60).collect())),
        }
    }
}

impl TryFrom<String> for Subnet6 {
    type Error = ParseSubnet6Error;
    fn try_from(text: String) -> Result<Self, ParseSubnet6Error> {
        text.parse()
    }
}

impl From<Subnet6> for String {
    fn from(subnet: Subnet6) -> String {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        let net: Subnet6 = "fd12:3456::/64".parse().unwrap();
        assert_eq!(net.address(1), "fd12:3456::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(net.address(1 << 64), net.network());
        assert!(net.contains("fd12:3456::ffff".parse().unwrap()));
        assert!(!net.contains("fd12:3456:0:1::".parse().unwrap()));
        assert!(net.overlaps("fd12::/16".parse().unwrap()));
        assert!(!net.overlaps("fd13::/16".parse().unwrap()));
        assert!(Subnet6::LINK_LOCAL.contains("fe80::1".parse().unwrap()));
        assert!(Subnet6::around("::1".parse().unwrap(), 0).contains("ff02::1".parse().unwrap()));
        for bad in ["", "fd00::", "fd00::1/64", "fd00::/129", "10.0.0.0/8"] {
            assert!(bad.parse::<Subnet6>().is_err(), "{bad}");
        }
        assert_eq!(Subnet6::unique_local([1, 2, 3, 4, 5, 0, 7]).to_string(), "fd01:203:405:7::/64");
    }
}
