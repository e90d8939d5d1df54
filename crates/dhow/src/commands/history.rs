//! `dhow history`.

use base::Timestamp;
use clap::Parser;
use engine::HistoryStep;
use serde_json::Value;

use crate::commands::Run;
use crate::error::Result;
use crate::format::{self, Row};
use crate::globals::Context;
use crate::{human, output};

/// Show how an image came to be.
#[derive(Debug, Parser)]
#[command(name = "history")]
pub(crate) struct Arguments {
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and times for people (=false: for programs)
    #[arg(short = 'H', long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true")]
    human: bool,
    /// Do not cut anything off
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

const TABLE: &str = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const TABLE_OF_TIMES: &str = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];
/// What is left of a command, as in Docker.
const COMMAND: usize = 45;

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let steps = context.engine()?.history(&self.image)?;
        let now = Timestamp::now();
        let rows: Vec<Row> = steps.iter().map(|step| row(step, now, self.human, !self.no_trunc)).collect();
        if self.quiet && self.format.is_none() {
            let ids = rows.iter().filter_map(|row| row["ID"].as_str());
            return output::text(&ids.flat_map(|id| [id, "\n"]).collect::<String>()).map(|()| 0);
        }
        let table = if self.human { TABLE } else { TABLE_OF_TIMES };
        format::rows(self.format.as_deref(), table, HEADERS, &rows)?;
        Ok(0)
    }
}

fn row(step: &HistoryStep, now: Timestamp, human: bool, cut: bool) -> Row {
    let id = match step.id {
        Some(id) if cut => id.short(),
        Some(id) => id.to_string(),
        None => "<missing>".to_owned(),
    };
    let command = step.created_by.replace('\t', " ");
    let command = if cut { human::ellipsis(&command, COMMAND) } else { command };
    let since = step.created.map_or_else(|| "N/A".to_owned(), |time| human::ago(time, now));
    let at = step.created.map(rfc3339).unwrap_or_default();
    let size = if human { human::size(step.size, 3) } else { step.size.to_string() };
    let texts = [
        ("ID", id),
        ("CreatedSince", since),
        ("CreatedAt", at),
        ("CreatedBy", command),
        ("Size", size),
        ("Comment", step.comment.clone()),
        ("Tags", step.tags.join(", ")),
    ];
    texts.into_iter().map(|(key, text)| (key.to_owned(), Value::from(text))).collect()
}

/// In UTC, to the second.
fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.0.div_euclid(1_000_000_000))
        .map_or(String::new(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_dockers() {
        let step = HistoryStep {
            id: None,
            created: Some(Timestamp(0)),
            created_by: "/bin/sh -c #(nop) ADD file:0123456789abcdef0123456789 in / ".to_owned(),
            size: 4_260_000,
            comment: String::new(),
            tags: Vec::new(),
        };
        let text = |row: &Row, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let short = row(&step, Timestamp(3 * 86_400 * 1_000_000_000), true, true);
        assert_eq!(
            (text(&short, "ID"), text(&short, "CreatedSince")),
            ("<missing>".into(), "3 days ago".into())
        );
        assert_eq!((text(&short, "Size"), text(&short, "CreatedBy").chars().count()), ("4.26MB".into(), 45));
        let long = row(&step, Timestamp(0), false, false);
        assert_eq!(
            (text(&long, "Size"), text(&long, "CreatedAt")),
            ("4260000".into(), "1970-01-01T00:00:00Z".into())
        );
        assert_eq!(text(&long, "CreatedBy"), step.created_by);
    }
}
