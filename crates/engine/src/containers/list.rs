//! `ps`: the containers that are here.

use std::collections::BTreeMap;
use std::path::Path;

use base::{Digest, Id, Timestamp};
use state::container::{Address, Exit, HealthStatus, Status};
use state::options::{ContainerOptions, ExposedPort, PortMapping};

use crate::Engine;
use crate::containers::joins;
use crate::containers::reconcile::is_being_killed;
use crate::containers::records::{self, Found};
use crate::error::Result;
use crate::networks;

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
    /// Its health, where it is looked at.
    pub health: Option<HealthStatus>,
    /// When it was started, where it runs.
    pub started: Option<Timestamp>,
    /// The published ports; while it runs, none of them 0.
    pub ports: Vec<PortMapping>,
    /// The ports on which it says to listen.
    pub exposed: Vec<ExposedPort>,
    /// Its address on the bridge, while it runs.
    pub address: Option<Address>,
    /// The networks that it is on; `host` and `none` are some.
    pub networks: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What is mounted of the host and of volumes.
    pub mounts: Vec<MountSummary>,
    /// Whose namespaces it lives in.
    pub joins: Vec<JoinSummary>,
}

/// A namespace that a container shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinSummary {
    /// `pid`, `ipc`.
    pub namespace: &'static str,
    /// Whose it is, as the user wrote it.
    pub container: String,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSummary {
    /// The volume, or the path of the host.
    pub source: String,
    /// Where in the container.
    pub destination: String,
    /// It is a volume.
    pub volume: bool,
}

impl Engine {
    /// The running containers, or all; newest first.
    pub fn containers(&self, all: bool) -> Result<Vec<ContainerSummary>> {
        // What has a record is put right where it is looked at.
        let known = records::all(&self.instance)?;
        self.reconcile_live(|id| known.binary_search(id).is_err())?;
        let mut found = Vec::with_capacity(known.len());
        for id in known {
            // One that is being removed meanwhile is none.
            if let Some(container) = self.look(&id)?
                && (all || container.status.is_up())
            {
                found.push(summary(container));
            }
        }
        self.sweep()?;
        found.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        Ok(found)
    }

    /// When the container of this name was created.
    pub fn container_created(&self, name: &str) -> Result<Timestamp> {
        Ok(self.find(name)?.record.created)
    }

    /// What a container is by now, put right if nobody owns it.
    fn look(&self, id: &Id) -> Result<Option<Found>> {
        let found = records::load(&self.instance, id)?;
        let unsettled = |found: &Found| {
            found.abandoned
                || found.live.as_ref().is_some_and(is_being_killed)
                || found.live.is_none()
                    && (found.record.options.auto_remove || found.status == Status::Created)
        };
        if !found.as_ref().is_none_or(unsettled) {
            return Ok(found);
        }
        self.reconcile_one(id)?;
        Ok(records::load(&self.instance, id)?)
    }
}

fn summary(found: Found) -> ContainerSummary {
    let Found { record, exit, live, status, health, abandoned: _ } = found;
    let (started, ports, address) = match live {
        Some(live) => (Some(live.started), live.shown_ports(), live.address),
        None => (None, Vec::new(), None),
    };
    ContainerSummary {
        id: record.id,
        name: record.name,
        image: record.image.reference,
        image_id: record.image.id,
        command: record.args,
        created: record.created,
        status,
        exit: exit.filter(|_| matches!(status, Status::Exited | Status::Restarting)),
        health,
        started,
        ports,
        exposed: record.resolved.exposed,
        address,
        networks: networks::names(&record.options).into_iter().map(str::to_owned).collect(),
        mounts: mounts(&record.options),
        joins: joins::summary(&record.options),
        labels: record.options.labels,
    }
}

fn mounts(options: &ContainerOptions) -> Vec<MountSummary> {
    let mount = |source: String, destination: &Path, volume| MountSummary {
        source,
        destination: destination.display().to_string(),
        volume,
    };
    let volumes = options.volumes.iter().map(|v| mount(v.name.clone(), &v.destination, true));
    let binds = options.binds.iter().map(|b| mount(b.source.display().to_string(), &b.destination, false));
    volumes.chain(binds).collect()
}
