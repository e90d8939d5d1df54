//! The thread of one spool: reads from where nothing has arrived yet, sends, and remembers how far it has come.
//!
//! ```text
//!        next            cursor
//! ───────┼───────────────┼──────────────▶ numbers of entries
//! arrived   sent, maybe     still to be
//!           not arrived     read
//! ```
//!
//! Where the way breaks, the cursor goes back to `next`. What was rotated away before it could be sent is a gap in the
//! numbers, and counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Timestamp;
use logging::{Format, Options, Reader};
use state::Instance;
use state::events::{Event, Kind, append};
use state::shipping::{FORMAT, Manifest, Progress, file};

use crate::link::{self, Link, Lost};
use crate::message::{Message, Pieces};
use crate::shared::Shared;

/// So many entries, or bytes, are sent at once.
const MOST_MESSAGES: usize = 1000;
const MOST_BYTES: usize = 256 << 10;
/// How long after a failure it is tried again: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// How long it is waited for more, without having been told that there is more, before it is looked.
const IDLE: Duration = Duration::from_secs(5);
/// Losses are told that often at most.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Sends one spool.
pub(crate) struct Worker {
    instance: Instance,
    dir: PathBuf,
    manifest: Manifest,
    shared: Arc<Shared>,
    progress: Progress,
    pieces: Pieces,
    cursor: u64,
    reader: Option<Reader>,
    link: Option<Box<dyn Link>>,
    wait: Duration,
    /// Losses of which nobody was told yet, and when somebody was.
    untold: u64,
    told: Option<Instant>,
}

