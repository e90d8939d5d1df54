//! `dhow logs`.

use std::collections::BTreeMap;

use base::Timestamp;
use clap::Parser;
use engine::{JsonField, LogOptions, LogSearch, LogStream};
use form_urlencoded::byte_serialize;

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::flags::time::When;
use crate::globals::Context;
use crate::output;

/// Show what a container has said.
#[derive(Debug, Parser)]
#[command(name = "logs")]
pub(crate) struct Arguments {
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", value_parser = tail)]
    tail: Lines,
    /// Only what was said since then
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Only what was said until then
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Show what --log-opt tag, labels and env have added to each line
    #[arg(long)]
    details: bool,
    /// Only lines that match; (?i) at its beginning ignores case. With --tail: the last ones that do
    #[arg(long, value_name = "REGEX", help_heading = "Search")]
    grep: Option<String>,
    /// Only lines that do not match
    #[arg(long, requires = "grep", help_heading = "Search")]
    invert_match: bool,
    /// Of lines that are JSON objects, show this field (again: those, with tabs between), or only those lines in which
    /// it has the value. NAME may be a path such as a.b.0. Lines that are no JSON objects, and those without the field,
    /// are left out
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Search", value_parser = json_field)]
    json_field: Vec<JsonField>,
    /// A line that matches begins an entry, to which the lines after it belong that do not: stack traces are found, shown
    /// and counted as one
    #[arg(long, value_name = "REGEX", help_heading = "Search")]
    multiline: Option<String>,
    /// Empty the log, also while the container runs
    #[arg(long, conflicts_with_all = ["follow", "tail", "since", "until", "timestamps", "details", "grep", "json_field", "multiline"])]
    clear: bool,
    /// The container
    container: String,
}

fn json_field(text: &str) -> std::result::Result<JsonField, &'static str> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("want NAME or NAME=VALUE");
    }
    Ok(JsonField { name: name.to_owned(), value })
}

/// How many lines; none: all.
#[derive(Debug, Clone, Copy)]
struct Lines(Option<u64>);

fn tail(text: &str) -> std::result::Result<Lines, &'static str> {
    // As in Docker, a negative number is all of them.
    match text {
        "all" => Ok(Lines(None)),
        text => text
            .parse::<i64>()
            .map(|n| Lines(u64::try_from(n).ok()))
            .map_err(|_| "want a number of lines, or all"),
    }
}

/// Bytes that gather before they are written, unless the log has to be waited for.
const BATCH: usize = 64 * 1024;

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        if self.clear {
            engine.clear_log(&self.container)?;
            return Ok(0);
        }
        let options = LogOptions {
            follow: self.follow,
            tail: self.tail.0,
            since: self.since.map(|When(time)| time),
            until: self.until.map(|When(time)| time),
            search: LogSearch {
                grep: self.grep,
                invert: self.invert_match,
                json_fields: self.json_field,
                multiline: self.multiline,
            },
        };
        let mut batch = Batch { stream: LogStream::Stdout, bytes: Vec::with_capacity(BATCH) };
        let mut lines = engine.logs(&self.container, options)?;
        while let Some(line) = lines.read()? {
            // What goes to two descriptors keeps its order.
            if line.stream != batch.stream {
                batch.write()?;
                batch.stream = line.stream;
            }
            if self.timestamps {
                fixed_time(line.time, &mut batch.bytes);
            }
            if self.details {
                details(&line.attributes, &mut batch.bytes);
            }
            batch.bytes.extend_from_slice(&line.bytes);
            if self.follow || batch.bytes.len() >= BATCH {
                batch.write()?;
            }
        }
        batch.write()?;
        Ok(0)
    }
}

struct Batch {
    stream: LogStream,
    bytes: Vec<u8>,
}

impl Batch {
    fn write(&mut self) -> Result<()> {
        let to = match self.stream {
            LogStream::Stdout => rustix::stdio::stdout(),
            LogStream::Stderr => rustix::stdio::stderr(),
        };
        // A full one: more are to come.
        if self.bytes.len() >= BATCH {
            base::pipe::widen(to);
        }
        let written = output::raw(to, &self.bytes);
        self.bytes.clear();
        written.map_err(Error::Output)
    }
}

/// `name=value,name=value `, in which nothing but letters, digits and a few signs stands for itself, as Docker shows them.
fn details(attributes: &BTreeMap<String, String>, to: &mut Vec<u8>) {
    for (n, (name, value)) in attributes.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let [name, value] = [name, value].map(|text| byte_serialize(text.as_bytes()).collect::<String>());
        to.extend_from_slice(format!("{comma}{name}={value}").as_bytes());
    }
    to.push(b' ');
}

/// Nine digits behind the point, so that the lines are aligned, and a space.
fn fixed_time(time: Timestamp, to: &mut Vec<u8>) {
    let text = jiff::Timestamp::from_nanosecond(i128::from(time.0)).map(|t| format!("{t:.9} "));
    to.extend_from_slice(text.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_fixed_width() {
        let mut to = Vec::new();
        fixed_time(Timestamp(1_709_210_096_500_000_000), &mut to);
        assert_eq!(to, b"2024-02-29T12:34:56.500000000Z ");
    }

    #[test]
    fn tails_are_dockers() {
        assert_eq!(tail("all").unwrap().0, None);
        assert_eq!(tail("-1").unwrap().0, None);
        assert_eq!(tail("10").unwrap().0, Some(10));
        assert!(tail("x").is_err());
    }
}
