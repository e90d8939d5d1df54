//! `dhow ps`.

use base::Timestamp;
use clap::Parser;
use engine::Engine;

use crate::commands::{Run, container_list, container_tree};
use crate::error::Result;
use crate::flags::filter::Filters;
use crate::globals::Context;
use crate::{format, human, output, terminal};

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
    /// before=CONTAINER, since=CONTAINER, network=NETWORK, publish=PORT, expose=PORT (or PORT-PORT, each with /PROTOCOL), volume=NAME|PATH
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// How much each takes of the disk, too
    #[arg(short, long)]
    size: bool,
    /// As a tree: below each container its processes, and the containers that live in its namespaces
    #[arg(long, conflicts_with_all = ["quiet", "size", "format"])]
    tree: bool,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(super) const FILTERS: &[&str] = &[
    "name", "id", "status", "health", "exited", "label", "ancestor", "before", "since", "network", "publish",
    "volume", "expose", "is-task",
];

/// The filters `before` and `since`: the times of the containers that they name.
struct Around {
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Around {
    fn of(engine: &Engine, filters: &Filters) -> Result<Self> {
        let created = |key| filters.values(key).next().map(|name| engine.container_created(name)).transpose();
        Ok(Self { before: created("before")?, since: created("since")? })
    }

    fn contains(&self, created: Timestamp) -> bool {
        self.before.is_none_or(|before| created < before) && self.since.is_none_or(|since| created > since)
    }
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        container_list::check(&filters)?;
        let last = if self.latest { Some(1) } else { self.last.and_then(|n| usize::try_from(n).ok()) };
        // As in Docker, to ask for a state is to ask for those that do not run, too.
        let by_state = filters.values("status").chain(filters.values("exited")).next().is_some();
        let all = self.all || last.is_some() || by_state;
        let engine = context.engine()?;
        let mut containers = engine.containers(all)?;
        let around = Around::of(&engine, &filters)?;
        containers.retain(|c| around.contains(c.created) && container_list::matches(c, &filters));
        containers.truncate(last.unwrap_or(usize::MAX));
        if self.tree {
            let tree = engine.container_tree(containers)?;
            let columns = terminal::output_columns().filter(|_| !self.no_trunc);
            let look = container_tree::Look { utf8: terminal::speaks_utf8(), columns };
            return output::text(&container_tree::draw(&tree, Timestamp::now(), look)).map(|()| 0);
        }
        if self.quiet && self.format.is_none() {
            let ids = containers.iter().map(|c| if self.no_trunc { c.id.as_str() } else { c.id.short() });
            return output::text(&ids.flat_map(|id| [id, "\n"]).collect::<String>()).map(|()| 0);
        }
        let now = Timestamp::now();
        let asks_for_size = self.size || self.format.as_deref().is_some_and(|f| f.contains(".Size"));
        let rows: Vec<_> = containers
            .iter()
            .map(|c| {
                let mut row = container_list::row(c, now, !self.no_trunc);
                if asks_for_size {
                    row.insert("Size".to_owned(), human::size(engine.container_size(&c.id), 3).into());
                }
                row
            })
            .collect();
        let table = if self.size { container_list::TABLE_WITH_SIZE } else { container_list::TABLE };
        format::rows(self.format.as_deref(), table, container_list::HEADERS, &rows)?;
        Ok(0)
    }
}