impl Worker {
    /// One for the spool in a directory.
    pub(crate) fn new(
        instance: &Instance,
        dir: PathBuf,
        manifest: Manifest,
        progress: Progress,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            instance: instance.clone(),
            dir,
            manifest,
            shared,
            pieces: Pieces::new(progress.partial),
            cursor: progress.next,
            progress: Progress { format: FORMAT, ..progress },
            reader: None,
            link: None,
            wait: FIRST_WAIT,
            untold: 0,
            told: None,
        }
    }

    /// Sends until all has arrived and no more will come, or until it should not.
    pub(crate) fn run(mut self) {
        while !self.shared.is_cancelled() {
            if let Err(lost) = self.turn() {
                self.step_back(&lost);
                if self.dir.is_dir() {
                    self.shared.pause(self.wait);
                } else {
                    return;
                }
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                // What was rotated away meanwhile.
                self.skip_what_is_gone();
            } else if self.cursor == self.progress.next && !self.shared.is_live() && self.is_at_end() {
                self.tell_losses(true);
                return;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Lost> {
        let batch = self.read()?;
        if batch.is_empty() {
            return self.rest();
        }
        if self.link.is_none() {
            // It may have been started anew, with other options.
            if let Ok(Some(manifest)) = Manifest::read(&self.dir) {
                self.manifest = manifest;
            }
            self.link = Some(link::open(&self.manifest, &self.shared)?);
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        link.send(&batch)?;
        self.cursor = batch.last().map_or(self.cursor, Message::end);
        let arrived = link.arrived();
        self.advance(arrived);
        self.wait = FIRST_WAIT;
        self.confirm(false)
    }

    /// Nothing is there to be sent: makes sure of what was, in time, and waits.
    fn rest(&mut self) -> Result<(), Lost> {
        self.confirm(!self.shared.is_live())?;
        if self.cursor == self.progress.next && !self.shared.is_live() {
            return Ok(());
        }
        let due = self.link.as_ref().and_then(|link| link.due());
        let most = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE));
        let began = Instant::now();
        self.shared.rest(most);
        if began.elapsed() > Duration::from_secs(1) {
            // Who says little should not cost open files.
            self.reader = None;
        }
        Ok(())
    }

    /// Makes sure of what was sent, if it is time, or `now`.
    fn confirm(&mut self, now: bool) -> Result<(), Lost> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if link.due().is_some_and(|due| now || due <= Instant::now()) {
            let stays = link.confirm()?;
            let arrived = link.arrived();
            if !stays {
                self.link = None;
            }
            self.advance(arrived);
        }
        Ok(())
    }

    /// Takes note that all up to there has arrived.
    fn advance(&mut self, arrived: Option<u64>) {
        let Some(arrived) = arrived.filter(|arrived| *arrived > self.progress.next) else { return };
        self.progress.next = arrived;
        self.pieces.arrive(arrived);
        self.progress.partial = self.pieces.arrived();
        (self.progress.error, self.progress.since) = (None, None);
        self.save();
    }

    fn step_back(&mut self, lost: &Lost) {
        self.link = None;
        self.reader = None;
        self.advance(lost.arrived);
        self.cursor = self.progress.next;
        self.pieces.go_back();
        let error = Some(base::failure::chain(&lost.source));
        if self.progress.error != error && !self.shared.is_cancelled() {
            self.progress.error = error;
            self.progress.since.get_or_insert_with(Timestamp::now);
            self.save();
        }
    }

    fn read(&mut self) -> Result<Vec<Message>, Lost> {
        let path = self.dir.join(file::LOG);
        let mut batch: Vec<Message> = Vec::new();
        let mut bytes = 0;
        while batch.len() < MOST_MESSAGES && bytes < MOST_BYTES {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    let options = Options { from_sequence: Some(self.cursor), ..Options::default() };
                    let opened = Reader::open(&path, Format::Local, options, || true);
                    none.insert(opened.map_err(std::io::Error::other)?)
                }
            };
            let Some(entry) = reader.read_now().map_err(std::io::Error::other)? else { break };
            let expected = batch.last().map_or(self.cursor, Message::end);
            if entry.sequence > expected {
                if !batch.is_empty() {
                    // First those before the gap: what has arrived is a number, and no list.
                    self.reader = None;
                    break;
                }
                let missing = entry.sequence - expected;
                let message = self.pieces.message(entry);
                self.pass_over(missing);
                batch.push(message);
                continue;
            }
            let message = self.pieces.message(entry);
            bytes += message.text.len();
            batch.push(message);
        }
        Ok(batch)
    }

    /// What is next was rotated away before it could be sent.
    fn pass_over(&mut self, missing: u64) {
        self.progress.dropped += missing;
        self.untold += missing;
        if self.cursor == self.progress.next {
            self.progress.next += missing;
        }
        self.cursor += missing;
        self.save();
        self.tell_losses(false);
    }

    fn skip_what_is_gone(&mut self) {
        let Ok(there) = logging::sequences(&self.dir.join(file::LOG)) else { return };
        if there.start > self.cursor {
            self.pass_over(there.start - self.cursor);
        }
    }

    fn is_at_end(&self) -> bool {
        logging::sequences(&self.dir.join(file::LOG)).is_ok_and(|there| there.end <= self.cursor)
    }

    fn save(&self) {
        // A full disk: what has arrived may come twice after a crash, and no more than that.
        if self.dir.is_dir() {
            self.progress.write(&self.dir).ok();
        }
    }

    /// Writes an event about losses, if it is time, or at the `last`.
    fn tell_losses(&mut self, last: bool) {
        let early = self.told.is_some_and(|told| told.elapsed() < TELL_EVERY);
        if self.untold == 0 || (early && !last) {
            return;
        }
        let event = Event::new(Kind::Container, "log-dropped", self.manifest.id.as_str())
            .with("name", &self.manifest.name)
            .with("image", &self.manifest.image)
            .with("driver", self.manifest.destination.driver())
            .with("entries", &self.untold.to_string());
        // Nobody is there to be told that the journal is full; `inspect` has the number in any case.
        append(&self.instance, &[event]).ok();
        (self.untold, self.told) = (0, Some(Instant::now()));
    }
}
