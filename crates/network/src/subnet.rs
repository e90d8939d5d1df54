//! Private IPv4 networks: their arithmetic, and which one an instance should try.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network: an address whose host bits are zero, and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The network of this prefix that contains `ip`. A prefix above 32 counts as 32.
    pub(crate) fn around(ip: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { network: Ipv4Addr::from_bits(ip.to_bits() & mask(prefix)), prefix }
    }

    /// Its first address, whose host bits are zero.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The length of its prefix.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub(crate) fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    /// The bridge's address, unless another is wanted: the first one.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | 1)
    }

    /// Its last address, which is everybody's.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !mask(self.prefix))
    }

    /// Whether it holds an address.
    pub fn contains(self, ip: Ipv4Addr) -> bool {
        ip.to_bits() & mask(self.prefix) == self.network.to_bits()
    }

    /// Whether the two have addresses in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// A text that is no network.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an IPv4 network")]
pub struct ParseSubnetError(String);

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        let parsed =
            text.split_once('/').and_then(|(ip, prefix)| Some((ip.parse().ok()?, prefix.parse().ok()?)));
        match parsed {
            Some((ip, prefix)) if prefix <= 32 && Self::around(ip, prefix).network == ip => {
                Ok(Self::around(ip, prefix))
            }
            _ => Err(ParseSubnetError(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = ParseSubnetError;
    fn try_from(text: String) -> Result<Self, ParseSubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

/// The networks an instance may try, best first; a seed turns the list, so that instances that start at once
/// rarely want the same.
///
/// Away from what others take by default: Podman 10.88 and up, Kubernetes 10.42, 10.43, 10.96, 10.244,
/// Docker 172.17 and up, libvirt 192.168.122.
pub(crate) fn candidates(seed: Option<u32>) -> impl Iterator<Item = Subnet> {
    const FIRST: u32 = 130;
    const COUNT: u32 = 110; // 10.130 … 10.239
    const DEFAULT: u32 = 210;
    let start = seed.map_or(DEFAULT - FIRST, |seed| seed % COUNT);
    let wide = (0..COUNT).map(move |n| Ipv4Addr::new(10, (FIRST + (start + n) % COUNT) as u8, 0, 0));
    let middle = (16..32).rev().map(|second| Ipv4Addr::new(172, second, 0, 0));
    let narrow = (0..=240).rev().step_by(16).map(|third| Ipv4Addr::new(192, 168, third, 0));
    wide.chain(middle).map(|ip| Subnet::around(ip, 16)).chain(narrow.map(|ip| Subnet::around(ip, 20)))
}

/// The networks that one made by hand may have, none of which is named: smaller ones out of the [`candidates`].
pub(crate) fn narrow_candidates(id: &base::Id) -> impl Iterator<Item = Subnet> + use<> {
    let seed = u32::from_str_radix(&id.as_str()[..8], 16).ok();
    candidates(seed).flat_map(|wide| {
        let step = 20_u8.max(wide.prefix());
        let count = 1_u32 << (step - wide.prefix());
        (0..count).map(move |n| {
            Subnet::around(Ipv4Addr::from_bits(wide.network().to_bits() + (n << (32 - step))), step)
        })
    })
}

/// A host interface's index for a container's address: far above what the kernel counts up to by itself, and unique but for
/// the highest two bits of the address.
pub(crate) fn link_index(ip: Ipv4Addr) -> u32 {
    0x4000_0000 | (ip.to_bits() & 0x3fff_ffff)
}

/// The hardware address for an IPv4 address, as Docker derives it: whoever gets the address again has the
/// hardware address that its neighbours remember.
pub(crate) fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn arithmetic() {
        let net: Subnet = "10.130.0.0/16".parse().unwrap();
        assert_eq!(net.gateway(), Ipv4Addr::new(10, 130, 0, 1));
        assert_eq!(net.broadcast(), Ipv4Addr::new(10, 130, 255, 255));
        assert!(net.overlaps("10.0.0.0/8".parse().unwrap()));
        assert!(net.overlaps("10.130.7.0/24".parse().unwrap()));
        assert!(!net.overlaps("10.131.0.0/16".parse().unwrap()));
        for bad in ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "x/8"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
        assert!(Subnet::around(Ipv4Addr::new(1, 2, 3, 4), 0).contains(Ipv4Addr::BROADCAST));
    }

    #[test]
    fn candidates_are_disjoint_and_so_are_their_link_indexes() {
        let all: Vec<_> = candidates(None).collect();
        assert_eq!(all[0], "10.210.0.0/16".parse().unwrap());
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| !a.overlaps(*b)));
        }
        let ends: Vec<_> = all.iter().flat_map(|s| [s.gateway(), s.broadcast()]).collect();
        assert_eq!(ends.iter().map(|ip| link_index(*ip)).collect::<HashSet<_>>().len(), ends.len());
        assert_eq!(candidates(Some(7)).collect::<HashSet<_>>(), all.into_iter().collect());
        let narrow: Vec<_> = narrow_candidates(&base::Id::of("x")).collect();
        assert_eq!(narrow.len(), 110 * 16 + 16 * 16 + 16);
        assert_eq!(narrow.iter().collect::<HashSet<_>>().len(), narrow.len());
    }
}
