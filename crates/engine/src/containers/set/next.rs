//! The record that a container gets: its changed options, put together with its image and checked as `create` does.

use base::progress::Silent;
use base::{Digest, Failure, Kind};
use oci::image::Execution;
use rootfs::Overlay;
use state::container::Record;
use state::lock::Lock;
use state::options::{ContainerOptions, VolumeMount};
use volume::Held;

use super::Changes;
use super::changes::{has, name_of};
use super::facets::{self, Facet};
use crate::containers::create::machine;
use crate::containers::spec::{Machine, resolve};
use crate::containers::undo::Undo;
use crate::error::Result;
use crate::{Engine, PullPolicy};

/// What a container is to become.
pub(super) struct Next {
    pub record: Record,
    /// In what that differs from what it is.
    pub facets: Vec<Facet>,
    /// What is given otherwise than asked.
    pub warnings: Vec<String>,
    new_volumes: Vec<VolumeMount>,
    images: Vec<image::Resolved>,
}

/// What the image says can no longer be told from what was said on top of it.
#[derive(Debug, thiserror::Error)]
#[error("the image of the container, {}, is not here any more: its entrypoint is not known", .0.short())]
struct NoImage(Digest);

impl Failure for NoImage {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn hints(&self) -> Vec<String> {
        vec!["name the program too (--entrypoint), or pull the image again".to_owned()]
    }
}

impl Engine {
    /// Puts the changes together with what the container is. Nothing is touched.
    pub(super) fn next(&self, record: &Record, changes: &Changes) -> Result<Next> {
        let mut options = changes.apply(record)?;
        if changes.network.is_some() {
            self.check_joins(&options)?;
            self.resolve_networks(&mut options)?;
        }
        let mut mounts = changes.mounts();
        let mut warnings = Vec::new();
        let images = self.images_to_mount(&mut mounts, PullPolicy::Never, &Silent)?;
        self.plan_storage(&mut mounts, &Execution::default(), &self.overlay_of(record)?, &mut warnings)?;
        let new_volumes = mounts.volumes.clone();
        options.binds.append(&mut mounts.binds);
        options.volumes.append(&mut mounts.volumes);
        options.image_mounts.append(&mut mounts.image_mounts);
        options.tmpfs.append(&mut mounts.tmpfs);
        let image = match self.execution_of(record)? {
            Some(image) => image,
            None => as_if(record, changes)?,
        };
        // Of what has no meaning any more it was told when it was asked for.
        let meaningless = match changes.limits.kernel_memory {
            None => options.limits.kernel_memory.take(),
            Some(_) => None,
        };
        let machine = Machine {
            // A host that has got another name since does not change containers that have the old one.
            hostname: if options.network == record.options.network {
                record.resolved.hostname.clone()
            } else {
                self.machine(&options)?.hostname
            },
            ..machine(&options)
        };
        let resolve =
            |options: &ContainerOptions| resolve(options, &image, &self.config, &machine, &record.id);
        let mut resolution = resolve(&options)?;
        // What is still there is the image's, or ours: a name alone takes it away.
        let named = |name: &str| changes.env.iter().any(|entry| name_of(entry) == name);
        let stays = |name: &&String| has(&resolution.resolved.env, name) && !named(name);
        let hidden: Vec<String> = changes.env_removed.iter().filter(stays).cloned().collect();
        if !hidden.is_empty() {
            options.env.extend(hidden);
            resolution = resolve(&options)?;
        }
        options.limits.kernel_memory = options.limits.kernel_memory.or(meaningless);
        if !changes.limits.is_empty() {
            warnings.append(&mut resolution.warnings);
        }
        let mut next = record.clone();
        next.options = options;
        next.args = resolution.args;
        // What else was resolved when it was created was not asked to be different.
        let resolved = resolution.resolved;
        next.resolved.env = resolved.env;
        next.resolved.user = resolved.user;
        next.resolved.working_dir = resolved.working_dir;
        next.resolved.hostname = resolved.hostname;
        next.resolved.exposed = resolved.exposed;
        warnings.extend(left_behind(record, &next));
        let facets = facets::between(record, &next);
        Ok(Next { record: next, facets, warnings, new_volumes, images })
    }

    /// Images that are about to be mounted are not removed: removers hold this lock exclusively.
    pub(super) fn keep_images(&self, next: &Next) -> Result<Option<Lock>> {
        let needed = !next.images.is_empty();
        Ok(needed.then(|| Lock::shared(&self.instance.containers())).transpose()?)
    }

    /// Makes what the new mounts are of. What is given back keeps it from being removed until the record names it.
    pub(super) fn provide<'a>(&'a self, next: &Next, undo: &mut Undo<'a>) -> Result<Vec<Held>> {
        for image in &next.images {
            self.unpack_missing(image, &Silent)?;
        }
        let mut only_new = next.record.clone();
        only_new.options.volumes.clone_from(&next.new_volumes);
        self.make_volumes(&only_new, &self.overlay_of(&next.record)?, undo)
    }

    fn overlay_of(&self, record: &Record) -> Result<Overlay> {
        Ok(self.layer_store().overlay(&record.image.layers, &self.instance.container(&record.id))?)
    }

    /// What its image says of how it is run, if that is still here.
    fn execution_of(&self, record: &Record) -> Result<Option<Execution>> {
        let images = self.image_store()?.list()?;
        let image = images.into_iter().find(|image| image.id == record.image.id);
        Ok(image.map(|image| image.config.config.unwrap_or_default()))
    }
}

/// An image that would have led to the same record.
fn as_if(record: &Record, changes: &Changes) -> Result<Execution> {
    let resolved = &record.resolved;
    let own = &record.options;
    let split = own.entrypoint.is_some() || !own.command.is_empty();
    if !split && !changes.command.is_empty() && changes.entrypoint.is_none() {
        return Err(NoImage(record.image.id).into());
    }
    let program = record.args.len().saturating_sub(own.command.len());
    let follows = format!("HOSTNAME={}", resolved.hostname);
    Ok(Execution {
        user: resolved.user.clone(),
        env: resolved.env.iter().filter(|entry| **entry != follows).cloned().collect(),
        entrypoint: Some(record.args[..program].to_vec()),
        working_dir: resolved.working_dir.clone(),
        exposed_ports: resolved.exposed.iter().map(|p| format!("{}/{}", p.port, p.protocol)).collect(),
        ..Execution::default()
    })
}

/// Volumes that nobody else would find.
fn left_behind(old: &Record, new: &Record) -> Vec<String> {
    let stays = |volume: &&VolumeMount| new.options.volumes.iter().all(|v| v.name != volume.name);
    let anonymous = old.options.volumes.iter().filter(|volume| volume.anonymous);
    let words = |volume: &VolumeMount| {
        format!(
            "the anonymous volume of {} stays: dhow volume rm {}",
            volume.destination.display(),
            volume.name
        )
    };
    anonymous.filter(stays).map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn an_image_that_is_gone_is_made_up_so_that_nothing_changes() {
        let mut record = record();
        record.args = ["/entry", "-x", "one", "two"].map(str::to_owned).into();
        record.options.command = vec!["one".into(), "two".into()];
        let image = as_if(&record, &Changes::default()).unwrap();
        assert_eq!(image.entrypoint.unwrap(), ["/entry", "-x"]);
        assert_eq!(image.env, ["OLD=1"]);
        record.options.command.clear();
        let command = vec!["new".to_owned()];
        let changes = Changes { command, ..Changes::default() };
        assert!(as_if(&record, &changes).is_err());
        assert_eq!(as_if(&record, &Changes::default()).unwrap().entrypoint.unwrap(), record.args);
    }
}
