//! `ps`: the containers that are here.

use std::collections::BTreeMap;

use base::{Digest, Id, Timestamp};
use state::container::{Address, Exit, Status};
use state::options::PortMapping;

use crate::Engine;
use crate::error::{Result, unbuilt};

/// A line of `ps`.
#[derive(Debug, Clone)]
pub struct ContainerSummary {
    /// The id.
    pub id: Id,
    /// The name.
    pub name: String,
    /// The image as the user wrote it.
    pub image: String,
    /// The image's id.
    pub image_id: Digest,
    /// The whole command line.
    pub command: Vec<String>,
    /// When it was created.
    pub created: Timestamp,
    /// Its state: `Created`, `Running` or `Exited`.
    pub status: Status,
    /// How it ended, where it has.
    pub exit: Option<Exit>,
    /// When it was started, where it runs.
    pub started: Option<Timestamp>,
    /// The published ports; while it runs, none of them 0.
    pub ports: Vec<PortMapping>,
    /// Ports that the image exposes without publishing them: `80/tcp`.
    pub exposed: Vec<String>,
    /// Its address on the bridge, while it runs.
    pub address: Option<Address>,
    /// `bridge`, `host`, `none`.
    pub network: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Mounted paths of the host.
    pub mounts: Vec<String>,
}

impl Engine {
    /// The running containers, or all; newest first.
    pub fn containers(&self, _all: bool) -> Result<Vec<ContainerSummary>> {
        Err(unbuilt("ps"))
    }
}
