//! `dhow builder du` and `dhow builder prune`.

use std::time::Duration;

use base::Timestamp;
use clap::Parser;
use engine::{BuildCacheEntry, BuildPruneOptions};

use crate::commands::{Run, confirm};
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::flags::size::Bytes;
use crate::flags::time::{NotATime, When};
use crate::format::{self, Row};
use crate::globals::Context;
use crate::{human, output};

const TABLE: &str = "table {{.ID}}\t{{.Type}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.Reclaimable}}\t{{.Description}}";
const HEADERS: &[(&str, &str)] = &[
    ("ID", "ID"),
    ("Type", "TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Description", "STEP"),
];

/// Show what the build cache holds.
#[derive(Debug, Parser)]
#[command(name = "builder du")]
pub(crate) struct Du {
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
}

impl Run for Du {
    fn run(self, context: &Context) -> Result<u8> {
        let entries = context.engine()?.build_cache()?;
        let now = Timestamp::now();
        let rows: Vec<Row> = entries.iter().map(|entry| row(entry, now, self.no_trunc)).collect();
        format::rows(self.format.as_deref(), TABLE, HEADERS, &rows)?;
        if self.format.is_none() {
            let sum = |shared: bool| -> u64 {
                entries.iter().filter(|entry| shared || !entry.shared && !entry.in_use).map(|e| e.size).sum()
            };
            output::line(&format!("Reclaimable:\t{}", human::size(sum(false), 4)))?;
            output::line(&format!("Total:\t\t{}", human::size(sum(true), 4)))?;
        }
        Ok(0)
    }
}

fn row(entry: &BuildCacheEntry, now: Timestamp, whole: bool) -> Row {
    let kind = entry.kind.name();
    let id = if whole { entry.id.clone() } else { entry.id.chars().take(12).collect() };
    let description = if whole { entry.description.clone() } else { human::ellipsis(&entry.description, 60) };
    let fields: [(&str, serde_json::Value); 7] = [
        ("ID", id.into()),
        ("Type", kind.into()),
        ("Size", human::size(entry.size, 3).into()),
        ("CreatedSince", human::ago(entry.created, now).into()),
        ("LastUsedSince", human::ago(entry.used, now).into()),
        ("Reclaimable", (!entry.shared && !entry.in_use).to_string().into()),
        ("Description", base::failure::printable(description).into()),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Remove what is not needed of the build cache.
#[derive(Debug, Parser)]
#[command(name = "builder prune")]
pub(crate) struct Prune {
    /// Also what an image has as well
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those: until=AGE, unused-for=AGE, id=ID, type=regular|exec.cachemount|source.git|…
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Leave so much, of what was used last
    #[arg(long, value_name = "BYTES", alias = "reserved-space", alias = "max-used-space")]
    keep_storage: Option<Bytes>,
}

impl Run for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        let options = self.options()?;
        let what = if self.all { "all build cache" } else { "all dangling build cache" };
        if !self.force && !confirm::ask(&format!("WARNING! This will remove {what}.\n"))? {
            return Ok(0);
        }
        let pruned = context.engine()?.prune_build_cache(&options)?;
        list(&pruned.removed)?;
        output::line(&format!("Total:\t{}", human::size(pruned.bytes, 4)))?;
        Ok(0)
    }
}

/// What was removed.
pub(crate) fn list(removed: &[BuildCacheEntry]) -> Result<()> {
    for entry in removed {
        let id: String = entry.id.chars().take(12).collect();
        let description = base::failure::printable(entry.description.clone());
        output::line(&format!("{id}\t{}\t{description}", human::size(entry.size, 3)))?;
    }
    Ok(())
}

impl Prune {
    fn options(&self) -> Result<BuildPruneOptions> {
        let mut options = BuildPruneOptions {
            all: self.all,
            keep: self.keep_storage.as_ref().map(|Bytes(bytes)| *bytes),
            ..BuildPruneOptions::default()
        };
        let keys = ["until", "unused-for", "id", "type"];
        let filters = Filters::parse(&self.filter, &keys)?;
        for key in keys {
            for value in filters.values(key) {
                match key {
                    "id" => options.ids.push(value.to_owned()),
                    "type" => options.kinds.push(value.to_owned()),
                    _ => options.unused_for = Some(age(value)?),
                }
            }
        }
        Ok(options)
    }
}

/// `24h`, or a point in time.
fn age(text: &str) -> Result<Duration> {
    let invalid =
        |_: NotATime| Error::flag(format!("invalid value '{text}' for '--filter': want an age, such as 24h"));
    let When(time) = text.parse().map_err(invalid)?;
    Ok(Timestamp::now().since(time))
}
