//! `dhow network ls`.

use clap::Parser;
use engine::NetworkSummary;
use serde_json::{Value, json};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::format::{self, LABEL_MAP, Row};
use crate::globals::Context;
use crate::output;

/// List networks.
#[derive(Debug, Parser)]
#[command(name = "network ls")]
pub(crate) struct Arguments {
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only those: dangling=BOOL, driver=…, id=…, label=KEY[=VALUE], name=…, scope=local, type=custom|builtin
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];
const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const HEADERS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        let wrong = |key: &'static str, known: &[&str]| {
            let bad = filters.values(key).find(|v| !known.contains(v));
            bad.map(|bad| {
                Error::flag(format!(
                    "invalid value '{key}={bad}' for '--filter': want {}",
                    known.join(" or ")
                ))
            })
        };
        for (key, known) in [("dangling", &["true", "false", "1", "0"][..]), ("type", &["custom", "builtin"])]
        {
            if let Some(error) = wrong(key, known) {
                return Err(error);
            }
        }
        let mut networks = context.engine()?.networks()?;
        networks.retain(|network| matches(network, &filters));
        let rows: Vec<Row> = networks.iter().map(|network| row(network, self.no_trunc)).collect();
        if self.quiet && self.format.is_none() {
            let id = |network: &NetworkSummary| shown_id(network, self.no_trunc) + "\n";
            return output::text(&networks.iter().map(id).collect::<String>()).map(|()| 0);
        }
        format::rows(self.format.as_deref(), TABLE, HEADERS, &rows)?;
        Ok(0)
    }
}

fn matches(network: &NetworkSummary, filters: &Filters) -> bool {
    let dangling = network.users == 0 && !network.predefined;
    filters.any("dangling", |v| matches!(v, "true" | "1") == dangling)
        && filters.any("driver", |v| network.driver == v)
        && filters.matches("id", &[network.id.as_str()])
        && filters.matches("name", &[&network.name])
        && filters.any("scope", |v| v == "local")
        && filters.any("type", |v| (v == "builtin") == network.predefined)
        && filters.labels(&network.labels)
}

fn shown_id(network: &NetworkSummary, whole: bool) -> String {
    if whole { network.id.to_string() } else { network.id.short().to_owned() }
}

fn row(network: &NetworkSummary, whole: bool) -> Row {
    let labels: Vec<String> = network.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let created = jiff::Timestamp::from_nanosecond(i128::from(network.created.0));
    let row = json!({
        "CreatedAt": created.map(|t| t.strftime("%Y-%m-%d %H:%M:%S.%9f +0000 UTC").to_string()).unwrap_or_default(),
        "Driver": network.driver,
        "ID": shown_id(network, whole),
        "IPv4": "true",
        "IPv6": network.ipv6.to_string(),
        "Internal": network.internal.to_string(),
        "Labels": labels.join(","),
        "Name": network.name,
        "Scope": "local",
        LABEL_MAP: network.labels,
    });
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}
