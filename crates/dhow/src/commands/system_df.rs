//! `dhow system df`.

use base::Timestamp;
use clap::Parser;
use engine::{BuildCacheEntry, ContainerUsage, ImageUsage, Usage, VolumeUsage};
use serde_json::{Value, json};

use crate::commands::{Run, container_list, image_list, volume_list};
use crate::error::Result;
use crate::format::{self, Row};
use crate::globals::Context;
use crate::{human, output};

/// Show what images, containers and volumes take of the disk.
#[derive(Debug, Parser)]
#[command(name = "system df")]
pub(crate) struct Arguments {
    /// Tell of each image, container and volume
    #[arg(short, long)]
    verbose: bool,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const TABLE: &str = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const HEADERS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const IMAGE_HEADERS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const CONTAINER_HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
const VOLUME_HEADERS: &[(&str, &str)] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
const CACHE: &str = "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";
const CACHE_HEADERS: &[(&str, &str)] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let usage = context.engine()?.usage()?;
        let now = Timestamp::now();
        if self.verbose {
            self.verbose(&usage, now)?;
        } else {
            format::rows(self.format.as_deref(), TABLE, HEADERS, &summary(&usage))?;
        }
        if let Some(budget) = usage.exceeded_budget()
            && self.format.is_none()
        {
            output::talk(&format!(
                "The images take more than their budget of {}: see `dhow image evict --dry-run`.",
                human::size(budget, 4)
            ));
        }
        Ok(0)
    }
}

impl Arguments {
    fn verbose(&self, usage: &Usage, now: Timestamp) -> Result<()> {
        let images: Vec<Row> = usage.images.iter().map(|image| image_row(image, now)).collect();
        let containers: Vec<Row> = usage.containers.iter().map(|c| container_row(c, now)).collect();
        let volumes: Vec<Row> = usage.volumes.iter().map(volume_row).collect();
        let cache: Vec<Row> = usage.build_cache.iter().map(|entry| cache_row(entry, now)).collect();
        if let Some(format) = self.format.as_deref() {
            let all = json!({ "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache });
            return format::one(format, &all);
        }
        output::line("Images space usage:\n")?;
        format::rows(None, IMAGES, IMAGE_HEADERS, &images)?;
        output::line("\nContainers space usage:\n")?;
        format::rows(None, CONTAINERS, CONTAINER_HEADERS, &containers)?;
        output::line("\nLocal Volumes space usage:\n")?;
        format::rows(None, VOLUMES, VOLUME_HEADERS, &volumes)?;
        output::line(&format!("\nBuild cache usage: {}\n", human::size(usage.build_cache_size(), 4)))?;
        format::rows(None, CACHE, CACHE_HEADERS, &cache)
    }
}

fn summary(usage: &Usage) -> Vec<Row> {
    let line = |kind: &str, total: u64, active: u64, size: u64, reclaimable: u64| {
        let share = match size {
            0 => String::new(),
            size => format!(" ({}%)", reclaimable.saturating_mul(100) / size),
        };
        row(json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": human::size(size, 4),
            "Reclaimable": human::size(reclaimable, 4) + &share,
        }))
    };
    let images = usage.images.len() as u64;
    let containers = usage.containers.len() as u64;
    vec![
        line("Images", images, usage.images_active(), usage.images_size, usage.images_reclaimable),
        line(
            "Containers",
            containers,
            usage.containers_active(),
            usage.containers_size(),
            usage.containers_reclaimable(),
        ),
        line(
            "Local Volumes",
            usage.volumes.len() as u64,
            usage.volumes_active(),
            usage.volumes_size(),
            usage.volumes_reclaimable(),
        ),
        line(
            "Build Cache",
            usage.build_cache.len() as u64,
            usage.build_cache.iter().filter(|entry| entry.in_use).count() as u64,
            usage.build_cache_size(),
            usage.build_cache_reclaimable(),
        ),
    ]
}

fn image_row(usage: &ImageUsage, now: Timestamp) -> Row {
    let mut row = image_list::row(&usage.image, now, true);
    row.insert("Size".to_owned(), human::size(usage.size, 3).into());
    row.insert("SharedSize".to_owned(), human::size(usage.shared, 4).into());
    row.insert("UniqueSize".to_owned(), human::size(usage.size - usage.shared, 4).into());
    row.insert("Containers".to_owned(), usage.containers.to_string().into());
    row.remove(format::LABEL_MAP);
    row
}

fn cache_row(entry: &BuildCacheEntry, now: Timestamp) -> Row {
    row(json!({
        "ID": entry.id.chars().take(12).collect::<String>(),
        "CacheType": entry.kind.name(),
        "Size": human::size(entry.size, 3),
        "CreatedSince": human::ago(entry.created, now),
        "LastUsedSince": human::ago(entry.used, now),
        "UsageCount": "",
        "Shared": entry.shared.to_string(),
    }))
}

fn container_row(usage: &ContainerUsage, now: Timestamp) -> Row {
    let mut row = container_list::row(&usage.container, now, true);
    row.insert("Size".to_owned(), human::size(usage.size, 3).into());
    row.remove(format::LABEL_MAP);
    row
}

fn volume_row(usage: &VolumeUsage) -> Row {
    let links = usage.volume.users.len().to_string();
    let mut row = volume_list::row(&usage.volume, &links, &human::size(usage.size, 4));
    row.remove(format::LABEL_MAP);
    row
}

fn row(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}
