//! What is written down of a volume.

use std::collections::BTreeMap;
use std::path::Path;

use base::Timestamp;
use base::fs::{self, At};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The newest format that this code reads and the one that it writes.
pub(crate) const FORMAT: u32 = 1;
/// The record's file.
pub(crate) const FILE: &str = "record.json";
/// The label that Docker puts on anonymous volumes.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// What a volume is. Written when it is made, and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format of the writer; a reader refuses what is newer than itself.
    pub format: u32,
    /// Its name, which is its directory's.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// `local`.
    pub driver: String,
    /// The driver's options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// It was made for one container, without a name.
    #[serde(default)]
    pub anonymous: bool,
}

/// Reads the record in a volume's directory. What a power cut has torn, or never let be written (anonymous volumes are
/// not all synced), is made up: the data is there, and that is what matters.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Record> {
    let path = dir.join(FILE);
    let bytes = fs::read_if_exists(&path)?.unwrap_or_default();
    if bytes.last() != Some(&b'}') || bytes.contains(&0) {
        return invent(dir, name);
    }
    match serde_json::from_slice::<Record>(&bytes) {
        Ok(record) if record.format > FORMAT => Err(Error::TooNew { path, format: record.format }),
        Ok(record) => Ok(Record { name: name.to_owned(), ..record }),
        Err(source) => Err(Error::Broken { path, source }),
    }
}

fn invent(dir: &Path, name: &str) -> Result<Record> {
    let made = std::fs::metadata(dir).and_then(|m| m.modified()).at("look at", dir)?;
    let since = made.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Record {
        format: FORMAT,
        name: name.to_owned(),
        created: Timestamp(i64::try_from(since.as_nanos()).unwrap_or_default()),
        driver: crate::DRIVER.to_owned(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        anonymous: name.parse::<base::Id>().is_ok(),
    })
}
