//! What a network is: its record, written when it is made and never changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use state::Instance;
use state::egress::Egress;

use crate::subnet::Subnet;
use crate::subnet6::Subnet6;
use crate::{Error, Result};

/// The newest format that this code reads and the one that it writes.
pub const FORMAT: u32 = 1;
/// The name of the network that is always there.
pub const DEFAULT: &str = "bridge";
/// The driver of a network that is a bridge.
pub const BRIDGE_DRIVER: &str = "bridge";

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The format of the writer; a reader refuses what is newer than itself.
    pub format: u32,
    /// Its id.
    pub id: Id,
    /// Its name, which is its file's.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// `bridge` or `macvlan`.
    pub driver: String,
    /// Its addresses; none: those of the default network, which takes what is free whenever it comes up.
    pub ipv4: Option<Pool4>,
    /// Its IPv6 addresses, if it has some.
    pub ipv6: Option<Pool6>,
    /// Nothing leaves it, and nothing comes in.
    pub internal: bool,
    /// Only networks that say so can be connected to by hand. (All can.)
    #[serde(default)]
    pub attachable: bool,
    /// Addresses that nobody gets.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
    /// The driver's options, as they were given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where its containers may go.
    #[serde(default, skip_serializing_if = "Egress::is_allow")]
    pub egress: Egress,
}

/// IPv4 addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool4 {
    /// All of them.
    pub subnet: Subnet,
    /// Those that containers get who want none in particular.
    pub range: Option<Subnet>,
    /// The bridge's own.
    pub gateway: Ipv4Addr,
    /// The user named the subnet: only then may a container want an address of it.
    pub named: bool,
}

/// IPv6 addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool6 {
    /// All of them.
    pub subnet: Subnet6,
    /// Those that containers get who want none in particular.
    pub range: Option<Subnet6>,
    /// The bridge's own.
    pub gateway: Ipv6Addr,
    /// The user named the subnet.
    pub named: bool,
}

impl Pool6 {
    /// The one that a user named.
    pub fn named(subnet: Subnet6) -> Self {
        Self { subnet, range: None, gateway: subnet.address(1), named: true }
    }

    /// One for a network that names none: out of its id, which is random.
    pub fn random(id: &Id) -> Self {
        let byte = |n: usize| u8::from_str_radix(&id.as_str()[2 * n..2 * n + 2], 16).unwrap_or(0);
        let subnet = Subnet6::unique_local(std::array::from_fn(byte));
        Self { named: false, ..Self::named(subnet) }
    }
}

/// What the options of the driver say. Docker's names, which scripts know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOptions {
    /// The link's name.
    pub bridge: Option<String>,
    /// The largest packet; none: the host's own.
    pub mtu: Option<u32>,
    /// Containers may speak to one another.
    pub open: bool,
    /// What leaves it has the host's address.
    pub masquerade: bool,
}

const OPTION_NAME: &str = "com.docker.network.bridge.name";
const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const OPTION_OPEN: &str = "com.docker.network.bridge.enable_icc";
const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// The kernel's least for IPv4, and the least for IPv6 (RFC 8200).
const LEAST_MTU: u32 = 68;
const LEAST_MTU6: u32 = 1280;
const LONGEST_LINK: usize = 15;

