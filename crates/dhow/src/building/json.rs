//! A line of JSON for each change: what BuildKit's `rawjson` writes, to standard error.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base::{Digest, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{BuildEvent, BuildProgress};
use serde_json::{Value, json};

use crate::{human, output};

/// The steps that were told of: their titles, and when they began.
#[derive(Debug, Default)]
pub(super) struct Json(Mutex<BTreeMap<usize, (String, String)>>);

impl BuildProgress for Json {
    fn event(&self, vertex: usize, event: BuildEvent<'_>) {
        let now = human::local_rfc3339(Timestamp::now());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let BuildEvent::Began { title } = event {
            known.insert(vertex, (title.to_owned(), now.clone()));
        }
        let (title, started) = known.get(&vertex).cloned().unwrap_or_default();
        let digest = Digest::of(format!("{vertex} {title}").as_bytes()).to_string();
        let mut told = json!({ "digest": digest, "name": title, "started": started });
        let log = |stream: u8, data: &[u8]| json!({ "logs": [{ "vertex": digest, "stream": stream, "data": STANDARD.encode(data), "timestamp": now }] });
        let line = match event {
            BuildEvent::Began { .. } => json!({ "vertexes": [told] }),
            BuildEvent::Output { errors, bytes, .. } => log(if errors { 2 } else { 1 }, bytes),
            BuildEvent::Note { text } => log(2, format!("{text}\n").as_bytes()),
            BuildEvent::Cached
            | BuildEvent::Done { .. }
            | BuildEvent::Canceled
            | BuildEvent::Failed { .. } => {
                told["completed"] = Value::from(now);
                match event {
                    BuildEvent::Cached => told["cached"] = Value::from(true),
                    BuildEvent::Failed { error, .. } => told["error"] = Value::from(error),
                    BuildEvent::Canceled => told["error"] = Value::from("context canceled"),
                    _ => {}
                }
                json!({ "vertexes": [told] })
            }
        };
        output::talk(&line.to_string());
    }

    fn note(&self, text: &str) {
        output::talk(&json!({ "note": text }).to_string());
    }
}
