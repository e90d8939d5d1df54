//! `dhow volume ls`.

use clap::Parser;
use engine::VolumeSummary;
use serde_json::{Value, json};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::format::{self, LABEL_MAP, Row};
use crate::globals::Context;
use crate::output;

/// List volumes.
#[derive(Debug, Parser)]
#[command(name = "volume ls")]
pub(crate) struct Arguments {
    /// Only names
    #[arg(short, long)]
    quiet: bool,
    /// Only those: dangling=BOOL, driver=…, label=KEY[=VALUE], name=…
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Docker's volumes of a cluster: there are none
    #[arg(long, hide = true)]
    cluster: bool,
}

const FILTERS: &[&str] = &["dangling", "driver", "label", "name"];
const TABLE: &str = "table {{.Driver}}\t{{.Name}}";
/// What heads the columns.
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        if let Some(bad) = filters.values("dangling").find(|v| !matches!(*v, "true" | "false" | "1" | "0")) {
            return Err(Error::flag(format!(
                "invalid value 'dangling={bad}' for '--filter': want true or false"
            )));
        }
        let mut volumes = context.engine()?.volumes().map_err(Error::Engine)?;
        volumes.retain(|volume| !self.cluster && matches(volume, &filters));
        if self.quiet && self.format.is_none() {
            let names: String = volumes.iter().flat_map(|volume| [volume.name.as_str(), "\n"]).collect();
            return output::text(&names).map(|()| 0);
        }
        let rows: Vec<Row> = volumes.iter().map(|volume| row(volume, "N/A", "N/A")).collect();
        format::rows(self.format.as_deref(), TABLE, HEADERS, &rows)?;
        Ok(0)
    }
}

fn matches(volume: &VolumeSummary, filters: &Filters) -> bool {
    filters.any("dangling", |v| matches!(v, "true" | "1") == volume.users.is_empty())
        && filters.any("driver", |v| volume.driver == v)
        && filters.matches("name", &[&volume.name])
        && filters.labels(&volume.labels)
}

/// One row. How many use it, and what it takes, is only known where that was asked for.
pub(super) fn row(volume: &VolumeSummary, links: &str, size: &str) -> Row {
    let labels: Vec<String> = volume.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let row = json!({
        "Availability": "N/A",
        "Driver": volume.driver,
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": links,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": "local",
        "Size": size,
        "Status": "N/A",
        LABEL_MAP: volume.labels,
    });
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}
