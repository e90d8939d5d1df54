//! What the dead left: temporary files, half-unpacked layers, directories on their way out, claims, containers
//! without an owner. Any verb would remove some of it on its way; a check tells of all, and removes all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base::{Digest, Failure, Id, Kind, fs};
use state::claim;

use super::Check;
use super::report::{Problem, ProblemKind};
use crate::Engine;
use crate::build::cache::Cache;
use crate::containers::ownership::{Held, held};
use crate::containers::records;
use crate::error::Result;

/// What was left, each with what it is.
pub(super) struct Left {
    found: Vec<(PathBuf, &'static str)>,
    claims: Vec<String>,
    /// On its way out: somebody who lives may be at it.
    removing: Vec<(PathBuf, u64)>,
}

#[derive(Debug, thiserror::Error)]
#[error("it is still there")]
struct StillThere;

impl Failure for StillThere {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }
}

impl Check<'_> {
    /// Looks for them.
    pub(super) fn leftovers(&self) -> Result<Left> {
        let (engine, instance) = (self.engine, &self.engine.instance);
        let store = engine.image_store()?;
        let mut found: Vec<(PathBuf, &'static str)> = Vec::new();
        found.extend(
            store.leftovers()?.into_iter().map(|path| (path, "a pull, load or tag that died left it")),
        );
        found.extend(store.strays()?.into_iter().map(|path| (path, "it lies among the blobs, and is none")));
        let unpacking = engine.layer_store().leftovers()?;
        found.extend(unpacking.into_iter().map(|path| (path, "an unpacking that died left it")));
        for id in ids(&instance.live_containers())? {
            if held(instance, &id)? == Held::Abandoned {
                found.push((instance.live(&id), "its monitor died"));
            }
        }
        for id in ids(&instance.containers())? {
            let has_record = !matches!(records::record(instance, &id), Ok(None));
            if !has_record && held(instance, &id)? != Held::Owned && instance.container(&id).exists() {
                found.push((instance.container(&id), "a container without a record"));
            }
        }
        let mut claims = Vec::new();
        for name in fs::names(&instance.container_names())? {
            if claim_of_nobody(engine, &name)? {
                claims.push(name);
            }
        }
        Ok(Left { found, claims, removing: on_their_way(&instance.removing()) })
    }

    /// Notes them, and removes them if that is wanted.
    pub(super) fn settle_leftovers(&mut self, left: Left) -> Result<()> {
        let engine = self.engine;
        let swept = if self.options.repair { sweep(engine) } else { Ok(()) };
        let still: BTreeSet<(PathBuf, u64)> = on_their_way(&engine.instance.removing()).into_iter().collect();
        let repair = self.options.repair;
        let removing = left.removing.into_iter().filter(|entry| repair || still.contains(entry));
        let removing = removing.map(|(path, _)| (path, "it was to be removed"));
        for (path, what) in left.found.into_iter().chain(removing) {
            let problem = Problem::new(ProblemKind::Leftover, path.display(), what);
            self.problem(problem, |_| {
                if path.symlink_metadata().is_ok() {
                    Err(StillThere.into())
                } else {
                    Ok("removed".to_owned())
                }
            });
        }
        for name in left.claims {
            let problem =
                Problem::new(ProblemKind::Claim, &name, "it is claimed for a container that there is not");
            self.problem(problem, |engine| {
                if claim_of_nobody(engine, &name)? {
                    Err(StillThere.into())
                } else {
                    Ok("released".to_owned())
                }
            });
        }
        swept
    }

    /// Blobs and layers that nothing needs.
    pub(super) fn orphans(&mut self) -> Result<()> {
        let engine = self.engine;
        // While a record cannot be read, it is not known what is needed: that has been told already.
        let (Ok(blobs), Ok(layers)) = (engine.image_store()?.orphans(), orphaned_layers(engine)) else {
            return Ok(());
        };
        if blobs.is_empty() && layers.is_empty() {
            return Ok(());
        }
        let collected = if self.options.repair {
            let guard = engine.keep_containers_out()?;
            Some(engine.collect_garbage(&guard))
        } else {
            None
        };
        let failed = collected.and_then(Result::err);
        for (digest, what) in blobs
            .iter()
            .map(|d| (d, "a blob that nothing needs"))
            .chain(layers.iter().map(|d| (d, "a layer that nothing needs")))
        {
            let problem = Problem::new(ProblemKind::Orphan, digest, what);
            match &failed {
                Some(error) => self.hopeless(problem, &error.to_string()),
                None => self.problem(problem, |_| Ok("removed".to_owned())),
            }
        }
        Ok(())
    }
}

fn sweep(engine: &Engine) -> Result<()> {
    let store = engine.image_store()?;
    store.sweep()?;
    for path in store.strays()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match name.strip_prefix(".damaged-").and_then(|hex| Digest::from_hex(hex).ok()) {
            Some(digest) => drop(store.settle(&digest)?),
            None if path.is_dir() => fs::remove_dir_all(&path)?,
            None => drop(fs::remove_file(&path)?),
        }
    }
    engine.layer_store().sweep()?;
    rootfs::sweep_removing(&engine.instance.removing())?;
    for name in fs::names(&engine.instance.container_names())? {
        if claim_of_nobody(engine, &name)? {
            engine.reconcile_name(&name)?;
        }
    }
    engine.reconcile()
}

fn claim_of_nobody(engine: &Engine, name: &str) -> Result<bool> {
    let Some(owner) = claim::owner(&engine.instance.container_names(), name)? else { return Ok(false) };
    let Ok(id) = owner.parse::<Id>() else { return Ok(true) };
    Ok(!records::exists(&engine.instance, &id) && held(&engine.instance, &id)? != Held::Owned)
}

fn orphaned_layers(engine: &Engine) -> Result<Vec<Digest>> {
    // Before what needs them is looked at: what is unpacked afterwards belongs to somebody.
    let mut layers = engine.layer_store().list()?;
    let holdings = engine.holdings()?;
    let mut needed: BTreeSet<_> = holdings.used_by_containers;
    needed.extend(holdings.images.iter().flat_map(|image| &image.pieces));
    needed
        .extend(Cache::of(&engine.instance).layers()?.into_iter().map(crate::images::holdings::Piece::Layer));
    let protected = engine.image_store()?.relied_on()?;
    layers.retain(|l| !needed.contains(&crate::images::holdings::Piece::Layer(*l)) && !protected.contains(l));
    Ok(layers)
}

fn ids(dir: &Path) -> Result<Vec<Id>> {
    Ok(fs::names(dir)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// What is being removed, with its inode: the same at the end of the check is at by nobody.
fn on_their_way(removing: &Path) -> Vec<(PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(removing).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.ino()))).collect()
}
