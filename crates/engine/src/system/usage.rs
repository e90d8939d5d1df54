//! `system df`: what images, containers and volumes take of the disk, and what could be had back.

use std::collections::BTreeSet;

use base::Id;

use crate::error::Result;
use crate::images::holdings::{Holdings, Piece};
use crate::images::list::{familiar, summary};
use crate::images::sizes;
use crate::{BuildCacheEntry, ContainerSummary, Engine, ImageSummary, VolumeSummary};

/// All of it.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The images, as [`Engine::images`] sorts them.
    pub images: Vec<ImageUsage>,
    /// Bytes of blobs and unpacked layers, each once, and of pulls that broke off.
    pub images_size: u64,
    /// Bytes of them that `image prune --all` would free.
    pub images_reclaimable: u64,
    /// Bytes of them that came of pulls which broke off.
    pub unfinished: u64,
    /// The containers, newest first.
    pub containers: Vec<ContainerUsage>,
    /// The volumes, by name.
    pub volumes: Vec<VolumeUsage>,
    /// The build cache, the last used first.
    pub build_cache: Vec<BuildCacheEntry>,
    /// The budget of images and what they are over it, where there is one.
    pub budget: Option<u64>,
}

/// What one volume takes.
#[derive(Debug, Clone)]
pub struct VolumeUsage {
    /// The volume.
    pub volume: VolumeSummary,
    /// Bytes of its content.
    pub size: u64,
}

/// What one image takes.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image, under one of its names.
    pub image: ImageSummary,
    /// Bytes of its blobs and unpacked layers.
    pub size: u64,
    /// Bytes of these that others have, too.
    pub shared: u64,
    /// How many containers were made of it.
    pub containers: u64,
}

/// What one container takes.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    /// The container.
    pub container: ContainerSummary,
    /// Bytes of its writable layer, its log and its records.
    pub size: u64,
}

impl Usage {
    /// The budget of images that these exceed.
    pub fn exceeded_budget(&self) -> Option<u64> {
        self.budget.filter(|budget| self.images_size - self.unfinished > *budget)
    }

    /// How many images a container uses.
    pub fn images_active(&self) -> u64 {
        self.images.iter().filter(|image| image.containers > 0).count() as u64
    }

    /// How many volumes a container has.
    pub fn volumes_active(&self) -> u64 {
        self.volumes.iter().filter(|v| !v.volume.users.is_empty()).count() as u64
    }

    /// Bytes of all volumes.
    pub fn volumes_size(&self) -> u64 {
        self.volumes.iter().map(|v| v.size).sum()
    }

    /// Bytes of those that no container has.
    pub fn volumes_reclaimable(&self) -> u64 {
        self.volumes.iter().filter(|v| v.volume.users.is_empty()).map(|v| v.size).sum()
    }

    /// Bytes of the build cache that no image has as well.
    pub fn build_cache_size(&self) -> u64 {
        self.build_cache.iter().filter(|entry| !entry.shared).map(|entry| entry.size).sum()
    }

    /// Bytes of those that no build uses now.
    pub fn build_cache_reclaimable(&self) -> u64 {
        let free = self.build_cache.iter().filter(|entry| !entry.shared && !entry.in_use);
        free.map(|entry| entry.size).sum()
    }

    /// How many containers run.
    pub fn containers_active(&self) -> u64 {
        self.containers.iter().filter(|c| c.container.status.is_up()).count() as u64
    }

    /// Bytes of all containers.
    pub fn containers_size(&self) -> u64 {
        self.containers.iter().map(|c| c.size).sum()
    }

    /// Bytes of those that do not run.
    pub fn containers_reclaimable(&self) -> u64 {
        let stopped = self.containers.iter().filter(|c| !c.container.status.is_up());
        stopped.map(|c| c.size).sum()
    }
}

impl Engine {
    /// Measures everything.
    pub fn usage(&self) -> Result<Usage> {
        let containers = self.containers(true)?;
        let holdings = self.holdings()?;
        let unfinished = self.image_store()?.partial_size()?;
        let mut images: Vec<ImageUsage> = holdings
            .images
            .iter()
            .filter_map(|holding| {
                let record = holding.records.first()?;
                let names = holding.records.iter().filter_map(familiar).collect();
                Some(ImageUsage {
                    image: summary(record, names),
                    size: holdings.size(&holding.pieces),
                    shared: holdings.shared(holding),
                    containers: holding.containers.len() as u64,
                })
            })
            .collect();
        images.sort_by(|a, b| {
            let key = |i: &ImageUsage| (i.image.created, i.image.repository.clone(), i.image.tag.clone());
            key(b).cmp(&key(a))
        });
        let measure = |id: &Id| self.container_size(id);
        Ok(Usage {
            images,
            images_size: holdings.total() + unfinished,
            images_reclaimable: reclaimable(&holdings) + unfinished,
            unfinished,
            containers: containers
                .into_iter()
                .map(|container| ContainerUsage { size: measure(&container.id), container })
                .collect(),
            volumes: self
                .volumes()?
                .into_iter()
                .map(|volume| VolumeUsage { size: sizes::disk_usage(&volume.mountpoint), volume })
                .collect(),
            build_cache: self.build_cache()?,
            budget: self.config.images.budget,
        })
    }
}

impl Engine {
    /// Bytes that a container's own files take: what it has written, its log and its record.
    pub fn container_size(&self, id: &Id) -> u64 {
        sizes::disk_usage(&self.instance.container(id))
    }
}

/// Bytes that neither a container nor an image that a container uses needs.
fn reclaimable(holdings: &Holdings) -> u64 {
    let mut needed: BTreeSet<Piece> = holdings.used_by_containers.clone();
    for image in holdings.images.iter().filter(|image| !image.containers.is_empty()) {
        needed.extend(&image.pieces);
    }
    holdings.total() - holdings.size(&needed)
}
