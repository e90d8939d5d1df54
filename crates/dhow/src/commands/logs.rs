//! `dhow logs`.

use std::io;

use base::Timestamp;
use clap::Parser;
use engine::{LogOptions, LogStream};

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
    /// The container
    container: String,
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
        let options = LogOptions {
            follow: self.follow,
            tail: self.tail.0,
            since: self.since.map(|When(time)| time),
            until: self.until.map(|When(time)| time),
        };
        let mut batch = Batch { stream: LogStream::Stdout, bytes: Vec::with_capacity(BATCH) };
        for line in engine.logs(&self.container, options)? {
            let line = line?;
            // What goes to two descriptors keeps its order.
            if line.stream != batch.stream {
                batch.write()?;
                batch.stream = line.stream;
            }
            if self.timestamps {
                fixed_time(line.time, &mut batch.bytes);
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
        let written: io::Result<()> = match self.stream {
            LogStream::Stdout => output::raw(rustix::stdio::stdout(), &self.bytes),
            LogStream::Stderr => output::raw(rustix::stdio::stderr(), &self.bytes),
        };
        self.bytes.clear();
        written.map_err(Error::Output)
    }
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
