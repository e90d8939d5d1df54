//! The budget of images: beyond it, those go that were not used for the longest time.
//!
//! Never: what is pinned, what a pattern of `keep` means, what a container was made of, what has just come in.
//! Images without a name go before all others: nobody can ask for them.

use std::collections::HashMap;

use base::progress::Progress;
use base::{Digest, Failure, Id, Kind, Timestamp};
use image::Reference;

use crate::Engine;
use crate::error::Result;
use crate::images::holdings::{Holding, Holdings, Piece};
use crate::images::list::familiar;
use crate::images::pattern;

/// What eviction did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The budget in bytes.
    pub budget: u64,
    /// What all images take.
    pub before: u64,
    /// What they take afterwards.
    pub after: u64,
    /// The images that go, in this order.
    pub evicted: Vec<Evicted>,
    /// The images that stay whatever the budget is.
    pub kept: Vec<KeptImage>,
}

/// An image that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted {
    /// Its id.
    pub id: Digest,
    /// Its names in familiar form.
    pub names: Vec<String>,
    /// When it was last used.
    pub last_used: Timestamp,
    /// Bytes that its going frees: what others share is not among them.
    pub frees: u64,
}

/// An image that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImage {
    /// Its id.
    pub id: Digest,
    /// Its names in familiar form.
    pub names: Vec<String>,
    /// When it was last used.
    pub last_used: Timestamp,
    /// Bytes that it takes.
    pub size: u64,
    /// Why.
    pub why: KeptBecause,
}

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptBecause {
    /// A pin on this name or id.
    Pinned(String),
    /// This pattern of the configuration.
    Pattern(String),
    /// This container was made of it.
    Container(Id),
    /// It has just come in.
    JustArrived,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no budget of images")]
struct NoBudget;

impl Failure for NoBudget {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hints(&self) -> Vec<String> {
        vec!["give one with --budget, or in config.toml: [images] budget = \"20g\"".to_owned()]
    }
}

impl Engine {
    /// Removes the images that were not used for the longest time, until the others fit into `budget` (none: the
    /// configured one). `dry_run`: only tells.
    pub fn evict_images(&self, budget: Option<u64>, dry_run: bool) -> Result<Eviction> {
        let budget = budget.or(self.config.images.budget).ok_or(NoBudget)?;
        self.evict(budget, &[], dry_run)
    }

    /// Pins an image by the name or id that is given: eviction and `image prune` leave it alone.
    pub fn pin_image(&self, name: &str) -> Result<String> {
        let (canonical, shown) = self.pin_of(name)?;
        self.image_store()?.pin(&canonical)?;
        Ok(shown)
    }

    /// Takes a pin away. False if there was none.
    pub fn unpin_image(&self, name: &str) -> Result<bool> {
        let store = self.image_store()?;
        // The image may be gone, and the pin still be there.
        if let Ok(reference) = name.parse::<Reference>()
            && store.unpin(&reference.canonical())?
        {
            return Ok(true);
        }
        Ok(match store.find(name) {
            Ok(image) => store.unpin(&image.id.to_string())?,
            Err(e) if e.kind() == Kind::NotFound => false,
            Err(e) => return Err(e.into()),
        })
    }

    /// What is pinned, as people write it.
    pub fn pinned_images(&self) -> Result<Vec<String>> {
        let familiar = |pin: String| pin.parse::<Reference>().map_or(pin.clone(), |r| r.to_string());
        Ok(self.image_store()?.pins()?.into_iter().map(familiar).collect())
    }

    fn pin_of(&self, name: &str) -> Result<(String, String)> {
        let image = self.image_store()?.find(name)?;
        let by_name = name.parse::<Reference>().is_ok_and(|r| r.canonical() == image.reference);
        if by_name {
            let shown = familiar(&image).unwrap_or_default();
            return Ok((image.reference, shown));
        }
        Ok((image.id.to_string(), image.id.to_string()))
    }

    /// After a pull or load: keeps to the budget. What has come in stays, and so does its verb's success, whatever
    /// goes wrong here.
    pub(crate) fn keep_to_budget(&self, arrived: &[Digest], progress: &dyn Progress) {
        let Some(budget) = self.config.images.budget else { return };
        match self.evict(budget, arrived, false) {
            Ok(eviction) => {
                for image in &eviction.evicted {
                    let name = image.names.first().cloned().unwrap_or_else(|| image.id.short());
                    progress.note(&format!("Evicted {name}: the images take more than their budget"));
                }
            }
            Err(e) => progress.note(&format!("The images cannot be kept within their budget: {e}")),
        }
    }

    fn evict(&self, budget: u64, arrived: &[Digest], dry_run: bool) -> Result<Eviction> {
        let store = self.image_store()?;
        let guard = self.keep_containers_out()?;
        let holdings = self.holdings_beside(&guard.containers)?;
        let pins = store.pins()?;
        let keep = |image: &Holding| {
            image
                .containers
                .first()
                .map(|id| KeptBecause::Container(id.clone()))
                .or_else(|| arrived.contains(&image.id).then_some(KeptBecause::JustArrived))
                .or_else(|| pinned(image, &pins).map(KeptBecause::Pinned))
                .or_else(|| self.kept_by_pattern(image).map(KeptBecause::Pattern))
        };
        let eviction = plan(&holdings, budget, keep);
        if dry_run {
            return Ok(eviction);
        }
        for evicted in &eviction.evicted {
            let records = holdings.images.iter().filter(|image| image.id == evicted.id);
            for record in records.flat_map(|image| &image.records) {
                store.untag(record)?;
            }
        }
        if !eviction.evicted.is_empty() {
            self.collect_garbage(&guard)?;
        }
        Ok(eviction)
    }

    fn kept_by_pattern(&self, image: &Holding) -> Option<String> {
        let names: Vec<Reference> = image.records.iter().filter_map(|r| r.reference.parse().ok()).collect();
        let means = |pattern: &&String| {
            names.iter().any(|name| {
                pattern::matches_reference(pattern, &name.familiar_name(), name.tag().unwrap_or_default())
            })
        };
        self.config.images.keep.iter().find(means).cloned()
    }
}

fn pinned(image: &Holding, pins: &std::collections::BTreeSet<String>) -> Option<String> {
    let name = image.records.iter().find(|record| pins.contains(&record.reference)).and_then(familiar);
    name.or_else(|| Some(image.id.to_string()).filter(|id| pins.contains(id)))
}

/// Decides who goes.
fn plan(holdings: &Holdings, budget: u64, keep: impl Fn(&Holding) -> Option<KeptBecause>) -> Eviction {
    let mut sharers: HashMap<Piece, u64> = holdings.sharers.clone();
    for piece in &holdings.used_by_containers {
        // As if one more image had it.
        *sharers.entry(*piece).or_insert(0) += 1;
    }
    let before = holdings.size(sharers.keys());
    let mut eviction = Eviction { budget, before, after: before, evicted: Vec::new(), kept: Vec::new() };
    let names = |image: &Holding| image.records.iter().filter_map(familiar).collect::<Vec<_>>();
    let mut candidates = Vec::new();
    for image in &holdings.images {
        match keep(image) {
            Some(why) => eviction.kept.push(KeptImage {
                id: image.id,
                names: names(image),
                last_used: image.last_used,
                size: holdings.size(&image.pieces),
                why,
            }),
            None => candidates.push(image),
        }
    }
    candidates.sort_by_key(|image| (!names(image).is_empty(), image.last_used, image.id));
    for image in candidates {
        if eviction.after <= budget {
            break;
        }
        let mut frees = 0;
        for piece in &image.pieces {
            if let Some(count) = sharers.get_mut(piece) {
                *count -= 1;
                if *count == 0 {
                    frees += holdings.size([piece]);
                }
            }
        }
        eviction.after -= frees;
        eviction.evicted.push(Evicted {
            id: image.id,
            names: names(image),
            last_used: image.last_used,
            frees,
        });
    }
    eviction
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Images of pieces (numbers; each takes ten times its number), used at the time of their place.
    fn holdings(images: &[&[u8]], containers: &[u8]) -> Holdings {
        let piece = |n: &u8| Piece::Layer(Digest::of(&[*n]));
        let mut sizes = HashMap::new();
        let mut sharers = HashMap::new();
        let images = images.iter().enumerate().map(|(at, pieces)| {
            for n in *pieces {
                sizes.insert(piece(n), u64::from(*n) * 10);
                *sharers.entry(piece(n)).or_insert(0) += 1;
            }
            Holding {
                id: Digest::of(&[at as u8, 0]),
                records: Vec::new(),
                pieces: pieces.iter().map(piece).collect(),
                last_used: Timestamp(at as i64),
                containers: Vec::new(),
            }
        });
        let images = images.collect();
        let used_by_containers: BTreeSet<Piece> = containers.iter().map(piece).collect();
        Holdings { images, sizes, sharers, used_by_containers }
    }

    fn id(at: u8) -> Digest {
        Digest::of(&[at, 0])
    }

    #[test]
    fn the_longest_unused_go_until_the_rest_fits() {
        let holdings = holdings(&[&[1, 2], &[1, 3], &[1, 4]], &[]);
        let evict = |budget| plan(&holdings, budget, |_| None);
        let of = |eviction: &Eviction| eviction.evicted.iter().map(|e| (e.id, e.frees)).collect::<Vec<_>>();
        assert_eq!(of(&evict(100)), []);
        // What is shared is freed by the last.
        let some = evict(99);
        assert_eq!((of(&some), some.before, some.after), (vec![(id(0), 20)], 100, 80));
        assert_eq!(of(&evict(0)), [(id(0), 20), (id(1), 30), (id(2), 50)]);
    }

    #[test]
    fn what_is_kept_and_what_containers_need_stays() {
        let holdings = holdings(&[&[1, 2], &[1, 3]], &[3]);
        let keep = |image: &Holding| (image.id == id(0)).then_some(KeptBecause::JustArrived);
        let eviction = plan(&holdings, 0, keep);
        assert_eq!(eviction.evicted.iter().map(|e| (e.id, e.frees)).collect::<Vec<_>>(), [(id(1), 0)]);
        assert_eq!((eviction.before, eviction.after, eviction.kept.len()), (60, 60, 1));
    }
}
