//! `dhow image evict`.

use base::Timestamp;
use clap::Parser;
use engine::{Eviction, KeptBecause};
use serde_json::{Value, json};

use crate::commands::Run;
use crate::error::Result;
use crate::flags::size::Bytes;
use crate::format::{self, Row};
use crate::globals::Context;
use crate::{human, output};

/// Remove the images that were not used for the longest time, until the others fit into the budget.
#[derive(Debug, Parser)]
#[command(name = "image evict")]
pub(crate) struct Arguments {
    /// Only say what would go, and why the others would stay
    #[arg(long)]
    dry_run: bool,
    /// This instead of the budget in config.toml
    #[arg(long, value_name = "BYTES")]
    budget: Option<Bytes>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const TABLE: &str = "table {{.Image}}\t{{.ID}}\t{{.LastUsed}}\t{{.Size}}\t{{.Action}}\t{{.Reason}}";
const HEADERS: &[(&str, &str)] = &[
    ("Image", "IMAGE"),
    ("ID", "IMAGE ID"),
    ("LastUsed", "LAST USED"),
    ("Size", "SIZE"),
    ("Action", "ACTION"),
    ("Reason", "REASON"),
];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let eviction = context.engine()?.evict_images(self.budget.map(|Bytes(b)| b), self.dry_run)?;
        let rows = rows(&eviction, self.dry_run, Timestamp::now());
        if !rows.is_empty() || self.format.is_some() {
            format::rows(self.format.as_deref(), TABLE, HEADERS, &rows)?;
        }
        if self.format.is_none() {
            let size = |bytes| human::size(bytes, 4);
            let would = if self.dry_run { "would take" } else { "take" };
            output::talk(&format!(
                "The images took {} of a budget of {}, and {would} {} now.",
                size(eviction.before),
                size(eviction.budget),
                size(eviction.after)
            ));
            if eviction.after > eviction.budget {
                output::talk("What is over the budget is kept: it is in use, pinned, or meant by `keep`.");
            }
        }
        Ok(0)
    }
}

fn rows(eviction: &Eviction, dry_run: bool, now: Timestamp) -> Vec<Row> {
    let name = |names: &[String]| if names.is_empty() { "<none>".to_owned() } else { names.join(", ") };
    let gone = eviction.evicted.iter().map(|image| {
        json!({
            "Image": name(&image.names),
            "ID": image.id.short(),
            "LastUsed": human::ago(image.last_used, now),
            "Size": human::size(image.frees, 3),
            "Action": if dry_run { "would go" } else { "gone" },
            "Reason": if image.names.is_empty() { "no name" } else { "not used for the longest time" },
        })
    });
    let kept = eviction.kept.iter().map(|image| {
        json!({
            "Image": name(&image.names),
            "ID": image.id.short(),
            "LastUsed": human::ago(image.last_used, now),
            "Size": human::size(image.size, 3),
            "Action": "kept",
            "Reason": match &image.why {
                KeptBecause::Pinned(pin) => format!("pinned: {pin}"),
                KeptBecause::Pattern(pattern) => format!("keep = {pattern:?}"),
                KeptBecause::Container(id) => format!("container {}", id.short()),
                KeptBecause::JustArrived => "it has just come in".to_owned(),
            },
        })
    });
    gone.chain(kept)
        .filter_map(|row| match row {
            Value::Object(row) => Some(row),
            _ => None,
        })
        .collect()
}
