//! `network create`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::{Failure, Kind, Timestamp};
use network::{
    BRIDGE_DRIVER, BridgeOptions, Definition, MACVLAN_DRIVER, MacvlanOptions, Pool4, Pool6, Subnet, Subnet6,
};
use state::egress::Egress;

use crate::Engine;
use crate::error::Result;

/// A network to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Its name.
    pub name: String,
    /// `bridge` or `macvlan`, if it is said.
    pub driver: Option<String>,
    /// `--subnet`: at most one of each version.
    pub subnets: Vec<String>,
    /// `--ip-range`.
    pub ranges: Vec<String>,
    /// `--gateway`.
    pub gateways: Vec<IpAddr>,
    /// `--aux-address`: addresses that nobody gets.
    pub reserved: BTreeMap<String, IpAddr>,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--internal`.
    pub internal: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `--egress`: where its containers may go.
    pub egress: Egress,
}

/// Why a network was not made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there is no network driver `{0}`; there are {BRIDGE_DRIVER} and {MACVLAN_DRIVER}")]
    Driver(String),
    #[error(
        "`{0}` is no subnet: want an address whose host bits are zero, and the length of its prefix, as 10.5.0.0/16"
    )]
    Subnet(String),
    #[error("two subnets of the same version: {0} and {1}")]
    Twice(String, String),
    #[error("the subnet {subnet} is of no use: {why}")]
    Useless { subnet: String, why: &'static str },
    #[error("the subnet {subnet} overlaps that of the network `{other}`, {others}")]
    Overlaps { subnet: String, other: String, others: String },
    #[error("{what} {value} needs a --subnet that it is of")]
    Stray { what: &'static str, value: String },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Overlaps { .. } => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }
}

/// The smallest subnet has a bridge and one container.
const LONGEST_PREFIX: u8 = 30;
const LONGEST_PREFIX6: u8 = 126;

impl Engine {
    /// Makes a network. Returns its id.
    pub fn create_network(&self, options: &NetworkOptions) -> Result<String> {
        network::check_name(&options.name)?;
        let driver = options.driver.as_deref().filter(|d| !d.is_empty()).unwrap_or(BRIDGE_DRIVER);
        if !matches!(driver, BRIDGE_DRIVER | MACVLAN_DRIVER) {
            return Err(Error::Driver(driver.chars().take(40).collect()).into());
        }
        crate::egress::check_network(driver == MACVLAN_DRIVER, &options.egress)?;
        let wanted = Wanted::parse(options)?;
        let ipv6 = options.ipv6 || wanted.ipv6.is_some();
        let macvlan = match driver {
            MACVLAN_DRIVER => Some(MacvlanOptions::parse(&options.options, ipv6)?),
            _ => BridgeOptions::parse(&options.options, ipv6).map(|_| None)?,
        };
        let store = self.network_store();
        let locked = store.lock()?;
        let others = store.list()?;
        if let Some(macvlan) = macvlan {
            macvlan.check(&others)?;
        }
        let id = network::new_id()?;
        let ipv4 = if let Some(pool) = wanted.ipv4 {
            refuse_overlap(&pool, &others)?;
            pool
        } else {
            let subnet = store.free_subnet(&id)?;
            Pool4 { subnet, range: None, gateway: subnet.gateway(), named: false }
        };
        let ipv6 = match (wanted.ipv6, ipv6) {
            (Some(pool), _) => {
                refuse_overlap6(&pool, &others)?;
                Some(pool)
            }
            (None, false) => None,
            (None, true) => Some(Pool6::random(&id)),
        };
        let definition = Definition {
            format: network::FORMAT,
            id,
            name: options.name.clone(),
            created: Timestamp::now(),
            driver: driver.to_owned(),
            ipv4: Some(ipv4),
            ipv6,
            internal: options.internal,
            attachable: options.attachable,
            reserved: options.reserved.clone(),
            options: options.options.clone(),
            labels: options.labels.clone(),
            egress: options.egress.clone(),
        };
        store.add(&definition, &locked)?;
        self.note_network("create", &definition, None);
        Ok(definition.id.to_string())
    }
}

fn refuse_overlap(pool: &Pool4, others: &[Definition]) -> std::result::Result<(), Error> {
    let clash = others.iter().find_map(|other| {
        let theirs = other.ipv4.as_ref()?.subnet;
        theirs.overlaps(pool.subnet).then(|| (other.name.clone(), theirs.to_string()))
    });
    overlaps(pool.subnet.to_string(), clash)
}

fn refuse_overlap6(pool: &Pool6, others: &[Definition]) -> std::result::Result<(), Error> {
    let clash = others.iter().find_map(|other| {
        let theirs = other.ipv6.as_ref()?.subnet;
        theirs.overlaps(pool.subnet).then(|| (other.name.clone(), theirs.to_string()))
    });
    overlaps(pool.subnet.to_string(), clash)
}

fn overlaps(subnet: String, clash: Option<(String, String)>) -> std::result::Result<(), Error> {
    match clash {
        Some((other, others)) => Err(Error::Overlaps { subnet, other, others }),
        None => Ok(()),
    }
}

/// What the options say of addresses.
struct Wanted {
    ipv4: Option<Pool4>,
    ipv6: Option<Pool6>,
}

impl Wanted {
    fn parse(options: &NetworkOptions) -> std::result::Result<Self, Error> {
        let (mut four, mut six) = (None::<Subnet>, None::<Subnet6>);
        for text in &options.subnets {
            let first = if let Ok(subnet) = text.parse::<Subnet>() {
                four.replace(subnet).map(|first| first.to_string())
            } else {
                let bad = |_| Error::Subnet(text.chars().take(60).collect());
                six.replace(text.parse().map_err(bad)?).map(|first| first.to_string())
            };
            if let Some(first) = first {
                return Err(Error::Twice(first, text.clone()));
            }
        }
        let wanted = Self { ipv4: four.map(pool4).transpose()?, ipv6: six.map(pool6).transpose()? };
        wanted
            .with_ranges(&options.ranges)?
            .with_gateways(&options.gateways)?
            .check_reserved(&options.reserved)
    }

    fn with_ranges(mut self, ranges: &[String]) -> std::result::Result<Self, Error> {
        for text in ranges {
            let stray = || Error::Stray { what: "the range", value: text.chars().take(60).collect() };
            if let Ok(range) = text.parse::<Subnet>() {
                let pool = self.ipv4.as_mut().filter(|pool| inside(range, pool.subnet)).ok_or_else(stray)?;
                pool.range = Some(range);
            } else {
                let range =
                    text.parse::<Subnet6>().map_err(|_| Error::Subnet(text.chars().take(60).collect()))?;
                let within = |pool: &&mut Pool6| {
                    pool.subnet.contains(range.network()) && range.prefix() >= pool.subnet.prefix()
                };
                self.ipv6.as_mut().filter(within).ok_or_else(stray)?.range = Some(range);
            }
        }
        Ok(self)
    }

    fn with_gateways(mut self, gateways: &[IpAddr]) -> std::result::Result<Self, Error> {
        for gateway in gateways {
            let stray = || Error::Stray { what: "the gateway", value: gateway.to_string() };
            match *gateway {
                IpAddr::V4(ip) => {
                    let pool = self.ipv4.as_mut().filter(|pool| usable(pool.subnet, ip));
                    pool.ok_or_else(stray)?.gateway = ip;
                }
                IpAddr::V6(ip) => {
                    let usable = |pool: &&mut Pool6| pool.subnet.contains(ip) && ip != pool.subnet.network();
                    self.ipv6.as_mut().filter(usable).ok_or_else(stray)?.gateway = ip;
                }
            }
        }
        Ok(self)
    }

    fn check_reserved(self, reserved: &BTreeMap<String, IpAddr>) -> std::result::Result<Self, Error> {
        for ip in reserved.values() {
            let known = match *ip {
                IpAddr::V4(ip) => self.ipv4.as_ref().is_some_and(|pool| pool.subnet.contains(ip)),
                IpAddr::V6(ip) => self.ipv6.as_ref().is_some_and(|pool| pool.subnet.contains(ip)),
            };
            if !known {
                return Err(Error::Stray { what: "the reserved address", value: ip.to_string() });
            }
        }
        Ok(self)
    }
}

fn inside(range: Subnet, subnet: Subnet) -> bool {
    subnet.contains(range.network()) && range.prefix() >= subnet.prefix()
}

/// Whether an address can be somebody's in this subnet.
fn usable(subnet: Subnet, ip: Ipv4Addr) -> bool {
    subnet.contains(ip) && ip != subnet.network() && ip != subnet.broadcast()
}

fn pool4(subnet: Subnet) -> std::result::Result<Pool4, Error> {
    let useless = |why| Err(Error::Useless { subnet: subnet.to_string(), why });
    let special =
        |ip: Ipv4Addr| ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0;
    if subnet.prefix() > LONGEST_PREFIX || subnet.prefix() < 8 {
        return useless(
            "its prefix is to be 8 to 30 long, so that there is an address for the bridge and one for a container",
        );
    }
    if special(subnet.network()) || special(subnet.broadcast()) {
        return useless("its addresses are no hosts' (loopback, multicast or reserved)");
    }
    Ok(Pool4 { subnet, range: None, gateway: subnet.gateway(), named: true })
}

fn pool6(subnet: Subnet6) -> std::result::Result<Pool6, Error> {
    let useless = |why| Err(Error::Useless { subnet: subnet.to_string(), why });
    let ip: Ipv6Addr = subnet.network();
    if subnet.prefix() > LONGEST_PREFIX6 || subnet.prefix() < 16 {
        return useless("its prefix is to be 16 to 126 long");
    }
    if ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local() {
        return useless("its addresses are no hosts' (loopback, multicast, of a link or reserved)");
    }
    Ok(Pool6::named(subnet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(subnets: &[&str], ranges: &[&str], gateways: &[&str]) -> std::result::Result<Wanted, Error> {
        Wanted::parse(&NetworkOptions {
            subnets: subnets.iter().map(|s| (*s).to_owned()).collect(),
            ranges: ranges.iter().map(|s| (*s).to_owned()).collect(),
            gateways: gateways.iter().map(|g| g.parse().unwrap()).collect(),
            ..NetworkOptions::default()
        })
    }

    #[test]
    fn pools_are_what_was_said() {
        let both = wanted(
            &["10.5.0.0/16", "fd00:5::/64"],
            &["10.5.7.0/24", "fd00:5::7:0/112"],
            &["10.5.0.254", "fd00:5::fe"],
        );
        let both = both.unwrap();
        let (four, six) = (both.ipv4.unwrap(), both.ipv6.unwrap());
        assert_eq!(
            (four.gateway.to_string(), four.range.unwrap().to_string()),
            ("10.5.0.254".into(), "10.5.7.0/24".into())
        );
        assert_eq!(
            (six.gateway.to_string(), six.range.unwrap().to_string()),
            ("fd00:5::fe".into(), "fd00:5::7:0/112".into())
        );
        assert!(four.named && six.named);
        assert!(wanted(&[], &[], &[]).unwrap().ipv4.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (subnets, ranges, gateways) in [
            (&["10.5.0.1/16"][..], &[][..], &[][..]),
            (&["10.5.0.0/16", "10.6.0.0/16"], &[], &[]),
            (&["10.5.0.0/31"], &[], &[]),
            (&["127.0.0.0/8"], &[], &[]),
            (&["224.0.0.0/8"], &[], &[]),
            (&["fe80::/64"], &[], &[]),
            (&["10.5.0.0/24"], &["10.6.0.0/25"], &[]),
            (&["10.5.0.0/24"], &["10.5.0.0/16"], &[]),
            (&["10.5.0.0/24"], &[], &["10.6.0.1"]),
            (&["10.5.0.0/24"], &[], &["10.5.0.255"]),
            (&[], &[], &["10.5.0.1"]),
            (&[], &["10.5.0.0/24"], &[]),
        ] {
            assert!(wanted(subnets, ranges, gateways).is_err(), "{subnets:?} {ranges:?} {gateways:?}");
        }
    }
}
