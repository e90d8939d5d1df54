//! Blobs: each is what its name says, and all that images need are here. What is not is fetched again, from where
//! the image came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use base::processes::helpers;
use base::progress::{Silent, Step};
use base::{Digest, Failure, Kind};
use image::{Error as StoreError, Reference, Resolved, StoredBlob, platform};

use super::Check;
use super::report::{Problem, ProblemKind};
use crate::error::Result;
use crate::images::list::familiar;
use crate::{Engine, PullOptions};

/// What progress calls them.
const PART: &str = "blobs";

/// Why a blob was not fetched again.
#[derive(Debug, thiserror::Error)]
enum Unmended {
    #[error("it is not known where the image came from")]
    Nowhere,
    #[error("it cannot be fetched again: {0}")]
    Pull(crate::Error),
    #[error("it was fetched with {0}, and is not there")]
    Absent(String),
}

impl Failure for Unmended {
    fn kind(&self) -> Kind {
        Kind::Corrupt
    }

    fn hints(&self) -> Vec<String> {
        vec!["load the image again, or remove it".to_owned()]
    }
}

impl Check<'_> {
    /// Checks all blobs; returns those that cannot be relied on.
    pub(super) fn blobs(&mut self, images: &[Resolved]) -> Result<BTreeSet<Digest>> {
        let store = self.engine.image_store()?;
        let blobs = store.blobs()?;
        self.found.blobs = blobs.len() as u64;
        self.found.blob_bytes = blobs.iter().map(|blob| blob.size).sum();
        let mut needed: BTreeMap<Digest, Vec<&Resolved>> = BTreeMap::new();
        for image in images {
            for digest in image.blobs() {
                needed.entry(digest).or_default().push(image);
            }
        }
        let mut bad: BTreeMap<Digest, String> = self.examine(&blobs, images)?;
        let here: BTreeSet<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        let mut kinds: HashMap<Digest, ProblemKind> = HashMap::new();
        for (digest, users) in &needed {
            // Of what the index is needed for by itself, see `Store::is_whole`.
            let only_source = users.iter().all(|image| image.source == Some(*digest));
            if !here.contains(digest) && !only_source && self.still_needed(digest)? {
                bad.insert(*digest, "it is not here".to_owned());
                kinds.insert(*digest, ProblemKind::MissingBlob);
            }
        }
        // What nothing needs goes with the rest of that; a running pull would have found it out.
        bad.retain(|digest, _| needed.contains_key(digest));
        if self.options.repair {
            // All of them first: one pull brings all that an image lacks.
            bad.keys().try_for_each(|digest| store.set_aside(digest))?;
        }
        let mut unreliable = BTreeSet::new();
        for (digest, detail) in bad {
            let Some(users) = needed.get(&digest) else { continue };
            let mut names: Vec<String> = users.iter().map(|image| shown(image)).collect();
            names.dedup();
            let kind = kinds.get(&digest).copied().unwrap_or(ProblemKind::DamagedBlob);
            let problem = Problem::new(kind, digest, detail).needed_by(&names);
            self.problem(problem, |engine| fetch_again(engine, &digest, users));
            if !matches!(self.found.problems.last(), Some(p) if matches!(p.outcome, super::Outcome::Repaired(_)))
            {
                unreliable.insert(digest);
            }
        }
        Ok(unreliable)
    }

    /// Those that are not what they should be, and why.
    fn examine(&self, blobs: &[StoredBlob], images: &[Resolved]) -> Result<BTreeMap<Digest, String>> {
        let mut sizes: HashMap<Digest, u64> = HashMap::new();
        for image in images {
            sizes.insert(image.manifest, image.manifest_size);
            sizes.extend(image.layers.iter().map(|layer| (layer.digest, layer.size)));
        }
        let mut bad = BTreeMap::new();
        let mut to_hash = Vec::new();
        for blob in blobs {
            match sizes.get(&blob.digest) {
                Some(wanted) if *wanted != blob.size => {
                    bad.insert(blob.digest, format!("it has {} bytes, not {wanted}", blob.size));
                }
                _ if self.options.quick => {}
                _ => to_hash.push(*blob),
            }
        }
        self.hash(&to_hash, &mut bad)?;
        Ok(bad)
    }

    /// Reads them all, as many at once as there are processors.
    fn hash(&self, blobs: &[StoredBlob], bad: &mut BTreeMap<Digest, String>) -> Result<()> {
        let store = self.engine.image_store()?;
        let progress = self.progress;
        progress.begin(PART, Step::Verify, Some(blobs.iter().map(|blob| blob.size).sum()));
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = store.verify_blob(&blob.digest, &|n| progress.advance(PART, n)) {
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((blob.digest, error));
                }
            }
        };
        std::thread::scope(|scope| {
            let count = (crate::system::info::processors() as usize).min(blobs.len()).saturating_sub(1);
            helpers(scope, count, work);
            work();
        });
        progress.end(PART, Step::Verify);
        for (digest, error) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match error {
                StoreError::DamagedBlob { found, .. } => {
                    bad.insert(digest, format!("its content has the digest {found}"));
                }
                // Removed since they were listed; whether anybody misses it shows later.
                StoreError::MissingBlob(_) => {}
                other => {
                    bad.insert(digest, base::failure::chain(&other));
                }
            }
        }
        Ok(())
    }

    /// Whether an image of now needs the blob, and has it not.
    fn still_needed(&self, digest: &Digest) -> Result<bool> {
        let store = self.engine.image_store()?;
        let needed = store
            .record_files()?
            .into_iter()
            .filter_map(|file| file.record.ok())
            .any(|image| image.source != Some(*digest) && image.blobs().any(|blob| blob == *digest));
        Ok(needed && store.open_blob(digest).is_err())
    }
}

