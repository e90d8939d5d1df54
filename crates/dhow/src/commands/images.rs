//! `dhow images`.

use base::Timestamp;
use clap::Parser;

use crate::commands::{Run, image_list};
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
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
    /// Only those: reference=PATTERN, id=…, label=KEY[=VALUE], dangling=BOOL
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only this repository, or this image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const FILTERS: &[&str] = &["reference", "id", "label", "dangling"];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        if let Some(bad) = filters.values("dangling").find(|v| !matches!(*v, "true" | "false" | "1" | "0")) {
            return Err(Error::flag(format!(
                "invalid value 'dangling={bad}' for '--filter': want true or false"
            )));
        }
        let mut images = context.engine()?.images()?;
        images.retain(|image| image_list::matches(image, &filters, self.name.as_deref()));
        let now = Timestamp::now();
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
