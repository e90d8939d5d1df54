//! `dhow search`.

use clap::Parser;
use engine::Found;
use serde_json::{Value, json};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::filter::Filters;
use crate::format::{self, Row};
use crate::globals::Context;

/// How much of a description a table shows.
const CUT: usize = 45;
const FILTERS: &[&str] = &["is-official", "is-automated", "stars"];
const TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

/// Search a registry for images.
#[derive(Debug, Parser)]
#[command(name = "search")]
pub(crate) struct Arguments {
    /// Only those: is-official=BOOL, is-automated=BOOL, stars=AT-LEAST
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// How many, from 1 to 100 [default: 25]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Do not cut anything off
    #[arg(long)]
    no_trunc: bool,
    /// What to look for: on Docker Hub, or of another registry
    #[arg(value_name = "[REGISTRY/]TERM")]
    term: String,
}

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = Filters::parse(&self.filter, FILTERS)?;
        for key in ["is-official", "is-automated"] {
            if let Some(bad) = filters.values(key).find(|value| truth(value).is_none()) {
                return Err(Error::flag(format!(
                    "invalid value '{key}={bad}' for '--filter': want true or false"
                )));
            }
        }
        if let Some(bad) = filters.values("stars").find(|value| value.parse::<u64>().is_err()) {
            return Err(Error::flag(format!("invalid value 'stars={bad}' for '--filter': want a number")));
        }
        // Docker: 0 is as good as none.
        let limit = self.limit.filter(|limit| *limit > 0).unwrap_or(25);
        if limit > 100 {
            return Err(Error::flag(format!("invalid value '{limit}' for '--limit': want 1 to 100")));
        }
        let mut found = context.engine()?.search(&self.term, limit)?;
        found.retain(|item| matches(item, &filters));
        let rows: Vec<Row> = found.iter().map(|item| row(item, !self.no_trunc)).collect();
        format::rows(self.format.as_deref(), TABLE, HEADERS, &rows)?;
        Ok(0)
    }
}

fn truth(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn matches(item: &Found, filters: &Filters) -> bool {
    filters.any("is-official", |value| truth(value) == Some(item.official))
        && filters.any("is-automated", |value| truth(value) == Some(item.automated))
        && filters.values("stars").all(|value| value.parse::<u64>().is_ok_and(|least| item.stars >= least))
}

fn row(item: &Found, cut: bool) -> Row {
    let mut description = item.description.clone();
    if cut && description.chars().count() > CUT {
        description = description.chars().take(CUT - 1).chain(['…']).collect();
    }
    let mark = |yes| if yes { "[OK]" } else { "" };
    let row = json!({
        "Name": item.name,
        "Description": description,
        "StarCount": item.stars.to_string(),
        "IsOfficial": mark(item.official),
        "IsAutomated": mark(item.automated),
    });
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sieved_and_cut() {
        let item = Found {
            name: "x".to_owned(),
            description: "d".repeat(50),
            stars: 7,
            official: true,
            automated: false,
        };
        let fits = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            matches(&item, &Filters::parse(&texts, FILTERS).unwrap())
        };
        assert!(fits(&[]) && fits(&["is-official=true", "stars=7"]) && fits(&["is-automated=0"]));
        assert!(!fits(&["is-official=false"]) && !fits(&["stars=8"]) && !fits(&["stars=8", "stars=1"]));
        assert_eq!(row(&item, true)["Description"], format!("{}…", "d".repeat(44)));
        assert_eq!(row(&item, false)["Description"], "d".repeat(50));
        assert_eq!(row(&item, true)["IsOfficial"], "[OK]");
    }
}
