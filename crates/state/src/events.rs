//! The journal of events: what happened to containers, images and volumes, a line of JSON each.
//!
//! ```text
//! ROOT/events/journal      lines are only ever appended, each by one write(2) with O_APPEND, so that writers
//!                          need no lock and a reader never sees half a line but at the very end
//! ROOT/events/journal.1    what it was before it grew too long; then the one before goes
//! ```
//!
//! Where the disk is full, events are lost: half a line may be left, to which the next event is appended, and readers
//! find that one none the less.
//!
//! Whoever does a thing writes its event: commands and monitors alike. Nothing is synced: after a power cut the last
//! events may be missing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::Timestamp;
use base::fs::{self, At};
use serde::{Deserialize, Serialize};

use crate::Instance;
use crate::lock::Lock;

/// A journal longer than this is put aside, in bytes.
const LONGEST: u64 = 4 << 20;
/// Its name.
pub const JOURNAL: &str = "journal";
/// How a line begins.
const BEGIN: &[u8] = br#"{"time":"#;
/// The name of the one before.
pub const BEFORE: &str = "journal.1";

/// What an event happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

impl Kind {
    /// Docker's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// What it happened to.
    pub kind: Kind,
    /// What happened, in Docker's words: `create`, `start`, `die`, …
    pub action: String,
    /// The id (or name) of what it happened to.
    pub id: String,
    /// What else is known.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something that happens now.
    pub fn new(kind: Kind, action: &str, id: &str) -> Self {
        Self {
            time: Timestamp::now(),
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: BTreeMap::new(),
        }
    }

    /// The same with one attribute more.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// The directory of an instance's journal.
pub fn dir(instance: &Instance) -> PathBuf {
    instance.root().join("events")
}

/// Writes events into the journal, in their order.
pub fn append(instance: &Instance, events: &[Event]) -> fs::Result<()> {
    let mut bytes = Vec::new();
    for event in events {
        // What cannot be put into words cannot be noted; there is no such event.
        if serde_json::to_writer(&mut bytes, event).is_ok() {
            bytes.push(b'\n');
        }
    }
    if bytes.is_empty() {
        return Ok(());
    }
    let dir = dir(instance);
    let path = dir.join(JOURNAL);
    let mut file = match open(&path) {
        Err(e) if e.is_not_found() => {
            fs::create_dir_all(&dir, 0o700)?;
            open(&path)?
        }
        other => other?,
    };
    file.write_all(&bytes).at("write", &path)?;
    if file.metadata().is_ok_and(|m| m.size() > LONGEST) {
        put_aside(&dir)?;
    }
    Ok(())
}

fn open(path: &Path) -> fs::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path).at("open", path)
}

/// Whoever finds the journal too long puts it aside; of several one does.
fn put_aside(dir: &Path) -> fs::Result<()> {
    let Some(_lock) = Lock::try_exclusive(dir)? else { return Ok(()) };
    let path = dir.join(JOURNAL);
    if std::fs::metadata(&path).is_ok_and(|m| m.size() > LONGEST) {
        fs::rename(&path, &dir.join(BEFORE))?;
    }
    Ok(())
}

/// The events of a journal's bytes; `bytes` keeps what is not a whole line yet. A line that is none (a power cut may
/// leave one) is passed over.
pub fn take_lines(bytes: &mut Vec<u8>) -> Vec<Event> {
    let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
    let events = bytes[..end].split(|b| *b == b'\n').filter_map(event_of).collect();
    bytes.drain(..=end);
    events
}

/// Where the disk was full, half a line may stand before a whole one. The beginning of a line is nowhere else: in a
/// string its quotes would be escaped.
fn event_of(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok().or_else(|| {
        let begin = line.windows(BEGIN.len()).rposition(|part| part == BEGIN)?;
        serde_json::from_slice(&line[begin..]).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(dir: &Path) -> Instance {
        Instance::new(&dir.join("root"), &dir.join("run"))
    }

    #[test]
    fn many_writers_lose_nothing_and_a_long_journal_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let instance = &instance;
                scope.spawn(move || {
                    for n in 0..200 {
                        let id = format!("{writer}.{n}");
                        append(instance, &[Event::new(Kind::Container, "start", &id)]).unwrap();
                    }
                });
            }
        });
        let path = super::dir(&instance).join(JOURNAL);
        let mut bytes = std::fs::read(&path).unwrap();
        let events = take_lines(&mut bytes);
        assert!(bytes.is_empty());
        let mut ids: Vec<&str> = events.iter().map(|e| &*e.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 800);

        let long = "x".repeat(LONGEST as usize);
        append(&instance, &[Event::new(Kind::Image, "pull", &long)]).unwrap();
        append(&instance, &[Event::new(Kind::Image, "tag", "one")]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(take_lines(&mut bytes).iter().map(|e| &*e.action).collect::<Vec<_>>(), ["tag"]);
        assert!(path.with_file_name(BEFORE).exists());
    }

    #[test]
    fn half_a_line_waits_for_its_rest_and_nonsense_is_passed_over() {
        let line =
            serde_json::to_vec(&Event::new(Kind::Volume, "create", "v").with("driver", "local")).unwrap();
        let mut bytes = [b"\0\0torn\n", &line[..], b"\n", &line[..9]].concat();
        let events = take_lines(&mut bytes);
        assert_eq!((events.len(), &*events[0].attributes["driver"]), (1, "local"));
        assert_eq!(bytes, line[..9]);

        // A disk that was full, twice: the next event is whole none the less, whatever its texts look like.
        let tricky = Event::new(Kind::Volume, "create", "v").with("label", r#"{"time":"#);
        let line = serde_json::to_vec(&tricky).unwrap();
        let mut bytes = [&line[..20], &line[..60], &line, b"\n"].concat();
        assert_eq!(take_lines(&mut bytes), [tricky]);
    }
}
