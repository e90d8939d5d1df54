//! What is looked at: the engine's values, as the model takes them.

use std::time::{Duration, Instant};

use base::{Id, Timestamp};
use engine::{Branch, ContainerLoad, Engine, LogOptions, Process, Sampler};
use state::container::Status;

use super::text;
use crate::commands::container_list;
use crate::error::Result;

/// A container at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) status: Status,
    /// `Up 3 seconds (healthy)`.
    pub(super) about: String,
    /// None where it does not run.
    pub(super) load: Option<ContainerLoad>,
}

/// All of them at a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// Since the one before.
    pub(super) elapsed: Duration,
    pub(super) containers: Vec<Container>,
}

/// What is known of one of them besides.
#[derive(Debug, Clone, Default)]
pub(super) struct Detail {
    pub(super) id: Option<Id>,
    /// The last lines that it said, or why there are none; printable.
    pub(super) log: Vec<String>,
    pub(super) processes: Vec<Branch<Process>>,
}

/// Takes samples.
pub(super) struct Watch<'e> {
    engine: &'e Engine,
    sampler: Sampler<'e>,
    last: Option<Instant>,
}

impl<'e> Watch<'e> {
    pub(super) fn new(engine: &'e Engine) -> Result<Self> {
        Ok(Self { engine, sampler: engine.stats(&[], false)?, last: None })
    }

    /// Those that run now, or, with `all`, all.
    pub(super) fn sample(&mut self, all: bool) -> Result<Sample> {
        let loads = self.sampler.sample()?;
        let now = Instant::now();
        let elapsed = self.last.map_or(Duration::ZERO, |last| now.duration_since(last));
        self.last = Some(now);
        let time = Timestamp::now();
        let containers = self.engine.containers(all)?.into_iter().map(|c| {
            let about = container_list::status(&c, time);
            let load = loads.iter().find(|load| load.id == c.id).and_then(|load| load.usage);
            Container { id: c.id, name: c.name, image: c.image, status: c.status, about, load }
        });
        Ok(Sample { elapsed, containers: containers.collect() })
    }

    /// The last lines and the processes of one. Only so much of the log is read, once a second: one that says a lot costs
    /// no more than a silent one.
    pub(super) fn detail(&self, id: &Id, lines: usize, processes: bool) -> Detail {
        let log = if lines == 0 { Vec::new() } else { self.log(id, lines) };
        // One that has gone has none.
        let processes = if processes { self.engine.process_tree(id).unwrap_or_default() } else { Vec::new() };
        Detail { id: Some(id.clone()), log, processes }
    }

    fn log(&self, id: &Id, lines: usize) -> Vec<String> {
        let options = LogOptions { tail: Some(lines as u64), ..LogOptions::default() };
        let read = || -> engine::Result<Vec<String>> {
            let mut log = self.engine.logs(id.as_str(), options)?;
            let mut lines = Vec::new();
            while let Some(line) = log.read()? {
                lines.push(text::printable(&line.bytes));
            }
            Ok(lines)
        };
        read().unwrap_or_else(|error| vec![error.to_string()])
    }
}
