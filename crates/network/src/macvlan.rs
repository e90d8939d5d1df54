//! Networks of the driver `macvlan`: each container has a link of its own on a link of the host's, beside the host, as if
//! it were another machine there. No bridge, no rule and no port of the host's is between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use state::Instance;

use crate::bridge::{Bridge, Network};
use crate::definition::Definition;
use crate::error::Attempt;
use crate::{Error, Result, link};

/// The driver of a network whose containers are on a link of the host's.
pub const MACVLAN_DRIVER: &str = "macvlan";

/// How the links on one parent see each other, in the kernel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Not at all.
    Private,
    /// By the switch that the parent hangs on, if that sends back.
    Vepa,
    /// At once.
    Bridge,
    /// There is one alone, which is the parent to the outside.
    Passthru,
}

impl Mode {
    /// The kernel's number.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

/// What the options of the driver say. Docker's names, which scripts know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacvlanOptions {
    /// The link that containers are on; none: one of our own that leads nowhere.
    pub parent: Option<String>,
    /// How they see each other.
    pub mode: Mode,
    /// The largest packet; none: the parent's.
    pub mtu: Option<u32>,
}

const OPTION_PARENT: &str = "parent";
const OPTION_MODE: &str = "macvlan_mode";
const OPTION_MTU: &str = "com.docker.network.driver.mtu";
const LONGEST_LINK: usize = 15;
const DEFAULT_MTU: u32 = 1500;

impl MacvlanOptions {
    /// Understands them all, or says what is wrong.
    pub fn parse(options: &BTreeMap<String, String>, ipv6: bool) -> Result<Self> {
        let mut parsed = Self { parent: None, mode: Mode::Bridge, mtu: None };
        for (name, value) in options {
            let wrong = |reason: String| Error::DriverOption {
                name: name.chars().take(80).collect(),
                value: value.chars().take(80).collect(),
                reason,
            };
            match name.as_str() {
                OPTION_PARENT => {
                    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                    if value.is_empty() || value.len() > LONGEST_LINK || !value.bytes().all(plain) {
                        return Err(wrong("want the name of a link, as eth0 or eth0.10".to_owned()));
                    }
                    parsed.parent = Some(value.clone());
                }
                OPTION_MODE => {
                    parsed.mode = match value.as_str() {
                        "private" => Mode::Private,
                        "vepa" => Mode::Vepa,
                        "" | "bridge" => Mode::Bridge,
                        "passthru" => Mode::Passthru,
                        _ => return Err(wrong("want bridge, private, vepa or passthru".to_owned())),
                    };
                }
                OPTION_MTU | "mtu" => {
                    let least = if ipv6 { 1280 } else { 68 };
                    let mtu = value.parse().ok().filter(|mtu| (least..=65_535).contains(mtu));
                    let reason = || wrong(format!("want a number of bytes from {least} to 65535"));
                    parsed.mtu = Some(mtu.ok_or_else(reason)?);
                }
                _ => {
                    return Err(wrong(format!(
                        "there is no such option; there are {OPTION_PARENT}, {OPTION_MODE} and {OPTION_MTU}"
                    )));
                }
            }
        }
        Ok(parsed)
    }

    /// Whether containers can be there: the parent exists or can be made, and no other network is on it.
    pub fn check(&self, others: &[Definition]) -> Result<()> {
        let Some(parent) = &self.parent else { return Ok(()) };
        let same =
            |other: &&Definition| other.macvlan_options().is_ok_and(|o| o.parent.as_ref() == Some(parent));
        if let Some(other) = others.iter().filter(|other| other.is_macvlan()).find(same) {
            return Err(Error::ParentTaken { link: parent.clone(), network: other.name.clone() });
        }
        let exists = |name: &str| {
            link::index_of(name).link(|| format!("look for the link `{name}`")).map(|index| index.is_some())
        };
        if exists(parent)? {
            return Ok(());
        }
        match vlan(parent) {
            Some((base, _)) if exists(base)? => Ok(()),
            _ => Err(Error::NoParent(parent.clone())),
        }
    }
}

/// A link and the number of a VLAN on it: `eth0.10`.
fn vlan(name: &str) -> Option<(&str, u16)> {
    let (base, id) = name.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..4095).contains(id))?;
    (!base.is_empty()).then_some((base, id))
}

impl Definition {
    /// Whether it is of this driver.
    pub fn is_macvlan(&self) -> bool {
        self.driver == MACVLAN_DRIVER
    }

    /// The options of its driver. They were understood when it was made.
    pub(crate) fn macvlan_options(&self) -> Result<MacvlanOptions> {
        MacvlanOptions::parse(&self.options, self.ipv6.is_some())
    }
}

impl Bridge {
    /// Finds the parent, or makes one: a VLAN, which goes with the network, or a link that leads nowhere. The exclusive
    /// lock is held.
    pub(crate) fn make_parent(
        &self,
        _instance: &Instance,
        definition: &Definition,
    ) -> Result<(Network, u32)> {
        let options = definition.macvlan_options()?;
        self.addresses().create_dirs()?;
        let before = self.live()?;
        let look = || link::index_of(&self.name).link(|| format!("look for the link `{}`", self.name));
        let make = || format!("make the link `{}`", self.name);
        // Made by us before, if it is there and was.
        let mut ours = before.is_some_and(|network| !network.foreign_link);
        let index = match (look()?, &options.parent) {
            (Some(index), _) => index,
            (None, None) => {
                link::create_dummy(&self.name).link(make)?;
                ours = true;
                look()?.ok_or_else(|| Error::NoParent(self.name.clone()))?
            }
            (None, Some(parent)) => {
                let (base, id) = vlan(parent).ok_or_else(|| Error::NoParent(parent.clone()))?;
                let below = link::index_of(base).link(|| format!("look for the link `{base}`"))?;
                let below = below.ok_or_else(|| Error::NoParent(base.to_owned()))?;
                link::create_vlan(parent, below, id).link(make)?;
                ours = true;
                look()?.ok_or_else(|| Error::NoParent(parent.clone()))?
            }
        };
        let of_parent = link::mtu_of(index).ok().flatten().unwrap_or(DEFAULT_MTU);
        let subnet = definition.ipv4.as_ref().map(|pool| pool.subnet);
        let subnet = subnet.ok_or_else(|| Error::NoSubnet { bridge: self.name.clone() })?;
        Ok((Network::of_parent(subnet, options.mtu.unwrap_or(of_parent), !ours), index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<MacvlanOptions> {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        MacvlanOptions::parse(&options, false)
    }

    #[test]
    fn options_are_dockers_and_an_unknown_one_is_refused() {
        let parsed = parse(&[("parent", "eth0.10"), ("macvlan_mode", "private")]).unwrap();
        assert_eq!((parsed.parent.as_deref(), parsed.mode), (Some("eth0.10"), Mode::Private));
        assert_eq!(parse(&[]).unwrap().mode, Mode::Bridge);
        for bad in [("parent", "a/b"), ("parent", ""), ("macvlan_mode", "l2"), ("mtu", "1"), ("x", "y")] {
            assert!(parse(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_vlan_is_told_by_its_name() {
        assert_eq!(vlan("eth0.10"), Some(("eth0", 10)));
        for no in ["eth0", "eth0.0", "eth0.4095", "eth0.x", ".7"] {
            assert_eq!(vlan(no), None, "{no}");
        }
    }
}
