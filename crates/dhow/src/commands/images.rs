//! `dhow images`.

use base::Timestamp;
use clap::Parser;
use engine::Engine;

use crate::commands::image_list::Times;
use crate::commands::{Run, image_list, image_platforms};
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::flags::time::When;
use crate::globals::Context;
use crate::{format, output};

/// List images.
#[derive(Debug, Parser)]
#[command(name = "images")]
pub(crate) struct Arguments {
    /// All images (there are no hidden ones)
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not cut anything off
    #[arg(long)]
    no_trunc: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show which platforms of an image are here, and who uses it
    #[arg(long, conflicts_with_all = ["quiet", "format", "digests"])]
    tree: bool,
    /// Only those: reference=PATTERN, id=…, label=KEY[=VALUE], dangling=BOOL, before=IMAGE, since=IMAGE, until=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only this repository, or this image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const FILTERS: &[&str] = &["reference", "id", "label", "dangling", "before", "since", "until"];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        if let Some(bad) = filters.values("dangling").find(|v| !matches!(*v, "true" | "false" | "1" | "0")) {
            return Err(Error::flag(format!(
                "invalid value 'dangling={bad}' for '--filter': want true or false"
            )));
        }
        let engine = context.engine()?;
        let times = times(&engine, &filters)?;
        let mut images = engine.images()?;
        images.retain(|image| image_list::matches(image, &filters, &times, self.name.as_deref()));
        let now = Timestamp::now();
        if self.tree {
            return output::text(&image_platforms::tree(&engine.image_platforms(&images)?, !self.no_trunc))
                .map(|()| 0);
        }
        let rows: Vec<_> = images.iter().map(|image| image_list::row(image, now, !self.no_trunc)).collect();
        if self.quiet && self.format.is_none() {
            let mut seen = std::collections::HashSet::new();
            let ids = rows.iter().filter_map(|row| row["ID"].as_str()).filter(|id| seen.insert(*id));
            return output::text(&ids.flat_map(|id| [id, "\n"]).collect::<String>()).map(|()| 0);
        }
        let table = if self.digests { image_list::TABLE_WITH_DIGESTS } else { image_list::TABLE };
        format::rows(self.format.as_deref(), table, image_list::HEADERS, &rows)?;
        Ok(0)
    }
}

/// The times behind `before`, `since` and `until`. Of several of a kind, the strictest.
fn times(engine: &Engine, filters: &Filters) -> Result<Times> {
    let mut times = Times::default();
    for name in filters.values("before") {
        let made = engine.image(name)?.created.unwrap_or(Timestamp(0));
        times.before = Some(times.before.map_or(made, |other| other.min(made)));
    }
    for name in filters.values("since") {
        let made = engine.image(name)?.created.unwrap_or(Timestamp(0));
        times.since = Some(times.since.map_or(made, |other| other.max(made)));
    }
    for text in filters.values("until") {
        let When(time) = text
            .parse()
            .map_err(|e| Error::flag(format!("invalid value 'until={text}' for '--filter': {e}")))?;
        times.until = Some(times.until.map_or(time, |other| other.min(time)));
    }
    Ok(times)
}
