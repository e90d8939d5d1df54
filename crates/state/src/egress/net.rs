//! Ranges of addresses in rules.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::rule::NotARule;

/// Addresses with a common beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

impl Net {
    /// The first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits are common.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether this address is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.address
    }

    /// The addresses that are in both.
    pub fn and(self, other: Self) -> Option<Self> {
        let (wide, narrow) = if self.prefix <= other.prefix { (self, other) } else { (other, self) };
        wide.contains(narrow.address).then_some(narrow)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

impl FromStr for Net {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let wrong = || NotARule::Net(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Net { address: masked(address, prefix), prefix })
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_two_nets_have_in_common_is_in_both(a: u32, b: u32, p in 0_u8..=32, q in 0_u8..=32, x: u32) {
            let net = |bits: u32, prefix| Net { address: masked(IpAddr::V4(bits.into()), prefix), prefix };
            let (a, b) = (net(a, p), net(b, q));
            let x = IpAddr::V4(x.into());
            let both = a.and(b).is_some_and(|net| net.contains(x));
            prop_assert_eq!(both, a.contains(x) && b.contains(x));
        }
    }
}
