//! `dhow stats`.

use std::time::{Duration, Instant};

use clap::Parser;
use engine::{ContainerLoad, ContainerStats};
use rustix::termios::isatty;
use serde_json::{Value, json};

use crate::commands::Run;
use crate::error::{Error, Result};
use crate::format::{self, Row};
use crate::globals::Context;
use crate::{human, output};

/// Show what containers use.
#[derive(Debug, Parser)]
#[command(name = "stats")]
pub(crate) struct Arguments {
    /// Those that do not run too
    #[arg(short, long)]
    all: bool,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Do not cut anything off
    #[arg(long)]
    no_trunc: bool,
    /// A Go template, `table TEMPLATE`, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The containers; all that run, where none is named
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Docker's columns.
const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// From the look that nothing can be compared with to the first that is shown.
const FIRST: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_secs(1);

/// Back to the terminal's upper left corner; the rest of a line away; the rest of the screen away.
const CLEAR: &str = "\x1b[2J\x1b[H";
const HOME: &str = "\x1b[H";
const LINE_END: &str = "\x1b[K\n";
const SCREEN_END: &str = "\x1b[J";

impl Run for Arguments {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        let mut sampler = engine.stats(&self.containers, self.all)?;
        let named = !self.containers.is_empty();
        let live = !self.no_stream && isatty(rustix::stdio::stdout());
        // A format that is none is said before anybody waits.
        self.frame(&[])?;
        sampler.sample()?;
        let mut next = Instant::now() + FIRST;
        let mut first = true;
        loop {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now() + INTERVAL;
            let samples = sampler.sample()?;
            if named && samples.is_empty() {
                return Ok(0);
            }
            let frame = self.frame(&samples)?;
            if live {
                let begin = if first { CLEAR } else { HOME };
                output::text(&format!("{begin}{}{SCREEN_END}", frame.replace('\n', LINE_END)))?;
            } else {
                output::text(&frame)?;
            }
            if self.no_stream {
                return Ok(0);
            }
            first = false;
        }
    }
}

impl Arguments {
    fn frame(&self, samples: &[ContainerStats]) -> Result<String> {
        let rows: Vec<Row> =
            samples.iter().map(|sample| row(sample, !self.no_trunc)).collect::<Result<_>>()?;
        format::to_text(self.format.as_deref(), TABLE, HEADERS, &rows)
    }
}

fn row(sample: &ContainerStats, truncate: bool) -> Result<Row> {
    let usage = sample.usage.unwrap_or_default();
    let ContainerLoad {
        cpu_percent,
        memory,
        memory_limit,
        received,
        sent,
        block_read,
        block_written,
        pids,
        ..
    } = usage;
    let id = if truncate { sample.id.short() } else { sample.id.as_str() };
    let row = json!({
        "ID": id,
        "Container": sample.asked.as_deref().unwrap_or(id),
        "Name": sample.name,
        "CPUPerc": format!("{cpu_percent:.2}%"),
        "MemUsage": format!("{} / {}", human::binary_size(memory), human::binary_size(memory_limit)),
        "MemPerc": format!("{:.2}%", usage.memory_percent()),
        "NetIO": format!("{} / {}", human::size(received, 3), human::size(sent, 3)),
        "BlockIO": format!("{} / {}", human::size(block_read, 3), human::size(block_written, 3)),
        "PIDs": pids.to_string(),
    });
    match row {
        Value::Object(row) => Ok(row),
        _ => Err(Error::Format("no row".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_as_docker_writes_it() {
        let usage = ContainerLoad {
            cpu_percent: 12.345,
            memory: 1 << 20,
            memory_limit: 1 << 30,
            received: 1500,
            block_written: 4096,
            pids: 3,
            ..ContainerLoad::default()
        };
        let sample = ContainerStats {
            id: "ab".repeat(32).parse().unwrap(),
            name: "web".to_owned(),
            asked: Some("we".to_owned()),
            usage: Some(usage),
        };
        let row = row(&sample, true).unwrap();
        let of = |key: &str| row[key].as_str().unwrap().to_owned();
        assert_eq!(
            (of("ID"), of("Container"), of("Name")),
            ("abababababab".into(), "we".into(), "web".into())
        );
        assert_eq!((of("CPUPerc"), of("MemPerc")), ("12.35%".into(), "0.10%".into()));
        assert_eq!(of("MemUsage"), "1MiB / 1GiB");
        assert_eq!(
            (of("NetIO"), of("BlockIO"), of("PIDs")),
            ("1.5kB / 0B".into(), "0B / 4.1kB".into(), "3".into())
        );
        let ended = self::row(&ContainerStats { usage: None, ..sample }, false).unwrap();
        assert_eq!((&ended["MemUsage"], &ended["PIDs"]), (&json!("0B / 0B"), &json!("0")));
        assert_eq!(ended["ID"].as_str().unwrap().len(), 64);
    }
}
