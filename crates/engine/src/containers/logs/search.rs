//! A search through a log: entries in, what was looked for out.

use std::collections::VecDeque;
use std::time::Duration;

use base::Timestamp;
use logging::{Next, Reader};

use super::join::Joiner;
use super::select::{BadExpression, Selection, expression};
use super::{LogLine, LogSearch};
use crate::error::Result;

/// How long an entry waits for another line of it.
const QUIET: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_hours(1);

/// What is looked for, and what was found and not yet handed out.
pub(super) struct Search {
    joiner: Joiner,
    selection: Selection,
    found: VecDeque<LogLine>,
    last: Option<Last>,
}

/// Only the last ones of those that there are when the search begins.
struct Last {
    count: usize,
    begun: Timestamp,
}

impl Search {
    /// None where nothing is looked for.
    pub(super) fn new(
        search: LogSearch,
        tail: Option<u64>,
    ) -> std::result::Result<Option<Self>, BadExpression> {
        if search == LogSearch::default() {
            return Ok(None);
        }
        let start = search.multiline.as_deref().map(|text| expression("--multiline", text)).transpose()?;
        Ok(Some(Self {
            joiner: Joiner::new(start),
            selection: Selection::new(&search)?,
            found: VecDeque::new(),
            last: tail.map(|count| Last {
                count: usize::try_from(count).unwrap_or(usize::MAX),
                begun: Timestamp::now(),
            }),
        }))
    }

    /// What is found next in a log; none at its end.
    pub(super) fn next(&mut self, reader: &mut Reader) -> Result<Option<LogLine>> {
        loop {
            if self.last.is_none()
                && let Some(found) = self.found.pop_front()
            {
                return Ok(Some(found));
            }
            if !self.look(reader)? {
                return Ok(self.found.pop_front());
            }
        }
    }

    /// Looks at the next entry; false at the end of all.
    fn look(&mut self, reader: &mut Reader) -> Result<bool> {
        let next = reader.read_within(self.patience())?;
        // Who never falls silent has said enough when it says what is new.
        let over = match (&next, &self.last) {
            (Next::Entry(entry), Some(last)) => entry.time > last.begun,
            (Next::Entry(_), None) => false,
            _ => true,
        };
        if over {
            self.finish(matches!(next, Next::End));
        }
        match next {
            Next::Entry(entry) => {
                let Self { joiner, selection, found, last } = self;
                let most = last.as_ref().map_or(usize::MAX, |last| last.count);
                joiner.take(entry.into(), entry.partial, |entry| keep(entry, selection, found, most));
                Ok(true)
            }
            Next::Nothing => Ok(true),
            Next::End => Ok(false),
        }
    }

    /// Nothing more comes for now, or never: what was joined is looked at, and the last ones are those that there are.
    fn finish(&mut self, all: bool) {
        let Self { joiner, selection, found, last } = self;
        let most = last.take().map_or(usize::MAX, |last| last.count);
        joiner.finish(all, |entry| keep(entry, selection, found, most));
    }

    fn patience(&self) -> Duration {
        match (self.joiner.waits(), &self.last) {
            (true, Some(_)) => QUIET,
            (true, None) if self.joiner.is_open() => QUIET,
            (false, Some(_)) => Duration::ZERO,
            (_, None) => LONG,
        }
    }
}

fn keep(mut entry: LogLine, selection: &Selection, found: &mut VecDeque<LogLine>, most: usize) {
    if let Some(bytes) = selection.apply(std::mem::take(&mut entry.bytes)) {
        found.push_back(LogLine { bytes, ..entry });
    }
    if found.len() > most {
        found.pop_front();
    }
}
