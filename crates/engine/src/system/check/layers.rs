//! Unpacked layers: all that images and containers need are here, and each is what its blob says.

use std::collections::{BTreeMap, BTreeSet};

use base::progress::Step;
use base::{Digest, Failure, Id, Kind};
use image::{Layer, Resolved};
use rootfs::{Error as LayerError, Verified};

use super::report::{Problem, ProblemKind};
use super::{Check, Outcome};
use crate::Engine;
use crate::containers::records;
use crate::error::Result;
use crate::images::garbage::NoNewContainers;
use crate::images::list::familiar;
use crate::images::sizes;
use crate::images::unpack::unpack_from_store;

/// Why a layer was not replaced.
#[derive(Debug, thiserror::Error)]
enum Unmended {
    #[error("the running container {} stands on it: stop it, and repair again", .0.short())]
    Running(Id),
    #[error("its blob cannot be relied on")]
    Blob,
}

impl Failure for Unmended {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }
}

/// A layer, and who needs it.
#[derive(Default)]
struct Needed {
    /// How the image has it; none: only a container needs it, whose image is gone.
    layer: Option<Layer>,
    by: Vec<String>,
}

impl Check<'_> {
    /// Checks all layers. `unreliable`: blobs that nothing can be unpacked from.
    pub(super) fn layers(&mut self, images: &[Resolved], unreliable: &BTreeSet<Digest>) -> Result<()> {
        let trees = self.engine.layer_store();
        self.found.layers = trees.list()?.len() as u64;
        let mut replaced = false;
        for (diff_id, needed) in self.needed(images)? {
            let usable = needed.layer.as_ref().filter(|layer| !unreliable.contains(&layer.digest));
            if !trees.has(&diff_id) {
                if self.is_needed(&diff_id)? {
                    self.missing(&diff_id, usable, &needed.by);
                }
                continue;
            }
            if let Some(layer) = usable
                && !self.options.quick
            {
                replaced |= self.compare(&diff_id, layer, &needed.by)?;
            }
        }
        if replaced {
            self.forget_derived()?;
        }
        Ok(())
    }

    fn needed(&mut self, images: &[Resolved]) -> Result<BTreeMap<Digest, Needed>> {
        let mut all: BTreeMap<Digest, Needed> = BTreeMap::new();
        for image in images {
            for layer in &image.layers {
                let needed = all.entry(layer.diff_id).or_default();
                needed.layer.get_or_insert_with(|| layer.clone());
                needed.by.push(familiar(image).unwrap_or_else(|| image.id.to_string()));
            }
        }
        for id in records::all(&self.engine.instance)? {
            match records::record(&self.engine.instance, &id) {
                Ok(record) => {
                    for diff_id in record.iter().flat_map(|record| record.layers()) {
                        all.entry(*diff_id).or_default().by.push(format!("container {}", id.short()));
                    }
                }
                Err(error) => {
                    let problem =
                        Problem::new(ProblemKind::ContainerRecord, id.as_str(), base::failure::chain(&error));
                    self.hopeless(problem, "nothing else tells what the container is: dhow rm -f removes it");
                }
            }
        }
        Ok(all)
    }

    /// Whether an image or container of now needs the layer: others may have removed theirs meanwhile.
    fn is_needed(&self, diff_id: &Digest) -> Result<bool> {
        let store = self.engine.image_store()?;
        let mut images = store.record_files()?.into_iter().filter_map(|file| file.record.ok());
        if images.any(|image| image.diff_ids().any(|id| id == *diff_id)) {
            return Ok(true);
        }
        let containers = records::all(&self.engine.instance)?;
        let mut records =
            containers.iter().filter_map(|id| records::record(&self.engine.instance, id).ok().flatten());
        Ok(records.any(|record| record.layers().any(|layer| layer == diff_id)))
    }

    fn missing(&mut self, diff_id: &Digest, usable: Option<&Layer>, by: &[String]) {
        let problem = Problem::new(ProblemKind::MissingLayer, diff_id, "it is not unpacked").needed_by(by);
        let Some(layer) = usable else {
            self.hopeless(problem, "there is no blob to unpack it from");
            return;
        };
        let progress = self.progress;
        self.problem(problem, |engine| {
            let store = engine.image_store()?;
            let ingest = store.ingest()?;
            ingest.protect(&[layer.digest, *diff_id])?;
            unpack_from_store(&store, &engine.layer_store(), std::slice::from_ref(layer), progress)?;
            Ok("unpacked from its blob".to_owned())
        });
    }

    /// Compares a layer with its blob. True: another one is in its place now.
    fn compare(&mut self, diff_id: &Digest, layer: &Layer, by: &[String]) -> Result<bool> {
        let store = self.engine.image_store()?;
        let trees = self.engine.layer_store();
        let progress = self.progress;
        let part = diff_id.short();
        progress.begin(&part, Step::Verify, Some(layer.size));
        let verified = store.open_blob(&layer.digest).map_err(crate::Error::from).and_then(|(blob, _)| {
            let advance = |bytes| progress.advance(&part, bytes);
            match trees.verify(diff_id, &layer.media_type, blob, &advance) {
                Ok(verified) => Ok(Some(verified)),
                Err(LayerError::Missing(_)) => Ok(None),
                Err(e) => Err(e.into()),
            }
        });
        progress.end(&part, Step::Verify);
        let whole = matches!(&verified, Ok(Some(verified)) if verified.differences.is_empty());
        if whole || !self.is_needed(diff_id)? {
            return Ok(false);
        }
        let verified = match verified {
            Ok(Some(verified)) => verified,
            Ok(None) => {
                self.missing(diff_id, Some(layer), by);
                return Ok(false);
            }
            // That says nothing about the layer.
            Err(e) if e.kind() == Kind::Exhausted => return Err(e),
            Err(e) => {
                let detail = format!("it cannot be compared with its blob: {e}");
                let problem = Problem::new(ProblemKind::DamagedLayer, diff_id, detail).needed_by(by);
                self.hopeless(problem, "the blob or the disk has to be mended first");
                return Ok(false);
            }
        };
        let problem = Problem::new(ProblemKind::DamagedLayer, diff_id, told(&verified)).needed_by(by);
        self.problem(problem, |engine| {
            // Nobody starts on it while it is replaced.
            let guard = engine.keep_containers_out()?;
            if let Some(id) = running_on(engine, &guard, diff_id)? {
                return Err(Unmended::Running(id).into());
            }
            if !engine.image_store()?.open_blob(&layer.digest).is_ok_and(|(_, size)| size == layer.size) {
                return Err(Unmended::Blob.into());
            }
            verified.replace()?;
            sizes::forget(&engine.instance, diff_id);
            Ok("unpacked anew from its blob".to_owned())
        });
        Ok(matches!(self.found.problems.last().map(|p| &p.outcome), Some(Outcome::Repaired(_))))
    }

    /// What was made of layers has files of those that were replaced: it goes, and is made again when it is needed.
    /// Not what a running container stands on: none of its layers was replaced.
    fn forget_derived(&self) -> Result<()> {
        let guard = self.engine.keep_containers_out()?;
        let mut stacks = Vec::new();
        for container in &guard.containers {
            if is_running(self.engine, &container.id)? {
                stacks.extend(container.stacks().map(<[_]>::to_vec));
            }
        }
        Ok(self.engine.layer_store().sweep_derived(stacks.iter().map(Vec::as_slice))?)
    }
}

fn told(verified: &Verified<'_>) -> String {
    let mut told: Vec<String> = verified.differences.iter().map(ToString::to_string).collect();
    if verified.untold > 0 {
        told.push(format!("and {} more", verified.untold));
    }
    told.join(", ")
}

fn running_on(engine: &Engine, guard: &NoNewContainers, diff_id: &Digest) -> Result<Option<Id>> {
    for container in guard.containers.iter().filter(|c| c.layers().any(|layer| layer == diff_id)) {
        if is_running(engine, &container.id)? {
            return Ok(Some(container.id.clone()));
        }
    }
    Ok(None)
}

/// Whether anybody owns the container: one that is just being started counts as running.
fn is_running(engine: &Engine, id: &Id) -> Result<bool> {
    let running = records::load(&engine.instance, id)?.is_some_and(|found| found.status.is_up());
    Ok(running
        || crate::containers::ownership::held(&engine.instance, id)?
            == crate::containers::ownership::Held::Owned)
}
