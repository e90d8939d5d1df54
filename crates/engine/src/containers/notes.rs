//! What containers' verbs write into the journal of events.

use std::collections::BTreeMap;

use state::container::Record;
use state::events::{Event, Kind, append};

use crate::Engine;

/// What an event says of a container beside its name: its image, and its labels.
pub(crate) fn attributes(record: &Record) -> BTreeMap<String, String> {
    let mut attributes = record.options.labels.clone();
    attributes.insert("image".to_owned(), record.image.reference.clone());
    attributes
}

/// The event that something happens to a container.
pub(crate) fn container_event(action: &str, record: &Record, more: &[(&str, String)]) -> Event {
    let mut event = Event::new(Kind::Container, action, record.id.as_str());
    event.attributes = attributes(record);
    event.attributes.insert("name".to_owned(), record.name.clone());
    event.attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    event
}

impl Engine {
    /// Writes that something happened to a container.
    pub(crate) fn note_container(&self, action: &str, record: &Record, more: &[(&str, String)]) {
        self.note(container_event(action, record, more));
    }

    /// Writes that a container was sent a signal.
    pub(crate) fn note_signal(&self, record: &Record, signal: i32) {
        self.note_container("kill", record, &[("signal", signal.to_string())]);
    }

    /// Writes an event. A journal that cannot be written does not undo what was done.
    pub(crate) fn note(&self, event: Event) {
        append(&self.instance, &[event]).ok();
    }
}
