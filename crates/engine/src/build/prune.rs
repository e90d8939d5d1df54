//! What the build cache holds, and removing what is not needed of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use base::fs::{self, At};
use base::{Digest, Timestamp};
use state::lock::Lock;

use super::cache::{Cache, Found};
use crate::Engine;
use crate::error::Result;
use crate::images::sizes::disk_usage;

/// Something that the build cache holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildCacheEntry {
    /// Of a layer, its digest; of a cache mount, the digest of what it is.
    pub id: String,
    /// The step, or the name of the cache mount.
    pub description: String,
    /// Bytes on disk.
    pub size: u64,
    /// When it was made; of a cache mount, when it was used last.
    pub created: Timestamp,
    /// When it was used last.
    pub used: Timestamp,
    /// A cache mount.
    pub mount: bool,
    /// An image or a container has the same layer: removing it frees nothing.
    pub shared: bool,
    /// A build uses it now.
    pub in_use: bool,
}

/// What to remove of the build cache.
#[derive(Debug, Clone, Default)]
pub struct BuildPruneOptions {
    /// Also what an image or a container has as well.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Only entries whose id begins so.
    pub ids: Vec<String>,
    /// Only these kinds: `exec.cachemount`, `regular`.
    pub kinds: Vec<String>,
    /// Stop when no more than so many bytes are left.
    pub keep: Option<u64>,
}

/// What was removed of the build cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedBuildCache {
    /// The entries.
    pub removed: Vec<BuildCacheEntry>,
    /// Bytes that are free now.
    pub bytes: u64,
}

/// Entries, with the keys of those that are layers.
type Held = Vec<(BuildCacheEntry, Vec<Digest>)>;

impl Engine {
    /// What the build cache holds, the last used first.
    pub fn build_cache(&self) -> Result<Vec<BuildCacheEntry>> {
        let mut entries: Vec<_> = self.held()?.into_iter().map(|(entry, _)| entry).collect();
        entries.sort_by_key(|entry| Reverse(entry.used));
        Ok(entries)
    }

    fn held(&self) -> Result<Held> {
        let cache = Cache::of(&self.instance);
        let mut layers: BTreeMap<Digest, Vec<Found>> = BTreeMap::new();
        for found in cache.list()? {
            layers.entry(found.record.layer).or_default().push(found);
        }
        let images: BTreeSet<Digest> = self
            .image_store()?
            .list()?
            .iter()
            .flat_map(|image| image.diff_ids().collect::<Vec<_>>())
            .collect();
        let mut entries = Held::new();
        for (layer, found) in layers {
            let used = found.iter().map(|f| f.used).max().unwrap_or(Timestamp(0));
            let Some(first) = found.iter().min_by_key(|f| f.record.created) else { continue };
            let entry = BuildCacheEntry {
                id: layer.hex(),
                description: first.record.title.clone(),
                size: self.layer_size(&layer),
                created: first.record.created,
                used,
                mount: false,
                shared: images.contains(&layer),
                in_use: false,
            };
            entries.push((entry, found.into_iter().map(|f| f.key).collect()));
        }
        let dir = cache.dir().join("caches");
        for name in fs::names(&dir)? {
            let path = dir.join(&name);
            let Ok(about) = std::fs::metadata(path.join("id")) else { continue };
            let used =
                about.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            let used = Timestamp(used.and_then(|t| i64::try_from(t.as_nanos()).ok()).unwrap_or(0));
            let id = fs::read_if_exists(&path.join("id"))?.unwrap_or_default();
            let in_use = parts(&path)?
                .iter()
                .any(|part| !matches!(state::lock::held(part), Ok(state::lock::Held::Abandoned)));
            let entry = BuildCacheEntry {
                id: name,
                description: format!("cache mount {}", String::from_utf8_lossy(&id)),
                size: disk_usage(&path),
                created: used,
                used,
                mount: true,
                shared: false,
                in_use,
            };
            entries.push((entry, Vec::new()));
        }
        Ok(entries)
    }

    /// Removes what nobody needs of the build cache: the longest unused first.
    pub fn prune_build_cache(&self, options: &BuildPruneOptions) -> Result<PrunedBuildCache> {
        let cache = Cache::of(&self.instance);
        cache.sweep();
        let mut held = self.held()?;
        held.sort_by_key(|(entry, _)| entry.used);
        let mut total: u64 = held.iter().filter(|(e, _)| !e.shared).map(|(e, _)| e.size).sum();
        let now = Timestamp::now();
        let mut pruned = PrunedBuildCache::default();
        for (entry, keys) in held {
            if options.keep.is_some_and(|keep| total <= keep) {
                break;
            }
            if entry.in_use || !wanted(&entry, options, now) {
                continue;
            }
            if entry.mount {
                remove_mount(&cache, &entry.id, &self.instance.removing())?;
            }
            for key in &keys {
                cache.remove(key)?;
            }
            if !entry.shared {
                total = total.saturating_sub(entry.size);
                pruned.bytes += entry.size;
            }
            pruned.removed.push(entry);
        }
        if !pruned.removed.is_empty() {
            self.forget_unused(&cache)?;
        }
        Ok(pruned)
    }

    /// Layers that no record names any more go, unless somebody else needs them.
    fn forget_unused(&self, cache: &Cache) -> Result<()> {
        let guard = self.keep_containers_out()?;
        self.collect_garbage(&guard)?;
        let layers = self.layer_store();
        Ok(cache.retain_blobs(&|layer| layers.has(layer))?)
    }

    /// After a build: what is more than the budget goes. Best effort.
    pub(super) fn trim_build_cache(&self, budget: u64) {
        let cache = Cache::of(&self.instance);
        // The lengths of archives, which are known: only if those are too much is the disk looked at.
        let length = cache.list().map(|all| all.iter().map(|found| found.record.size).sum::<u64>());
        if length.is_ok_and(|length| length > budget) {
            self.prune_build_cache(&BuildPruneOptions { keep: Some(budget), ..BuildPruneOptions::default() })
                .ok();
        }
    }
}

fn wanted(entry: &BuildCacheEntry, options: &BuildPruneOptions, now: Timestamp) -> bool {
    let kind = if entry.mount { "exec.cachemount" } else { "regular" };
    let old = options.unused_for.is_none_or(|age| now.since(entry.used) >= age);
    let kinds = options.kinds.is_empty() || options.kinds.iter().any(|k| k == kind);
    let ids = options.ids.is_empty() || options.ids.iter().any(|id| entry.id.starts_with(id.as_str()));
    old && kinds && ids && (options.all || !entry.shared)
}

fn parts(cache: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let paths = fs::names(cache)?.into_iter().map(|name| cache.join(name));
    Ok(paths.filter(|path| path.is_dir()).collect())
}

/// Takes a cache mount away that nobody uses.
fn remove_mount(cache: &Cache, name: &str, removing: &std::path::Path) -> Result<()> {
    let path = cache.dir().join("caches").join(name);
    let mut locks = Vec::new();
    for part in parts(&path)? {
        match Lock::try_exclusive(&part)? {
            Some(lock) => locks.push(lock),
            None => return Ok(()),
        }
    }
    std::fs::metadata(&path).at("look at", &path)?;
    Ok(rootfs::remove_tree(&path, removing)?)
}