fn shown(image: &Resolved) -> String {
    familiar(image).unwrap_or_else(|| image.id.to_string())
}

/// Fetches a blob from where one of these images came.
fn fetch_again(engine: &Engine, digest: &Digest, users: &[&Resolved]) -> Result<String> {
    let store = engine.image_store()?;
    let mut fetched = Err(Unmended::Nowhere.into());
    for image in users.iter().filter(|_| store.open_blob(digest).is_err()) {
        fetched = fetch_for(engine, digest, image);
        if fetched.is_ok() {
            break;
        }
    }
    // A damaged one that nobody could bring back stays what it was: parts of it may be worth something.
    let came = store.settle(digest)?;
    match fetched {
        Ok(from) if !came => Err(Unmended::Absent(from).into()),
        Ok(from) => Ok(format!("fetched again with {from}")),
        Err(_) if came => Ok("fetched again".to_owned()),
        Err(e) => Err(e),
    }
}

fn fetch_for(engine: &Engine, digest: &Digest, image: &Resolved) -> Result<String> {
    let reference = image.reference.parse::<Reference>().ok();
    if let Some(reference) = &reference
        && engine.import_builtin_again(reference, image)?
    {
        return Ok(reference.to_string());
    }
    let mut first = None;
    for repository in repositories(engine, digest, image, reference.as_ref())? {
        match fetch_from(engine, digest, image, &repository) {
            Ok(from) => return Ok(from),
            // It is the one that the user knows of.
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Unmended::Nowhere.into()))
}

/// Where the image may be had: by its name, and wherever it was when we last saw it.
fn repositories(
    engine: &Engine,
    digest: &Digest,
    image: &Resolved,
    reference: Option<&Reference>,
) -> Result<Vec<String>> {
    let store = engine.image_store()?;
    let mut found: Vec<String> =
        reference.map(|name| format!("{}/{}", name.registry(), name.repository())).into_iter().collect();
    for blob in std::iter::once(*digest).chain(image.blobs()) {
        for (host, repository) in store.origins(&blob)? {
            let repository = format!("{host}/{repository}");
            if !found.contains(&repository) {
                found.push(repository);
            }
        }
    }
    Ok(found)
}

fn fetch_from(engine: &Engine, digest: &Digest, image: &Resolved, repository: &str) -> Result<String> {
    // By digest: the tag may mean another image by now.
    let other_platform = image.source.is_some() && image.others.contains(digest);
    let of_index = image.source.filter(|source| source == digest || other_platform);
    let wanted = of_index.unwrap_or(image.manifest);
    let by_digest = format!("{repository}@{wanted}");
    let store = engine.image_store()?;
    let parsed: Reference = by_digest.parse()?;
    let had = store.list()?.iter().any(|record| record.reference == parsed.canonical());
    let options = PullOptions {
        platform: Some(platform::display(&image.config.platform)).filter(|_| image.artifact.is_none()),
        all_platforms: other_platform,
    };
    engine.pull(&by_digest, &options, &Silent).map_err(Unmended::Pull)?;
    if !had && let Some(record) = store.list()?.into_iter().find(|r| r.reference == parsed.canonical()) {
        store.untag(&record)?;
    }
    Ok(by_digest)
}
