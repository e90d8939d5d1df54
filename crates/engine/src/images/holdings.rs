//! What each image holds on disk, and what of that it shares: the ground of `system df`, of the tree and of eviction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base::{Digest, Id, Timestamp};
use image::Resolved;
use state::container::Record;

use crate::Engine;
use crate::build::cache::Cache;
use crate::containers::records;
use crate::error::Result;

/// A thing on disk that images share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Piece {
    /// A blob, by its digest.
    Blob(Digest),
    /// An unpacked layer, by its diff id.
    Layer(Digest),
}

/// One image.
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    /// Its id.
    pub(crate) id: Digest,
    /// The records that stand for it: a name each, or one without a name.
    pub(crate) records: Vec<Resolved>,
    /// What it needs of what is here.
    pub(crate) pieces: BTreeSet<Piece>,
    /// The last time that it was used, under whatever name.
    pub(crate) last_used: Timestamp,
    /// The containers that were made of it.
    pub(crate) containers: Vec<Id>,
}

/// All images, and all that is here.
#[derive(Debug, Clone)]
pub(crate) struct Holdings {
    /// Images, each once, in the order of their ids.
    pub(crate) images: Vec<Holding>,
    /// What is here, needed or not, and the bytes that it takes.
    pub(crate) sizes: HashMap<Piece, u64>,
    /// How many images need a piece.
    pub(crate) sharers: HashMap<Piece, u64>,
    /// What containers need, whatever images there are.
    pub(crate) used_by_containers: BTreeSet<Piece>,
}

impl Holdings {
    /// Bytes of all that is here.
    pub(crate) fn total(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// Bytes of these pieces.
    pub(crate) fn size<'p>(&self, pieces: impl IntoIterator<Item = &'p Piece>) -> u64 {
        pieces.into_iter().filter_map(|piece| self.sizes.get(piece)).sum()
    }

    /// Bytes that another image needs, too.
    pub(crate) fn shared(&self, image: &Holding) -> u64 {
        self.size(image.pieces.iter().filter(|piece| self.sharers.get(*piece).is_some_and(|n| *n > 1)))
    }
}

impl Engine {
    /// Looks at the store and at all containers.
    pub(crate) fn holdings(&self) -> Result<Holdings> {
        let mut containers = Vec::new();
        for id in records::all(&self.instance)? {
            containers.extend(records::record(&self.instance, &id)?);
        }
        self.holdings_beside(&containers)
    }

    /// The same where the containers are known.
    pub(crate) fn holdings_beside(&self, containers: &[Record]) -> Result<Holdings> {
        let store = self.image_store()?;
        let mut sizes: HashMap<Piece, u64> =
            store.blobs()?.into_iter().map(|blob| (Piece::Blob(blob.digest), blob.size)).collect();
        for diff_id in self.layer_store().list()? {
            sizes.insert(Piece::Layer(diff_id), self.layer_size(&diff_id));
        }
        let mut images: BTreeMap<Digest, Holding> = BTreeMap::new();
        for record in store.list()? {
            let image = images.entry(record.id).or_insert_with(|| Holding {
                id: record.id,
                records: Vec::new(),
                pieces: BTreeSet::new(),
                last_used: Timestamp(0),
                containers: Vec::new(),
            });
            let needed = record.blobs().map(Piece::Blob).chain(record.diff_ids().map(Piece::Layer));
            image.pieces.extend(needed.filter(|piece| sizes.contains_key(piece)));
            image.last_used = image.last_used.max(store.last_used(&record)?);
            image.records.push(record);
        }
        let mut used_by_containers = BTreeSet::new();
        for container in containers {
            used_by_containers.extend(container.layers().copied().map(Piece::Layer));
            for used in container.images() {
                if let Some(image) = images.get_mut(used)
                    && image.containers.last() != Some(&container.id)
                {
                    image.containers.push(container.id.clone());
                }
            }
        }
        let mut sharers = HashMap::new();
        for piece in images.values().flat_map(|image| &image.pieces) {
            *sharers.entry(*piece).or_insert(0) += 1;
        }
        // What only builds remember is no image's: it has a budget of its own.
        for layer in Cache::of(&self.instance).layers()? {
            let piece = Piece::Layer(layer);
            if !sharers.contains_key(&piece) && !used_by_containers.contains(&piece) {
                sizes.remove(&piece);
            }
        }
        Ok(Holdings { images: images.into_values().collect(), sizes, sharers, used_by_containers })
    }
}
