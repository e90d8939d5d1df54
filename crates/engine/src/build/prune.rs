//! What the build cache holds, and removing what is not needed of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base::fs;
use base::{Digest, Timestamp};
use state::lock::Lock;

use super::cache::{Cache, Found};
use crate::Engine;
use crate::error::Result;
use crate::images::sizes::disk_usage;

/// What something in the build cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildCacheKind {
    /// The layer of a step.
    Layer,
    /// A cache mount.
    Mount,
    /// A file from the web.
    Http,
    /// A repository.
    Git,
    /// The digests of a context's files.
    Context,
    /// What the steps of a build were made of.
    Steps,
}

/// Those that are no layers, and where they lie.
const OTHERS: [(BuildCacheKind, &str); 5] = [
    (BuildCacheKind::Mount, "caches"),
    (BuildCacheKind::Http, "http"),
    (BuildCacheKind::Git, "git"),
    (BuildCacheKind::Context, "digests"),
    (BuildCacheKind::Steps, "explain"),
];

impl BuildCacheKind {
    /// As BuildKit names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "regular",
            Self::Mount => "exec.cachemount",
            Self::Http => "source.http",
            Self::Git => "source.git",
            Self::Context => "source.local",
            Self::Steps => "internal",
        }
    }

    fn description(self, place: &Path) -> fs::Result<String> {
        Ok(match self {
            Self::Layer => String::new(),
            Self::Mount => {
                let id = fs::read_if_exists(&place.join("id"))?.unwrap_or_default();
                format!("cache mount {}", String::from_utf8_lossy(&id))
            }
            Self::Http => "file from the web".to_owned(),
            Self::Git => "repository".to_owned(),
            Self::Context => "digests of a context's files".to_owned(),
            Self::Steps => "what steps were made of".to_owned(),
        })
    }

    /// When it was used last; none if it is not there.
    fn used(self, place: &Path) -> Option<Timestamp> {
        let noted = if self == Self::Mount { place.join("id") } else { place.to_owned() };
        let time = std::fs::metadata(noted).ok()?.modified().ok()?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// Something that the build cache holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildCacheEntry {
    /// Of a layer, its digest; of all else, the digest of what it is called.
    pub id: String,
    /// The step, the name of the cache mount, or what it is.
    pub description: String,
    /// Bytes on disk.
    pub size: u64,
    /// When it was made; of what is no layer, when it was used last.
    pub created: Timestamp,
    /// When it was used last.
    pub used: Timestamp,
    /// What it is.
    pub kind: BuildCacheKind,
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
    /// Only these kinds, by their [names](BuildCacheKind::name).
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
                kind: BuildCacheKind::Layer,
                shared: images.contains(&layer),
                in_use: false,
            };
            entries.push((entry, found.into_iter().map(|f| f.key).collect()));
        }
        for (kind, place) in others(&cache)? {
            let (Some(used), Some(name)) = (kind.used(&place), place.file_name()) else { continue };
            let locked = place.is_dir();
            let entry = BuildCacheEntry {
                id: name.to_string_lossy().into_owned(),
                description: kind.description(&place)?,
                size: size(&place),
                created: used,
                used,
                kind,
                shared: false,
                in_use: locked && !matches!(Lock::try_exclusive(&place), Ok(Some(_))),
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
            if let Some((_, dir)) = OTHERS.iter().find(|(kind, _)| *kind == entry.kind)
                && !remove_unused(&cache.dir().join(dir).join(&entry.id), &self.instance.removing())?
            {
                continue;
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
        // Of layers, the lengths of archives, which are known: only if it is too much are they looked at.
        let layers = cache.list().map_or(0, |all| all.iter().map(|found| found.record.size).sum::<u64>());
        let rest = || others(&cache).map_or(0, |all| all.iter().map(|(_, place)| size(place)).sum::<u64>());
        if layers > budget || rest() > budget - layers {
            self.prune_build_cache(&BuildPruneOptions { keep: Some(budget), ..BuildPruneOptions::default() })
                .ok();
        }
    }
}

fn wanted(entry: &BuildCacheEntry, options: &BuildPruneOptions, now: Timestamp) -> bool {
    let kind = entry.kind.name();
    let old = options.unused_for.is_none_or(|age| now.since(entry.used) >= age);
    let kinds = options.kinds.is_empty() || options.kinds.iter().any(|k| k == kind);
    let ids = options.ids.is_empty() || options.ids.iter().any(|id| entry.id.starts_with(id.as_str()));
    old && kinds && ids && (options.all || !entry.shared)
}

/// Where everything lies that is no layer.
fn others(cache: &Cache) -> fs::Result<Vec<(BuildCacheKind, PathBuf)>> {
    let mut all = Vec::new();
    for (kind, dir) in OTHERS {
        let dir = cache.dir().join(dir);
        // Whatever is not called by a digest is none of it.
        let names = fs::names(&dir)?.into_iter().filter(|name| Digest::from_hex(name).is_ok());
        all.extend(names.map(|name| (kind, dir.join(name))));
    }
    Ok(all)
}

/// Bytes on disk of a directory, or a file.
fn size(place: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    match std::fs::symlink_metadata(place) {
        Ok(about) if about.is_dir() => disk_usage(place),
        about => about.map_or(0, |about| about.blocks() * 512),
    }
}

/// Takes away a file; or a directory, which is locked by who uses it. False if somebody does, or it is gone.
fn remove_unused(path: &Path, removing: &Path) -> Result<bool> {
    if !path.is_dir() {
        return Ok(fs::remove_file(path)?);
    }
    let lock = match Lock::try_exclusive(path) {
        Err(error) if error.is_not_found() => return Ok(false),
        other => other?,
    };
    let Some(_lock) = lock.filter(|lock| lock.is_of(path)) else { return Ok(false) };
    rootfs::remove_tree(path, removing)?;
    Ok(true)
}
