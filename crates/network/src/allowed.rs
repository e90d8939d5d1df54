//! To whom a closed container may speak, as its monitor was told last: for whoever makes the tables anew.

use std::path::Path;

use base::fs::{self, Durability};

use crate::nft::pairs::Pair;
use crate::{Error, Result};

/// In the container's live directory.
const FILE: &str = "allowed.json";

/// What is written down; nothing where nothing is.
pub(crate) fn read(live: &Path) -> Result<Vec<Pair>> {
    let path = live.join(FILE);
    let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&bytes).map_err(|e| Error::State { path, reason: e.to_string() })
}

pub(crate) fn write(live: &Path, pairs: &[Pair]) -> Result<()> {
    let path = live.join(FILE);
    let bytes =
        serde_json::to_vec(pairs).map_err(|e| Error::State { path: path.clone(), reason: e.to_string() })?;
    Ok(fs::write_atomic(&path, &bytes, Durability::Volatile)?)
}
