//! `rmi`: a name goes, and with the last one the image.
//!
//! What containers use stays: layers because their records say so, images because we refuse. New containers
//! are kept out while we look and delete (they hold the lock that we take, shared, until their record is
//! there); running pulls protect what they rely on themselves.

use base::{Digest, Failure, Id, Kind};
use image::{Reference, Resolved};
use state::container::Record;

use crate::Engine;
use crate::containers::records;
use crate::error::Result;
use crate::images::list::familiar;
use crate::images::remove_platform::Scope;

/// How to remove an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveImageOptions {
    /// All names of an image that is given by its id; also one that a stopped container was made of.
    pub force: bool,
    /// Leave what nothing needs any more to the next collection.
    pub no_prune: bool,
    /// Only what is for this platform (`os/arch[/variant]`).
    pub platform: Option<String>,
}

/// One thing that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This name.
    Untagged(String),
    /// This image or layer.
    Deleted(Digest),
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the image {image} is in use by {state} container {}", id.short())]
    InUse { image: String, state: &'static str, id: Id },
    #[error("the image {} has several names: {}", id.short(), .names.join(", "))]
    SeveralNames { id: Digest, names: Vec<String> },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::InUse { state: "the running", id, .. } => {
                vec![format!("stop and remove it first: dhow rm -f {}", id.short())]
            }
            Self::InUse { id, .. } => {
                vec![format!("remove it first (dhow rm {}), or force it: dhow rmi -f", id.short())]
            }
            Self::SeveralNames { .. } => {
                vec!["remove the names one by one, or force it: dhow rmi -f".to_owned()]
            }
        }
    }
}

impl Engine {
    /// Removes a name, or an image by its id.
    pub fn remove_image(&self, name: &str, options: &RemoveImageOptions) -> Result<Vec<Removed>> {
        self.reconcile()?;
        let store = self.image_store()?;
        let guard = self.keep_containers_out()?;
        let target = store.find(name)?;
        if let Some(wanted) = &options.platform
            && let Scope::Part(mut removed) = self.remove_platform(&target, name, wanted)?
        {
            if !options.no_prune {
                removed.extend(self.collect_garbage(&guard)?.layers.into_iter().map(Removed::Deleted));
            }
            return Ok(removed);
        }
        let of_image: Vec<Resolved> = store.list()?.into_iter().filter(|r| r.id == target.id).collect();
        let by_name = name
            .parse::<Reference>()
            .is_ok_and(|reference| reference.canonical() == target.reference || reference.digest().is_some());
        let names: Vec<Resolved> = if by_name { vec![target.clone()] } else { of_image.clone() };
        if !by_name && names.len() > 1 && !options.force {
            let names = names.iter().filter_map(familiar).collect();
            return Err(Error::SeveralNames { id: target.id, names }.into());
        }
        // One of several names may go whatever uses the image.
        if names.len() == of_image.len() {
            self.refuse_if_used(&target, &guard.containers, name, options.force)?;
        }
        let mut removed = Vec::new();
        for record in &names {
            if store.untag(record)? {
                removed.extend(familiar(record).map(Removed::Untagged));
            }
        }
        if names.len() == of_image.len() {
            removed.push(Removed::Deleted(target.id));
        }
        if !options.no_prune {
            removed.extend(self.collect_garbage(&guard)?.layers.into_iter().map(Removed::Deleted));
        }
        self.note_removed(&target.id, &removed);
        Ok(removed)
    }

    fn refuse_if_used(&self, image: &Resolved, containers: &[Record], name: &str, force: bool) -> Result<()> {
        for container in containers.iter().filter(|c| c.images().any(|used| *used == image.id)) {
            let Some(found) = records::load(&self.instance, &container.id)? else { continue };
            let running = found.status.is_up();
            if running || !force {
                let state = if running { "the running" } else { "the stopped" };
                return Err(Error::InUse { image: name.to_owned(), state, id: container.id.clone() }.into());
            }
        }
        Ok(())
    }
}