impl BridgeOptions {
    /// Understands them all, or says what is wrong.
    pub fn parse(options: &BTreeMap<String, String>, ipv6: bool) -> Result<Self> {
        let mut parsed = Self { bridge: None, mtu: None, open: true, masquerade: true };
        for (name, value) in options {
            let wrong = |reason: &str| Error::DriverOption {
                name: name.chars().take(80).collect(),
                value: value.chars().take(80).collect(),
                reason: reason.to_owned(),
            };
            let truth = || match value.as_str() {
                "true" | "1" | "" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(wrong("want true or false")),
            };
            match name.as_str() {
                OPTION_NAME => {
                    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                    if value.is_empty() || value.len() > LONGEST_LINK || !value.bytes().all(plain) {
                        return Err(wrong("want the name of a link: at most 15 letters, digits and -_."));
                    }
                    parsed.bridge = Some(value.clone());
                }
                OPTION_MTU | "mtu" => {
                    let least = if ipv6 { LEAST_MTU6 } else { LEAST_MTU };
                    let mtu = value.parse().ok().filter(|mtu| (least..=65_535).contains(mtu));
                    parsed.mtu =
                        Some(mtu.ok_or_else(|| {
                            wrong(&format!("want a number of bytes from {least} to 65535"))
                        })?);
                }
                OPTION_OPEN => parsed.open = truth()?,
                OPTION_MASQUERADE => parsed.masquerade = truth()?,
                _ => {
                    return Err(wrong(&format!(
                        "there is no such option; there are {OPTION_NAME}, {OPTION_MTU}, {OPTION_OPEN} and {OPTION_MASQUERADE}"
                    )));
                }
            }
        }
        Ok(parsed)
    }
}

impl Definition {
    /// The network that is always there.
    pub fn default_of(instance: &Instance) -> Self {
        Self {
            format: FORMAT,
            // The same whenever it is asked for.
            id: Id::of(&instance.global_name()),
            name: DEFAULT.to_owned(),
            created: Timestamp(0),
            driver: BRIDGE_DRIVER.to_owned(),
            ipv4: None,
            ipv6: None,
            internal: false,
            attachable: false,
            reserved: BTreeMap::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            egress: Egress::Allow,
        }
    }

    /// Whether it is the one that is always there.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT
    }

    /// The options of its driver. They were understood when it was made.
    pub(crate) fn bridge_options(&self) -> Result<BridgeOptions> {
        BridgeOptions::parse(&self.options, self.ipv6.is_some())
    }

    /// The name of its bridge, or of the link that its containers are on, at most 15 bytes.
    pub fn link(&self, instance: &Instance) -> String {
        if self.is_default() {
            return instance.bridge_name();
        }
        if self.is_macvlan()
            && let Some(parent) = self.macvlan_options().ok().and_then(|options| options.parent)
        {
            return parent;
        }
        let named = self.bridge_options().ok().and_then(|options| options.bridge);
        named.unwrap_or_else(|| format!("dh-{}", &self.id.short()))
    }
}

/// Docker's rule for names, and none that means something else.
pub fn check_name(name: &str) -> Result<()> {
    const LONGEST: usize = 200;
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !first || !rest || name.len() > LONGEST {
        return Err(Error::Name(name.chars().take(80).collect()));
    }
    match name {
        "bridge" | "host" | "none" | "default" | "container" => Err(Error::Reserved(name.to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_are_dockers_and_an_unknown_one_is_refused() {
        let parsed = BridgeOptions::parse(
            &options(&[(OPTION_NAME, "br7"), (OPTION_MTU, "1400"), (OPTION_OPEN, "false")]),
            false,
        );
        let expected =
            BridgeOptions { bridge: Some("br7".into()), mtu: Some(1400), open: false, masquerade: true };
        assert_eq!(parsed.unwrap(), expected);
        for (name, value) in [
            (OPTION_NAME, "longer-than-the-kernel-likes"),
            (OPTION_NAME, "a/b"),
            (OPTION_MTU, "0"),
            (OPTION_MTU, "x"),
            (OPTION_OPEN, "perhaps"),
            ("parent", "eth0"),
        ] {
            assert!(BridgeOptions::parse(&options(&[(name, value)]), false).is_err(), "{name}={value}");
        }
        assert!(BridgeOptions::parse(&options(&[(OPTION_MTU, "1000")]), true).is_err(), "IPv6 wants 1280");
    }

    #[test]
    fn names_are_dockers() {
        for good in ["a", "back-end_1.x", "0net"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", ".x", "a b", "a/b", "host", "none", "bridge", "default", &"a".repeat(201)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_network_has_one_id_for_ever() {
        let instance = Instance::new("/a".as_ref(), "/b".as_ref());
        let network = Definition::default_of(&instance);
        assert_eq!(network, Definition::default_of(&instance));
        assert_eq!(network.link(&instance), instance.bridge_name());
    }
}
