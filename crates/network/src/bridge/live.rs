//! `network.json`: how a network stands now.

use std::path::Path;

use base::fs::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::nft::table::Firewall;
use crate::nft::zone::Zone;
use crate::subnet::Subnet;
use crate::{Error, Result};

/// [`Network::format`] as this code writes and reads it.
pub(crate) const FORMAT: u32 = 1;
const FILE: &str = "network.json";

/// What is written down of a network that stands, or stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) format: u32,
    /// Kept when the bridge goes, so that the next one has the same if it can.
    pub(crate) subnet: Subnet,
    pub(crate) mtu: u32,
    /// Bridge and table stand.
    pub(crate) ready: bool,
    /// What decides about published ports.
    #[serde(default = "open")]
    pub(crate) firewall: Firewall,
    /// What is in the table because of it.
    #[serde(default)]
    pub(crate) zone: Option<Zone>,
    /// The link is not ours: it stays when the network goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) foreign_link: bool,
}

impl Network {
    /// One whose containers are on a link of the host's. No table is about it.
    pub(crate) fn of_parent(subnet: Subnet, mtu: u32, foreign_link: bool) -> Self {
        Self {
            format: FORMAT,
            subnet,
            mtu,
            ready: true,
            firewall: Firewall::default(),
            zone: None,
            foreign_link,
        }
    }
}

impl Network {
    /// Whether it stands and something of the table is about it.
    pub(crate) fn is_in_table(&self) -> bool {
        self.ready && self.zone.is_some()
    }
}

/// What networks of releases before 0.2 had.
fn open() -> Firewall {
    Firewall::Open
}

/// What is in a live directory, if anything.
pub(crate) fn read(dir: &Path) -> Result<Option<Network>> {
    let path = dir.join(FILE);
    let Some(content) = fs::read_if_exists(&path)? else { return Ok(None) };
    let network: Network = serde_json::from_slice(&content)
        .map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
    if network.format > FORMAT {
        return Err(Error::State { path, reason: "it was written by a newer version".to_owned() });
    }
    Ok(Some(network))
}

pub(crate) fn write(dir: &Path, network: &Network) -> Result<()> {
    let path = dir.join(FILE);
    let content = serde_json::to_vec(network)
        .map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
    Ok(fs::write_atomic(&path, &content, Durability::Volatile)?)
}
