//! `dhow ps`.

use base::Timestamp;
use clap::Parser;

use crate::commands::{Run, container_list};
use crate::error::Result;
use crate::flags::filter::Filters;
use crate::globals::Context;
use crate::{format, output};

/// List containers.
#[derive(Debug, Parser)]
#[command(name = "ps")]
pub(crate) struct Arguments {
    /// Those that do not run too
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not cut anything off
    #[arg(long)]
    no_trunc: bool,
    /// The last so many, running or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<i64>,
    /// The last one, running or not
    #[arg(short, long)]
    latest: bool,
    /// Only those: name=…, id=…, status=…, health=…, exited=CODE, label=KEY[=VALUE], ancestor=IMAGE,
    /// volume=NAME|PATH
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const FILTERS: &[&str] = &["name", "id", "status", "health", "exited", "label", "ancestor", "volume"];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        container_list::check(&filters)?;
        let last = if self.latest { Some(1) } else { self.last.and_then(|n| usize::try_from(n).ok()) };
        // As in Docker, to ask for a state is to ask for those that do not run, too.
        let by_state = filters.values("status").chain(filters.values("exited")).next().is_some();
        let all = self.all || last.is_some() || by_state;
        let mut containers = context.engine()?.containers(all)?;
        containers.retain(|container| container_list::matches(container, &filters));
        containers.truncate(last.unwrap_or(usize::MAX));
        if self.quiet && self.format.is_none() {
            let ids = containers.iter().map(|c| if self.no_trunc { c.id.as_str() } else { c.id.short() });
            return output::text(&ids.flat_map(|id| [id, "\n"]).collect::<String>()).map(|()| 0);
        }
        let now = Timestamp::now();
        let rows: Vec<_> = containers.iter().map(|c| container_list::row(c, now, !self.no_trunc)).collect();
        format::rows(self.format.as_deref(), container_list::TABLE, container_list::HEADERS, &rows)?;
        Ok(0)
    }
}
