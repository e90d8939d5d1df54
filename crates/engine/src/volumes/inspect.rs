//! `volume inspect`, in Docker's shape.

use serde_json::{Value, json};

use crate::Engine;
use crate::containers::inspect::rfc3339;
use crate::error::Result;

impl Engine {
    /// All that is known of a volume.
    pub fn inspect_volume(&self, name: &str) -> Result<Value> {
        let missing = || volume::Error::NotFound(name.chars().take(150).collect());
        let volume = self.volume_store().find(name)?.ok_or_else(missing)?;
        let record = volume.record;
        let text = rfc3339(record.created);
        // Docker gives the seconds.
        let created = text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"));
        let or_null = |map: &std::collections::BTreeMap<String, String>| {
            if map.is_empty() { Value::Null } else { json!(map) }
        };
        Ok(json!({
            "CreatedAt": created,
            "Driver": record.driver,
            "Labels": or_null(&record.labels),
            "Mountpoint": volume.mountpoint,
            "Name": record.name,
            "Options": or_null(&record.options),
            "Scope": "local",
        }))
    }
}
