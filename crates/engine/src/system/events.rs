//! `events`: the journal, read and followed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use base::Timestamp;
use base::fs::{self, At};
use logging::Watch;
use state::events::{self, BEFORE, Event, JOURNAL};

use crate::Engine;
use crate::error::Result;

/// Which events.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventOptions {
    /// Also what has happened since then; none: only what happens from now on.
    pub since: Option<Timestamp>,
    /// Only what happens until then; none: without end.
    pub until: Option<Timestamp>,
}

/// Looked at again after so long, whatever the watch says.
const PATIENCE: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 << 10;

impl Engine {
    /// The events, oldest first, as they come.
    pub fn events(&self, options: EventOptions) -> Result<Events> {
        let dir = events::dir(&self.instance);
        // Made here, so that there is something to watch.
        fs::create_dir_all(&dir, 0o700)?;
        let mut events = Events {
            watch: Watch::new(&dir.join(JOURNAL)),
            dir,
            file: None,
            bytes: Vec::new(),
            queue: VecDeque::new(),
            options,
        };
        // In this order: a journal that is put aside meanwhile is the one that is open.
        let open = events.open()?;
        if options.since.is_some() {
            events.read_before()?;
        } else if open && let Some(file) = &mut events.file {
            file.seek(SeekFrom::End(0)).at("read", events.dir.join(JOURNAL))?;
        }
        Ok(events)
    }
}

/// The events of a journal: see [`Engine::events`].
#[derive(Debug)]
pub struct Events {
    dir: PathBuf,
    file: Option<File>,
    watch: Watch,
    bytes: Vec<u8>,
    queue: VecDeque<Event>,
    options: EventOptions,
}

impl Events {
    fn path(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// Opens the journal, if there is one by now.
    fn open(&mut self) -> fs::Result<bool> {
        let path = self.path();
        self.file = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other.at("open", &path)?),
        };
        Ok(self.file.is_some())
    }

    /// Reads the journal before, unless that is by now the one that is open.
    fn read_before(&mut self) -> fs::Result<()> {
        let path = self.dir.join(BEFORE);
        let opened = self.file.as_ref().and_then(|file| file.metadata().ok());
        let before = std::fs::metadata(&path).ok();
        if opened.zip(before).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino())) {
            return Ok(());
        }
        let mut bytes = fs::read_if_exists(&path)?.unwrap_or_default();
        self.queue.extend(events::take_lines(&mut bytes));
        Ok(())
    }

    /// Reads what has been appended. `false`: nothing.
    fn read_more(&mut self) -> fs::Result<bool> {
        let path = self.path();
        let Some(file) = &mut self.file else { return self.open() };
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).at("read", &path)?;
        self.bytes.extend_from_slice(&chunk[..read]);
        self.queue.extend(events::take_lines(&mut self.bytes));
        if read > 0 {
            return Ok(true);
        }
        // Put aside: nothing more comes into this one but from who had it open just then.
        let same =
            |a: &std::fs::Metadata| file.metadata().is_ok_and(|b| (a.dev(), a.ino()) == (b.dev(), b.ino()));
        if std::fs::metadata(&path).is_ok_and(|now| !same(&now)) {
            self.bytes.clear();
            return self.open();
        }
        Ok(false)
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.options.since.is_none_or(|since| event.time >= since)
            && self.options.until.is_none_or(|until| event.time <= until)
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(event) = self.queue.pop_front() {
                if self.is_wanted(&event) {
                    return Some(Ok(event));
                }
            }
            match self.read_more() {
                Err(error) => return Some(Err(error.into())),
                Ok(true) => continue,
                Ok(false) => {}
            }
            let now = Timestamp::now();
            let left = match self.options.until {
                Some(until) if until <= now => return None,
                Some(until) => until.since(now).min(PATIENCE),
                None => PATIENCE,
            };
            self.watch.wait(left);
        }
    }
}
